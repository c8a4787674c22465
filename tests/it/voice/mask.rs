//! Hides what differs from run to run: ids, times, ports, paths and the version.

use std::fmt::Write as _;

/// Lines of a summary that hold measurements.
const MEASURED: [&str; 6] = ["time ", "latency ", "speed ", "median answer ", "slowest ", "dearest "];

/// Units of measured times.
const TIMES: [&str; 4] = ["ms", "s", "min", "h"];

/// The transcript without what differs from run to run.
pub fn masked(text: &str, home: &str) -> String {
    let text = text.replace(home.trim_end_matches('/'), "/HOME").replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let mut jobs = Vec::new();
    // Whether the line is inside a JSON object of latencies or speeds.
    let mut timed = false;
    let mut out = String::new();
    for line in text.lines() {
        let start = line.trim_start();
        // A batch that took no time at all has no speed.
        if start.starts_with("speed ") && !start.contains("median answer") {
            continue;
        }
        timed = (timed && !start.starts_with('}')) || start.ends_with("_ms\": {") || start.ends_with("_s\": {");
        let line = mask_ids(line, &mut jobs);
        let line = if timed || start.starts_with("\"duration_s\"") || start.starts_with("\"latency_ms\": ") {
            mask_number(&line)
        } else {
            mask_age(&mask_dates(&mask_measurements(&line)))
        };
        writeln!(out, "{}", line.trim_end()).unwrap();
    }
    out
}

/// Job ids by their order of appearance, batch and file ids, ports, process ids.
fn mask_ids(line: &str, jobs: &mut Vec<String>) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let starts = !out.ends_with(char::is_alphanumeric);
        if let Some(id) = job_id(rest).filter(|_| starts) {
            let number = jobs.iter().position(|job| job == id).unwrap_or(jobs.len());
            if number == jobs.len() {
                jobs.push(id.to_owned());
            }
            write!(out, "j-job{:05}", number + 1).unwrap();
            rest = &rest[id.len()..];
        } else if starts && is_uuid(rest) {
            out.push_str("00000000-0000-0000-0000-000000000000");
            rest = &rest[36..];
        } else if let Some((name, mask)) = NUMBERED.iter().find(|(name, _)| rest.starts_with(name)) {
            out.extend([*name, mask]);
            rest = rest[name.len()..].trim_start_matches(|c: char| c.is_ascii_digit());
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// Words before a number that is drawn by the system, and its mask.
const NUMBERED: [(&str, &str); 2] = [("127.0.0.1:", "PORT"), ("(process ", "ID")];

/// Ids that the stories made up; they stay.
const MADE_UP: [&str; 2] = ["zzzzzzzz", "abcdefgh"];

/// The job's id that `text` begins with.
fn job_id(text: &str) -> Option<&str> {
    let drawn = text.strip_prefix("j-")?.get(..8)?;
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = !text[10..].starts_with(char::is_alphanumeric);
    (drawn.chars().all(letters) && ends && !MADE_UP.contains(&drawn)).then(|| &text[..10])
}

/// Whether `text` begins with a UUID that no test made up.
fn is_uuid(text: &str) -> bool {
    let shape = |(i, c): (usize, char)| if [8, 13, 18, 23].contains(&i) { c == '-' } else { c.is_ascii_hexdigit() };
    text.get(..36).is_some_and(|id| id.char_indices().all(shape)) && !text.starts_with("00000000-")
}

/// Times and rates on lines of measurements (`12 ms`, `4.2 rows/s`), and `in 3 ms` anywhere.
fn mask_measurements(line: &str) -> String {
    let start = line.trim_start();
    let words: Vec<&str> = start.split(' ').collect();
    // A line that continues a table of slow rows begins with its time.
    let row = is_time(words[0]) || is_number(words[0]) && words.get(1).is_some_and(|unit| TIMES.contains(unit));
    let measured = row || MEASURED.iter().any(|word| start.starts_with(word));
    let speed = start.starts_with("speed ") || start.starts_with("median answer ");
    let indent = if row { 12 } else { line.len() - start.len() };
    let mut out = vec![];
    let mut i = 0;
    while i < words.len() {
        let unit = words.get(i + 1).map_or("", |unit| unit.trim_end_matches(','));
        let in_front = i > 0 && words[i - 1] == "in";
        if is_time(words[i]) && (measured || in_front || row) {
            // `2m 05s` is one time.
            if out.last().is_none_or(|last: &String| !last.starts_with("TIME")) {
                out.push("TIME".to_owned());
            }
            if words[i].ends_with(',')
                && let Some(last) = out.last_mut()
            {
                last.push(',');
            }
        } else if is_number(words[i]) && TIMES.contains(&unit) && (measured || in_front) {
            out.push(words[i + 1].replace(unit, "TIME"));
            i += 1;
        } else if is_number(words[i].trim_end_matches([',', ')'])) && (speed || measured && unit.ends_with("/s")) {
            out.push("#".to_owned() + &words[i][words[i].trim_end_matches([',', ')']).len()..]);
        } else {
            out.push(words[i].to_owned());
        }
        i += 1;
    }
    " ".repeat(indent) + &out.join(" ")
}

/// Whether a word is a time with its unit: `12ms`, `1.5s`, `2m`, `05s`.
fn is_time(word: &str) -> bool {
    let word = word.trim_end_matches(',');
    let number = word.trim_end_matches(char::is_alphabetic);
    is_number(number) && ["ms", "s", "m", "h", "d"].contains(&&word[number.len()..])
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(|c| c.is_ascii_digit() || ".,".contains(c))
}

/// Times of RFC 3339, the days of a table of costs, and `MM-DD HH:MM`. The dates of prices stay.
fn mask_dates(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let day = out.is_empty() || ["since ", "\"since\": \"", "\"day\": \""].iter().any(|word| out.ends_with(word));
        if is_shaped(rest, "0000-00-00T00:00:00") {
            out.push_str("TIME");
            rest = rest.split_once('Z').map_or("", |(_, rest)| rest);
        } else if is_shaped(rest, "0000-00-00 00:00:00") {
            out.push_str("TIME");
            rest = &rest[19..];
        } else if day && is_shaped(rest, "0000-00-00") {
            out.push_str("YYYY-MM-DD");
            rest = &rest[10..];
        } else if is_shaped(rest, "00-00 00:00") {
            out.push_str("MM-DD HH:MM");
            rest = &rest[11..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// Whether `text` begins with digits where `shape` has `0`, and with the same characters elsewhere.
fn is_shaped(text: &str, shape: &str) -> bool {
    let same = |(c, wanted): (u8, u8)| if wanted == b'0' { c.is_ascii_digit() } else { c == wanted };
    text.len() >= shape.len() && text.bytes().zip(shape.bytes()).all(same)
}

/// The age of a job in the table of `status`, ` 1s  ` to `99s  `, whose column stays three wide.
fn mask_age(line: &str) -> String {
    let Some((before, after)) = line.rsplit_once("s  ").filter(|_| line.starts_with("j-")) else {
        return line.to_owned();
    };
    let head = before.trim_end_matches(|c: char| c.is_ascii_digit());
    match before.len() - head.len() {
        digits @ 1..=2 if head.ends_with(' ') => format!("{}AGE  {after}", &before[..head.len() + digits - 2]),
        _ => line.to_owned(),
    }
}

/// Hides the number of a JSON line `"key": number`; the speed of a batch may be null as well.
fn mask_number(line: &str) -> String {
    match line.split_once(": ") {
        Some((key, value)) if value.starts_with(|c: char| c.is_ascii_digit()) || key.ends_with("\"overall\"") => {
            format!("{key}: #{}", if value.ends_with(',') { "," } else { "" })
        }
        _ => line.to_owned(),
    }
}

/// Hides the digits of every line that begins with `start`.
pub fn hide_digits(text: &str, start: &str) -> String {
    let digits = |line: &str| line.replace(|c: char| c.is_ascii_digit(), "#");
    text.split_inclusive('\n')
        .map(|line| if line.starts_with(start) { digits(line) } else { line.to_owned() })
        .collect()
}

/// Puts `…` for what follows `start`, up to `end` or to the end.
pub fn hide_after(text: &str, start: &str, end: &str) -> String {
    let Some((before, after)) = text.split_once(start) else { return text.to_owned() };
    format!("{before}{start}…{}", after.find(end).map_or("", |at| &after[at..]))
}
