//! Bodies as text: what the flags add, what is taken out, and the checks that spare a paid refusal.

use std::borrow::Cow;

use super::messages::{self, MessagesFacts};
use super::params::Endpoint;
use super::problem::{Problem, shorten};
use super::record::Record;
use super::{CHOICES, MOST_TOKENS};
use crate::json::{self, Member};

/// A member that a flag adds to bodies that lack it.
#[derive(Debug)]
pub struct Fill {
    /// Names that count as having it; the first is the one added.
    pub names: Vec<Cow<'static, str>>,
    /// `"name":value`.
    pub text: String,
}

impl Fill {
    /// A member `name` with a JSON `value`.
    pub fn new(name: impl Into<Cow<'static, str>>, value: &str) -> Self {
        let name = name.into();
        let text = format!("{}:{value}", json::quote(&name));
        let mut names = vec![name];
        match &*names[0] {
            "max_tokens" => names.push("max_completion_tokens".into()),
            "max_completion_tokens" => names.push("max_tokens".into()),
            _ => {}
        }
        Self { names, text }
    }

    fn names(&self, key: &str) -> bool {
        self.names.iter().any(|name| *name == key)
    }
}

/// A body that is ready, with what else must be known of it.
#[derive(Debug)]
pub struct Built<'a> {
    pub body: Cow<'a, str>,
    pub model: Cow<'a, str>,
    pub max_tokens: Option<u64>,
    /// Whether it may ask for more than one answer.
    pub choices: bool,
    pub stream_removed: bool,
}

/// What a pass-through body is made with.
#[derive(Debug)]
pub struct Splice<'s> {
    pub endpoint: Endpoint,
    pub fills: &'s [Fill],
    /// The model for bodies without one.
    pub model: Option<&'s str>,
    /// Top-level members that are the record's, not the request's.
    pub not_ours: &'s [&'s str],
}

impl Splice<'_> {
    /// The request of a body that the user wrote. `system` makes the content of a system message (as JSON), if needed.
    pub fn pass<'a>(
        &self,
        record: &Record<'_>,
        text: &'a str,
        members: &[Member<'a>],
        system: impl FnOnce() -> Result<Option<String>, Problem>,
    ) -> Result<Built<'a>, Problem> {
        let removed = |member: &Member<'_>| {
            is_stream(member)
                || self.not_ours.contains(&&*member.key)
                || (member.is_null() && self.fills.iter().any(|fill| fill.names(&member.key)))
        };
        let mut model = None;
        let mut max_tokens = None;
        let mut subject = None;
        let (mut any_removed, mut stream_removed) = (false, false);
        let mut choices = self.fills_choices();
        for member in members {
            if removed(member) {
                any_removed = true;
                stream_removed |= is_stream(member);
                continue;
            }
            match &*member.key {
                "model" => model = Some(model_of(record, member.value)?),
                "max_tokens" | "max_completion_tokens" if !member.is_null() => {
                    max_tokens = Some(bound(record, &member.key, member.value)?);
                }
                name if CHOICES.contains(&name) => choices = true,
                name if name == self.endpoint.subject() => subject = Some(member),
                _ => {}
            }
        }
        let subject = subject.ok_or_else(|| lacks_subject(record, self.endpoint))?;
        let system = if self.endpoint == Endpoint::Chat {
            if check_messages(record, subject.value)?.has_system { None } else { system()? }
        } else {
            check_subject(record, self.endpoint, subject.value)?;
            None
        };
        let model = match model {
            Some(model) => model,
            None => Cow::Owned(self.model.ok_or_else(|| no_model(record))?.to_owned()),
        };
        let missing = |fill: &&Fill| !members.iter().any(|m| fill.names(&m.key) && !removed(m));
        if !any_removed && system.is_none() && self.fills.iter().find(missing).is_none() {
            return Ok(Built { body: Cow::Borrowed(text), model, max_tokens, choices, stream_removed });
        }

        let mut out = String::with_capacity(text.len() + 64 + system.as_ref().map_or(0, String::len));
        out.push_str(&text[..members.first().map_or(1, |first| first.start)]);
        let (mut kept_any, mut before) = (false, 0);
        for member in members {
            if !removed(member) {
                // The first one kept comes without the comma before it.
                let from = if kept_any { before } else { member.start };
                kept_any = true;
                match &system {
                    Some(system) if member.start == subject.start => {
                        let open = member.end - member.value.len() + 1;
                        out.push_str(&text[from..open]);
                        out.push_str(r#"{"role":"system","content":"#);
                        out.push_str(system);
                        out.push_str("},");
                        out.push_str(&text[open..member.end]);
                    }
                    _ => out.push_str(&text[from..member.end]),
                }
            }
            before = member.end;
        }
        for fill in self.fills.iter().filter(missing) {
            if kept_any {
                out.push(',');
            }
            kept_any = true;
            out.push_str(&fill.text);
        }
        out.push_str(&text[members.last().map_or(1, |last| last.end)..]);
        let filled = |names: &[&str]| self.fills.iter().filter(missing).find(|f| names.contains(&&*f.names[0]));
        if max_tokens.is_none() {
            max_tokens = filled(&["max_tokens", "max_completion_tokens"])
                .and_then(|fill| fill.text.rsplit_once(':'))
                .map(|(_, digits)| tokens(digits));
        }
        Ok(Built { body: Cow::Owned(out), model, max_tokens, choices, stream_removed })
    }

    /// The request of a prompt (as JSON text) with its parameters (name, JSON text) in order.
    pub fn compose(
        &self,
        record: &Record<'_>,
        prompt: &str,
        system: Option<&str>,
        params: &[(Cow<'_, str>, Cow<'_, str>)],
    ) -> Result<Built<'static>, Problem> {
        let mut out = String::with_capacity(prompt.len() + system.map_or(0, str::len) + 128);
        out.push('{');
        let set = |name: &str| params.iter().any(|(key, value)| key == name && value != "null");
        let missing = |fill: &&Fill| !fill.names.iter().any(|name| set(name));
        if !set("model") {
            let model = self.model.ok_or_else(|| no_model(record))?;
            out.push_str("\"model\":");
            out.push_str(&json::quote(model));
            out.push(',');
        }
        match self.endpoint {
            Endpoint::Chat => {
                out.push_str("\"messages\":[");
                if let Some(system) = system {
                    out.extend([r#"{"role":"system","content":"#, system, "},"]);
                }
                out.extend([r#"{"role":"user","content":"#, prompt, "}]"]);
            }
            other => out.extend(["\"", other.subject(), "\":", prompt]),
        }
        let (mut model, mut max_tokens) = (None, None);
        for (name, value) in params.iter().filter(|(_, value)| value != "null") {
            match &**name {
                "model" => model = Some(model_of(record, value)?.into_owned()),
                "max_tokens" | "max_completion_tokens" => max_tokens = Some(bound(record, name, value)?),
                _ => {}
            }
            out.extend([",", &json::quote(name), ":", value]);
        }
        for fill in self.fills.iter().filter(missing) {
            if fill.names[0] == "model" {
                continue;
            }
            if matches!(&*fill.names[0], "max_tokens" | "max_completion_tokens") {
                max_tokens = fill.text.rsplit_once(':').map(|(_, digits)| tokens(digits));
            }
            out.extend([",", &fill.text]);
        }
        out.push('}');
        let model = model.or_else(|| self.model.map(str::to_owned)).ok_or_else(|| no_model(record))?;
        let choices = self.fills_choices() || params.iter().any(|(name, _)| CHOICES.contains(&&**name));
        Ok(Built { body: Cow::Owned(out), model: Cow::Owned(model), max_tokens, choices, stream_removed: false })
    }

    fn fills_choices(&self) -> bool {
        self.fills.iter().any(|fill| CHOICES.iter().any(|name| fill.names(name)))
    }
}

/// Answers are read whole, so streaming is taken out of a body.
fn is_stream(member: &Member<'_>) -> bool {
    matches!(&*member.key, "stream" | "stream_options")
}

fn no_model(record: &Record<'_>) -> Problem {
    Problem::new(record, "no_model", "the row names no model and there is none for all")
        .hint("add -m MODEL, or a `model` to the row")
}

fn model_of<'a>(record: &Record<'_>, value: &'a str) -> Result<Cow<'a, str>, Problem> {
    json::string(value).filter(|model| !model.trim().is_empty()).ok_or_else(|| {
        let text = format!("`model` must be the name of a model, not {}", shorten(value));
        Problem::new(record, "model", text)
            .hint("write it as \"model\": \"provider/name\"; `llbatch models` lists them")
    })
}

/// A number of tokens from its digits.
fn tokens(digits: &str) -> u64 {
    digits.parse().unwrap_or(MOST_TOKENS).min(MOST_TOKENS)
}

/// The value of a bound on answer tokens, up to [`MOST_TOKENS`].
fn bound(record: &Record<'_>, name: &str, value: &str) -> Result<u64, Problem> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || value == "0" {
        let text = format!("`{name}` must be a positive whole number, not {}", shorten(value));
        return Err(
            Problem::new(record, "max_tokens", text).hint(format!("write it as \"{name}\": 256, or leave it out"))
        );
    }
    Ok(tokens(value))
}

fn lacks_subject(record: &Record<'_>, endpoint: Endpoint) -> Problem {
    let subject = endpoint.subject();
    Problem::new(record, "body", format!("the body has no `{subject}`, which {} needs", endpoint.path()))
        .hint("if it is meant for another endpoint, say so with --endpoint chat|completions|embeddings|transcriptions|translations")
}

fn check_messages(record: &Record<'_>, value: &str) -> Result<MessagesFacts, Problem> {
    let bad = |text: String| {
        Err(Problem::new(record, "messages", text).hint(r#"it looks like [{"role": "user", "content": "…"}]"#))
    };
    match messages::look_over(value) {
        None => bad(format!("`messages` must be an array, not {}", shorten(value))),
        Some(seen) if seen.odd => bad(format!("message {} of `messages` is no object with a text `role`", seen.count)),
        Some(seen) if seen.count == 0 => bad("`messages` is empty".to_owned()),
        Some(seen) => Ok(seen),
    }
}

/// `prompt` and `input` are texts or arrays; nothing is no request.
fn check_subject(record: &Record<'_>, endpoint: Endpoint, value: &str) -> Result<(), Problem> {
    let subject = endpoint.subject();
    if endpoint.is_audio() {
        // A batch has no place for the sound itself, and the service cannot see local files.
        let url = json::string(value).filter(|text| {
            ["http://", "https://"].iter().any(|s| text.get(..s.len()).is_some_and(|head| head.eq_ignore_ascii_case(s)))
        });
        return url.map(drop).ok_or_else(|| {
            let text = format!("`file` must be the URL of a recording, not {}", shorten(value));
            Problem::new(record, "file", text).hint("put the recording where the service can fetch it: https://…")
        });
    }
    if !value.starts_with(['"', '[']) {
        let text = format!("`{subject}` must be a text or an array, not {}", shorten(value));
        return Err(Problem::new(record, "body", text).hint(format!("write it as \"{subject}\": \"…\"")));
    }
    if json::is_blank(value) || value[1..].trim_start().starts_with(']') {
        return Err(
            Problem::new(record, "empty_prompt", format!("`{subject}` is empty")).hint("fill it, or take the row out")
        );
    }
    Ok(())
}
