//! The check of a batch's input: its lines, their ids, and the reason why the whole job fails.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::dialect::ServedDialect;
use super::json::{ObjectMembers, string};
use super::models::{Availability, availability};
use super::request::hash;

/// Rows in a job.
const MAX_ROWS: u64 = 50_000;
/// Bytes of a job's input. Together says 100 MB, `OpenAI` 200 MB; this takes the reading that refuses later.
const fn max_bytes(dialect: ServedDialect) -> u64 {
    match dialect {
        ServedDialect::Together => 100 << 20,
        ServedDialect::Openai => 200 << 20,
    }
}
/// Characters of an id.
const MAX_ID: usize = 64;

/// The facts of a job's input.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Intake {
    pub rows: u64,
    /// The model, if all rows have the same.
    pub model: Option<String>,
    pub failure: Option<String>,
    /// The line with which it fails.
    pub line: Option<u64>,
}

/// The form that the lines must have.
#[derive(Debug, Clone, Copy)]
pub struct IntakeForm<'a> {
    pub dialect: ServedDialect,
    /// The endpoint of the job, which each line names in `OpenAI`'s form.
    pub endpoint: &'a str,
}

/// One line of the input as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchInputLine<'a> {
    /// The id as a JSON string.
    pub id: &'a str,
    /// The body as JSON.
    pub body: &'a str,
}

impl<'a> BatchInputLine<'a> {
    /// Finds the id and the body of a line.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        let members = ObjectMembers::parse(text).map_err(|why| format!("not a JSON object: {why}"))?;
        let id = members.get("custom_id").filter(|id| id.starts_with('"')).ok_or("custom_id must be a string")?;
        let body = members.get("body").filter(|body| body.starts_with('{')).ok_or("body must be an object")?;
        Ok(Self { id, body })
    }

    /// Checks the members that `OpenAI` requires beside these.
    fn check_address(text: &str, endpoint: &str) -> Result<(), String> {
        let members = ObjectMembers::parse(text).map_err(|why| format!("not a JSON object: {why}"))?;
        if members.get("method").and_then(string).as_deref() != Some("POST") {
            return Err("method must be POST".to_owned());
        }
        match members.get("url").and_then(string) {
            Some(url) if url == endpoint => Ok(()),
            Some(url) => Err(format!("url {url} is not the endpoint of the batch, {endpoint}")),
            None => Err("url is missing".to_owned()),
        }
    }

    fn model(&self) -> Result<String, String> {
        let members = ObjectMembers::parse(self.body).map_err(|why| format!("body: {why}"))?;
        let model = members.get("model").and_then(string).unwrap_or_default();
        match availability(&model) {
            Availability::Serves { batch: false, .. } => Err(format!("{model} is not served in batch jobs")),
            _ => Ok(model.into_owned()),
        }
    }
}

/// Reads the input once. The error is that of the disk; an invalid input is a failure of the job.
pub fn check(path: &Path, bytes: u64, form: IntakeForm<'_>) -> io::Result<Intake> {
    let most = max_bytes(form.dialect);
    if bytes > most {
        let failure = Some(format!("The input has {bytes} bytes, more than {most}"));
        return Ok(Intake { failure, ..Intake::default() });
    }
    let mut rows = IntakeRows::default();
    if let Some((line, why)) = rows.read(BufReader::with_capacity(1 << 18, File::open(path)?), form)? {
        let failure = Some(format!("Line {line}{why}"));
        return Ok(Intake { rows: rows.count, model: None, failure, line: Some(line) });
    }
    let failure = match rows.count {
        0 => Some("The input has no rows".to_owned()),
        _ if rows.mixed && form.dialect == ServedDialect::Openai => {
            Some("mismatched_model: All rows of a batch must name the same model".to_owned())
        }
        1..=MAX_ROWS => None,
        more => Some(format!("The input has {more} rows, more than {MAX_ROWS}")),
    };
    let model = rows.model.filter(|model| !rows.mixed && !model.is_empty());
    Ok(Intake { rows: rows.count, model, failure, line: None })
}

/// The rows that were read so far.
#[derive(Default)]
struct IntakeRows {
    count: u64,
    /// 64 bits of a hash instead of the id: among 50,000 ids no two share them.
    ids: HashSet<u64>,
    model: Option<String>,
    mixed: bool,
}

impl IntakeRows {
    /// Reads all rows. Returns the number of an invalid line, and the reason.
    fn read(&mut self, mut reader: impl BufRead, form: IntakeForm<'_>) -> io::Result<Option<(u64, String)>> {
        let mut text = String::new();
        for number in 1_u64.. {
            text.clear();
            match reader.read_line(&mut text) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Ok(Some((number, " is not UTF-8".to_owned())));
                }
                Err(error) => return Err(error),
            }
            if !text.trim().is_empty()
                && let Err(why) = self.add(text.trim_end(), form)
            {
                return Ok(Some((number, format!(": {why}"))));
            }
        }
        Ok(None)
    }

    fn add(&mut self, text: &str, form: IntakeForm<'_>) -> Result<(), String> {
        let line = BatchInputLine::parse(text)?;
        if form.dialect == ServedDialect::Openai {
            BatchInputLine::check_address(text, form.endpoint)?;
        }
        let id = string(line.id).ok_or("custom_id cannot be read")?;
        if id.is_empty() || id.chars().count() > MAX_ID {
            return Err(format!("custom_id must have 1 to {MAX_ID} characters"));
        }
        if !self.ids.insert(hash(&id)) {
            return Err(format!("custom_id {id:?} is used twice"));
        }
        let model = line.model()?;
        self.count += 1;
        match &self.model {
            None => self.model = Some(model),
            Some(first) => self.mixed |= *first != model,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &[u8]) -> Intake {
        checked_in(text, ServedDialect::Together)
    }

    fn checked_in(text: &[u8], dialect: ServedDialect) -> Intake {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let form = IntakeForm { dialect, endpoint: "/v1/chat/completions" };
        check(file.path(), text.len() as u64, form).unwrap()
    }

    #[test]
    fn each_line_of_openai_names_its_endpoint_and_one_model() {
        let row = |id: &str, more: &str, model: &str| {
            format!("{{\"custom_id\": \"{id}\", {more}\"body\": {{\"model\": \"{model}\"}}}}\n")
        };
        let address = "\"method\": \"POST\", \"url\": \"/v1/chat/completions\", ";
        let good = row("1", address, "a/b");
        let found = checked_in(good.as_bytes(), ServedDialect::Openai);
        assert_eq!((found.rows, &found.failure), (1, &None));
        for (text, line, part) in [
            (good.clone() + &row("2", "", "a/b"), Some(2), "method must be POST"),
            (good.clone() + &row("2", "\"method\": \"POST\", ", "a/b"), Some(2), "url is missing"),
            (row("1", &address.replace("chat/", ""), "a/b"), Some(1), "not the endpoint of the batch"),
            (good + &row("2", address, "a/c"), None, "mismatched_model"),
        ] {
            let found = checked_in(text.as_bytes(), ServedDialect::Openai);
            let failure = found.failure.unwrap();
            assert!(failure.contains(part) && found.line == line, "{failure}");
        }
    }

    fn row(id: &str, model: &str) -> String {
        format!("{{\"custom_id\": \"{id}\", \"body\": {{\"model\": \"{model}\", \"messages\": []}}}}\n")
    }

    #[test]
    fn a_valid_input_is_counted() {
        let one = checked((row("1", "a/b") + "\n" + &row("2", "a/b")).as_bytes());
        assert_eq!(one, Intake { rows: 2, model: Some("a/b".to_owned()), failure: None, line: None });
        let mixed = checked((row("1", "a/b") + &row("2", "a/c")).as_bytes());
        assert_eq!((mixed.rows, mixed.model, mixed.failure), (2, None, None));
    }

    #[test]
    fn an_invalid_input_names_the_line() {
        let good = row("1", "a/b");
        let long = row(&"x".repeat(65), "a/b");
        let many: String = (0..50_001).map(|i| row(&i.to_string(), "a/b")).collect();
        let cases: [(&str, &str); 9] = [
            ("", "no rows"),
            (&(good.clone() + "{oops\n"), "Line 2: not a JSON object"),
            (&(good.clone() + &good), "Line 2: custom_id \"1\" is used twice"),
            (&long, "Line 1: custom_id must have"),
            ("{\"body\":{}}", "custom_id must be"),
            ("{\"custom_id\":7,\"body\":{}}", "custom_id must be"),
            ("{\"custom_id\":\"7\",\"body\":[]}", "body must be"),
            (&row("1", "zai-org/GLM-5"), "not served in batch"),
            (&many, "50001 rows"),
        ];
        for (text, part) in cases {
            let failure = checked(text.as_bytes()).failure.unwrap();
            assert!(failure.contains(part), "{failure}");
        }
        assert!(checked(b"\xff\n").failure.unwrap().contains("Line 1 is not UTF-8"));
    }
}
