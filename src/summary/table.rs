//! The summary for people: what one wants to see the morning after.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Cost, Summary};
use crate::price::{Nanos, Spelling};
use crate::text::grouped;

/// Two blanks, then the label.
const INDENT: usize = 12;
/// Narrower than this nothing is readable; the terminal may wrap then.
const MIN_WIDTH: usize = 40;
/// More models than that are counted, not listed.
const MAX_MODELS: usize = 10;

impl Summary {
    /// Some lines that fit `width` columns, each with its line end; no colours. Ids, models and messages are shortened
    /// and freed of control characters.
    pub fn table(&self, width: u16) -> String {
        self.table_with(width, Some(self.exit.code), |_| {})
    }

    /// The same with further lines before those about how it ended. `exit`: the code that the command which shows this
    /// ends with for that, if it does.
    pub fn table_with(&self, width: u16, exit: Option<u8>, more: impl FnOnce(&mut Table)) -> String {
        let mut table = Table { text: String::new(), width: usize::from(width).max(MIN_WIDTH) };
        if let Some(job) = &self.job {
            let transport = self.transport.as_deref().map(|transport| format!(", {transport}")).unwrap_or_default();
            table.line("job", &[format!("{job}{transport}: {}", self.state)]);
        }
        table.line("rows", &self.row_parts());
        table.line("tokens", &self.token_parts());
        table.line("cost", &self.cost_parts());
        self.models(&mut table);
        table.line("time", &self.time_parts());
        table.line("latency", &self.latency_parts());
        table.line("requests", &self.http_parts());
        self.errors(&mut table);
        more(&mut table);
        match exit {
            _ if self.exit.code == 0 => {}
            Some(code) => table.prose("exit", &format!("{code}: {}", self.exit.reason)),
            None => table.prose("state", &self.exit.reason),
        }
        if let Some(next) = &self.exit.next {
            table.command("next", next);
        }
        table.text
    }

    fn row_parts(&self) -> Vec<String> {
        let rows = &self.rows;
        let mut parts = vec![format!("{}: {} answered", count(rows.total), count(rows.succeeded))];
        if self.reused > 0 {
            parts.push(format!("{} of them by an earlier run", count(self.reused)));
        }
        if rows.failed > 0 {
            parts.push(format!("{} failed", count(rows.failed)));
        }
        if rows.pending > 0 {
            parts.push(format!("{} still to do", count(rows.pending)));
        }
        parts
    }

    fn token_parts(&self) -> Vec<String> {
        let tokens = &self.tokens;
        if tokens.total == 0 {
            return Vec::new();
        }
        let (prompt, completion) = (count(tokens.prompt), count(tokens.completion));
        let mut parts = vec![format!("{}: {prompt} prompt + {completion} completion", count(tokens.total))];
        if let Some(off) = self.estimate_off {
            let percent = (off.abs() * 1000.0).round() / 10.0;
            parts.push(match off {
                _ if percent < 0.1 => "prompts estimated right".to_owned(),
                off if off > 0.0 => format!("prompts estimated {percent}% too high"),
                _ => format!("prompts estimated {percent}% too low"),
            });
        }
        parts
    }

    /// How all amounts of this receipt are spelled.
    pub fn spelling(&self) -> Spelling {
        let Cost { usd, realtime_usd, saved_usd, at_risk_usd, wasted_usd, resumed_usd, .. } = &self.cost;
        let whole = [usd, realtime_usd, saved_usd, at_risk_usd, wasted_usd, resumed_usd];
        Spelling::of(whole.into_iter().copied().chain(self.models.iter().map(|model| model.usd)).flatten())
    }

    fn cost_parts(&self) -> Vec<String> {
        let spelling = self.spelling();
        let Cost { usd, realtime_usd, saved_usd, unpriced_models, .. } = &self.cost;
        let mut parts = Vec::new();
        match usd {
            Some(usd) if *usd == Nanos::ZERO && self.tokens.total == 0 => parts.push("nothing".to_owned()),
            Some(usd) => parts.push(spelling.show(*usd)),
            None if unpriced_models.is_empty() => parts.push("unknown".to_owned()),
            None => {}
        }
        if let (Some(realtime), Some(usd), Some(_)) = (realtime_usd, usd, saved_usd.filter(|saved| saved.0 > 0)) {
            let shown = |amount: Nanos| (amount, spelling.round(amount));
            let less = spelling.less(shown(*realtime), shown(*usd));
            parts.push(format!("{less} less than the {} of realtime", spelling.show(*realtime)));
        }
        let part = |amount: Option<Nanos>, what: &str| {
            amount.filter(|amount| amount.0 > 0).map(|amount| format!("{} {what}", spelling.show(amount)))
        };
        parts.extend(part(self.cost.resumed_usd, "of it paid by earlier runs"));
        parts.extend(part(self.cost.wasted_usd, "of it for responses thrown away"));
        let mut open = Vec::new();
        if self.uncertain > 0 {
            open.push(format!("{} of unknown fate", requests(self.uncertain)));
        }
        if self.unmetered > 0 {
            open.push(format!("{} that came without a usage", plural(self.unmetered, "answer", "answers")));
        }
        if self.in_batches > 0 {
            open.push(format!("{} in batches that are not fetched yet", plural(self.in_batches, "row", "rows")));
        }
        if !open.is_empty() {
            let most = match self.cost.at_risk_usd {
                Some(usd) => format!("up to {}", spelling.show(usd)),
                None => "an unknown amount".to_owned(),
            };
            parts.push(format!("{most} more for {}", open.join(" and ")));
        }
        if self.unmetered == 0 && self.cost.estimated {
            parts.push("estimated".to_owned());
        }
        let mut names = unpriced_models.iter();
        if let Some(first) = names.next() {
            let prefix = if usd.is_some() { "not counting" } else { "unknown: no known price for" };
            parts.push(format!("{prefix} {first}"));
            parts.extend(names.take(MAX_MODELS).cloned());
            if unpriced_models.len() > MAX_MODELS + 1 {
                parts.push(format!("{} more", unpriced_models.len() - MAX_MODELS - 1));
            }
            if usd.is_some() {
                parts.push("whose price is not known".to_owned());
            }
        }
        parts
    }

    fn models(&self, table: &mut Table) {
        if let [model] = self.models.as_slice() {
            table.whole("model", &model.model);
            self.routes(table);
            return;
        }
        let shown = &self.models[..self.models.len().min(MAX_MODELS)];
        let spelling = self.spelling();
        let all: Vec<Nanos> = self.models.iter().map(|model| model.usd.unwrap_or_default()).collect();
        let cells: Vec<[String; 3]> = shown
            .iter()
            .zip(spelling.parts(&all))
            .map(|(model, part)| {
                let usd = model.usd.map_or_else(|| "unknown".to_owned(), |usd| spelling.show_as(usd, part));
                [count(model.rows), count(model.tokens), usd]
            })
            .collect();
        let widest = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let (rows, tokens, usd) = (widest(0), widest(1), widest(2));
        for (i, (model, [r, t, u])) in shown.iter().zip(&cells).enumerate() {
            let label = if i == 0 { "models" } else { "" };
            let unit = if model.rows == 1 { "row " } else { "rows" };
            table.whole(label, &format!("{r:>rows$} {unit}  {t:>tokens$} tokens  {u:>usd$}  {}", model.model));
        }
        if self.models.len() > shown.len() {
            table.whole("", &format!("and {} more models", self.models.len() - shown.len()));
        }
        self.routes(table);
    }

    /// Where each model's rows went and why, where that was chosen for each.
    fn routes(&self, table: &mut Table) {
        let chosen = self.models.iter().filter_map(|model| Some((model.via?, model.why.as_ref()?, &model.model)));
        let lines: Vec<(String, &String)> = chosen
            .take(MAX_MODELS)
            .map(|(via, why, model)| {
                (format!("{}: {why}", if via == "both" { "batch and realtime" } else { via }), model)
            })
            .collect();
        let widest = lines.iter().map(|(text, _)| columns(text)).max().unwrap_or(0);
        for (i, (text, model)) in lines.iter().enumerate() {
            table.whole(if i == 0 { "via" } else { "" }, &format!("{text:<widest$}  {model}"));
        }
    }

    fn time_parts(&self) -> Vec<String> {
        let elapsed = Duration::try_from_secs_f64(self.duration_s).unwrap_or_default().as_millis();
        let done = u128::from((self.rows.succeeded + self.rows.failed).saturating_sub(self.reused));
        if elapsed == 0 {
            return Vec::new();
        }
        let mut parts = vec![span(elapsed)];
        // A batch is worked on elsewhere: the time is this command's, and no pace of rows.
        if done > 0 && self.transport.as_deref() != Some("batch") {
            let tenths = done * 10_000 / elapsed;
            let (whole, tenth) = (tenths / 10, tenths % 10);
            parts.push(match whole {
                // Slower than one row in ten seconds is told by the hour.
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
            .filter_map(|(name, ms)| ms.map(|ms| format!("{name} {}", span(u128::from(ms)))))
            .collect()
    }

    fn http_parts(&self) -> Vec<String> {
        if self.http.sent == 0 {
            return Vec::new();
        }
        let mut parts = vec![format!("{} sent", count(self.http.sent))];
        if self.http.retried > 0 {
            parts.push(format!("{} retried", count(self.http.retried)));
        }
        if self.http.rate_limited > 0 {
            parts.push(format!("{} told to wait", count(self.http.rate_limited)));
        }
        parts
    }

    fn errors(&self, table: &mut Table) {
        let counts: Vec<String> = self.errors.iter().map(|error| count(error.count)).collect();
        let widest = counts.iter().map(String::len).max().unwrap_or(0);
        let longest = self.errors.iter().map(|error| error.code.as_str().len()).max().unwrap_or(0);
        for (i, (error, number)) in self.errors.iter().zip(&counts).enumerate() {
            let label = if i == 0 { "errors" } else { "" };
            table.whole(
                label,
                &format!(
                    "{number:>widest$} {:<longest$}  {}",
                    error.code.as_str(),
                    format_args!("e.g. {}", error.example)
                ),
            );
        }
    }
}

/// Labelled lines of a summary.
pub struct Table {
    text: String,
    width: usize,
}

impl Table {
    /// Parts joined by commas, broken between parts; nothing if there are none.
    pub fn line(&mut self, label: &str, parts: &[String]) {
        let room = self.width - INDENT;
        let mut line = String::new();
        let mut label = label;
        for (i, part) in parts.iter().enumerate() {
            let comma = if i + 1 < parts.len() { "," } else { "" };
            let part = format!("{part}{comma}");
            if !line.is_empty() && columns(&line) + 1 + columns(&part) > room {
                self.whole(label, &line);
                label = "";
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&part);
        }
        if !line.is_empty() {
            self.whole(label, &line);
        }
    }

    /// A sentence, broken between its words.
    fn prose(&mut self, mut label: &str, text: &str) {
        let mut line = String::new();
        for word in text.split_whitespace() {
            if !line.is_empty() && columns(&line) + 1 + columns(word) > self.width - INDENT {
                self.whole(std::mem::take(&mut label), &line);
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.whole(label, &line);
    }

    /// One line, cut to the width.
    pub fn whole(&mut self, label: &str, text: &str) {
        let text = shortened(text, self.width - INDENT);
        // Writing into a String cannot fail.
        let _ = writeln!(self.text, "  {label:<9} {text}");
    }

    /// A command line, never cut: continued with backslashes, so that it can be copied.
    fn command(&mut self, label: &str, text: &str) {
        let mut lines = vec![String::new()];
        for word in shell_words(text) {
            let last = lines.len() - 1;
            // Two columns for the backslash.
            if !lines[last].is_empty() && columns(&lines[last]) + columns(word) + 3 > self.width - INDENT {
                lines[last].push_str(" \\");
                lines.push(format!("  {word}"));
                continue;
            }
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
        for (i, line) in lines.iter().enumerate() {
            let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            // Writing into a String cannot fail.
            let _ = writeln!(self.text, "  {:<9} {line}", if i == 0 { label } else { "" });
        }
    }
}

/// The words of a command line, quotes kept.
fn shell_words(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '\'';
        c == ' ' && !quoted
    })
    .filter(|word| !word.is_empty())
}

/// `text` on one line of at most `room` columns.
fn shortened(text: &str, room: usize) -> String {
    let mut short = String::new();
    let mut used = 0;
    for character in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        used += width(character);
        if used > room {
            while columns(&short) >= room {
                short.pop();
            }
            short.push('…');
            return short;
        }
        short.push(character);
    }
    short
}

fn columns(text: &str) -> usize {
    text.chars().map(width).sum()
}

/// Columns of a character, never too few: East Asian wide ones and emoji start at U+1100, and what is counted as wide
/// there without being so only shortens a text early.
fn width(character: char) -> usize {
    match character {
        '\u{2000}'..='\u{22ff}' => 1,
        '\u{1100}'.. => 2,
        _ => 1,
    }
}

pub fn count(number: u64) -> String {
    grouped(u128::from(number))
}

pub fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

fn requests(number: u64) -> String {
    plural(number, "request", "requests")
}

/// A span of milliseconds: `210 ms`, `12.3 s`, `2m 05s`, `3h 10m`.
pub fn span(ms: u128) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m {:02}s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{}h {:02}m", grouped(ms / 3_600_000), ms % 3_600_000 / 60_000),
    }
}
