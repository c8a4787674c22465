//! The text form of a fault: words and `key=value` pairs between commas, e.g. `status=503,rate=0.05,retry-after=2`,
//! `truncate,every=50` or `reset,on=create,after,times=1`. All words: [`HELP`].

use std::str::FromStr;
use std::time::Duration;

use super::faults::{ErrorShape, FaultKind, Scope, ScriptedError, ScriptedFault, Times, Trigger};
use super::hint::{Hint, HintStyle};
use super::stream_shape::StreamShape;
use super::units::duration;

/// The text form, for a help text.
pub const HELP: &str = "\
What goes wrong (one of):
  status=CODE      answer with this status and its usual body
  reset, close     reset (RST) or close (FIN) the connection without an answer
  reset-late       reset in the middle of the body
  truncate         close in the middle of the body, Content-Length too long
  short            half of the body, with a Content-Length that fits the half
  hang             no answer at all
  stall            headers and half a body, then nothing
  drip[=MS]        one byte of the body every MS (100) milliseconds
  delay=TIME       the right answer, later (2s, 500ms)
  html, empty-body, wrong-shape, empty-choices, null-content, no-usage, bad-gzip
                   a 200 without a valid answer
  huge=MIB         a 200 with this much content (with status: an error of
                   this size)
  echo-key         a 401 whose message repeats the key that was sent
  stream-error     streams only: an error event in the middle, under the 200
  no-finish, no-done
                   streams only: no finish_reason, or no [DONE]
  null-job         create only: a 201 without a job, with a warning
  missing, duplicate, conflict, foreign, garble
                   batch rows only: no line, the same line twice, two
                   different lines, a line for an unknown id, or a line that
                   is not JSON
For which requests:
  every=N, nth=N, rate=P, contains=TEXT     (default: all)
  on=WHERE         inference (default), chat, completions, embeddings, rerank,
                   images, speech, audio, stream, models, register, put, preprocess,
                   files, content (and images at URLs), create, batch, list,
                   cancel, row, any
How often:
  times=N|always   fail the first N attempts of a picked request, or all. By
                   default, rate draws again for each attempt, and every and
                   nth count attempts
How a stream comes, with or without another fault:
  first-token=TIME, chunk-delay=TIME, pause=TIME
                   wait before the first event, before each further one, or in
                   the middle
  comments[=TIME]  comments (: keep-alive) before each event, and in every wait
                   after each TIME (500ms)
  line-end=lf|crlf|cr, split
                   other line ends, or pieces that end anywhere
More:
  after            do the work first (billed and stored), then fail
  retry-after=S, retry-after-date=S, retry-after-ms=MS, reset-after=S
                   retry hints, with status
  shape=string|object|bare|text|html|empty
                   the error body, with status. For a row, string writes the
                   line to the output file, object adds a response to the
                   error line, and empty makes the error a bare string
In a prompt: [[sandbox:status=503,times=2]] scripts that one request.";

/// Kinds of faults, by their names in a script.
const KINDS: [(&str, FaultKind); 25] = [
    ("reset", FaultKind::Reset),
    ("close", FaultKind::Close),
    ("reset-late", FaultKind::ResetLate),
    ("truncate", FaultKind::Truncate),
    ("short", FaultKind::Short),
    ("hang", FaultKind::Hang),
    ("stall", FaultKind::Stall),
    ("drip", FaultKind::Drip(Duration::from_millis(100))),
    ("html", FaultKind::Html),
    ("empty-body", FaultKind::EmptyBody),
    ("wrong-shape", FaultKind::WrongShape),
    ("empty-choices", FaultKind::EmptyChoices),
    ("null-content", FaultKind::NullContent),
    ("no-usage", FaultKind::NoUsage),
    ("bad-gzip", FaultKind::BadGzip),
    ("echo-key", FaultKind::EchoKey),
    ("null-job", FaultKind::NullJob),
    ("missing", FaultKind::Missing),
    ("duplicate", FaultKind::Duplicate),
    ("conflict", FaultKind::Conflict),
    ("foreign", FaultKind::Foreign),
    ("garble", FaultKind::Garble),
    ("stream-error", FaultKind::StreamError),
    ("no-finish", FaultKind::NoFinish),
    ("no-done", FaultKind::NoDone),
];

/// The places of `on=`.
const SCOPES: [(&str, Scope); 21] = [
    ("inference", Scope::Inference),
    ("chat", Scope::Chat),
    ("completions", Scope::Completions),
    ("embeddings", Scope::Embeddings),
    ("rerank", Scope::Rerank),
    ("images", Scope::Images),
    ("speech", Scope::Speech),
    ("audio", Scope::Audio),
    ("stream", Scope::Stream),
    ("models", Scope::Models),
    ("register", Scope::Register),
    ("put", Scope::Put),
    ("preprocess", Scope::Preprocess),
    ("files", Scope::Files),
    ("content", Scope::Content),
    ("create", Scope::Create),
    ("batch", Scope::Batch),
    ("list", Scope::List),
    ("cancel", Scope::Cancel),
    ("row", Scope::Row),
    ("any", Scope::Any),
];

/// The bodies of `shape=`.
const SHAPES: [(&str, ErrorShape); 6] = [
    ("string", ErrorShape::Text),
    ("object", ErrorShape::Object),
    ("bare", ErrorShape::Bare),
    ("text", ErrorShape::Plain),
    ("html", ErrorShape::Html),
    ("empty", ErrorShape::Empty),
];

/// The keys of a hint.
const HINTS: [(&str, HintStyle); 4] = [
    ("retry-after", HintStyle::Seconds),
    ("retry-after-date", HintStyle::Date),
    ("retry-after-ms", HintStyle::Millis),
    ("reset-after", HintStyle::Reset),
];

fn find<T: Clone>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(name, _)| *name == word).map(|(_, value)| value.clone())
}

fn number<T: FromStr>(key: &str, value: &str, what: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{key}={value}: not {what}"))
}

fn millis(key: &str, value: &str) -> Result<Duration, String> {
    Ok(Duration::from_millis(number(key, value, "milliseconds")?))
}

/// A fault's text as far as it is read.
#[derive(Default)]
struct FaultDraft {
    kind: Option<FaultKind>,
    status: Option<u16>,
    huge: Option<usize>,
    hint: Option<Hint>,
    shape: Option<ErrorShape>,
    when: Option<Trigger>,
    on: Option<Scope>,
    times: Option<Times>,
    after: bool,
    stream: StreamShape,
}

impl FaultDraft {
    fn read(&mut self, word: &str) -> Result<(), String> {
        if let Some((key, value)) = word.split_once('=') {
            return self.set(key.trim(), value.trim());
        }
        match word.trim() {
            "after" => self.after = true,
            word if self.stream.word(word) => {}
            word => self.set_kind(find(&KINDS, word).ok_or_else(|| format!("{word:?}: unknown fault"))?)?,
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        if let Some(style) = find(&HINTS, key) {
            let wait = if style == HintStyle::Millis { millis(key, value)? } else { duration(value)? };
            self.hint = Some(Hint { style, wait });
            return Ok(());
        }
        if self.stream.set(key, value)? {
            return Ok(());
        }
        match key {
            "status" => {
                let code = number(key, value, "an HTTP status")?;
                if !(300..=599).contains(&code) {
                    return Err(format!("status={value}: not between 300 and 599"));
                }
                self.status = Some(code);
            }
            "drip" => self.set_kind(FaultKind::Drip(millis(key, value)?))?,
            "delay" => self.set_kind(FaultKind::Delay(duration(value)?))?,
            "huge" => self.huge = Some(number::<usize>(key, value, "a number of MiB")?.min(1024) << 20),
            "shape" => {
                let shape = find(&SHAPES, value);
                let unknown = || format!("shape={value}: use string, object, bare, text, html or empty");
                self.shape = Some(shape.ok_or_else(unknown)?);
            }
            "every" | "nth" | "rate" | "contains" => {
                if self.when.replace(trigger(key, value)?).is_some() {
                    return Err("more than one of every, nth, rate and contains".to_owned());
                }
            }
            "on" => {
                let unknown = || format!("on={value}: unknown place; use inference, chat, register, create, row …");
                self.on = Some(find(&SCOPES, value).ok_or_else(unknown)?);
            }
            "times" if value == "always" => self.times = Some(Times::First(u32::MAX)),
            "times" => self.times = Some(Times::First(number(key, value, "a number or `always`")?)),
            _ => return Err(format!("{key:?}: unknown setting of a fault")),
        }
        Ok(())
    }

    fn set_kind(&mut self, kind: FaultKind) -> Result<(), String> {
        self.kind.replace(kind).map_or(Ok(()), |_| Err(TWO_KINDS.to_owned()))
    }

    fn finish(self) -> Result<ScriptedFault, String> {
        let kind = match (self.kind, self.status, self.huge) {
            (None, Some(code), padding) => FaultKind::Status(ScriptedError {
                code,
                hint: self.hint,
                shape: self.shape.unwrap_or_default(),
                padding: padding.unwrap_or(0),
            }),
            (None, None, Some(bytes)) => FaultKind::Huge(bytes),
            (Some(kind), None, None) => kind,
            (None, None, None) if self.stream != StreamShape::default() => FaultKind::Shape,
            (None, None, None) => {
                return Err("the fault has no effect: name a status or a word such as reset".to_owned());
            }
            _ => return Err(TWO_KINDS.to_owned()),
        };
        if !matches!(kind, FaultKind::Status(_)) && (self.hint.is_some() || self.shape.is_some()) {
            return Err("retry-after and shape need a status".to_owned());
        }
        let on = place(&kind, self.on)?;
        let when = self.when.unwrap_or(Trigger::Always);
        let (times, stream) = (self.times.unwrap_or(Times::Each), self.stream);
        Ok(ScriptedFault { on, when, kind, times, after: self.after, stream })
    }
}

const TWO_KINDS: &str = "more than one fault";

/// The scope of a fault: the one that was `asked` for if it fits the kind, or the kind's own.
fn place(kind: &FaultKind, asked: Option<Scope>) -> Result<Scope, String> {
    let own = match kind {
        FaultKind::NullJob => Scope::Create,
        _ if kind.is_for_rows() => Scope::Row,
        _ if kind.is_for_streams() => Scope::Stream,
        _ => Scope::Inference,
    };
    let on = asked.unwrap_or(own);
    let error = match own {
        Scope::Create if on != own => "null-job is for creating a batch only (on=create)",
        Scope::Row if on != own => "this fault is for rows of a batch only (on=row)",
        Scope::Stream if on != own => "this fault is for streamed answers only (on=stream)",
        Scope::Inference if on == Scope::Row && !matches!(kind, FaultKind::Status(_)) => {
            "a row of a batch can have a status, missing, duplicate, conflict, foreign or garble"
        }
        _ => return Ok(on),
    };
    Err(error.to_owned())
}

fn trigger(key: &str, value: &str) -> Result<Trigger, String> {
    match key {
        "every" | "nth" => match number(key, value, "a number")? {
            0 => Err(format!("{key}=0: count from 1")),
            n if key == "every" => Ok(Trigger::Every(n)),
            n => Ok(Trigger::Nth(n)),
        },
        "rate" => {
            let rate: f64 = number(key, value, "a number from 0 to 1")?;
            let rate = Some(rate).filter(|rate| (0.0..=1.0).contains(rate));
            rate.map(Trigger::Rate).ok_or_else(|| format!("rate={value}: not from 0 to 1"))
        }
        _ => Ok(Trigger::Contains(value.to_owned())),
    }
}

impl FromStr for ScriptedFault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut draft = FaultDraft::default();
        let mut words = text.split(',').filter(|word| !word.trim().is_empty());
        let read = words.try_for_each(|word| draft.read(word));
        read.and_then(|()| draft.finish()).map_err(|why| format!("fault {text:?}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> ScriptedFault {
        text.parse().unwrap()
    }

    fn on_inference(kind: FaultKind) -> ScriptedFault {
        ScriptedFault {
            on: Scope::Inference,
            when: Trigger::Always,
            kind,
            times: Times::Each,
            after: false,
            stream: StreamShape::default(),
        }
    }

    #[test]
    fn the_examples_of_the_help_are_read() {
        let status = |code, hint| FaultKind::Status(ScriptedError { code, hint, ..ScriptedError::default() });
        let hint = |style, millis| Some(Hint { style, wait: Duration::from_millis(millis) });
        let cases = [
            ("status=503", on_inference(status(503, None))),
            (
                "status=503,rate=0.05,retry-after=2",
                ScriptedFault {
                    when: Trigger::Rate(0.05),
                    ..on_inference(status(503, hint(HintStyle::Seconds, 2000)))
                },
            ),
            (" truncate , every=50 ", ScriptedFault { when: Trigger::Every(50), ..on_inference(FaultKind::Truncate) }),
            (
                "hang,contains=foo",
                ScriptedFault { when: Trigger::Contains("foo".to_owned()), ..on_inference(FaultKind::Hang) },
            ),
            (
                "reset,on=create,after,times=1",
                ScriptedFault {
                    on: Scope::Create,
                    after: true,
                    times: Times::First(1),
                    ..on_inference(FaultKind::Reset)
                },
            ),
            ("delay=1.5s", on_inference(FaultKind::Delay(Duration::from_millis(1500)))),
            ("status=429,retry-after-ms=250", on_inference(status(429, hint(HintStyle::Millis, 250)))),
            ("status=429,retry-after-date=4", on_inference(status(429, hint(HintStyle::Date, 4000)))),
            (
                "missing,nth=3",
                ScriptedFault { on: Scope::Row, when: Trigger::Nth(3), ..on_inference(FaultKind::Missing) },
            ),
            ("huge=2", on_inference(FaultKind::Huge(2 << 20))),
            ("close,times=always", ScriptedFault { times: Times::First(u32::MAX), ..on_inference(FaultKind::Close) }),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text}");
        }
        let expected = ScriptedError { code: 500, hint: None, shape: ErrorShape::Object, padding: 1 << 20 };
        assert_eq!(read("status=500,shape=object,huge=1").kind, FaultKind::Status(expected));
    }

    #[test]
    fn an_invalid_fault_is_explained() {
        let cases = [
            ("", "no effect"),
            ("rate=0.5", "no effect"),
            ("explode", "unknown fault"),
            ("status=abc", "not an HTTP status"),
            ("status=99", "not between"),
            ("reset,hang", "more than one"),
            ("reset,every=2,rate=0.5", "more than one of"),
            ("reset,every=0", "count from 1"),
            ("reset,rate=2", "not from 0 to 1"),
            ("reset,on=moon", "unknown place"),
            ("reset,retry-after=1", "need a status"),
            ("status=500,frequency=1", "unknown setting"),
            ("missing,on=chat", "rows of a batch only"),
            ("hang,on=row", "a row of a batch"),
            ("delay=soon", "not a time"),
        ];
        for (text, part) in cases {
            let error = text.parse::<ScriptedFault>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
            assert!(error.contains(&format!("{text:?}")), "the text itself is shown: {error}");
        }
    }

    #[test]
    fn the_help_names_every_word() {
        for (word, kind) in &KINDS {
            assert!(HELP.split(|c: char| !c.is_ascii_lowercase() && c != '-').any(|w| w == *word), "{word}");
            assert_eq!(read(word).kind, *kind);
        }
    }
}
