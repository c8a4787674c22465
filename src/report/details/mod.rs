//! The part of a report beyond the summary. It has money by model at both prices, truncated answers, the slowest and
//! most expensive rows, answers over time, and a sample of failed rows. Memory does not grow with the rows.

mod document;
mod models;
mod rules;
mod samples;
mod text;
mod timeline;

pub use document::{AnswerLengths, ReportDetails, ReportDocument, ReportSource};
pub use models::ModelDetail;
use models::ModelFolds;
use rules::BrokenRules;
pub use rules::RuleDetail;
pub use samples::{AnswerSample, FailedRow, RowKey, TopRow, Truncated};
use samples::{AnswerSamples, Failures, Top};
pub use timeline::OverTime;
use timeline::Timeline;

use super::answer::AnswerFacts;
use crate::outcome::{Outcome, Usage};
use crate::pack::packed;
use crate::price::Nanos;
use crate::summary::{Charge, Histogram};

/// Folds outcomes into the details of a report.
#[derive(Debug, Default)]
pub struct DetailsFold {
    models: ModelFolds,
    /// Milliseconds of answers.
    latency: Histogram,
    /// Tokens of answers.
    lengths: Histogram,
    /// Speeds of single answers, in tenths of a token per second.
    speeds: Histogram,
    timeline: Timeline,
    truncated: Truncated,
    good: AnswerSamples,
    slowest: Top,
    dearest: Top,
    failures: Failures,
    rules: BrokenRules,
    /// Completion tokens of the answers that were kept.
    completion: u64,
}

packed!(DetailsFold {
    models,
    latency,
    lengths,
    speeds,
    timeline,
    truncated,
    good,
    slowest,
    dearest,
    failures,
    rules,
    completion
});

impl DetailsFold {
    /// Counts one row. Rows come in input order. `text` returns the beginning of the answer, or of the text that came in
    /// its place, and is called only if the report shows it.
    pub fn add(&mut self, outcome: &Outcome, charge: &Charge, facts: AnswerFacts, text: impl Fn() -> String) {
        let truncated = outcome.ok() && facts.truncated;
        self.models.add(outcome, charge, truncated);
        self.rank(outcome, charge);
        if outcome.ok() {
            self.measure(outcome, facts.created);
        }
        if truncated {
            self.truncated.add(outcome, text);
        } else if let Some(error) = &outcome.error {
            self.rules.add(outcome, error, &text);
            self.failures.add(outcome, error, text);
        } else {
            self.good.offer(outcome, text);
        }
    }

    /// Counts money spent on outcomes that no longer stand for a row, as [`crate::summary::Totals::add_spent`] does.
    pub fn add_spent(&mut self, model: &str, usage: Usage, paid: Option<Nanos>, at_risk: Option<Nanos>) {
        self.models.spent(model, usage, paid, at_risk);
    }

    /// Offers the row to the lists of the slowest and most expensive rows.
    fn rank(&mut self, outcome: &Outcome, charge: &Charge) {
        let (latency_ms, total) = (measured_latency(outcome), charge.total());
        if let Some(total) = total.filter(|total| *total > Nanos::ZERO) {
            self.dearest.offer(total.0, outcome.row, || TopRow::of(outcome, latency_ms, Some(total)));
        }
        if let Some(ms) = latency_ms.filter(|_| outcome.ok()) {
            self.slowest.offer(ms.into(), outcome.row, || TopRow::of(outcome, latency_ms, total));
        }
    }

    /// Counts the length, the time and the speed of an answer.
    fn measure(&mut self, outcome: &Outcome, created: Option<i64>) {
        let tokens = outcome.usage.unwrap_or_default().completion;
        self.completion += tokens;
        if outcome.usage.is_some() {
            self.lengths.add(u32::try_from(tokens).unwrap_or(u32::MAX));
        }
        if let Some(created) = created.filter(|_| !outcome.is_reused()) {
            self.timeline.add(created);
        }
        if let Some(ms) = measured_latency(outcome) {
            self.latency.add(ms);
            outcome.speed().into_iter().for_each(|speed| self.speeds.add(speed));
        }
    }
}

/// The latency of a row that was sent in real time. A batch does not tell when it began to work on a row, and neither does a
/// results file.
fn measured_latency(outcome: &Outcome) -> Option<u32> {
    (outcome.batch.is_none() && outcome.attempts > 0).then_some(outcome.latency_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{ErrorCode, RowError};
    use crate::price::Price;
    use crate::summary::Meta;

    const PRICE: Price = Price::new(1_000_000_000, 2_000_000_000);

    fn answered(row: u64, completion: u64, latency_ms: u32) -> Outcome {
        Outcome {
            error: None,
            status: Some(200),
            usage: Some(Usage::new(10, completion)),
            attempts: 1,
            latency_ms,
            ..Outcome::unsent(row, format!("q{row}").into(), "m".into(), ErrorCode::Missing, "")
        }
    }

    fn failed(row: u64, code: ErrorCode) -> Outcome {
        Outcome::unsent(row, format!("q{row}").into(), "m".into(), code, format!("why {row}"))
    }

    fn detail(rows: &[(Outcome, AnswerFacts)]) -> ReportDetails {
        let mut details = DetailsFold::default();
        for (outcome, said) in rows {
            details.add(outcome, &Charge::of(outcome, Some(PRICE), Some(PRICE)), *said, || {
                format!("text {}", outcome.row)
            });
        }
        let files = ReportSource::Files { files: Vec::new(), batch_price: false };
        details.into_report(crate::summary::Totals::new(0).summary(&Meta::blank()), files, Some(2.0)).details
    }

    #[test]
    fn slowest_and_dearest_come_first_and_among_equals_the_earlier() {
        let times = [300, 900, 100, 900, 500, 700, 200];
        let rows: Vec<_> =
            (1..).zip(times).map(|(row, ms)| (answered(row, row * 10, ms), AnswerFacts::default())).collect();
        let detail = detail(&rows);
        let ids = |rows: &[TopRow]| rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&detail.slowest), ["q2", "q4", "q6", "q5", "q1"]);
        assert_eq!(ids(&detail.dearest), ["q7", "q6", "q5", "q4", "q3"]);
        assert_eq!((detail.dearest[0].tokens, detail.dearest[0].usd), (80, Some(Nanos(150_000))));
        assert_eq!(detail.tokens_per_s.overall, Some(140.0));
        // 20 tokens in 900 ms to 70 in 200 ms, within 1%.
        assert_eq!((detail.tokens_per_s.row_p10, detail.tokens_per_s.row_p90), (Some(22.3), Some(350.0)));
    }

    #[test]
    fn rare_failures_are_shown_in_full() {
        let mut rows: Vec<_> =
            (1..=5_000).map(|row| (failed(row, ErrorCode::Timeout), AnswerFacts::default())).collect();
        rows.extend((5_001..=5_400).map(|row| (failed(row, ErrorCode::Network), AnswerFacts::default())));
        rows.push((failed(5_401, ErrorCode::Auth), AnswerFacts::default()));
        let shown = detail(&rows).failed_rows;
        let of = |code| shown.iter().filter(|row| row.code == code).count();
        assert_eq!([of(ErrorCode::Auth), of(ErrorCode::Timeout), of(ErrorCode::Network)], [1, 149, 149]);
        assert_eq!(
            (&*shown[0].id, &*shown[0].message, shown[0].answer.as_deref()),
            ("q5401", "why 5401", Some("text 5401"))
        );
        assert_eq!(shown[1].id, "q1", "the first of a code");
    }

    #[test]
    fn failed_row_is_not_truncated_and_long_texts_are_cut() {
        let cut = AnswerFacts { truncated: true, created: None };
        let mut rows: Vec<_> = (1..=30).map(|row| (answered(row, 5, 1), cut)).collect();
        let error = RowError::new(ErrorCode::BadResponse, "é".repeat(5_000));
        rows.push((Outcome { error: Some(error), ..answered(31, 5, 1) }, cut));
        let detail = detail(&rows);
        assert_eq!((detail.truncated.count, detail.truncated.rows.len()), (30, 20));
        assert_eq!((&*detail.truncated.rows[0].id, &*detail.truncated.rows[0].answer), ("q1", "text 1"));
        assert_eq!(detail.failed_rows[0].message.chars().count(), 301);
        assert_eq!((detail.models[0].truncated, detail.models[0].failed), (30, 1));
    }

    #[test]
    fn ten_good_answers_are_chosen_by_chance_and_always_the_same() {
        let rows = |count| (1..=count).map(|row| (answered(row, 5, 1), AnswerFacts::default())).collect::<Vec<_>>();
        let ids = |count| detail(&rows(count)).good_rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(3), ["q1", "q2", "q3"]);
        let chosen = ids(1_000);
        assert_eq!((chosen.len(), &chosen), (10, &ids(1_000)));
        let numbers: Vec<u64> = chosen.iter().map(|id| id[1..].parse().unwrap()).collect();
        assert!(numbers.is_sorted() && numbers[0] < 300 && numbers[9] > 700, "{numbers:?}");
        let cut = AnswerFacts { truncated: true, created: None };
        let bad = [(answered(1, 5, 1), cut), (failed(2, ErrorCode::Timeout), AnswerFacts::default())];
        assert!(detail(&bad).good_rows.is_empty());
    }

    #[test]
    fn answers_over_time_are_the_same_bars_in_any_order() {
        let start = 1_790_000_000;
        let timeline = |times: &mut dyn Iterator<Item = i64>| {
            let rows: Vec<_> = (1..)
                .zip(times)
                .map(|(row, at)| (answered(row, 1, 1), AnswerFacts { truncated: false, created: Some(at) }))
                .collect();
            detail(&rows).over_time
        };
        assert_eq!(timeline(&mut [start, start, 0, i64::MAX, -5].into_iter()), None, "one moment");
        let short = timeline(&mut [start + 3, start, start + 3].into_iter()).unwrap();
        assert_eq!((short.seconds_each, short.answers), (1, vec![1, 0, 0, 2]));
        assert_eq!((&*short.from, &*short.to), ("2026-09-21T14:13:20Z", "2026-09-21T14:13:24Z"));
        let times: Vec<i64> = (0..4_000).map(|i| start + i * 37).collect();
        let forth = timeline(&mut times.iter().copied()).unwrap();
        let back = timeline(&mut times.iter().rev().copied()).unwrap();
        assert_eq!(forth, back);
        assert_eq!((forth.seconds_each, forth.answers.iter().sum::<u64>()), (3_600, 4_000));
        assert!(forth.answers.len() <= 60);
        let ages = timeline(&mut [start, 4_102_444_799].into_iter()).unwrap();
        assert!(ages.answers.len() <= 60 && ages.answers.iter().sum::<u64>() == 2, "{ages:?}");
    }
}
