use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::error::Exit;
use crate::outcome::{ErrorCode, Outcome, RowError, Usage};
use crate::price::{Nanos, Price};

const PRICE: Price = Price::new(60_000_000, 120_000_000);
const HALF: Price = Price::new(30_000_000, 60_000_000);

fn answered(row: u64, model: &str, prompt: u64, completion: u64) -> Outcome {
    Outcome {
        error: None,
        status: Some(200),
        body: Some("{}".into()),
        usage: Some(Usage::new(prompt, completion)),
        attempts: 1,
        latency_ms: 100,
        batch: None,
        ..Outcome::unsent(row, format!("row-{row}").into(), model.into(), ErrorCode::Missing, "")
    }
}

fn failed(row: u64, code: ErrorCode, message: &str) -> Outcome {
    Outcome { attempts: 2, ..Outcome::unsent(row, format!("row-{row}").into(), "a".into(), code, message) }
}

fn charge(outcome: &Outcome, price: Option<Price>) -> Charge {
    Charge::of(outcome, price, price)
}

fn meta(exit: Exit) -> Meta {
    Meta {
        job: Some("j-abcd1234".to_owned()),
        transport: Some("realtime".to_owned()),
        state: "completed".to_owned(),
        time: JobTime { realtime: Duration::from_millis(12_345), batches: None },
        exit,
        reason: "2 rows failed".to_owned(),
        next: Some("llbatch retry j-abcd1234".to_owned()),
        routes: vec![("b/small".to_owned(), "no batch discount is known".to_owned())],
        ..Meta::blank()
    }
}

fn document(totals: &Totals) -> Value {
    serde_json::from_str(&serde_json::to_string(&totals.summary(&meta(Exit::RowsFailed))).unwrap()).unwrap()
}

fn table(summary: &Summary, width: u16) -> String {
    summary.table(width, Some(summary.exit.code), &[], |_| {})
}

#[test]
fn the_document_has_the_shape_of_the_contract() {
    let mut totals = Totals::new(5);
    let mut first = answered(1, "a", 100, 50);
    (first.wasted, first.attempts, first.refused) = (Usage::new(10, 0), 4, 1);
    totals.add(&first, &charge(&first, Some(PRICE)));
    let mut second = answered(2, "a", 1, 1);
    second.at_risk = 1;
    totals.add(&second, &Charge { at_risk: Some(Nanos(777)), resumed: true, ..charge(&second, Some(PRICE)) });
    for outcome in [failed(4, ErrorCode::Timeout, "late"), failed(3, ErrorCode::Timeout, "too late")] {
        totals.add(&outcome, &charge(&outcome, Some(PRICE)));
    }
    let expected = json!({
        "version": 1, "job": "j-abcd1234", "transport": "realtime", "sandbox": false, "state": "completed",
        "rows": {"total": 5, "succeeded": 2, "failed": 2, "pending": 1, "truncated": 0, "truncated_empty": 0, "fenced": 0, "reused": 0},
        "tokens": {"prompt": 111, "completion": 51, "total": 162, "cached": 0, "reasoning": 0},
        "cost": {"usd": 0.000_012_78, "realtime_usd": 0.000_012_78, "saved_usd": 0, "estimated": false,
            "upper_bound": false, "cache_saved_usd": 0, "unpriced_models": [],
            "at_risk_usd": 0.000_000_777, "wasted_usd": 0.000_000_6, "resumed_usd": 0.000_000_18},
        "models": [{"model": "a", "rows": 4, "tokens": 162, "usd": 0.000_012_78, "via": "realtime"}],
        "latency_ms": {"p50": 100, "p90": 100, "p99": 100, "max": 100},
        "first_token_ms": {"p50": null, "p90": null, "p99": null},
        "tokens_per_s": {"p50": 10.0, "p90": 500.0, "p99": 500.0},
        "duration_s": 12.345,
        "http": {"sent": 8, "retried": 4, "rate_limited": 1},
        "errors": [{"code": "timeout", "count": 2, "example": "row-3: too late"}],
        "llbatch": env!("CARGO_PKG_VERSION"),
        "name": null,
        "started_at": null,
        "output": null,
        "errors_output": null,
        "exit": {"code": 3, "reason": "2 rows failed", "next": "llbatch retry j-abcd1234"},
    });
    assert_eq!(document(&totals), expected);
    let text = serde_json::to_string(&totals.summary(&meta(Exit::Ok))).unwrap();
    assert!(text.contains("\"usd\":0.00001278,"), "money keeps its exact digits: {text}");
    let keys: Vec<String> = document(&totals).as_object().unwrap().keys().cloned().collect();
    let order = "version llbatch job name started_at transport sandbox state rows tokens cost models latency_ms first_token_ms tokens_per_s duration_s http errors \
                 output errors_output exit";
    assert_eq!(keys.join(" "), order);
}

#[test]
fn an_unknown_price_is_never_zero() {
    let known = answered(1, "known", 1_000, 0);
    let unknown = answered(2, "unknown", 1_000, 0);
    let unsent = Outcome::unsent(3, "row-3".into(), "unheard".into(), ErrorCode::Budget, "");

    let mut totals = Totals::new(3);
    totals.add(&unknown, &charge(&unknown, None));
    let cost = document(&totals)["cost"].clone();
    for key in ["usd", "realtime_usd", "saved_usd"] {
        assert_eq!(cost[key], Value::Null, "{key}");
    }
    assert_eq!(cost["unpriced_models"], json!(["unknown"]));

    totals.add(&known, &charge(&known, Some(PRICE)));
    totals.add(&unsent, &charge(&unsent, None));
    let summary = document(&totals);
    assert_eq!(summary["cost"]["usd"], json!(0.00006), "the known part");
    assert_eq!(summary["cost"]["unpriced_models"], json!(["unknown"]), "a model that used nothing needs no price");
    let usd: Vec<&Value> = summary["models"].as_array().unwrap().iter().map(|model| &model["usd"]).collect();
    assert_eq!(usd, [&json!(0.00006), &json!(0), &Value::Null], "known, unheard, unknown");
}

#[test]
fn an_answer_without_usage_makes_the_cost_an_estimate() {
    let mut totals = Totals::new(1);
    let outcome = Outcome { usage: None, ..answered(1, "a", 0, 0) };
    totals.add(&outcome, &charge(&outcome, Some(PRICE)));
    let cost = document(&totals)["cost"].clone();
    assert_eq!((&cost["usd"], &cost["estimated"], &cost["unpriced_models"]), (&Value::Null, &json!(true), &json!([])));
}

#[test]
fn a_batch_says_what_it_saved() {
    let mut totals = Totals::new(1);
    let outcome = answered(1, "a", 1_000_000, 0);
    totals.add(&outcome, &Charge::of(&outcome, Some(HALF), Some(PRICE)));
    let cost = document(&totals)["cost"].clone();
    assert_eq!((&cost["usd"], &cost["realtime_usd"], &cost["saved_usd"]), (&json!(0.03), &json!(0.06), &json!(0.03)));
    let table = table(&totals.summary(&meta(Exit::Ok)), 80);
    assert!(table.contains("$0.03, $0.03 less than the realtime price of $0.06"), "{table}");
}

#[test]
fn no_count_of_tokens_is_cut() {
    let mut totals = Totals::new(1);
    let usage = Usage { cached: 149_936, reasoning: 2_000, ..Usage::new(150_438, 2_339) };
    let outcome = Outcome { usage: Some(usage), ..answered(1, "a", 0, 0) };
    totals.add(&outcome, &charge(&outcome, Some(PRICE)));
    for width in [40, 60, 80, 100] {
        let table = table(&totals.summary(&meta(Exit::Ok)), width);
        let words = table.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("150,438 prompt (149,936 cached) + 2,339 completion (2,000 reasoning)"), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= usize::from(width)), "{table}");
    }
}

#[test]
fn nothing_answered_has_no_latency_and_cost_nothing() {
    let mut totals = Totals::new(2);
    let outcome = failed(1, ErrorCode::Network, "refused");
    totals.add(&outcome, &charge(&outcome, Some(PRICE)));
    let summary = document(&totals);
    assert_eq!(summary["latency_ms"], json!({"p50": null, "p90": null, "p99": null, "max": null}));
    assert_eq!(summary["cost"]["usd"], json!(0));
    assert!(table(&totals.summary(&meta(Exit::Ok)), 80).contains("  cost      nothing\n"));
}

fn busy() -> Totals {
    let mut totals = Totals::new(1_000);
    for row in 1..=998 {
        let mut outcome = answered(row, if row % 3 == 0 { "b/small" } else { "a/large" }, 41, 11);
        outcome.latency_ms = 200 + u32::try_from(row).unwrap();
        totals.add(&outcome, &charge(&outcome, Some(PRICE)));
    }
    let mut late = failed(999, ErrorCode::RateLimited, &format!("slow\ndown {}", "very ".repeat(40)));
    (late.attempts, late.refused, late.at_risk) = (6, 5, 1);
    totals.add(&late, &Charge { at_risk: Some(Nanos(60_000)), ..charge(&late, Some(PRICE)) });
    let odd = failed(1_000, ErrorCode::BadResponse, "無効な応答無効な応答無効な応答無効な応答無効な応答無効な応答");
    totals.add(&odd, &charge(&odd, Some(PRICE)));
    let strange = answered(1_001, "c/unpriced", 5, 5);
    totals.add(&strange, &charge(&strange, None));
    totals
}

#[test]
fn the_table_reads_well_in_80_columns() {
    let expected = "  job       j-abcd1234, realtime: completed
  rows      1,000: 999 answered, 2 failed
  tokens    51,906: 40,923 prompt + 10,983 completion
  cost      $0.003772,
            up to $0.000060 more for 1 request that may have been billed,
            not counting c/unpriced, whose price is unknown
  models    666 rows  34,632 tokens  $0.002517  a/large
            332 rows  17,264 tokens  $0.001255  b/small
              2 rows       0 tokens  $0.000000  a
              1 row       10 tokens    unknown  c/unpriced
  via       realtime: no batch discount is known  b/small
  time      12.3s, 81 rows/s
  latency   p50 700ms, p90 1.0s, p99 1.1s, max 1.1s
  requests  1,007 sent, 1 retried, 5 rate-limited
  errors    1 rate_limited  e.g. row-999: slow down very very very very very ve…
            1 bad_response  e.g. row-1000: 無効な応答無効な応答無効な応答無効な…
  exit      3: 2 rows failed
  next      llbatch retry j-abcd1234
";
    assert_eq!(table(&busy().summary(&meta(Exit::RowsFailed)), 80), expected);
}

#[test]
fn no_line_is_wider_than_asked() {
    for width in [40, 53, 80, 200] {
        for line in table(&busy().summary(&meta(Exit::RowsFailed)), width).lines() {
            let columns: usize = line.chars().map(|c| if ('\u{3000}'..).contains(&c) { 2 } else { 1 }).sum();
            assert!(columns <= usize::from(width), "{columns} > {width}: {line}");
            assert!(!line.chars().any(char::is_control));
        }
    }
}

fn any_outcome() -> impl Strategy<Value = (Outcome, Charge)> {
    let numbers = (0_u64..5_000, 0_u64..5_000, 0_u64..50, 0_u32..4, 0_u32..4, any::<u32>());
    let choice = (0_usize..3, proptest::option::of(0_usize..16), any::<bool>(), any::<bool>(), any::<bool>());
    (numbers, choice).prop_map(|((prompt, completion, wasted, attempts, refused, latency_ms), choice)| {
        let (model, code, metered, priced, resumed) = choice;
        let outcome = Outcome {
            error: code.map(|code| RowError::new(ErrorCode::ALL[code], format!("message {prompt}"))),
            usage: metered.then_some(Usage::new(prompt, completion)),
            wasted: Usage::new(wasted, 0),
            at_risk: refused / 3,
            attempts,
            refused,
            latency_ms,
            ..answered(0, ["a", "b", "c"][model], 0, 0)
        };
        // Whether a price is known is a property of the model.
        let price = (model < 2 || priced).then_some(PRICE);
        let charge = Charge { resumed, ..Charge::of(&outcome, price, price) };
        (outcome, charge)
    })
}

proptest! {
    #[test]
    fn totals_do_not_depend_on_order(
        rows in proptest::collection::vec(any_outcome(), 1..40),
        order in any::<proptest::sample::Index>(),
    ) {
        let mut rows = rows;
        for (number, (outcome, _)) in (1..).zip(&mut rows) {
            outcome.row = number;
            outcome.id = format!("row-{number}").into();
        }
        let fold = |rows: &[(Outcome, Charge)]| {
            let mut totals = Totals::new(40);
            for (outcome, charge) in rows {
                totals.add(outcome, charge);
            }
            totals
        };
        let straight = fold(&rows);
        let by_row: Nanos = rows.iter().flat_map(|(_, charge)| [charge.paid, charge.wasted]).flatten().sum();
        prop_assert_eq!(straight.usd().unwrap_or_default(), by_row, "rows add up to the total");
        let by_model: Nanos = straight.by_model().filter_map(|(_, _, _, paid)| paid).sum();
        prop_assert_eq!(by_model, by_row, "models add up to the total");
        // Digits as written, not as a float reads them.
        let text = serde_json::to_string(&straight.summary(&meta(Exit::Ok))).unwrap();
        let digits = |text: &str| text.split_once("\"usd\":").unwrap().1.split([',', '}']).next().unwrap().to_owned();
        let written = digits(&text);
        prop_assert_eq!(written == "null", straight.usd().is_none());
        prop_assert_eq!(written.parse::<Nanos>().unwrap_or_default(), by_row, "{}", text);
        let middle = order.index(rows.len());
        rows.rotate_left(middle);
        rows[..middle].reverse();
        prop_assert_eq!(&fold(&rows), &straight);
    }
}
