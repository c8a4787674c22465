//! The check of a batch's input: its lines, their ids, and the reason why the whole job fails.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::json::{ObjectMembers, string};
use super::models::{Availability, availability};
use super::request::hash;

/// Rows in a job.
const MAX_ROWS: u64 = 50_000;
/// Bytes of a job's input. The service says 100 MB; this takes the reading that refuses later.
const MAX_BYTES: u64 = 100 << 20;
/// Characters of an id.
const MAX_ID: usize = 64;

/// The facts of a job's input.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Intake {
    pub rows: u64,
    /// The model, if all rows have the same.
    pub model: Option<String>,
    pub failure: Option<String>,
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
pub fn check(path: &Path, bytes: u64) -> io::Result<Intake> {
    if bytes > MAX_BYTES {
        let failure = Some(format!("The input has {bytes} bytes, more than {MAX_BYTES}"));
        return Ok(Intake { failure, ..Intake::default() });
    }
    let mut rows = IntakeRows::default();
    if let Some(failure) = rows.read(BufReader::with_capacity(1 << 18, File::open(path)?))? {
        return Ok(Intake { rows: rows.count, model: None, failure: Some(failure) });
    }
    let failure = match rows.count {
        0 => Some("The input has no rows".to_owned()),
        1..=MAX_ROWS => None,
        more => Some(format!("The input has {more} rows, more than {MAX_ROWS}")),
    };
    let model = rows.model.filter(|model| !rows.mixed && !model.is_empty());
    Ok(Intake { rows: rows.count, model, failure })
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
    /// Reads all rows. Returns the reason why the job fails, if a line is invalid.
    fn read(&mut self, mut reader: impl BufRead) -> io::Result<Option<String>> {
        let mut text = String::new();
        for number in 1_u64.. {
            text.clear();
            match reader.read_line(&mut text) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Ok(Some(format!("Line {number} is not UTF-8")));
                }
                Err(error) => return Err(error),
            }
            if !text.trim().is_empty()
                && let Err(why) = self.add(text.trim_end())
            {
                return Ok(Some(format!("Line {number}: {why}")));
            }
        }
        Ok(None)
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        let line = BatchInputLine::parse(text)?;
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
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        check(file.path(), text.len() as u64).unwrap()
    }

    fn row(id: &str, model: &str) -> String {
        format!("{{\"custom_id\": \"{id}\", \"body\": {{\"model\": \"{model}\", \"messages\": []}}}}\n")
    }

    #[test]
    fn a_valid_input_is_counted() {
        let one = checked((row("1", "a/b") + "\n" + &row("2", "a/b")).as_bytes());
        assert_eq!(one, Intake { rows: 2, model: Some("a/b".to_owned()), failure: None });
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
