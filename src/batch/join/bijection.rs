use proptest::prelude::*;

use super::tests::{Batch, COMPLETED, body, expected, rows, tokens};
use super::*;

/// A service's treatment of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Answered,
    /// Repeated byte for byte, this many more times.
    Repeated(u8),
    Failed,
    FailedThenAnswered,
    Lost,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Answered),
        1 => (1_u8..4).prop_map(Fate::Repeated),
        1 => Just(Fate::Failed),
        1 => Just(Fate::FailedThenAnswered),
        1 => Just(Fate::Lost),
    ]
}

/// Spells one line in a style: order of members, white space, line end, other members.
fn spelled(id: &str, text: &str, style: u8) -> String {
    let (id, body) = (serde_json::to_string(id).unwrap(), body(text));
    let response = match style & 3 {
        0 => format!(r#"{{"status_code":200,"body":{body}}}"#),
        1 => format!(r#"{{"body":{body},"status_code":200}}"#),
        2 => format!(r#" {{ "status_code" : 200 , "request_id":"}}" , "body" : {body} }} "#),
        _ => format!(r#"{{"body": {body}}}"#),
    };
    let line = if style & 4 == 0 {
        format!(r#"{{"custom_id":{id},"response":{response},"error":null}}"#)
    } else {
        format!(r#"  {{"error":{{}},"response":{response},"id":"é{{","custom_id": {id}}}"#)
    };
    format!("{line}{}", ["\n", "\r\n", "\n\n", " \n"][usize::from(style >> 3 & 3)])
}

proptest! {
    #[test]
    fn joining_is_a_bijection(
        asked in prop::collection::btree_map("\\PC{0,6}|[\\\\\"/\n\u{1}]{1,3}", (fate(), any::<[u8; 4]>()), 0..40),
        order in any::<u64>(),
        mark in any::<bool>(),
        last in any::<bool>(),
    ) {
        let mut asked: Vec<_> = asked.into_iter().collect();
        let mut lines: Vec<(bool, String)> = Vec::new();
        for (id, (fate, style)) in &asked {
            let text = format!("the answer to {id}");
            let quoted = serde_json::to_string(id).unwrap();
            let failed = format!("{{\"custom_id\":{quoted},\"error\":{{\"message\":\"m\",\"code\":\"timeout\"}}}}\n");
            let side = style[0] & 64 == 0;
            let times = match fate {
                Fate::Lost | Fate::Failed => 0,
                Fate::Repeated(more) => usize::from(*more) + 1,
                _ => 1,
            };
            lines.extend((0..times).map(|i| (style[i] & 64 == 0, spelled(id, &text, style[i]))));
            if matches!(fate, Fate::Failed | Fate::FailedThenAnswered) {
                lines.push((side, failed));
            }
        }
        let mut chance = fastrand::Rng::with_seed(order);
        chance.shuffle(&mut lines);
        chance.shuffle(&mut asked);
        let text = |side: bool| {
            let text: String = lines.iter().filter(|(at, _)| *at == side).map(|(_, line)| &**line).collect();
            let text = if last { text } else { text.trim_end().to_owned() };
            format!("{}{text}", if mark { "\u{feff}" } else { "" }).into_bytes()
        };
        let batch = Batch::new(Some(&text(true)), Some(&text(false)));
        let rows: Vec<_> = asked.iter().zip(1..).map(|((id, _), row)| expected(row, id)).collect();
        let mut shuffled = rows.clone();
        chance.shuffle(&mut shuffled);
        let report = batch.join(shuffled, &COMPLETED);

        prop_assert_eq!(report.joined.len(), rows.len());
        for ((joined, row), (id, (fate, _))) in report.joined.iter().zip(&rows).zip(&asked) {
            prop_assert_eq!((joined.outcome.row, &joined.outcome.id), (row.row, &row.id));
            let text = format!("the answer to {id}");
            let code = match fate {
                Fate::Lost => Some(ErrorCode::Missing),
                Fate::Failed => Some(ErrorCode::Timeout),
                _ => None,
            };
            prop_assert_eq!(joined.outcome.error.as_ref().map(|e| e.code), code);
            prop_assert_eq!(batch.body(joined), code.is_none().then(|| body(&text)));
            prop_assert_eq!(joined.outcome.usage, code.is_none().then(|| tokens(&text)));
            prop_assert_eq!(joined.outcome.wasted, Usage::default());
        }
        let count = |wanted: &dyn Fn(Fate) -> u64| asked.iter().map(|(_, (fate, _))| wanted(*fate)).sum::<u64>();
        let findings = Findings {
            missing: count(&|fate| u64::from(fate == Fate::Lost)),
            duplicates: count(&|fate| if let Fate::Repeated(more) = fate { more.into() } else { 0 }),
            answered_and_failed: count(&|fate| u64::from(fate == Fate::FailedThenAnswered)),
            ..Findings::default()
        };
        prop_assert_eq!(report.findings, findings);
    }

    /// Each row comes out once under its own id, among any other lines. It has a body that a line of that id carried,
    /// or an error. Every anomaly is counted.
    #[test]
    fn strangers_liars_and_noise_cost_no_other_row(
        lines in prop::collection::vec((0..6_usize, 0..8_usize, any::<u8>(), prop::collection::vec(any::<u8>(), 1..40)), 0..40),
        cut in 0..60_usize,
    ) {
        let ids = ["a", "b", "../c", "\u{202e}d"];
        let mut answered: Vec<Vec<String>> = vec![Vec::new(); ids.len()];
        let (mut foreign, mut noise) = (0, 0);
        let mut text = Vec::new();
        for (id, kind, style, bytes) in &lines {
            let id = ids.get(*id).copied();
            match kind {
                0..=4 => {
                    // Texts of three lengths, so that some are repeated, some in conflict.
                    let words = "x".repeat(usize::from(style % 3));
                    text.extend(spelled(id.unwrap_or("stranger"), &words, *style).bytes());
                    match ids.iter().position(|known| Some(*known) == id) {
                        Some(at) => answered[at].push(body(&words)),
                        None => foreign += 1,
                    }
                }
                5 => {
                    // One byte makes no JSON object of anything.
                    let junk: Vec<u8> = [b"\xff", &bytes[..]].concat().into_iter().filter(|byte| *byte != b'\n').collect();
                    text.extend([&junk[..], b"\n"].concat());
                    noise += 1;
                }
                6 => text.extend(b"\n \r\n"),
                _ => {
                    text.extend(b"{\"custom_id\":null,\"response\":{}}\n");
                    noise += 1;
                }
            }
        }
        let cut = cut.min(lines.len());
        let split = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(cut).map_or(text.len(), |(at, _)| at + 1);
        let report = Batch::new(Some(&text[..split]), Some(&text[split..])).join(rows(&ids), &COMPLETED);
        prop_assert_eq!(report.joined.len(), ids.len());
        let (mut conflicts, mut repeated) = (0, 0);
        for ((joined, id), answers) in report.joined.iter().zip(ids).zip(&answered) {
            prop_assert_eq!(&*joined.outcome.id, id);
            prop_assert_eq!(joined.outcome.ok(), !answers.is_empty(), "{}", id);
            if let Some(first) = answers.first() {
                let more = answers.iter().skip(1);
                repeated += more.clone().filter(|answer| *answer == first).count() as u64;
                conflicts += more.filter(|answer| *answer != first).count() as u64;
            }
        }
        let findings = &report.findings;
        prop_assert_eq!((findings.foreign, findings.garbled), (foreign, noise));
        prop_assert_eq!((findings.conflicts, findings.duplicates), (conflicts, repeated));
        prop_assert_eq!(findings.broken_contract(), foreign + noise + conflicts > 0);
        prop_assert!(!findings.torn && findings.examples.len() <= 9);
    }

    #[test]
    fn no_file_stops_the_join(bytes in prop::collection::vec(any::<u8>(), 0..300), junk in "[{}\\[\\]\":,a-c\n0-9 ]{0,200}") {
        for bytes in [bytes.as_slice(), junk.as_bytes()] {
            let report = Batch::new(Some(bytes), Some(bytes)).join(rows(&["a", "b"]), &COMPLETED);
            prop_assert_eq!(report.joined.len(), 2);
        }
    }
}
