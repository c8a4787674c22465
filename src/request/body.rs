//! Request bodies as text: adds the members of flags, removes members, and checks for mistakes that the service would charge for
//! or refuse.

use std::borrow::Cow;

use super::messages::{self, MessagesFacts};
use super::params::Endpoint;
use super::problem::{Problem, shorten};
use super::record::Record;
use super::usage::Noted;
use super::{CHOICES, MOST_TOKENS};
use crate::json::{self, Member};

/// A member that a flag adds to bodies that lack it.
#[derive(Debug)]
pub(super) struct DefaultMember {
    /// The names of members that count as it. The first one is added.
    pub names: Vec<Cow<'static, str>>,
    /// `"name":value`.
    pub text: String,
    /// It replaces what a body says.
    pub forced: bool,
    /// The flag, as messages name it.
    pub flag: String,
    /// A body lacked it.
    pub used: Noted,
}

impl DefaultMember {
    /// A member `name` with a JSON `value`.
    pub fn new(flag: &str, name: impl Into<Cow<'static, str>>, value: &str) -> Self {
        let name = name.into();
        let text = format!("{}:{value}", json::quote(&name));
        let mut names = vec![name];
        match &*names[0] {
            "max_tokens" => names.push("max_completion_tokens".into()),
            "max_completion_tokens" => names.push("max_tokens".into()),
            _ => {}
        }
        Self { names, text, forced: false, flag: flag.to_owned(), used: Noted::default() }
    }

    /// The same, in place of what a body says.
    pub(super) fn forced(self) -> Self {
        Self { forced: true, ..self }
    }

    pub fn names(&self, key: &str) -> bool {
        self.names.iter().any(|name| *name == key)
    }

    /// Its number of tokens, if it bounds the answer.
    fn answer_bound(&self) -> Option<u64> {
        let bounds = is_answer_bound(&self.names[0]);
        self.text.rsplit_once(':').filter(|_| bounds).map(|(_, digits)| tokens(digits))
    }
}

/// The part of a request that the endpoint answers, as JSON text.
#[derive(Debug, Clone, Copy)]
pub(super) enum SubjectText<'a> {
    /// A text or, for some endpoints, a list: the user's message of a chat.
    Prompt(&'a str),
    /// All messages of a chat.
    Messages(&'a str),
}

/// A parameter that a row gives itself: name and JSON text.
pub type OwnParameter<'a> = (Cow<'a, str>, Cow<'a, str>);

/// A body that is ready, and the facts about it that its sender needs.
#[derive(Debug)]
pub(super) struct Built<'a> {
    pub body: Cow<'a, str>,
    pub model: Cow<'a, str>,
    pub max_tokens: Option<u64>,
    /// The request may ask for more than one answer.
    pub choices: bool,
    /// It may have parts that are not text.
    pub has_parts: bool,
    pub stream_removed: bool,
}

/// The changes that the flags make to every body.
#[derive(Debug)]
pub(super) struct BodyPatch<'s> {
    pub endpoint: Endpoint,
    pub defaults: &'s [DefaultMember],
    /// The model for bodies without one.
    pub model: Option<&'s str>,
    /// Top-level members that are the record's, not the request's.
    pub not_ours: &'s [&'s str],
}

/// The facts about the members of a body.
struct Survey<'m, 'a> {
    model: Option<Cow<'a, str>>,
    max_tokens: Option<u64>,
    /// The member that the endpoint answers.
    subject: Option<&'m Member<'a>>,
    choices: bool,
    any_removed: bool,
    stream_removed: bool,
}

/// The parts that are new in a body.
struct Additions<'s> {
    /// The content of a system message, as JSON.
    system: Option<String>,
    /// Offset of the member `messages`, which takes the system message.
    messages: usize,
    defaults: Vec<&'s DefaultMember>,
}

impl BodyPatch<'_> {
    /// The request of a body that the user wrote. `system` makes the content of a system message (as JSON), if needed.
    pub fn pass<'a>(
        &self,
        record: &Record<'_>,
        text: &'a str,
        members: &[Member<'a>],
        system: impl FnOnce() -> Result<Option<String>, Problem>,
    ) -> Result<Built<'a>, Problem> {
        let Survey { model, max_tokens, subject, choices, any_removed, stream_removed } =
            self.survey(record, members)?;
        let subject = subject.ok_or_else(|| lacks_subject(record, self.endpoint))?;
        let (system, has_parts) = if self.endpoint == Endpoint::Chat {
            let facts = check_messages(record, subject.value)?;
            (if facts.has_system { None } else { system()? }, facts.has_parts)
        } else {
            check_subject(record, self.endpoint, subject.value)?;
            if self.endpoint == Endpoint::Rerank {
                check_query(record, members, self.defaults)?;
            }
            (None, true)
        };
        let model = match model {
            Some(model) => model,
            None => Cow::Owned(self.model.ok_or_else(|| no_model(record))?.to_owned()),
        };
        let set = |default: &DefaultMember| members.iter().any(|m| default.names(&m.key) && !self.removes(m));
        let defaults: Vec<_> = self.defaults.iter().filter(|default| !set(default)).collect();
        if !any_removed && system.is_none() && defaults.is_empty() {
            return Ok(Built { body: Cow::Borrowed(text), model, max_tokens, choices, has_parts, stream_removed });
        }
        for default in &defaults {
            default.used.note();
        }
        let max_tokens = max_tokens.or_else(|| defaults.iter().find_map(|default| default.answer_bound()));
        let body = self.rewrite(text, members, &Additions { system, messages: subject.start, defaults });
        Ok(Built { body: Cow::Owned(body), model, max_tokens, choices, has_parts, stream_removed })
    }

    fn removes(&self, member: &Member<'_>) -> bool {
        is_stream(member)
            || self.not_ours.contains(&&*member.key)
            || self.defaults.iter().any(|default| (default.forced || member.is_null()) && default.names(&member.key))
    }

    fn survey<'m, 'a>(&self, record: &Record<'_>, members: &'m [Member<'a>]) -> Result<Survey<'m, 'a>, Problem> {
        let mut survey = Survey {
            model: None,
            max_tokens: None,
            subject: None,
            choices: self.asks_for_choices(),
            any_removed: false,
            stream_removed: false,
        };
        for member in members {
            if self.removes(member) {
                survey.any_removed = true;
                survey.stream_removed |= is_stream(member);
                continue;
            }
            match &*member.key {
                "model" => survey.model = Some(model_of(record, member.value)?),
                name if is_answer_bound(name) && !member.is_null() => {
                    survey.max_tokens = survey.max_tokens.max(Some(bound(record, name, member.value)?));
                }
                name if CHOICES.contains(&name) && !member.is_null() => {
                    bound(record, name, member.value)?;
                    survey.choices = true;
                }
                name if name == self.endpoint.subject() => survey.subject = Some(member),
                _ => {}
            }
        }
        Ok(survey)
    }

    /// The body without the members that are removed, and with the additions.
    fn rewrite(&self, text: &str, members: &[Member<'_>], new: &Additions<'_>) -> String {
        let mut out = String::with_capacity(text.len() + 64 + new.system.as_ref().map_or(0, String::len));
        out.push_str(&text[..members.first().map_or(1, |first| first.start)]);
        let (mut kept_any, mut before) = (false, 0);
        for member in members {
            if !self.removes(member) {
                // The first one kept comes without the comma before it.
                let from = if kept_any { before } else { member.start };
                kept_any = true;
                match &new.system {
                    Some(system) if member.start == new.messages => {
                        let open = member.end - member.value.len() + 1;
                        out.push_str(&text[from..open]);
                        out.extend([r#"{"role":"system","content":"#, system, "},"]);
                        out.push_str(&text[open..member.end]);
                    }
                    _ => out.push_str(&text[from..member.end]),
                }
            }
            before = member.end;
        }
        for default in &new.defaults {
            if kept_any {
                out.push(',');
            }
            kept_any = true;
            out.push_str(&default.text);
        }
        out.push_str(&text[members.last().map_or(1, |last| last.end)..]);
        out
    }

    /// The request of a prompt or of messages with its parameters (name, JSON text) in order.
    pub(super) fn compose(
        &self,
        record: &Record<'_>,
        subject: SubjectText<'_>,
        system: Option<&str>,
        params: &[OwnParameter<'_>],
    ) -> Result<Built<'static>, Problem> {
        let (SubjectText::Prompt(text) | SubjectText::Messages(text)) = subject;
        let mut out = String::with_capacity(text.len() + system.map_or(0, str::len) + 128);
        out.push('{');
        let forced = |name: &str| self.defaults.iter().any(|default| default.forced && default.names(name));
        let given = || params.iter().filter(|(name, value)| value != "null" && !forced(name));
        let set = |name: &str| given().any(|(key, _)| key == name);
        let missing = |default: &&DefaultMember| !default.names.iter().any(|name| set(name));
        if !set("model") {
            let model = self.model.ok_or_else(|| no_model(record))?;
            out.push_str("\"model\":");
            out.push_str(&json::quote(model));
            out.push(',');
        }
        self.ask(record, subject, system, &mut out)?;
        let (mut model, mut max_tokens) = (None, None);
        for (name, value) in given() {
            match &**name {
                "model" => model = Some(model_of(record, value)?.into_owned()),
                name if is_answer_bound(name) => max_tokens = max_tokens.max(Some(bound(record, name, value)?)),
                name if CHOICES.contains(&name) => _ = bound(record, name, value)?,
                _ => {}
            }
            out.extend([",", &json::quote(name), ":", value]);
        }
        for default in self.defaults.iter().filter(missing) {
            default.used.note();
            if default.names[0] == "model" {
                continue;
            }
            max_tokens = default.answer_bound().or(max_tokens);
            out.extend([",", &default.text]);
        }
        out.push('}');
        let model = model.or_else(|| self.model.map(str::to_owned)).ok_or_else(|| no_model(record))?;
        let choices = self.asks_for_choices() || params.iter().any(|(name, _)| CHOICES.contains(&&**name));
        Ok(Built {
            body: Cow::Owned(out),
            model: Cow::Owned(model),
            max_tokens,
            choices,
            has_parts: true,
            stream_removed: false,
        })
    }

    /// Writes the member that the endpoint answers.
    fn ask(
        &self,
        record: &Record<'_>,
        subject: SubjectText<'_>,
        system: Option<&str>,
        out: &mut String,
    ) -> Result<(), Problem> {
        let mut open = |system: Option<&str>| {
            out.push_str("\"messages\":[");
            if let Some(system) = system {
                out.extend([r#"{"role":"system","content":"#, system, "},"]);
            }
        };
        match (self.endpoint, subject) {
            (Endpoint::Chat, SubjectText::Prompt(prompt)) => {
                open(system);
                out.extend([r#"{"role":"user","content":"#, prompt, "}]"]);
            }
            (Endpoint::Chat, SubjectText::Messages(messages)) => {
                let has_system = check_messages(record, messages)?.has_system;
                open(system.filter(|_| !has_system));
                out.push_str(&messages[1..]);
            }
            (other, SubjectText::Prompt(text) | SubjectText::Messages(text)) => {
                out.extend(["\"", other.subject(), "\":", text]);
            }
        }
        Ok(())
    }

    /// Returns true if a flag asks for more than one answer.
    fn asks_for_choices(&self) -> bool {
        self.defaults.iter().any(|default| CHOICES.iter().any(|name| default.names(name)))
    }
}

/// Answers are read whole, so streaming is taken out of a body.
fn is_stream(member: &Member<'_>) -> bool {
    matches!(&*member.key, "stream" | "stream_options")
}

/// Returns true if the parameter bounds the tokens of an answer.
pub(super) fn is_answer_bound(name: &str) -> bool {
    matches!(name, "max_tokens" | "max_completion_tokens")
}

fn no_model(record: &Record<'_>) -> Problem {
    Problem::new(record, "no_model", "the row has no model, and no default is set")
        .hint("pass -m MODEL, or add a `model` to the row")
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
    json::whole(digits).unwrap_or(MOST_TOKENS).min(MOST_TOKENS)
}

/// The value of a parameter that bounds or multiplies the tokens of an answer, up to [`MOST_TOKENS`].
fn bound(record: &Record<'_>, name: &str, value: &str) -> Result<u64, Problem> {
    if let Some(number) = json::whole(value).filter(|number| *number > 0) {
        return Ok(number.min(MOST_TOKENS));
    }
    let text = format!("`{name}` must be a positive whole number, not {}", shorten(value));
    let (code, example) = if is_answer_bound(name) { ("max_tokens", 256) } else { ("choices", 2) };
    Err(Problem::new(record, code, text).hint(format!("write it as \"{name}\": {example}, or leave it out")))
}

fn lacks_subject(record: &Record<'_>, endpoint: Endpoint) -> Problem {
    let subject = endpoint.subject();
    Problem::new(record, "body", format!("the body has no `{subject}`, which {} needs", endpoint.path())).hint(format!(
        "if it is for another endpoint, pass --endpoint {}",
        Endpoint::ALL.map(Endpoint::as_str).join("|")
    ))
}

fn check_messages(record: &Record<'_>, value: &str) -> Result<MessagesFacts, Problem> {
    let bad = |text: String| {
        Err(Problem::new(record, "messages", text).hint(r#"it looks like [{"role": "user", "content": "…"}]"#))
    };
    match messages::look_over(value) {
        None => bad(format!("`messages` must be an array, not {}", shorten(value))),
        Some(seen) if seen.odd => {
            bad(format!("message {} of `messages` is not an object with a text `role`", seen.count))
        }
        Some(seen) if seen.count == 0 => bad("`messages` is empty".to_owned()),
        Some(seen) => Ok(seen),
    }
}

/// Checks `prompt`, `input` or `file`: a text or an array, and not empty.
fn check_subject(record: &Record<'_>, endpoint: Endpoint, value: &str) -> Result<(), Problem> {
    let subject = endpoint.subject();
    if endpoint.is_audio() {
        return match json::string(value) {
            Some(named) if !named.trim().is_empty() => Ok(()),
            _ => {
                let text = format!("`file` must be the path or the URL of a recording, not {}", shorten(value));
                Err(Problem::new(record, "file", text).hint(r#"write it as "file": "call.mp3", or "https://…""#))
            }
        };
    }
    if endpoint == Endpoint::Rerank && !value.starts_with('[') {
        let text = format!("`{subject}` must be an array, not {}", shorten(value));
        return Err(Problem::new(record, "body", text).hint(format!(r#"write it as "{subject}": ["…", "…"]"#)));
    }
    if !value.starts_with(['"', '[']) {
        let text = format!("`{subject}` must be a text or an array, not {}", shorten(value));
        return Err(Problem::new(record, "body", text).hint(format!("write it as \"{subject}\": \"…\"")));
    }
    if json::is_blank(value) || value[1..].trim_start().starts_with(']') {
        return Err(
            Problem::new(record, "empty_prompt", format!("`{subject}` is empty")).hint("fill it, or remove the row")
        );
    }
    Ok(())
}

/// Checks the `query` that documents are compared with: a text, and not empty. A flag may give it.
fn check_query(record: &Record<'_>, members: &[Member<'_>], defaults: &[DefaultMember]) -> Result<(), Problem> {
    let query = json::find(members, "query").map_or("null", |member| member.value);
    if query == "null" && defaults.iter().any(|default| default.names("query")) {
        return Ok(());
    }
    if json::string(query).is_some_and(|text| !text.trim().is_empty()) {
        return Ok(());
    }
    let text = match query {
        "null" => format!("the body has no `query`, which {} needs", Endpoint::Rerank.path()),
        other => format!("`query` must be a text, and not empty; it is {}", shorten(other)),
    };
    Err(Problem::new(record, "body", text).hint(r#"write it as "query": "…""#))
}
