//! The recording of a row of speech to text: a local file, which is uploaded beside a form, or an address that the service
//! fetches.

use std::borrow::Cow;
use std::path::PathBuf;

use super::Endpoint;
use super::body::Built;
use super::builder::RequestBuilder;
use super::images::{MissingFile, edited, place, value};
use super::params::Params;
use super::problem::{Problem, shorten};
use super::record::Record;
use crate::attached::{Attachments, FileFinder, directory_of};
use crate::error::Result;
use crate::json;
use crate::text::{one_line, shortened};

/// The most bytes of an upload without `--max-file`. Source: `file` of Together's "Create audio transcription" (read 2026-11).
const MAX_UPLOAD: u64 = 80_000_000;

/// The forms of an answer that are not JSON. Sources: `OpenAI`'s "Create transcription" (read 2026-11), whose `response_format`
/// has them; Together's has none of them.
const NOT_JSON: [&str; 3] = ["text", "srt", "vtt"];

/// Characters of a problem with a path in it.
const LONGEST: usize = 600;

/// The requests that a builder makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SentBy {
    /// One by one.
    #[default]
    Realtime,
    /// As lines of batch files.
    Batch,
}

/// Finds recordings.
#[derive(Debug)]
pub(super) struct RecordingFinder {
    /// The directory of the command.
    work_dir: PathBuf,
    finder: FileFinder,
    by: SentBy,
}

impl RecordingFinder {
    /// `None`: the endpoint takes no recordings.
    pub fn new(params: &Params, by: SentBy) -> Option<Self> {
        params.endpoint.is_audio().then(|| Self {
            work_dir: params.work_dir.clone().unwrap_or_default(),
            finder: FileFinder::of_recordings(params.max_file.unwrap_or(MAX_UPLOAD)),
            by,
        })
    }

    /// The same request with the recording of its row.
    pub fn attach<'a>(
        &self,
        record: &Record<'_>,
        built: Built<'a>,
        missing: MissingFile,
    ) -> std::result::Result<(Built<'a>, Attachments), Problem> {
        let format = json::string(value(&built.body, "response_format")).unwrap_or_default();
        if NOT_JSON.contains(&&*format) && missing == MissingFile::Refused {
            let text = format!("`response_format` {} is no JSON, and results hold JSON", shorten(&format));
            return Err(Problem::new(record, "response_format", text)
                .hint("use \"json\", or \"verbose_json\": its segments have the times of subtitles"));
        }
        let spelled = value(&built.body, Endpoint::Transcriptions.subject());
        let named = json::string(spelled).unwrap_or_default();
        let dir = directory_of(record.file, &self.work_dir);
        let file = match self.finder.recording(&named, dir.as_deref()) {
            Ok(None) => return Ok((built, Attachments::default())),
            Err(_) if missing == MissingFile::Presumed => return Ok((built, Attachments::default())),
            _ if self.by == SentBy::Batch && missing == MissingFile::Refused => {
                return Err(not_in_batches(record, &named));
            }
            Ok(Some(file)) => file,
            Err(fault) => {
                let text = format!("`file`: {}", shortened(&one_line(&fault.message), LONGEST));
                return Err(Problem::new(record, "file", text).hint(fault.hint));
            }
        };
        let edit = (place(&built.body, spelled), json::quote(&file.stand_in()));
        let body = Cow::Owned(edited(&built.body, &[edit]));
        Ok((Built { body, ..built }, vec![file].into()))
    }
}

impl RequestBuilder {
    /// The same for requests of which batch files are made.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn for_batches(params: &Params) -> Result<Self> {
        Self::sent_by(SentBy::Batch, params)
    }

    /// Returns true if requests carry local files, which may change between two commands.
    pub const fn reads_files(&self) -> bool {
        self.images.is_some() || self.recordings.is_some()
    }
}

/// The problem of a local file in a batch, which has no place for its bytes.
fn not_in_batches(record: &Record<'_>, named: &str) -> Problem {
    let text =
        format!("`file` is the local path {}, but the service fetches the recordings of batches", shorten(named));
    Problem::new(record, "file", text)
        .hint("write an https:// URL that the service can fetch, or upload the file with `llbatch run`")
}
