//! Reading a batch's input: lines, their ids, and what makes the whole job fail.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::json::{each_member, string};
use super::models::{Standing, standing};

/// Rows in a job.
const MAX_ROWS: u64 = 50_000;
/// Bytes of a job's input. The service says 100 MB; this takes the reading that refuses later.
const MAX_BYTES: u64 = 100 << 20;
/// Characters of an id.
const MAX_ID: usize = 64;

/// What a job's input is like.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// Rows.
    pub rows: u64,
    /// The model, if all rows have the same.
    pub model: Option<String>,
    /// Why the job fails.
    pub failure: Option<String>,
}

/// One line of the input as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// The id as a JSON string.
    pub id: &'a str,
    /// The body as JSON.
    pub body: &'a str,
}

/// Takes a line apart.
pub fn line(text: &str) -> Result<Line<'_>, String> {
    let (mut id, mut body) = (None, None);
    each_member(text, |key, value| match key {
        "custom_id" => id = Some(value),
        "body" => body = Some(value),
        _ => {}
    })
    .map_err(|why| format!("not a JSON object: {why}"))?;
    let id = id.filter(|id| id.starts_with('"')).ok_or("custom_id must be a string")?;
    let body = body.filter(|body| body.starts_with('{')).ok_or("body must be an object")?;
    Ok(Line { id, body })
}

/// Reads the input once and says whether the job can start.
pub fn check(path: &Path, bytes: u64) -> io::Result<Intake> {
    let mut intake = Intake::default();
    if bytes > MAX_BYTES {
        intake.failure = Some(format!("The input has {bytes} bytes, more than {MAX_BYTES}"));
        return Ok(intake);
    }
    let mut reader = BufReader::with_capacity(1 << 18, File::open(path)?);
    let mut ids = HashSet::new();
    let mut text = String::new();
    let mut models: Option<String> = None;
    let mut mixed = false;
    for number in 1_u64.. {
        text.clear();
        match reader.read_line(&mut text) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                intake.failure = Some(format!("Line {number} is not UTF-8"));
                return Ok(intake);
            }
            Err(error) => return Err(error),
        }
        if text.trim().is_empty() {
            continue;
        }
        match row(text.trim_end(), &mut ids) {
            Err(why) => {
                intake.failure = Some(format!("Line {number}: {why}"));
                return Ok(intake);
            }
            Ok(model) => {
                intake.rows += 1;
                match &models {
                    None => models = Some(model),
                    Some(first) => mixed |= *first != model,
                }
            }
        }
    }
    if intake.rows == 0 {
        intake.failure = Some("The input has no rows".to_owned());
    } else if intake.rows > MAX_ROWS {
        intake.failure = Some(format!("The input has {} rows, more than {MAX_ROWS}", intake.rows));
    }
    intake.model = models.filter(|model| !mixed && !model.is_empty());
    Ok(intake)
}

/// The row's model.
fn row(text: &str, ids: &mut HashSet<u64>) -> Result<String, String> {
    let line = line(text)?;
    let id = string(line.id).ok_or("custom_id cannot be read")?;
    if id.is_empty() || id.chars().count() > MAX_ID {
        return Err(format!("custom_id must have 1 to {MAX_ID} characters"));
    }
    // 64 bits of a hash instead of the id: among 50,000 ids no two share them.
    if !ids.insert(super::request::hash(&id)) {
        return Err(format!("custom_id {id:?} is used twice"));
    }
    let mut model = None;
    each_member(line.body, |key, value| {
        if key == "model" {
            model = string(value);
        }
    })
    .map_err(|why| format!("body: {why}"))?;
    let model = model.unwrap_or_default();
    match standing(&model) {
        Standing::Serves { batch: false, .. } => Err(format!("{model} is not served in batch jobs")),
        _ => Ok(model.into_owned()),
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
    fn good_inputs() {
        let one = checked((row("1", "a/b") + "\n" + &row("2", "a/b")).as_bytes());
        assert_eq!(one, Intake { rows: 2, model: Some("a/b".to_owned()), failure: None });
        let mixed = checked((row("1", "a/b") + &row("2", "a/c")).as_bytes());
        assert_eq!((mixed.rows, mixed.model, mixed.failure), (2, None, None));
    }

    #[test]
    fn bad_inputs_say_which_line() {
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
