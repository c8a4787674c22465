//! The summary for people.

use std::fmt::Write as _;
use std::path::Path;

use super::document::{CostSummary, SpeedSummary, TokenCounts};
use super::{JobTime, Sheet, Summary};
use crate::outcome::ErrorCode;
use crate::price::{Nanos, Spelling};
use crate::text::{Align, Grid, count, duration, grouped, millis, plural, rate};

/// Models that are listed; the others are counted.
const MAX_MODELS: usize = 10;

impl TokenCounts {
    /// The tokens of requests in words.
    pub fn prompt_part(&self) -> String {
        with_part(self.prompt, "prompt", self.cached, "cached")
    }

    /// The tokens of answers in words.
    pub fn completion_part(&self) -> String {
        with_part(self.completion, "completion", self.reasoning, "reasoning")
    }
}

fn with_part(tokens: u64, what: &str, part: u64, of: &str) -> String {
    let part = if part > 0 { format!(" ({} {of})", count(part)) } else { String::new() };
    format!("{} {what}{part}", count(tokens))
}

impl Summary {
    /// Writes the summary as lines of at most `width` columns, without colours, with further lines before those about the
    /// end. Long models and messages are cut. `exit`: the exit code of the command that shows this, if the code comes from
    /// this summary. `said`: lines that the command has said before, by their labels.
    pub fn table(&self, width: u16, exit: Option<u8>, said: &[&str], more: impl FnOnce(&mut Sheet)) -> String {
        let mut sheet = Sheet::new(width);
        if let Some(job) = self.job.as_ref().filter(|_| !said.contains(&"job")) {
            let transport = match self.transport.as_deref() {
                Some(_) if !self.transports.is_empty() => ", batch and realtime".to_owned(),
                Some(transport) => format!(", {transport}"),
                None => String::new(),
            };
            sheet.whole("job", &format!("{job}{transport}: {}", self.state));
        }
        sheet.list("rows", &self.row_parts());
        sheet.list("truncated", &self.truncated_parts());
        if self.rows.fenced > 0 {
            let (fenced, all) = (count(self.rows.fenced), count(self.rows.succeeded));
            sheet.list("fenced", &[format!("{fenced} of {all} are JSON in a Markdown fence; `content` is without it")]);
        }
        sheet.list("tokens", &self.token_parts());
        sheet.list("cost", &self.cost_parts());
        self.transports(&mut sheet);
        self.models(said.contains(&"model"), &mut sheet);
        sheet.list("time", &self.time_parts());
        sheet.list("latency", &self.latency_parts());
        sheet.list("1st token", &self.first_token_parts());
        sheet.list("output", &self.speed_parts());
        sheet.list("requests", &self.http_parts());
        self.urls(&mut sheet);
        self.errors(&mut sheet);
        more(&mut sheet);
        match exit {
            _ if self.exit.code == 0 => {}
            Some(code) => sheet.prose("exit", &format!("{code}: {}", self.exit.reason)),
            None => sheet.prose("state", &self.exit.reason),
        }
        if let Some(next) = &self.exit.next {
            sheet.command("next", next);
        }
        sheet.finish()
    }

    fn row_parts(&self) -> Vec<String> {
        let rows = &self.rows;
        let mut parts = vec![format!("{}: {} answered", count(rows.total), count(rows.succeeded))];
        if self.resumed > 0 {
            parts.push(format!("{} of them earlier", count(self.resumed)));
        }
        if rows.reused > 0 {
            parts.push(format!("{} reused at no cost", count(rows.reused)));
        }
        parts.extend(self.other_rows());
        parts
    }

    /// Counts the rows without an answer, by what became of them.
    fn other_rows(&self) -> Vec<String> {
        let cancelled =
            self.errors.iter().find(|error| error.code == ErrorCode::Cancelled).map_or(0, |error| error.count);
        let others = [
            (self.rows.failed.saturating_sub(cancelled), "failed"),
            (cancelled, "cancelled"),
            (self.rows.pending, "still to do"),
        ];
        others.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))).collect()
    }

    /// Counts the answers that were cut off.
    fn truncated_parts(&self) -> Vec<String> {
        let rows = &self.rows;
        if rows.truncated == 0 {
            return Vec::new();
        }
        let mut parts = vec![format!("{} of {} cut off by max_tokens", count(rows.truncated), count(rows.succeeded))];
        if rows.truncated_empty > 0 {
            parts.push(format!("{} of them empty", count(rows.truncated_empty)));
        }
        parts
    }

    fn token_parts(&self) -> Vec<String> {
        let tokens = &self.tokens;
        if tokens.total == 0 {
            return Vec::new();
        }
        vec![format!("{}: {} + {}", count(tokens.total), tokens.prompt_part(), tokens.completion_part())]
    }

    /// Says in one line how the command ended and which files it wrote.
    pub fn verdict(&self, files: &[&Path]) -> String {
        let rows = &self.rows;
        // Writing to a String cannot fail.
        let mut text = format!("{} of {} answered", count(rows.succeeded), count(rows.total));
        let others = self.other_rows();
        if !others.is_empty() {
            let _ = write!(text, " ({})", others.join(", "));
        }
        if let Some(elapsed) = self.elapsed() {
            let _ = write!(text, " in {elapsed}");
        }
        if let Some(usd) = self.cost.usd.filter(|usd| *usd > Nanos::ZERO) {
            let charged = if self.sandbox { " (sandbox: nothing charged)" } else { "" };
            let _ = write!(text, " for {}{}{charged}", self.bound(), self.spelling().show(usd));
        }
        if !files.is_empty() {
            let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
            let _ = write!(text, " → {}", files.join(", "));
        }
        text
    }

    /// The words before a cost that is an upper bound.
    pub const fn bound(&self) -> &'static str {
        if self.cost.upper_bound { "at most " } else { "" }
    }

    /// Says how many cached tokens are counted at the full price.
    pub fn cached_at_full_part(&self) -> Option<String> {
        let cached = self.cached_at_full;
        (cached > 0).then(|| format!("{} counted at full price", plural(cached, "cached token")))
    }

    /// Chooses the spelling of all amounts of this summary.
    pub fn spelling(&self) -> Spelling {
        let CostSummary { usd, realtime_usd, saved_usd, at_risk_usd, wasted_usd, resumed_usd, cache_saved_usd, .. } =
            &self.cost;
        let whole = [usd, realtime_usd, saved_usd, at_risk_usd, wasted_usd, resumed_usd, cache_saved_usd];
        Spelling::of(whole.into_iter().copied().chain(self.models.iter().map(|model| model.usd)).flatten())
    }

    fn cost_parts(&self) -> Vec<String> {
        let spelling = self.spelling();
        let CostSummary { usd, realtime_usd, saved_usd, unpriced_models, .. } = &self.cost;
        let mut parts = Vec::new();
        match usd {
            Some(usd) if *usd == Nanos::ZERO && self.tokens.total == 0 => parts.push("nothing".to_owned()),
            Some(usd) => parts.push(format!("{}{}", self.bound(), spelling.show(*usd))),
            None if unpriced_models.is_empty() => parts.push("unknown".to_owned()),
            None => parts.extend(self.unpriced_parts()),
        }
        if self.sandbox {
            parts.push("in the sandbox: nothing was charged".to_owned());
        }
        if let (Some(realtime), Some(usd), Some(_)) = (realtime_usd, usd, saved_usd.filter(|saved| saved.0 > 0)) {
            let less = spelling.less(spelling.shown(*realtime), spelling.shown(*usd));
            parts.push(format!("{less} less than the realtime price of {}", spelling.show(*realtime)));
        }
        let part = |amount: Option<Nanos>, what: &str| {
            amount.filter(|amount| amount.0 > 0).map(|amount| format!("{} {what}", spelling.show(amount)))
        };
        parts.extend(part(self.cost.cache_saved_usd, "saved by cached tokens"));
        parts.extend(self.cached_at_full_part());
        parts.extend(part(self.cost.resumed_usd, "of it paid earlier"));
        parts.extend(part(self.cost.wasted_usd, "of it for discarded responses"));
        parts.extend(self.open_part(spelling));
        if usd.is_some() {
            parts.extend(self.unpriced_parts());
        }
        parts
    }

    /// Names the most that requests without a known cost may add.
    fn open_part(&self, spelling: Spelling) -> Option<String> {
        let mut open = Vec::new();
        if self.uncertain > 0 {
            open.push(format!("{} that may have been billed", plural(self.uncertain, "request")));
        }
        if self.unmetered > 0 {
            open.push(format!("{} without token usage", plural(self.unmetered, "answer")));
        }
        if self.in_batches > 0 {
            open.push(format!("{} in batches not yet fetched", plural(self.in_batches, "row")));
        }
        let most = match self.cost.at_risk_usd {
            Some(usd) => format!("up to {}", spelling.show(usd)),
            None => "an unknown amount".to_owned(),
        };
        (!open.is_empty()).then(|| format!("{most} more for {}", open.join(" and ")))
    }

    fn unpriced_parts(&self) -> Vec<String> {
        let CostSummary { usd, unpriced_models, .. } = &self.cost;
        let mut parts: Vec<String> = unpriced_models.iter().take(MAX_MODELS + 1).cloned().collect();
        if let Some(first) = parts.first_mut() {
            let prefix = if usd.is_some() { "not counting" } else { "unknown: no known price for" };
            *first = format!("{prefix} {first}");
            if unpriced_models.len() > MAX_MODELS + 1 {
                parts.push(format!("{} more", unpriced_models.len() - MAX_MODELS - 1));
            }
            if usd.is_some() {
                parts.push("whose price is unknown".to_owned());
            }
        }
        parts
    }

    /// Adds the rows and the money of each transport, if the job used both.
    fn transports(&self, sheet: &mut Sheet) {
        let spelling = self.spelling();
        let all: Vec<Nanos> = self.transports.iter().map(|part| part.usd.unwrap_or_default()).collect();
        let mut grid = Grid::bare([Align::Right, Align::Right, Align::Left]);
        for (part, shown) in self.transports.iter().zip(spelling.parts(&all)) {
            let usd = part.usd.map_or_else(|| "unknown".to_owned(), |usd| spelling.show_as(usd, shown));
            let place = if part.transport == "batch" { "in batches" } else { "in real time" };
            grid.row([plural(part.rows, "row"), usd, place.to_owned()]);
        }
        sheet.grid("by way", &grid);
    }

    fn models(&self, said: bool, sheet: &mut Sheet) {
        if let [model] = self.models.as_slice() {
            if !said {
                sheet.whole("model", &model.model);
            }
        } else {
            let spelling = self.spelling();
            let all: Vec<Nanos> = self.models.iter().map(|model| model.usd.unwrap_or_default()).collect();
            let mut grid = Grid::bare([Align::Right, Align::Right, Align::Right, Align::Left]);
            for (model, part) in self.models.iter().zip(spelling.parts(&all)).take(MAX_MODELS) {
                let unit = if model.rows == 1 { "row " } else { "rows" };
                let usd = model.usd.map_or_else(|| "unknown".to_owned(), |usd| spelling.show_as(usd, part));
                let tokens = format!("{} tokens", count(model.tokens));
                grid.row([format!("{} {unit}", count(model.rows)), tokens, usd, model.model.clone()]);
            }
            sheet.grid("models", &grid);
            if self.models.len() > MAX_MODELS {
                sheet.whole("", &format!("and {}", plural((self.models.len() - MAX_MODELS) as u64, "more model")));
            }
        }
        self.routes(sheet);
    }

    /// Adds each model's transport and the reason, where llbatch chose the transport for each model.
    fn routes(&self, sheet: &mut Sheet) {
        // The reason says more than the end of a long model name.
        let mut grid = Grid::bare([Align::Whole, Align::Left]);
        let chosen = self.models.iter().filter_map(|model| Some((model.via?, model.why.as_ref()?, &model.model)));
        for (via, why, model) in chosen.take(MAX_MODELS) {
            let via = if via == "both" { "batch and realtime" } else { via };
            grid.row([&format!("{via}: {why}"), model]);
        }
        sheet.grid("via", &grid);
    }

    /// The time of the job; nothing if it is unknown.
    pub fn elapsed(&self) -> Option<String> {
        let JobTime { batches, realtime } = self.time;
        match batches {
            // The service's clock counts seconds.
            Some(batches) => Some(duration(batches + realtime)),
            None if realtime.is_zero() => None,
            None => Some(millis(realtime.as_millis() as u64)),
        }
    }

    /// The time of the job, with what it measures or the rows per second.
    pub fn time_parts(&self) -> Vec<String> {
        let JobTime { batches, realtime } = self.time;
        let elapsed = realtime.as_millis();
        let done = (self.rows.succeeded + self.rows.failed).saturating_sub(self.resumed);
        let done = u128::from(done);
        match (batches, elapsed) {
            (None, 0) => return Vec::new(),
            (Some(batches), 0) => {
                let what = if self.rows.pending > 0 { "since creation" } else { "from creation to end" };
                return vec![format!("{} {what}", duration(batches))];
            }
            (Some(batches), _) => {
                let realtime = millis(elapsed as u64);
                return vec![format!("{} in batches", duration(batches)), format!("{realtime} in real time")];
            }
            (None, _) => {}
        }
        let mut parts = vec![millis(elapsed as u64)];
        // The service works on a batch: this command's time says nothing about the rows' speed.
        if done > 0 && self.transport.as_deref() == Some("realtime") {
            let tenths = done * 10_000 / elapsed;
            let (whole, tenth) = (tenths / 10, tenths % 10);
            parts.push(match whole {
                // Less than one row in ten seconds is shown per hour.
                0 if tenth == 0 => format!("{} rows/h", grouped(done * 3_600_000 / elapsed)),
                0..=9 => format!("{whole}.{tenth} rows/s"),
                _ => format!("{} rows/s", grouped(whole)),
            });
        }
        parts
    }

    fn latency_parts(&self) -> Vec<String> {
        let latency = &self.latency_ms;
        [("p50", latency.p50), ("p90", latency.p90), ("p99", latency.p99), ("max", latency.max)]
            .into_iter()
            .filter_map(|(name, ms)| ms.map(|ms| format!("{name} {}", millis(ms.into()))))
            .collect()
    }

    /// The times to the first tokens of streams.
    fn first_token_parts(&self) -> Vec<String> {
        let times = &self.first_token_ms;
        let named = [("p50", times.p50), ("p90", times.p90), ("p99", times.p99)];
        named.into_iter().filter_map(|(name, ms)| ms.map(|ms| format!("{name} {}", millis(ms.into())))).collect()
    }

    /// The output speed of streams.
    fn speed_parts(&self) -> Vec<String> {
        let SpeedSummary { p50: Some(p50), p90: Some(p90), p99: Some(p99) } = self.tokens_per_s else {
            return Vec::new();
        };
        if self.first_token_ms.p50.is_none() {
            return Vec::new();
        }
        let [p50, p90, p99] = [p50, p90, p99].map(rate);
        vec![format!("p50 {p50}"), format!("p90 {p90}"), format!("p99 {p99} tokens/s")]
    }

    fn http_parts(&self) -> Vec<String> {
        if self.http.sent == 0 {
            return Vec::new();
        }
        let place = if self.transports.is_empty() { "" } else { " in real time" };
        let mut parts = vec![format!("{} sent{place}", count(self.http.sent))];
        if self.http.retried > 0 {
            parts.push(format!("{} retried", count(self.http.retried)));
        }
        if self.http.rate_limited > 0 {
            parts.push(format!("{} rate-limited", count(self.http.rate_limited)));
        }
        parts
    }

    /// Adds the rows and the median latency of each base URL, if there are several.
    fn urls(&self, sheet: &mut Sheet) {
        let mut grid = Grid::bare([Align::Right, Align::Right, Align::Right, Align::Left]);
        for part in &self.urls {
            let p50 = part.latency_ms.p50.map_or_else(String::new, |ms| format!("p50 {}", millis(ms.into())));
            let failed = if part.failed > 0 { format!("{} failed", count(part.failed)) } else { String::new() };
            grid.row([plural(part.rows, "row"), failed, p50, part.url.clone()]);
        }
        sheet.grid("urls", &grid);
    }

    fn errors(&self, sheet: &mut Sheet) {
        // The most frequent code comes first.
        let digits = self.errors.first().map_or(0, |error| count(error.count).len());
        let mut grid = Grid::bare([Align::Whole, Align::Left]);
        for error in &self.errors {
            let example = format!("e.g. {}", error.example.replace(char::is_control, " "));
            grid.row([format!("{:>digits$} {}", count(error.count), error.code.as_str()), example]);
        }
        sheet.grid("errors", &grid);
    }
}
