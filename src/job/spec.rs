//! The record of a job's command, so that a later command can resume the job.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ask::{InputSource, InputSpec};
use super::identity::canonical_service;
use super::remote::{self, Remote};
use crate::check::Checked;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::{Inputs, Kept, ReadOptions, same_copy};
use crate::objects::{is_url, kept_path};
use crate::request::Params;
use crate::rules::{AnswerRules, RuleSpec};
use crate::store::{Job, Store, Tags, service_identity};

/// The record of a job's command. A later command resumes the job from it without the flags.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command")]
pub struct Spec {
    /// Version of this record.
    pub version: u8,
    /// The base URL of the service, or `sandbox`.
    pub service: String,
    /// The name of the service in the config file, if it had one there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// A hash of the key that it was sent with. Empty: not known.
    #[serde(default)]
    pub account: String,
    /// Absolute paths, and URLs without secrets.
    pub inputs: Vec<PathBuf>,
    /// The input came through a pipe. The job keeps a copy.
    pub spooled: bool,
    /// The reading of the input.
    #[serde(flatten)]
    pub reading: ReadOptions,
    /// Parameters of every request.
    pub params: Params,
    /// `--skip-invalid`
    pub skip_invalid: bool,
    /// The last check of the input, if all rows were valid.
    #[serde(default)]
    pub checked: Option<CleanCheck>,
    /// The copy of the inputs in the job's directory. A batch job reads its rows from there.
    #[serde(default)]
    pub kept: Vec<Kept>,
    /// Hash of the copy of standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_hash: Option<String>,
    /// With `--via auto`: each model, with the reason for its transport.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<(String, String)>,
    /// `--concurrency` at the last start of requests in real time, for the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<String>,
    /// `--tag`
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// `--dedupe`: equal requests are sent once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dedupe: bool,
    /// Answers of earlier jobs are taken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reuses: bool,
    /// `--answers`: the directory that tasks of the job share their answers in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<PathBuf>,
    /// [`Requests::key`](super::identity::Requests::key) at the last start of a realtime job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

impl Spec {
    /// Builds the record of a new job.
    pub fn new(remote: Remote<'_>, input: &InputSpec, skip_invalid: bool) -> Self {
        let absolute = |path: &PathBuf| {
            if is_url(path) { kept_path(path) } else { std::path::absolute(path).unwrap_or_else(|_| path.clone()) }
        };
        Self {
            inputs: input.source.files().iter().map(absolute).collect(),
            spooled: input.source == InputSource::Stdin,
            reading: input.flags.reading,
            skip_invalid,
            ..Self::adopted(remote, input.flags.params.clone())
        }
    }

    /// Builds the record of a job that adopts a batch of another program. Its input comes from the service.
    pub fn adopted(remote: Remote<'_>, params: Params) -> Self {
        Self {
            version: 1,
            service: remote.name.to_owned(),
            service_name: remote.service.map(str::to_owned),
            account: String::new(),
            inputs: Vec::new(),
            spooled: true,
            reading: ReadOptions::default(),
            params,
            skip_invalid: true,
            checked: None,
            kept: Vec::new(),
            stdin_hash: None,
            routes: Vec::new(),
            concurrency: None,
            tags: Tags::new(),
            dedupe: false,
            reuses: false,
            answers: None,
            content: None,
        }
    }

    /// Returns the key of the command. Equal inputs, parameters and services have equal keys. `content` is a hash of
    /// stdin.
    pub fn key(&self, content: &str) -> String {
        let ReadOptions { format, .. } = self.reading;
        let mut parts = serde_json::json!([
            canonical_service(&self.identity()),
            self.inputs,
            format,
            self.params.anywhere(),
            content
        ])
        .to_string();
        // Commands without the other flags keep the keys that earlier versions gave them.
        if self.reading != (ReadOptions { format, ..ReadOptions::default() }) {
            parts.push_str(&serde_json::json!(self.reading).to_string());
        }
        blake3::hash(parts.as_bytes()).to_hex()[..32].to_owned()
    }

    /// The rules that answers must pass. Earlier versions kept schemas without looking into them: one that is invalid is no
    /// rule, and llbatch says so.
    pub fn rules(&self, ctx: &Ctx) -> Arc<AnswerRules> {
        let Params { json_schema, choices, complete, .. } = &self.params;
        let rules = RuleSpec { schema: json_schema.clone(), choices: choices.clone(), complete: *complete };
        Arc::new(AnswerRules::new(&rules).unwrap_or_else(|error| {
            ctx.ui.warn(&format!("{error}; answers are not held against it"));
            AnswerRules::default()
        }))
    }

    /// The same record with the rules of a command that goes on with its requests, as far as those are no part of a request.
    pub(super) fn judged_like(mut self, params: &Params) -> Self {
        self.params.complete = params.complete;
        if !(self.params.asks_choices || params.asks_choices) {
            self.params.choices.clone_from(&params.choices);
        }
        self
    }

    /// The text that tells the service's jobs from those of others.
    pub fn identity(&self) -> String {
        service_identity(self.service_name.as_deref(), &self.service)
    }

    /// The service as messages name it.
    pub fn shown_service(&self) -> String {
        remote::shown(self.service_name.as_deref(), &self.service)
    }

    /// The flags that the user must type beside the job's name.
    pub fn flags(&self, ctx: &Ctx) -> String {
        ctx.flags(&self.service, self.service_name.as_deref())
    }

    /// Returns whether rows may have the outcomes of other ones, so that tables have a column for it.
    pub const fn marks_reused(&self) -> bool {
        self.dedupe || self.reuses || self.answers.is_some()
    }

    /// Serializes the record for the index.
    ///
    /// # Errors
    /// 1 if it cannot be written as JSON.
    pub fn describe(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::new(Exit::Failure, "the job cannot be described").because(e))
    }

    /// Returns true if both make the same requests of the same input.
    pub(super) fn asks_the_same(&self, other: &Self) -> bool {
        let parts = |spec: &Self| {
            (
                canonical_service(&spec.identity()),
                spec.inputs.clone(),
                spec.spooled,
                spec.reading,
                spec.params.anywhere(),
            )
        };
        parts(self) == parts(other)
    }
}

/// A check of an input that found no problem. It is valid until the input is written to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanCheck {
    /// [`Inputs::stamp`] at the check.
    pub stamp: String,
    /// Its rows.
    pub rows: u64,
    /// Rows by model.
    pub models: Vec<(String, u64)>,
    /// Rows from which llbatch removes `stream`.
    pub stream_removed: u64,
}

impl CleanCheck {
    /// Restores the result of the check.
    pub(super) fn to_checked(&self) -> Checked {
        let models = self.models.iter().map(|(model, rows)| (model.as_str().into(), *rows)).collect();
        // An input without rows is no valid one, but a shard may have none.
        let total_rows = self.rows.max(1);
        Checked { rows: self.rows, total_rows, models, stream_removed: self.stream_removed, ..Checked::default() }
    }
}

/// Refuses a job of another service than the command's.
///
/// # Errors
/// 2 if it belongs to another service.
pub(super) fn same_service(job: &Job, remote: Remote<'_>, ctx: &Ctx) -> Result<()> {
    let spec = spec_of(job)?;
    if canonical_service(&spec.identity()) == canonical_service(&remote.identity()) {
        return Ok(());
    }
    let theirs = spec.shown_service();
    let targets = format!(
        "{} belongs to {theirs}, but this command targets {}",
        job.id,
        remote::shown(remote.service, remote.name)
    );
    let error = match &spec.service_name {
        Some(name) if !ctx.settings.services.contains(name) => {
            let what = format!("{} belongs to {theirs}, but the config file has no service `{name}`", job.id);
            Error::usage(what)
                .hint(format!("add [services.{name}] with base_url = {:?} to go on with the job", spec.service))
        }
        Some(name) => {
            Error::usage(targets).hint(format!("pass --service {name}, or leave --service and --base-url out"))
        }
        None if spec.service == "sandbox" => Error::usage(targets).hint("add --sandbox"),
        None => Error::usage(targets).hint("leave --sandbox and --service out, or pass the same --base-url"),
    };
    Err(error)
}

/// Says where the job's service was, if it has moved since.
pub(super) fn moved_from(spec: &Spec, remote: Remote<'_>) -> Option<String> {
    let name = spec.service_name.as_ref()?;
    let moved = canonical_service(&spec.service) != canonical_service(remote.at(&spec.service).name);
    moved.then(|| format!("{name} was at {} and is at {} now", spec.service, remote.name))
}

/// Says that the service of an earlier command on the job has moved, or that its key was another one. The job goes on: a name
/// stays the same service, and a key that was replaced is the usual reason for another one. `anew` is the flag for the user
/// who means another account.
pub(super) fn say_changes(job: &Job, spec: &Spec, remote: Remote<'_>, anew: &str, ctx: &Ctx) {
    let id = &job.id;
    if let Some(moved) = moved_from(spec, remote) {
        ctx.ui.note(&format!("{moved}; {id} goes on there ({anew} starts anew)"));
    }
    let keys = [spec.account.as_str(), remote.account].map(|account| account.get(..8));
    if let [Some(before), Some(now)] = keys
        && before != now
    {
        ctx.ui.note(&format!(
            "{id} was worked on with another key (fingerprint {before}, now {now}); it goes on with this one ({anew} starts anew)"
        ));
    }
}

/// Reads the record of a job.
///
/// # Errors
/// 74 if it cannot be read.
pub(super) fn spec_of(job: &Job) -> Result<Spec> {
    serde_json::from_str(&job.spec)
        .map_err(|e| Error::new(Exit::Io, format!("the record of {} cannot be read", job.id)).because(e))
}

/// Opens the inputs of a job: its own copy, its standard input, or the files of its command.
///
/// # Errors
/// 66 if they are gone, 74 if the job's own copy is damaged.
pub(super) fn inputs_of(spec: &Spec, store: &Store, id: &str) -> Result<Inputs> {
    let options = &spec.reading;
    if !spec.kept.is_empty() {
        return Inputs::kept(&store.job_dir(id), &spec.kept)?.read_as(options);
    }
    if !spec.spooled {
        return Inputs::resolve_with(&spec.inputs, options.format, &|| store.spool())?.read_as(options);
    }
    let path = store.spool_path(id);
    if !path.exists() {
        return Err(Error::new(Exit::NoInput, format!("the input of {id} is no longer stored")));
    }
    same_copy(&path, spec.stdin_hash.as_deref())?;
    Inputs::spooled(path, "-", options.piped_format()).read_as(options)
}
