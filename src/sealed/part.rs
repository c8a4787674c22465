//! A sealed part: JSONL with a header line, one line per answer, and a last line with the checksum of all lines before it.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::JobMark;
use super::dir::PartPlace;
use crate::error::{Error, Result};
use crate::json;
use crate::outcome::{Fingerprint, Outcome, Usage};
use crate::request::RequestKey;

/// The version of the form.
const VERSION: u32 = 1;

/// The first line of a part.
#[derive(Debug, Serialize, Deserialize)]
struct PartHead {
    /// The version of the form. It stands first, so that every later version can be told.
    llbatch_answers: u32,
    /// The llbatch that wrote the part.
    llbatch: String,
    /// The job whose answers these are.
    #[serde(flatten)]
    of: JobMark,
    /// The process that wrote it.
    writer: String,
    /// The time of the first answer.
    begun: String,
}

/// The last line of a part.
#[derive(Debug, Serialize, Deserialize)]
struct PartEnd {
    answers: u64,
    blake3: String,
}

/// The line of an answer.
#[derive(Serialize, Deserialize)]
struct AnswerLine<'a> {
    row: u64,
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
    /// The key of its request for later jobs. Absent: it was not known any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    fingerprint: String,
    #[serde(borrow)]
    model: std::borrow::Cow<'a, str>,
    status: Option<u16>,
    usage: Option<Usage>,
    #[serde(default, skip_serializing_if = "is_none")]
    wasted: Usage,
    #[serde(default, skip_serializing_if = "is_zero")]
    at_risk: u32,
    reserve: Usage,
    attempts: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    refused: u32,
    latency_ms: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_token_ms: Option<u32>,
    /// The answer came from a batch, at the batch price.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    batch: bool,
    /// The answer came from an earlier job, which has recorded its cost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    reused: bool,
    #[serde(borrow)]
    body: &'a RawValue,
}

fn is_none(usage: &Usage) -> bool {
    *usage == Usage::default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// An answer in a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedAnswer {
    /// The answer, as its job had it. The number of a batch is 0.
    pub outcome: Outcome,
    /// The key of its request, if it is known.
    pub key: Option<RequestKey>,
    /// The offset of its line in the part.
    pub at: u64,
}

/// A part that was read, with all its answers.
#[derive(Debug)]
pub struct SealedPart {
    /// The job whose answers these are.
    pub of: JobMark,
    /// The answers, in the order in which they were committed.
    pub answers: Vec<SealedAnswer>,
}

/// A part that is being filled, in memory.
#[derive(Debug)]
pub struct OpenPart {
    text: Vec<u8>,
    answers: u64,
}

impl OpenPart {
    /// A part of the answers of `of`, without any.
    pub fn new(of: &JobMark, writer: &str) -> Result<Self> {
        let head = PartHead {
            llbatch_answers: VERSION,
            llbatch: env!("CARGO_PKG_VERSION").to_owned(),
            of: of.clone(),
            writer: writer.to_owned(),
            begun: jiff::Timestamp::now().to_string(),
        };
        let mut text = Vec::new();
        push_line(&mut text, &head)?;
        Ok(Self { text, answers: 0 })
    }

    /// Adds an answer. Only an answer with a body of JSON can be kept.
    pub fn push(&mut self, outcome: &Outcome, key: Option<RequestKey>) -> Result<()> {
        // Every field is named here, so that a new one is not forgotten.
        let Outcome {
            row,
            id,
            fingerprint,
            model,
            error,
            status,
            body,
            places: _,
            usage,
            wasted,
            at_risk,
            reserve,
            attempts,
            refused,
            latency_ms,
            first_token_ms,
            batch,
            url: _,
            prices: _,
            leader,
            // Files are not shared: `--answers` and `--files` exclude each other.
            attached: _,
        } = outcome;
        let body = body.as_deref().filter(|body| error.is_none() && !body.contains('\n') && json::is_valid(body));
        let Some(body) = body.and_then(|body| serde_json::from_str::<&RawValue>(body).ok()) else { return Ok(()) };
        let line = AnswerLine {
            row: *row,
            id: (&**id).into(),
            key: key.map(|key| hex(&key.0)),
            fingerprint: hex(&fingerprint.0),
            model: (&**model).into(),
            status: *status,
            usage: *usage,
            wasted: *wasted,
            at_risk: *at_risk,
            reserve: *reserve,
            attempts: *attempts,
            refused: *refused,
            latency_ms: *latency_ms,
            first_token_ms: *first_token_ms,
            batch: batch.is_some(),
            reused: leader.is_some(),
            body,
        };
        push_line(&mut self.text, &line)?;
        self.answers += 1;
        Ok(())
    }

    /// The number of its answers.
    pub const fn answers(&self) -> u64 {
        self.answers
    }

    /// Its bytes so far.
    pub const fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Writes the part under this name, which no other part has. It appears when it is complete and on the disk.
    ///
    /// # Errors
    /// 74 if it cannot be written.
    pub fn seal(mut self, place: &PartPlace) -> Result<()> {
        let blake3 = blake3::hash(&self.text).to_hex().to_string();
        push_line(&mut self.text, &PartEnd { answers: self.answers, blake3 })?;
        place.write(self.text)
    }
}

/// A part that is read, with the reason if it cannot be used.
pub enum PartRead {
    /// It is whole.
    Whole(SealedPart),
    /// It is torn or damaged, or of another version.
    Unusable(String),
}

/// Reads a part, and verifies it.
///
/// # Errors
/// 74 if the file cannot be read.
pub fn read_part(place: &PartPlace) -> Result<PartRead> {
    Ok(parse(&place.read()?).map_or_else(|why| PartRead::Unusable(why.to_owned()), PartRead::Whole))
}

/// A part whose answers are read one by one. It holds no open file, since there may be thousands.
#[derive(Debug)]
pub struct VerifiedPart {
    path: PathBuf,
}

impl VerifiedPart {
    /// Verifies the part at `path`. `None`: it is gone, or cannot be used.
    pub fn open(path: &Path) -> Option<Self> {
        match read_part(&PartPlace::File(path.to_owned())) {
            Ok(PartRead::Whole(_)) => Some(Self { path: path.to_owned() }),
            _ => None,
        }
    }

    /// The answer whose line begins at this offset. `None`: there is none.
    pub fn answer(&self, at: u64) -> Option<Outcome> {
        let mut file = BufReader::new(File::open(&self.path).ok()?);
        file.seek(SeekFrom::Start(at)).ok()?;
        let mut line = String::new();
        file.read_line(&mut line).ok()?;
        answer(&line, &mut Vec::new()).map(|answer| answer.outcome)
    }
}

fn parse(bytes: &[u8]) -> Result<SealedPart, &'static str> {
    const TORN: &str = "it is cut short";
    const DAMAGED: &str = "it is damaged";
    let whole = bytes.strip_suffix(b"\n").ok_or(TORN)?;
    let end_at = memchr::memrchr(b'\n', whole).ok_or(TORN)? + 1;
    let end: PartEnd = serde_json::from_slice(&whole[end_at..]).map_err(|_| TORN)?;
    let body = &bytes[..end_at];
    if blake3::hash(body).to_hex().as_str() != end.blake3 {
        return Err(DAMAGED);
    }
    let text = std::str::from_utf8(body).map_err(|_| DAMAGED)?;
    let mut lines = text.lines();
    let head: PartHead = lines
        .next()
        .and_then(|line| serde_json::from_str(line).ok())
        .filter(|head: &PartHead| head.llbatch_answers == VERSION)
        .ok_or("another version of llbatch has written it")?;
    let mut models: Vec<Arc<str>> = Vec::new();
    let place = |line: &str| (line.as_ptr().addr() - text.as_ptr().addr()) as u64;
    let answers: Option<Vec<SealedAnswer>> =
        lines.map(|line| Some(SealedAnswer { at: place(line), ..answer(line, &mut models)? })).collect();
    let answers = answers.filter(|answers| answers.len() as u64 == end.answers).ok_or(DAMAGED)?;
    Ok(SealedPart { of: head.of, answers })
}

fn answer(line: &str, models: &mut Vec<Arc<str>>) -> Option<SealedAnswer> {
    let line: AnswerLine<'_> = serde_json::from_str(line).ok()?;
    let model = models.iter().find(|model| ***model == *line.model).cloned().unwrap_or_else(|| {
        let model: Arc<str> = line.model.as_ref().into();
        models.push(Arc::clone(&model));
        model
    });
    let key = line.key.as_deref().map(unhex).map(|key| key.map(RequestKey));
    let outcome = Outcome {
        row: line.row,
        id: line.id.as_ref().into(),
        fingerprint: Fingerprint(unhex(&line.fingerprint)?),
        model,
        error: None,
        status: line.status,
        body: Some(line.body.get().into()),
        places: None,
        attached: Vec::new(),
        usage: line.usage,
        wasted: line.wasted,
        at_risk: line.at_risk,
        reserve: line.reserve,
        attempts: line.attempts,
        refused: line.refused,
        latency_ms: line.latency_ms,
        first_token_ms: line.first_token_ms,
        batch: line.batch.then_some(0),
        url: 0,
        prices: 0,
        leader: line.reused.then_some(0),
    };
    Some(SealedAnswer { outcome, key: key.unwrap_or(None), at: 0 })
}

fn push_line(text: &mut Vec<u8>, line: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *text, line)
        .map_err(|error| Error::io("an answer cannot be written as JSON", std::io::Error::other(error)))?;
    text.push(b'\n');
    Ok(())
}

fn hex(bytes: &[u8; 16]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a string cannot fail.
        _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)?;
    Some(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::ErrorCode;

    fn mark() -> JobMark {
        JobMark { service: "sandbox".to_owned(), shard: Some("3/8".to_owned()), content: "b01".to_owned() }
    }

    fn outcome(row: u64) -> Outcome {
        Outcome {
            fingerprint: Fingerprint([row as u8; 16]),
            error: None,
            status: Some(200),
            body: Some(format!("{{\"n\":{row}, \"text\":\"é\\u0041\"}}").into()),
            usage: Some(Usage { cached: 2, ..Usage::new(3, 4) }),
            wasted: Usage::new(row, 0),
            attempts: 2,
            refused: 1,
            latency_ms: 70,
            first_token_ms: Some(9),
            reserve: Usage::new(10, 20),
            ..Outcome::unsent(row, format!("q\"{row}").into(), "m".into(), ErrorCode::Missing, "")
        }
    }

    fn text() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.part.jsonl");
        let mut part = OpenPart::new(&mark(), "host-1-boot").unwrap();
        for row in [1, 2, 7] {
            part.push(&outcome(row), (row < 7).then_some(RequestKey([row as u8; 16]))).unwrap();
        }
        // A body that is no JSON cannot be kept.
        part.push(&Outcome { body: Some("<html>".into()), ..outcome(8) }, None).unwrap();
        assert_eq!(part.answers(), 3);
        part.seal(&PartPlace::File(path.clone())).unwrap();
        std::fs::read(&path).unwrap()
    }

    #[test]
    fn part_gives_back_its_answers_byte_for_byte() {
        let part = parse(&text()).unwrap();
        assert_eq!(part.of, mark());
        let found: Vec<_> = part.answers.iter().map(|answer| (answer.outcome.clone(), answer.key)).collect();
        assert_eq!(found, [1, 2, 7].map(|row| (outcome(row), (row < 7).then_some(RequestKey([row as u8; 16])))));
    }

    #[test]
    fn answers_are_read_one_by_one_from_a_part_that_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.part.jsonl");
        let text = text();
        std::fs::write(&path, &text).unwrap();
        let part = VerifiedPart::open(&path).unwrap();
        for answer in parse(&text).unwrap().answers {
            assert_eq!(part.answer(answer.at), Some(answer.outcome));
            assert_eq!(part.answer(answer.at + 1), None);
        }
        assert_eq!(part.answer(1 << 40), None);
        std::fs::write(&path, &text[..text.len() - 2]).unwrap();
        assert!(VerifiedPart::open(&path).is_none() && VerifiedPart::open(&dir.path().join("gone")).is_none());
    }

    #[test]
    fn part_that_is_cut_or_changed_anywhere_is_left_out() {
        let text = text();
        for at in 0..text.len() {
            assert!(parse(&text[..at]).is_err(), "cut at {at}");
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert!(parse(&changed).is_err(), "byte {at}");
        }
    }
}
