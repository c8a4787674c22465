//! The text form of a fault: words and `key=value` pairs between commas, e.g. `status=503,rate=0.05,retry-after=2`,
//! `truncate,every=50` or `reset,on=create,after,times=1`. All words: [`HELP`].

use std::str::FromStr;
use std::time::Duration;

use super::faults::{Fault, Hint, Kind, Scope, Shape, Times, When};
use super::limits::HintStyle;

/// The text form, for a help text.
pub const HELP: &str = "\
What goes wrong (one of):
  status=CODE      answer with this status and the body usual for it
  reset, close     the connection is reset (RST) or closed (FIN), no answer
  reset-late       reset in the middle of the body
  truncate         closed in the middle of the body, Content-Length too long
  short            half of the body, with a Content-Length that fits the half
  hang, stall      no answer ever; headers and half a body, then nothing
  drip[=MS]        one byte of the body every MS (100) milliseconds
  delay=TIME       the right answer, later (2s, 500ms)
  html, empty-body, wrong-shape, empty-choices, null-content, no-usage, bad-gzip
                   a 200 that is none
  huge=MIB         a 200 with so much content (with status: so large an error)
  echo-key         a 401 whose message repeats the key that was sent
  null-job         create only: a 201 without a job, with a warning
  missing, duplicate, conflict, foreign, garble
                   batch rows only: no line at all, the line twice, two that
                   differ, one for an id that nobody sent, one that is no JSON
For which requests:
  every=N, nth=N, rate=P, contains=TEXT     (default: all)
  on=WHERE         inference (default), chat, completions, embeddings, models,
                   register, put, preprocess, files, content, create, batch,
                   list, cancel, row, any
How often:
  times=N|always   fails the first N attempts of a picked request, or all.
                   Without it, rate draws again for each attempt and every/nth
                   count attempts
More:
  after            the work is done (and billed, and stored) first, then it goes
                   wrong
  retry-after=S, retry-after-date=S, retry-after-ms=MS, reset-after=S
                   hints, with status
  shape=string|object|bare|text|html|empty
                   the error body, with status. For a row: string puts its line
                   into the output file, object gives its error line a response,
                   empty makes the error a bare string
In a prompt: [[sandbox:status=503,times=2]] scripts that one request.";

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "inference" => Self::Inference,
            "chat" => Self::Chat,
            "completions" => Self::Completions,
            "embeddings" => Self::Embeddings,
            "models" => Self::Models,
            "register" => Self::Register,
            "put" => Self::Put,
            "preprocess" => Self::Preprocess,
            "files" => Self::Files,
            "content" => Self::Content,
            "create" => Self::Create,
            "batch" => Self::Batch,
            "list" => Self::List,
            "cancel" => Self::Cancel,
            "row" => Self::Row,
            "any" => Self::Any,
            _ => return Err(format!("on={text}: no such place; use inference, chat, register, create, row …")),
        })
    }
}

fn number<T: FromStr>(key: &str, value: &str, what: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{key}={value}: not {what}"))
}

/// Reads `2s`, `500ms`, `1.5m` or plain seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{text}: not a time such as 2s, 500ms or 1m")),
    };
    let value: f64 = digits.parse().map_err(|_| format!("{text}: not a time such as 2s, 500ms or 1m"))?;
    Duration::try_from_secs_f64(value * scale).map_err(|_| format!("{text}: not a time such as 2s, 500ms or 1m"))
}

/// What has been read of a fault's text so far.
#[derive(Default)]
struct Draft {
    kind: Option<Kind>,
    status: Option<u16>,
    huge: Option<usize>,
    hint: Option<Hint>,
    shape: Option<Shape>,
    when: Option<When>,
    on: Option<Scope>,
    times: Option<Times>,
    after: bool,
}

impl Draft {
    fn take(&mut self, word: &str) -> Result<(), String> {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key.trim(), Some(value.trim())),
            None => (word.trim(), None),
        };
        let Some(value) = value else {
            if key == "after" {
                self.after = true;
                return Ok(());
            }
            let kind = bare(key).ok_or_else(|| format!("{key:?}: no such fault"))?;
            return self.set_kind(kind);
        };
        match key {
            "status" => {
                let code = number(key, value, "an HTTP status")?;
                if !(300..=599).contains(&code) {
                    return Err(format!("status={value}: not between 300 and 599"));
                }
                self.status = Some(code);
            }
            "drip" => self.set_kind(Kind::Drip(Duration::from_millis(number(key, value, "milliseconds")?)))?,
            "delay" => self.set_kind(Kind::Delay(duration(value)?))?,
            "huge" => self.huge = Some(number::<usize>(key, value, "a number of MiB")?.min(1024) << 20),
            "retry-after" => self.hint = Some(Hint { style: HintStyle::Seconds, wait: duration(value)? }),
            "retry-after-date" => self.hint = Some(Hint { style: HintStyle::Date, wait: duration(value)? }),
            "retry-after-ms" => {
                let wait = Duration::from_millis(number(key, value, "milliseconds")?);
                self.hint = Some(Hint { style: HintStyle::Millis, wait });
            }
            "reset-after" => self.hint = Some(Hint { style: HintStyle::Reset, wait: duration(value)? }),
            "shape" => self.shape = Some(shape(value)?),
            "every" | "nth" | "rate" | "contains" => {
                let when = when(key, value)?;
                if self.when.replace(when).is_some() {
                    return Err("more than one of every, nth, rate and contains".to_owned());
                }
            }
            "on" => self.on = Some(value.parse()?),
            "times" if value == "always" => self.times = Some(Times::First(u32::MAX)),
            "times" => self.times = Some(Times::First(number(key, value, "a number or `always`")?)),
            _ => return Err(format!("{key:?}: no such setting of a fault")),
        }
        Ok(())
    }

    fn set_kind(&mut self, kind: Kind) -> Result<(), String> {
        match self.kind.replace(kind) {
            Some(_) => Err("more than one thing that goes wrong".to_owned()),
            None => Ok(()),
        }
    }

    fn finish(self) -> Result<Fault, String> {
        let kind = match (self.kind, self.status, self.huge) {
            (None, Some(code), padding) => Kind::Status {
                code,
                hint: self.hint,
                shape: self.shape.unwrap_or(Shape::Usual),
                padding: padding.unwrap_or(0),
            },
            (None, None, Some(bytes)) => Kind::Huge(bytes),
            (Some(kind), None, None) => kind,
            (None, None, None) => return Err("nothing goes wrong: name a status or a word such as reset".to_owned()),
            _ => return Err("more than one thing that goes wrong".to_owned()),
        };
        if !matches!(kind, Kind::Status { .. }) && (self.hint.is_some() || self.shape.is_some()) {
            return Err("retry-after and shape need a status".to_owned());
        }
        let home = match kind {
            Kind::NullJob => Scope::Create,
            _ if kind.row_only() => Scope::Row,
            _ => Scope::Inference,
        };
        let on = self.on.unwrap_or(home);
        if kind == Kind::NullJob && on != Scope::Create {
            return Err("null-job is for creating a batch only (on=create)".to_owned());
        }
        if kind.row_only() && on != Scope::Row {
            return Err("this fault is for rows of a batch only (on=row)".to_owned());
        }
        if on == Scope::Row && !kind.row_only() && !matches!(kind, Kind::Status { .. }) {
            return Err(
                "a row of a batch can have a status, missing, duplicate, conflict, foreign or garble".to_owned()
            );
        }
        Ok(Fault {
            on,
            when: self.when.unwrap_or(When::Always),
            kind,
            times: self.times.unwrap_or(Times::Each),
            after: self.after,
        })
    }
}

/// Words that stand for themselves.
const BARE: [(&str, Kind); 22] = [
    ("reset", Kind::Reset),
    ("close", Kind::Close),
    ("reset-late", Kind::ResetLate),
    ("truncate", Kind::Truncate),
    ("short", Kind::Short),
    ("hang", Kind::Hang),
    ("stall", Kind::Stall),
    ("drip", Kind::Drip(Duration::from_millis(100))),
    ("html", Kind::Html),
    ("empty-body", Kind::EmptyBody),
    ("wrong-shape", Kind::WrongShape),
    ("empty-choices", Kind::EmptyChoices),
    ("null-content", Kind::NullContent),
    ("no-usage", Kind::NoUsage),
    ("bad-gzip", Kind::BadGzip),
    ("echo-key", Kind::EchoKey),
    ("null-job", Kind::NullJob),
    ("missing", Kind::Missing),
    ("duplicate", Kind::Duplicate),
    ("conflict", Kind::Conflict),
    ("foreign", Kind::Foreign),
    ("garble", Kind::Garble),
];

fn bare(word: &str) -> Option<Kind> {
    BARE.iter().find(|(name, _)| *name == word).map(|(_, kind)| kind.clone())
}

fn shape(value: &str) -> Result<Shape, String> {
    Ok(match value {
        "string" => Shape::Text,
        "object" => Shape::Object,
        "bare" => Shape::Bare,
        "text" => Shape::Plain,
        "html" => Shape::Html,
        "empty" => Shape::Empty,
        _ => return Err(format!("shape={value}: use string, object, bare, text, html or empty")),
    })
}

fn when(key: &str, value: &str) -> Result<When, String> {
    match key {
        "every" | "nth" => match number(key, value, "a number")? {
            0 => Err(format!("{key}=0: count from 1")),
            n if key == "every" => Ok(When::Every(n)),
            n => Ok(When::Nth(n)),
        },
        "rate" => {
            let rate: f64 = number(key, value, "a number from 0 to 1")?;
            if (0.0..=1.0).contains(&rate) {
                Ok(When::Rate(rate))
            } else {
                Err(format!("rate={value}: not from 0 to 1"))
            }
        }
        _ => Ok(When::Contains(value.to_owned())),
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut draft = Draft::default();
        for word in text.split(',').filter(|word| !word.trim().is_empty()) {
            draft.take(word).map_err(|why| format!("fault {text:?}: {why}"))?;
        }
        draft.finish().map_err(|why| format!("fault {text:?}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Fault {
        text.parse().unwrap()
    }

    #[test]
    fn reads_what_the_help_shows() {
        let status = |code, hint| Kind::Status { code, hint, shape: Shape::Usual, padding: 0 };
        let hint = |style, millis| Some(Hint { style, wait: Duration::from_millis(millis) });
        let cases = [
            ("status=503", Fault::status(503)),
            (
                "status=503,rate=0.05,retry-after=2",
                Fault { when: When::Rate(0.05), ..Fault::new(status(503, hint(HintStyle::Seconds, 2000))) },
            ),
            (" truncate , every=50 ", Fault { when: When::Every(50), ..Fault::new(Kind::Truncate) }),
            ("hang,contains=foo", Fault { when: When::Contains("foo".to_owned()), ..Fault::new(Kind::Hang) }),
            (
                "reset,on=create,after,times=1",
                Fault { on: Scope::Create, after: true, times: Times::First(1), ..Fault::new(Kind::Reset) },
            ),
            ("delay=1.5s", Fault::new(Kind::Delay(Duration::from_millis(1500)))),
            ("status=429,retry-after-ms=250", Fault::new(status(429, hint(HintStyle::Millis, 250)))),
            ("status=429,retry-after-date=4", Fault::new(status(429, hint(HintStyle::Date, 4000)))),
            ("missing,nth=3", Fault { on: Scope::Row, when: When::Nth(3), ..Fault::new(Kind::Missing) }),
            ("huge=2", Fault::new(Kind::Huge(2 << 20))),
            ("close,times=always", Fault { times: Times::First(u32::MAX), ..Fault::new(Kind::Close) }),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected, "{text}");
        }
        let shaped = read("status=500,shape=object,huge=1");
        assert_eq!(shaped.kind, Kind::Status { code: 500, hint: None, shape: Shape::Object, padding: 1 << 20 });
    }

    #[test]
    fn mistakes_say_what_is_wrong() {
        let cases = [
            ("", "nothing goes wrong"),
            ("rate=0.5", "nothing goes wrong"),
            ("explode", "no such fault"),
            ("status=abc", "not an HTTP status"),
            ("status=99", "not between"),
            ("reset,hang", "more than one"),
            ("reset,every=2,rate=0.5", "more than one of"),
            ("reset,every=0", "count from 1"),
            ("reset,rate=2", "not from 0 to 1"),
            ("reset,on=moon", "no such place"),
            ("reset,retry-after=1", "need a status"),
            ("status=500,frequency=1", "no such setting"),
            ("missing,on=chat", "rows of a batch only"),
            ("hang,on=row", "a row of a batch"),
            ("delay=soon", "not a time"),
        ];
        for (text, part) in cases {
            let error = text.parse::<Fault>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
            assert!(error.contains(&format!("{text:?}")), "the text itself is shown: {error}");
        }
    }

    #[test]
    fn the_help_names_every_word() {
        for (word, kind) in &BARE {
            assert!(HELP.split(|c: char| !c.is_ascii_lowercase() && c != '-').any(|w| w == *word), "{word}");
            assert_eq!(read(word).kind, *kind);
        }
    }
}
