//! What is kept with a job, so that a later command can go on with it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Exit, Result};
use crate::input::{Format, Inputs, Kept};
use crate::request::Params;
use crate::store::{Job, Store};

/// What is kept with a job so that it can go on without its flags.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// Of this record's shape.
    pub version: u8,
    /// The service, as in [`Plan::service`].
    pub service: String,
    /// Absolute paths.
    pub inputs: Vec<PathBuf>,
    /// The input came through a pipe and is kept with the job.
    pub spooled: bool,
    /// `--input-format`
    pub input_format: Option<Format>,
    /// What the flags ask of every request.
    pub params: Params,
    /// `--skip-invalid`
    pub skip_invalid: bool,
    /// What the check found, if it found nothing wrong.
    #[serde(default)]
    pub checked: Option<Sound>,
    /// The copy of the inputs in the job's directory: a batch job's rows are read from there.
    #[serde(default)]
    pub kept: Vec<Kept>,
    /// With `--via auto`: each model, and why its rows went where they went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<(String, String)>,
}

impl Spec {
    /// Whether both make the same requests of the same input.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let parts = |spec: &Self| {
            (spec.service.clone(), spec.inputs.clone(), spec.spooled, spec.input_format, spec.params.clone())
        };
        parts(self) == parts(other)
    }
}

/// An input without a problem: need not be checked again as long as nobody writes to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sound {
    /// [`Inputs::stamp`] when it was checked.
    pub stamp: String,
    /// Its rows.
    pub rows: u64,
    /// Rows by model.
    pub models: Vec<(String, u64)>,
    /// Rows from which `stream` is taken out.
    pub stream_removed: u64,
}

/// The inputs that a job read: its own copy, its standard input, or the files that its command named.
///
/// # Errors
/// 66 if they are gone.
pub fn inputs_of(spec: &Spec, store: &Store, id: &str) -> Result<Inputs> {
    if !spec.kept.is_empty() {
        return Inputs::kept(&store.job_dir(id), &spec.kept);
    }
    if !spec.spooled {
        return Inputs::resolve(&spec.inputs, spec.input_format);
    }
    let path = store.spool_path(id);
    if !path.exists() {
        return Err(Error::new(Exit::NoInput, format!("the input of {id} is not kept any more")));
    }
    Ok(Inputs::spooled(path, "-", spec.input_format.unwrap_or(Format::Jsonl)))
}

/// What is kept of a job's command.
pub fn spec_of(job: &Job) -> Result<Spec> {
    serde_json::from_str(&job.spec)
        .map_err(|e| Error::new(Exit::Io, format!("the record of {} cannot be read", job.id)).because(e))
}

/// As it is kept in the index.
///
/// # Errors
/// 1 if it cannot be described.
pub fn describe(spec: &Spec) -> Result<String> {
    serde_json::to_string(spec).map_err(|e| Error::new(Exit::Failure, "the job cannot be described").because(e))
}
