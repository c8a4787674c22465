//! Checks the flags once, and builds the request of each record from them.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::body::{BodyPatch, Built, DefaultMember, OwnParameter, SubjectText};
use super::columns::cell_value;
use super::images::{ImageFlags, MissingFile};
use super::params::{self, Endpoint, ParameterKind, Params};
use super::problem::{Problem, listed, shorten};
use super::record::{Data, Record};
use super::recordings::{RecordingFinder, SentBy};
use super::template::Template;
use super::typed_columns::typed_value;
use super::usage::RowUsage;
use super::{Attachments, CHOICES, Draft, Request, flags, hints, id};
use crate::error::{Error, Result};
use crate::json::{self, Member, Nested};
use crate::outcome::Fingerprint;
use crate::tokens::Media;

/// Distinct model names that are shared between requests. Input with more does not name real models.
const SHARED_MODELS: usize = 4096;

/// Turns records into requests. Made once, used by all threads.
#[derive(Debug)]
pub struct RequestBuilder {
    pub(super) endpoint: Endpoint,
    pub(super) model: Option<String>,
    /// The model of a flag that `--override` replaces.
    pub(super) overridden: Option<String>,
    pub(super) prompt: Option<Template>,
    pub(super) constant_prompt: bool,
    pub(super) system: Option<System>,
    id: Option<String>,
    pub(super) defaults: Vec<DefaultMember>,
    /// `--set`, for warnings.
    pub(super) set: Vec<(String, String)>,
    row_params: Option<Vec<String>>,
    pub(super) usage: RowUsage,
    models: RwLock<HashMap<Box<str>, Arc<str>>>,
    /// `None`: no message has local files.
    pub(super) images: Option<ImageFlags>,
    /// `None`: the endpoint takes no recordings.
    pub(super) recordings: Option<RecordingFinder>,
}

/// `--system`.
#[derive(Debug)]
pub(super) enum System {
    /// The same for all rows: its JSON text.
    Fixed(String),
    Template(Box<Template>),
}

impl RequestBuilder {
    /// Checks the flags.
    ///
    /// # Errors
    /// 2 for a template that does not parse, a value that is not JSON or not a number, or a name that cannot be set.
    pub fn new(params: &Params) -> Result<Self> {
        Self::sent_by(SentBy::Realtime, params)
    }

    pub(super) fn sent_by(by: SentBy, params: &Params) -> Result<Self> {
        if params.endpoint != Endpoint::Chat && params.system.is_some() {
            return Err(Error::usage(format!(
                "--system needs messages, which --endpoint {} does not have",
                params.endpoint
            ))
            .hint("put it into the prompt"));
        }
        if let (Some(example), Some(_)) = (params.endpoint.example(), &params.prompt) {
            return Err(Error::usage(format!(
                "--prompt makes a text of each record, but --endpoint {} needs the `{}` that a record names",
                params.endpoint,
                params.endpoint.subject()
            ))
            .hint(example));
        }
        let prompt = params.prompt.as_deref().map(|source| Template::new("--prompt", source)).transpose()?;
        let system = match params.system.as_deref() {
            Some(source) if Template::is_one(source) => {
                Some(System::Template(Box::new(Template::new("--system", source)?)))
            }
            Some(text) => Some(System::Fixed(json::quote(text))),
            None => None,
        };
        if params.model.as_deref().is_some_and(|model| model.trim().is_empty()) {
            return Err(
                Error::usage("the model's name is empty").hint("pass -m meta-llama/Llama-3.3-70B-Instruct-Turbo")
            );
        }
        let overriding = flags::overriding_model(params)?;
        Ok(Self {
            endpoint: params.endpoint,
            overridden: params.model.clone().filter(|model| overriding.as_ref().is_some_and(|other| other != model)),
            model: overriding.or_else(|| params.model.clone()),
            prompt,
            constant_prompt: params.constant_prompt,
            system,
            id: params.id.clone(),
            defaults: flags::defaults(params)?,
            set: params.set.clone(),
            row_params: flags::row_params(params)?,
            usage: RowUsage::default(),
            models: RwLock::default(),
            images: ImageFlags::new(params)?,
            recordings: RecordingFinder::new(params, by),
        })
    }

    /// Returns the record's id, even if the record is invalid.
    pub fn id(&self, record: &Record<'_>) -> Box<str> {
        let members = match record.data {
            Data::Json(text) => json::members(text).unwrap_or_default(),
            Data::Row(text) => json::trusted_members(text),
            Data::Line(_) | Data::Columns { .. } => Vec::new(),
        };
        let given = id::given(self.id.as_deref(), record, &members).ok().flatten();
        let given = given.or_else(|| match record.data {
            Data::Json(text) if members.is_empty() => id::salvaged(self.id.as_deref(), text).map(Cow::Owned),
            _ => None,
        });
        given.map_or_else(|| id::generated(record.number).into(), |id| id.into_owned().into())
    }

    /// The endpoint of every request.
    pub const fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Builds the request of `record`.
    ///
    /// # Errors
    /// The problem of the record.
    pub fn request(&self, record: &Record<'_>) -> Result<Request, Problem> {
        self.draft(record).map(|draft| self.own(&draft, draft.fingerprint()))
    }

    /// The same for a row that was sent before: a file that is gone since is taken for one at an address. `None`: the record
    /// makes no request.
    pub fn presumed(&self, record: &Record<'_>) -> Option<Request> {
        self.draft_by(record, MissingFile::Presumed).ok().map(|draft| self.own(&draft, draft.fingerprint()))
    }

    /// The same, borrowed from the record as far as nothing changes.
    ///
    /// # Errors
    /// The problem of the record.
    pub fn draft<'a>(&self, record: &Record<'a>) -> Result<Draft<'a>, Problem> {
        self.draft_by(record, MissingFile::Refused)
    }

    fn draft_by<'a>(&self, record: &Record<'a>, missing: MissingFile) -> Result<Draft<'a>, Problem> {
        let line = match record.data {
            Data::Json(text) => json::nested(text, "body").map_err(|error| {
                let id = id::salvaged(self.id.as_deref(), text);
                Problem { id, ..hints::not_json(record, text, &error) }
            })?,
            Data::Row(text) => Nested { members: json::trusted_members(text), ..Nested::default() },
            Data::Line(_) | Data::Columns { .. } => Nested::default(),
        };
        let given = id::given(self.id.as_deref(), record, &line.members)?;
        let built = self.build(record, &line).and_then(|built| match (&self.images, &self.recordings) {
            (Some(images), _) => images.attach(record, &line.members, built, missing),
            (None, Some(recordings)) => recordings.attach(record, built, missing),
            (None, None) => Ok((built, Attachments::default())),
        });
        let (built, files) = match built {
            Ok(built) => built,
            Err(problem) => return Err(Problem { id: given.map(Cow::into_owned), ..problem }),
        };
        self.usage.any.note();
        Ok(Draft {
            row: record.row,
            number: record.number,
            generated_id: given.is_none(),
            id: given.unwrap_or_else(|| Cow::Owned(id::generated(record.number))),
            endpoint: self.endpoint,
            model: built.model,
            body: built.body,
            files,
            stream_removed: built.stream_removed,
            max_tokens: built.max_tokens,
            members: line.members,
            choices: built.choices,
            // Most messages are texts, and are not searched again.
            media: if built.has_parts { OnceCell::new() } else { Media::default().into() },
        })
    }

    /// Copies a draft, which has this fingerprint. Requests share the names of their models.
    pub fn own(&self, draft: &Draft<'_>, fingerprint: Fingerprint) -> Request {
        Request {
            row: draft.row,
            fingerprint,
            id: draft.id.as_ref().into(),
            generated_id: draft.generated_id,
            model: self.shared(&draft.model),
            body: draft.body.as_ref().into(),
            files: draft.files.clone(),
            stream_removed: draft.stream_removed,
            max_tokens: draft.max_tokens,
            media: draft.media().clone(),
            repeated: draft.repeated(),
            answers: draft.answer_bound(),
        }
    }

    /// The one copy of a model's name.
    pub fn shared(&self, model: &str) -> Arc<str> {
        if let Some(known) = self.models.read().unwrap_or_else(PoisonError::into_inner).get(model) {
            return Arc::clone(known);
        }
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        if models.len() >= SHARED_MODELS {
            return Arc::from(model);
        }
        Arc::clone(models.entry(model.into()).or_insert_with(|| Arc::from(model)))
    }

    pub(super) fn patch<'s>(&'s self, not_ours: &'s [&'s str]) -> BodyPatch<'s> {
        BodyPatch { endpoint: self.endpoint, defaults: &self.defaults, model: self.model.as_deref(), not_ours }
    }

    fn build<'a>(&self, record: &Record<'a>, line: &Nested<'a>) -> Result<Built<'a>, Problem> {
        let members = &line.members;
        if let Some(template) = &self.prompt {
            let prompt = template.render(record, members)?;
            if prompt.trim().is_empty() {
                return Err(empty_prompt(record, "--prompt gives an empty text for this row"));
            }
            let system = self.system_of(record, members)?;
            let params = self.own_params(record, members)?;
            let built =
                self.patch(&[]).compose(record, SubjectText::Prompt(&json::quote(&prompt)), system.as_deref(), &params);
            return built.map_err(|problem| self.unused_model(record, problem));
        }
        match record.data {
            Data::Json(text) => self.json(record, text, line),
            Data::Line(_) | Data::Row(_) | Data::Columns { .. } if !self.endpoint.is_made_of_one() => {
                let text = format!("--endpoint {} reads JSONL only", self.endpoint);
                Err(Problem::new(record, self.no_subject(), text).hint(self.endpoint.example().unwrap_or_default()))
            }
            Data::Line(text) => {
                let system = self.system(record, members)?;
                self.patch(&[]).compose(record, SubjectText::Prompt(&json::quote(text)), system.as_deref(), &[])
            }
            Data::Row(_) => self.typed_columns(record, members),
            Data::Columns { names, values } => self.columns(record, names, values),
        }
    }

    /// The request of a JSONL record, recognised by its fields.
    fn json<'a>(&self, record: &Record<'a>, text: &'a str, line: &Nested<'a>) -> Result<Built<'a>, Problem> {
        let members = &line.members;
        if let Some(body) = json::find(members, "body") {
            if body.value.starts_with('{') {
                return self.batch_line(record, body.value, line);
            }
            if json::find(members, "custom_id").is_some() {
                let text = format!("`body` must be an object, not {}", shorten(body.value));
                return Err(Problem::new(record, "body", text)
                    .column(body.end - body.value.len() + 1)
                    .hint(BATCH_LINE));
            }
        }
        let subject = self.endpoint.subject();
        if subject != "prompt" && json::find(members, subject).is_some() {
            let mut not_ours = vec!["custom_id", "id"];
            not_ours.extend(self.id.as_deref().filter(|name| *name != subject && *name != "model"));
            not_ours.extend(self.image_fields().filter(|name| *name != subject && *name != "model"));
            return self.patch(&not_ours).pass(record, text, members, || self.system(record, members));
        }
        // Beside a `file`, a `prompt` is a parameter. Alone it is not a request for audio.
        let prompt = json::find(members, "prompt").filter(|_| self.endpoint.takes_prompt());
        let Some(prompt) = prompt else {
            return Err(self.unknown_form(record, members));
        };
        let array = prompt.value.starts_with('[') && self.endpoint != Endpoint::Chat;
        if !array && !prompt.value.starts_with('"') {
            let text = format!("`prompt` must be a text, not {}", shorten(prompt.value));
            let messages = prompt.value.starts_with('[') && prompt.value.contains("\"role\"");
            let hint = if messages { MESSAGES } else { PROMPT };
            return Err(Problem::new(record, "prompt", text).column(prompt.end - prompt.value.len() + 1).hint(hint));
        }
        if json::is_blank(prompt.value) {
            return Err(empty_prompt(record, "`prompt` is empty"));
        }
        let system = self.system_of(record, members)?;
        let params = self.own_params(record, members)?;
        self.patch(&[]).compose(record, SubjectText::Prompt(prompt.value), system.as_deref(), &params)
    }

    fn batch_line<'a>(&self, record: &Record<'a>, body: &'a str, line: &Nested<'a>) -> Result<Built<'a>, Problem> {
        let members = &line.members;
        let wanted = self.endpoint.batch_method().unwrap_or("POST");
        if let Some(method) = json::find(members, "method").filter(|member| !member.is_null())
            && !json::string(method.value).is_some_and(|method| method == "POST" || method == wanted)
        {
            let text = format!("`method` must be \"{wanted}\", not {}", shorten(method.value));
            return Err(Problem::new(record, "method", text)
                .column(method.start + 1)
                .hint("correct it or leave it out"));
        }
        if let Some(url) = json::find(members, "url").filter(|member| !member.is_null()) {
            let endpoint = json::string(url.value).and_then(|url| Endpoint::of_url(&url));
            if endpoint != Some(self.endpoint) {
                let text = format!("`url` is {}, but requests go to {}", shorten(url.value), self.endpoint.path());
                let hint = endpoint.map_or_else(
                    || "correct it or leave it out".to_owned(),
                    |endpoint| format!("add --endpoint {endpoint}"),
                );
                return Err(Problem::new(record, "url", text).column(url.start + 1).hint(hint));
            }
        }
        let inner = line.inner.as_deref().map_or_else(|| Cow::Owned(json::trusted_members(body)), Cow::Borrowed);
        self.patch(&[]).pass(record, body, &inner, || self.system(record, members))
    }

    /// Returns true if requests read the column of this name, apart from templates: as an id, a prompt or a parameter.
    pub(super) fn reads_column(&self, name: &str) -> bool {
        let id = match &self.id {
            Some(id) => id == name,
            None => matches!(name, "custom_id" | "id"),
        };
        let own = params::kind(self.endpoint, name).is_some() || name == params::SYSTEM;
        let all = self.row_params.as_ref().is_some_and(Vec::is_empty);
        let image = self.image_fields().any(|field| field == name);
        id || image || self.asks_for(name) || (own && all) || (self.prompt.is_none() && (own || self.is_subject(name)))
    }

    /// Returns true if `--row-params` names this parameter.
    pub(super) fn asks_for(&self, name: &str) -> bool {
        self.row_params.as_ref().is_some_and(|names| names.iter().any(|n| n == name))
    }

    /// Returns true if a record's field `name` is a parameter of its request, not data.
    fn is_own(&self, record: &Record<'_>, name: &str) -> bool {
        let asked = || self.row_params.as_ref().is_some_and(Vec::is_empty) || self.asks_for(name);
        let counts = || !(matches!(record.data, Data::Row(_) | Data::Columns { .. }) && CHOICES.contains(&name));
        (self.prompt.is_none() && counts()) || asked()
    }

    /// The content of the row's own system message or of the flags', as JSON text.
    pub(super) fn system_of<'a>(
        &self,
        record: &Record<'a>,
        members: &[Member<'a>],
    ) -> Result<Option<Cow<'a, str>>, Problem> {
        let (column, own) = match record.data {
            Data::Json(_) | Data::Row(_) => {
                let own = json::find(members, params::SYSTEM).filter(|member| !member.is_null());
                (own.map(|member| member.start + 1), own.map(|member| Cow::Borrowed(member.value)))
            }
            Data::Columns { names, values } => {
                let mut cells = names.iter().zip(values.iter());
                let own = cells.find(|(name, cell)| *name == params::SYSTEM && !cell.is_empty());
                (None, own.map(|(_, cell)| Cow::Owned(json::quote(cell))))
            }
            Data::Line(_) => (None, None),
        };
        let Some(own) = own else { return Ok(self.system(record, members)?.map(Cow::Owned)) };
        if !self.is_own(record, params::SYSTEM) {
            self.ignore(params::SYSTEM);
            return Ok(self.system(record, members)?.map(Cow::Owned));
        }
        self.usage.own.add(params::SYSTEM);
        let problem = |text: String, hint: &str| {
            let problem = Problem::new(record, "system", text).hint(hint);
            Err(match column {
                Some(column) => problem.column(column),
                None => problem,
            })
        };
        if self.endpoint != Endpoint::Chat {
            let text = format!("`system` needs messages, which --endpoint {} does not have", self.endpoint);
            return problem(text, "put it into the prompt");
        }
        if !own.starts_with('"') {
            return problem(format!("`system` must be a text, not {}", shorten(&own)), PROMPT);
        }
        Ok(Some(own))
    }

    /// The parameters that a row gives itself: name and JSON text.
    pub(super) fn own_params<'a>(
        &self,
        record: &Record<'a>,
        members: &[Member<'a>],
    ) -> Result<Vec<OwnParameter<'a>>, Problem> {
        // Names that only the user knows may hold anything.
        let kind = |name: &str| match params::kind(self.endpoint, name) {
            _ if self.id.as_deref() == Some(name) || name == params::SYSTEM => None,
            None if self.asks_for(name) => Some(ParameterKind::Either),
            known => known,
        };
        let mut own = Vec::new();
        let mut add = |name: &Cow<'a, str>, value: &mut dyn FnMut(ParameterKind) -> Result<Cow<'a, str>, Problem>| {
            let Some(kind) = kind(name) else { return Ok(()) };
            if self.is_own(record, name) {
                self.usage.own.add(name);
                own.push((name.clone(), value(kind)?));
            } else {
                self.ignore(name);
            }
            Ok(())
        };
        match record.data {
            Data::Json(_) => {
                for member in members.iter().filter(|member| !member.is_null()) {
                    add(&member.key, &mut |_| Ok(Cow::Borrowed(member.value)))?;
                }
            }
            Data::Row(_) => {
                for member in members.iter().filter(|member| !member.is_null() && member.value != "\"\"") {
                    add(&member.key, &mut |kind| typed_value(record, member, kind))?;
                }
            }
            Data::Columns { names, values } => {
                for (name, cell) in names.iter().zip(values.iter()).filter(|(_, cell)| !cell.is_empty()) {
                    let column = Cow::Borrowed(name.as_str());
                    add(&column, &mut |kind| cell_value(record, name, cell, kind))?;
                }
            }
            Data::Line(_) => {}
        }
        Ok(own)
    }

    /// Notes that a parameter of the row is not used. A field that the template uses is data.
    fn ignore(&self, name: &str) {
        if !self.prompt.as_ref().is_some_and(|template| template.uses(name)) {
            self.usage.ignored.add(name);
        }
    }

    /// The problem of a row without a model, whose own `model` is not used.
    fn unused_model(&self, record: &Record<'_>, problem: Problem) -> Problem {
        let own = || record.fields().iter().any(|(name, _)| name == "model");
        if problem.code != "no_model" || self.is_own(record, "model") || !own() {
            return problem;
        }
        problem.hint("pass -m MODEL, or --row-params=model to use the rows' own `model`; with --prompt it is data")
    }

    /// The content of the flags' system message, as JSON text.
    fn system(&self, record: &Record<'_>, members: &[Member<'_>]) -> Result<Option<String>, Problem> {
        if self.system.is_some() {
            self.usage.system_flag.note();
        }
        match &self.system {
            None => Ok(None),
            Some(System::Fixed(text)) => Ok(Some(text.clone())),
            Some(System::Template(template)) => template.render(record, members).map(|text| Some(json::quote(&text))),
        }
    }

    /// The code of the problem of a record without the part that the endpoint answers.
    const fn no_subject(&self) -> &'static str {
        if self.endpoint.is_audio() { "no_file" } else { "body" }
    }

    fn unknown_form(&self, record: &Record<'_>, members: &[Member<'_>]) -> Problem {
        let other = match self.endpoint {
            Endpoint::Chat => "`body`, `messages` or `prompt`",
            Endpoint::Completions | Endpoint::Images => "`body` or `prompt`",
            Endpoint::Embeddings | Endpoint::Speech => "`body`, `input` or `prompt`",
            Endpoint::Transcriptions | Endpoint::Translations => "`body` or `file`",
            Endpoint::Rerank => "`body` or `documents`",
        };
        let has = listed(members.iter().map(|member| &*member.key));
        let text = format!("the row has no {other}; its fields are: {has}");
        if let Some(example) = self.endpoint.example() {
            return Problem::new(record, self.no_subject(), text).hint(example);
        }
        let names: Vec<&str> = members.iter().map(|member| &*member.key).collect();
        let body = json::find(members, "body").map_or("", |_| "; `body` is a value, not a request");
        Problem::new(record, NO_PROMPT, text + body).hint(hints::no_prompt(self.endpoint, &names))
    }
}

const BATCH_LINE: &str = r#"a batch line looks like {"custom_id": "…", "body": {"messages": […]}}"#;
const MESSAGES: &str = "these are `messages`: jq -c '.messages = .prompt | del(.prompt)' FILE > lines.jsonl";
const PROMPT: &str = r#"a prompt looks like {"prompt": "…", "system": "…"}"#;

/// The code of the problem of a record or a table from which no prompt can be read.
pub const NO_PROMPT: &str = "no_prompt";

pub(super) fn empty_prompt(record: &Record<'_>, text: &str) -> Problem {
    Problem::new(record, "empty_prompt", text).hint("fill it, or remove the row")
}
