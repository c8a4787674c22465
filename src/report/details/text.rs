//! The report for people, in a terminal.

use super::{ReportDetails, ReportDocument, TopRow};
use crate::price::{Nanos, Spelling};
use crate::summary::table::{Table, count, plural, span};

/// Ids of truncated answers in a terminal; JSON and HTML have more.
const IDS: usize = 5;
/// Columns of an id there.
const ID: usize = 24;

impl ReportDocument {
    /// The summary's lines and those of the report, as [`crate::summary::Summary::table`] has them.
    pub fn table(&self, width: u16) -> String {
        // A report has succeeded itself, whatever it reports on.
        self.summary.table_with(width, None, |table| self.details.lines(self.summary.spelling(), table))
    }
}

impl ReportDetails {
    fn lines(&self, spelling: Spelling, table: &mut Table) {
        self.models_at_both_prices(spelling, table);
        table.line("speed", &self.speed_parts());
        let lengths = &self.answer_tokens;
        let named = [("p50", lengths.p50), ("p90", lengths.p90), ("p99", lengths.p99), ("max", lengths.max)];
        let mut parts: Vec<String> =
            named.iter().filter_map(|(name, n)| n.map(|n| format!("{name} {}", count(n.into())))).collect();
        if let Some(last) = parts.last_mut() {
            last.push_str(" tokens");
        }
        table.line("answers", &parts);
        table.line("truncated", &self.truncated_parts());
        top("slowest", &self.slowest, table);
        top("dearest", &self.dearest, table);
    }

    /// List price, paid, saved and at risk, where the summary's one line does not say it all.
    fn models_at_both_prices(&self, spelling: Spelling, table: &mut Table) {
        let some = |usd: Option<Nanos>| usd.is_some_and(|usd| usd.0 > 0);
        let told = |model: &&super::ModelDetail| some(model.saved_usd) || some(model.at_risk_usd);
        if self.models.len() < 2 {
            return;
        }
        let amounts = self.amounts(spelling);
        let shown = self.models.iter().zip(amounts).filter(|(model, _)| told(model)).take(10);
        for (i, (model, (list, paid))) in shown.enumerate() {
            let mut parts = Vec::new();
            match (list, paid, model.saved_usd) {
                (Some(list), Some(paid), Some(saved)) if saved.0 > 0 => {
                    let less = spelling.less(list, paid);
                    let [list, paid] = [list, paid].map(|(usd, shown)| spelling.show_as(usd, shown));
                    parts.push(format!("{list} list, {paid} paid, {less} saved"));
                }
                (_, Some((usd, shown)), _) => parts.push(format!("{} paid", spelling.show_as(usd, shown))),
                _ => {}
            }
            parts.extend(
                model.at_risk_usd.filter(|usd| usd.0 > 0).map(|at_risk| format!("{} at risk", spelling.show(at_risk))),
            );
            let text = parts.join(", ");
            table.whole(if i == 0 { "prices" } else { "" }, &format!("{text}  {}", model.model));
        }
    }

    /// What each model cost at the list price and what was paid: as it is, and rounded so that all of them add up.
    pub fn amounts(&self, spelling: Spelling) -> Vec<(Option<(Nanos, Nanos)>, Option<(Nanos, Nanos)>)> {
        let rounded = |part: fn(&super::ModelDetail) -> Option<Nanos>| {
            let all: Vec<Nanos> = self.models.iter().map(|model| part(model).unwrap_or_default()).collect();
            let shown = spelling.parts(&all);
            self.models.iter().zip(shown).map(move |(model, shown)| part(model).map(|usd| (usd, shown)))
        };
        rounded(|model| model.list_usd).zip(rounded(|model| model.usd)).collect()
    }

    fn speed_parts(&self) -> Vec<String> {
        let speed = &self.tokens_per_s;
        let mut parts = Vec::new();
        parts.extend(speed.overall.map(|overall| format!("{} tokens/s in all", rate(overall))));
        if let (Some(p10), Some(p50), Some(p90)) = (speed.row_p10, speed.row_p50, speed.row_p90) {
            parts.push(format!("one answer {} tokens/s (p10 {}, p90 {})", rate(p50), rate(p10), rate(p90)));
        }
        parts
    }

    fn truncated_parts(&self) -> Vec<String> {
        let truncated = &self.truncated;
        if truncated.count == 0 {
            return Vec::new();
        }
        let mut parts = vec![format!("{} cut off by max_tokens", plural(truncated.count, "answer", "answers"))];
        parts.extend(truncated.rows.iter().take(IDS).map(|row| row.id.clone()));
        if truncated.count > IDS as u64 {
            parts.push("…".to_owned());
        }
        parts
    }
}

fn top(label: &str, rows: &[TopRow], table: &mut Table) {
    let cells: Vec<[String; 4]> = rows
        .iter()
        .map(|row| {
            let usd = row.usd.map_or_else(|| "unknown".to_owned(), Nanos::human);
            let id = match row.id.char_indices().nth(ID) {
                Some((end, _)) => format!("{}…", &row.id[..end]),
                None => row.id.clone(),
            };
            [row.latency_ms.map_or_else(String::new, |ms| span(ms.into())), count(row.tokens), usd, id]
        })
        .collect();
    let widest = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (ms, tokens, usd) = (widest(0), widest(1), widest(2));
    for (i, [m, t, u, id]) in cells.iter().enumerate() {
        let time = if ms == 0 { String::new() } else { format!("{m:>ms$}  ") };
        table.whole(if i == 0 { label } else { "" }, &format!("{time}{t:>tokens$} tokens  {u:>usd$}  {id}"));
    }
}

/// A digit behind the point below ten.
pub fn rate(per_second: f64) -> String {
    if per_second < 10.0 { format!("{per_second:.1}") } else { count(per_second.round() as u64) }
}
