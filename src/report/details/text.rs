//! The report for people, in a terminal.

use super::{ModelDetail, ReportDetails, ReportDocument, RuleDetail, TopRow};
use crate::price::{Nanos, ShownAmount, Spelling};
use crate::summary::{Sheet, Summary};
use crate::text::{Align, Grid, count, cut, millis};

/// Ids of truncated answers in a terminal; JSON and HTML have more.
const IDS: usize = 5;
/// Columns of an id, the mark of a cut included.
const ID: usize = 25;
/// Rules that have a line.
const RULES: usize = 10;
/// Models that have a line with both prices.
const MODELS: usize = 10;

impl ReportDocument {
    /// Writes the lines of [`crate::summary::Summary::table`] and those of the report.
    pub fn table(&self, width: u16) -> String {
        // The report command succeeds even if the job that it shows failed.
        self.summary.table(width, None, &[], |sheet| self.details.lines(&self.summary, sheet))
    }
}

impl ReportDetails {
    fn lines(&self, summary: &Summary, sheet: &mut Sheet) {
        self.models_at_both_prices(summary.spelling(), sheet);
        // The summary has the speed of streams.
        sheet.list("speed", &self.speed_parts(summary.first_token_ms.p50.is_some()));
        let lengths = &self.answer_tokens;
        let named = [("p50", lengths.p50), ("p90", lengths.p90), ("p99", lengths.p99), ("max", lengths.max)];
        let mut parts: Vec<String> =
            named.iter().filter_map(|(name, n)| n.map(|n| format!("{name} {}", count(n.into())))).collect();
        if let Some(last) = parts.last_mut() {
            last.push_str(" tokens");
        }
        sheet.list("answers", &parts);
        sheet.list("cut off", &self.truncated_ids());
        sheet.grid("rules", &self.broken_rules());
        sheet.grid("slowest", &top(&self.slowest));
        sheet.grid("dearest", &top(&self.dearest));
    }

    /// Adds the list price, the paid price, the saving and the risk of models about which the summary says less.
    fn models_at_both_prices(&self, spelling: Spelling, sheet: &mut Sheet) {
        if self.models.len() < 2 {
            return;
        }
        let some = |usd: Option<Nanos>| usd.filter(|usd| usd.0 > 0);
        let says_more = |model: &&ModelDetail| some(model.saved_usd).or(some(model.at_risk_usd)).is_some();
        let amounts = self.amounts(spelling);
        let shown = self.models.iter().zip(amounts).filter(|(model, _)| says_more(model)).take(MODELS);
        for (i, (model, (list, paid))) in shown.enumerate() {
            let mut parts = Vec::new();
            match (list, paid, some(model.saved_usd)) {
                (Some(list), Some(paid), Some(_)) => {
                    let less = spelling.less(list, paid);
                    let [list, paid] = [list, paid].map(|amount| spelling.show_as(amount.exact, amount.rounded));
                    parts.push(format!("{list} list, {paid} paid, {less} saved"));
                }
                (_, Some(paid), _) => parts.push(format!("{} paid", spelling.show_as(paid.exact, paid.rounded))),
                _ => {}
            }
            parts.extend(some(model.at_risk_usd).map(|usd| format!("{} at risk", spelling.show(usd))));
            let label = if i == 0 { "prices" } else { "" };
            sheet.whole(label, &format!("{}  {}", parts.join(", "), model.model));
        }
    }

    /// Returns the list price and the paid price of each model, rounded so that the models add up.
    pub fn amounts(&self, spelling: Spelling) -> Vec<(Option<ShownAmount>, Option<ShownAmount>)> {
        let rounded = |part: fn(&ModelDetail) -> Option<Nanos>| {
            let all: Vec<Nanos> = self.models.iter().map(|model| part(model).unwrap_or_default()).collect();
            let shown = spelling.parts(&all);
            self.models
                .iter()
                .zip(shown)
                .map(move |(model, shown)| part(model).map(|exact| ShownAmount { exact, rounded: shown }))
        };
        rounded(|model| model.list_usd).zip(rounded(|model| model.usd)).collect()
    }

    fn speed_parts(&self, overall_only: bool) -> Vec<String> {
        let speed = &self.tokens_per_s;
        let mut parts = Vec::new();
        parts.extend(speed.overall.map(|overall| format!("{} tokens/s in all", rate(overall))));
        if !overall_only && let (Some(p10), Some(p50), Some(p90)) = (speed.row_p10, speed.row_p50, speed.row_p90) {
            parts.push(format!("median answer {} tokens/s (p10 {}, p90 {})", rate(p50), rate(p10), rate(p90)));
        }
        parts
    }

    /// Lists the rules that answers break, each with an example.
    fn broken_rules(&self) -> Grid {
        let mut grid = Grid::bare([Align::Right, Align::Whole, Align::Left]);
        for RuleDetail { rule, count: rows, example } in self.rules.iter().take(RULES) {
            let answer = example.shown_answer().replace(char::is_control, " ");
            grid.row([count(*rows), rule.clone(), format!("e.g. {}: {answer}", cut(&example.id, ID))]);
        }
        grid
    }

    /// Lists ids of answers that were cut off. The summary counts them.
    fn truncated_ids(&self) -> Vec<String> {
        let ids = self.truncated.rows.iter().take(IDS).map(|row| row.id.clone());
        ids.chain((self.truncated.count > IDS as u64).then(|| "…".to_owned())).collect()
    }
}

fn top(rows: &[TopRow]) -> Grid {
    // Batches and results files do not say how long an answer took.
    let timed = rows.iter().any(|row| row.latency_ms.is_some());
    let mut align = vec![Align::Right, Align::Right, Align::Left];
    if timed {
        align.insert(0, Align::Right);
    }
    let mut grid = Grid::bare(align);
    for row in rows {
        let time = timed.then(|| row.latency_ms.map_or_else(String::new, |ms| millis(ms.into())));
        let usd = row.usd.map_or_else(|| "unknown".to_owned(), Nanos::human);
        let id = cut(&row.id, ID);
        grid.row(time.into_iter().chain([
            format!("{} + {} tokens", count(row.prompt_tokens), count(row.completion_tokens)),
            usd,
            id,
        ]));
    }
    grid
}

/// Formats a rate with one decimal below ten.
fn rate(per_second: f64) -> String {
    if per_second < 10.0 { format!("{per_second:.1}") } else { count(per_second.round() as u64) }
}
