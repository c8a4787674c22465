//! Rows whose request an earlier row makes, found among millions in a few bytes a row.
//!
//! The first pass keeps a hash that equal requests share, and that is made faster than their key, and one of the body's bytes.
//! Of rows whose first hashes are the same, a second pass compares requests; it parses no other row. Keys are made where a hash
//! came in several spellings. Elsewhere fingerprints, which are made faster, tell the same. Half a million requests that come
//! more than once are held at a time, with their first rows, in up to 40 MB; for each further half million there is a pass.
//!
//! The first row of a key is its *leader*, the others are its *followers*. One bit a row tells them apart, and the
//! leader of each follower is in a file without a name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use super::estimate::{Estimate, RowInspector, RowStats};
use super::pass::{Checked, Pass};
use super::request_hashes::AlikePart;
use super::scan;
use crate::error::{Error, Result};
use crate::input::Block;
use crate::json;
use crate::outcome::{Fingerprint, Follower};
use crate::request::{Draft, KeyMaker, RequestKey};
use crate::row_set::RowSet;
use crate::text;

/// Rows that make the same requests as earlier ones.
#[derive(Debug, Default)]
pub struct Repeats {
    /// The followers by the pass that found them.
    parts: Vec<Followers>,
    /// The requests of followers, which need not be sent.
    pub saved: Estimate,
    /// Followers that ask for another answer each time: their temperature is above 0, and they have no seed.
    sampled: u64,
}

/// Some of the followers.
#[derive(Debug, Default)]
struct Followers {
    rows: RowSet,
    /// The leader of each, in their order. `None`: there are none, or they are not wanted.
    leaders: Option<File>,
}

/// A row whose request may be that of another one.
struct Twin {
    row: u64,
    id: Box<str>,
    fingerprint: Fingerprint,
    /// `None`: requests with its hash are spelled alike.
    key: Option<RequestKey>,
    model: Arc<str>,
    stats: RowStats,
    sampled: bool,
}

/// The hashes that the first pass keeps: one that requests with the same key share, and one of the spelling.
pub(super) fn hashes(draft: &Draft<'_>) -> (u64, u32) {
    (json::sketch(&draft.body), json::hash(draft.body.as_bytes()) as u32)
}

/// A search for repeated requests.
#[derive(Debug, Clone, Copy)]
pub struct RepeatSearch<'a> {
    /// The rows.
    pub pass: &'a Pass<'a>,
    /// The findings of a pass over them that made keys.
    pub checked: &'a Checked,
    /// Makes the same keys.
    pub keys: &'a KeyMaker,
    /// Makes the figures of the followers' requests.
    pub inspector: &'a RowInspector<'a>,
    /// The directory of the file with the leaders. `None`: [`Repeats::reader`] is not wanted.
    pub dir: Option<&'a Path>,
}

impl RepeatSearch<'_> {
    /// Finds the repeated requests, and passes followers to `each`, in the order of their rows unless there are very many. Reads
    /// the inputs again only if there are any.
    ///
    /// # Errors
    /// An input that cannot be read, or a file that cannot be written; the errors of `each`.
    pub fn run(&self, each: &mut dyn FnMut(Follower) -> Result<()>) -> Result<Repeats> {
        let mut repeats = Repeats::default();
        for part in &self.checked.alike.0 {
            let found = self.part(part, &mut repeats, each)?;
            repeats.parts.push(found);
        }
        Ok(repeats)
    }

    fn part(
        &self,
        part: &AlikePart,
        repeats: &mut Repeats,
        each: &mut dyn FnMut(Follower) -> Result<()>,
    ) -> Result<Followers> {
        let Self { pass, checked, .. } = *self;
        let mut followers = RowSet::default();
        let unwritable = |e| Error::io("a temporary file cannot be written in the state directory", e);
        let file = self.dir.map(tempfile::tempfile_in).transpose().map_err(unwritable)?;
        let mut out = file.map(BufWriter::new);
        let mut first: HashMap<[u8; 16], u64> = HashMap::new();
        scan::scan(pass.inputs, pass.threads, &|block| self.twins(block, part), &mut |found: Vec<Twin>| {
            for twin in found.into_iter().filter(|twin| checked.is_good(twin.row)) {
                let leader = match first.entry(twin.key.map_or(twin.fingerprint.0, |key| key.0)) {
                    Entry::Vacant(entry) => {
                        entry.insert(twin.row);
                        continue;
                    }
                    Entry::Occupied(entry) => *entry.get(),
                };
                if let Some(out) = &mut out {
                    out.write_all(&leader.to_le_bytes()).map_err(unwritable)?;
                }
                followers.insert(twin.row);
                repeats.sampled += u64::from(twin.sampled);
                repeats.saved.add(&twin.model, &twin.stats, self.inspector.form());
                let Twin { row, id, fingerprint, .. } = twin;
                each(Follower { row, id, fingerprint, leader })?;
            }
            Ok(())
        })?;
        let leaders = out.map(BufWriter::into_inner).transpose().map_err(|e| unwritable(e.into_error()))?;
        Ok(Followers { rows: followers, leaders })
    }

    /// The rows of a block whose requests may come more than once.
    fn twins(&self, block: &Block, part: &AlikePart) -> Vec<Twin> {
        let Self { pass: Pass { builder, .. }, keys, inspector, .. } = self;
        let mut found = Vec::new();
        block.for_each(|record| {
            let Some(record) = record.ok().filter(|record| part.contains(record.row)) else { return };
            let Ok(draft) = builder.draft(&record) else { return };
            let key = part.is_respelled(record.row).then(|| keys.of(&draft));
            let (model, stats) = (builder.shared(&draft.model), inspector.inspect(&draft));
            let (id, fingerprint, sampled) = (draft.id.as_ref().into(), draft.fingerprint(), is_sampled(&draft));
            found.push(Twin { row: draft.row, id, fingerprint, key, model, stats, sampled });
        });
        found
    }
}

impl Repeats {
    /// The number of followers.
    pub fn count(&self) -> u64 {
        self.parts.iter().map(|part| part.rows.count()).sum()
    }

    /// Tests whether an earlier row makes the same request.
    pub fn is_follower(&self, row: u64) -> bool {
        self.parts.iter().any(|part| part.rows.contains(row))
    }

    /// A warning, if repeats may be meant as samples.
    pub fn doubt(&self) -> Option<String> {
        (self.sampled > 0).then(|| {
            format!(
                "{} with a temperature above 0 and without a seed {} an earlier request: to get a sample for \
                 each row, leave --dedupe out",
                text::plural(self.sampled, "row"),
                text::agree(self.sampled, "repeats", "repeat")
            )
        })
    }

    /// A reader of the followers' leaders.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn reader(&self) -> Result<LeaderReader<'_>> {
        let open = |file: &File| {
            let mut file = file.try_clone()?;
            file.rewind()?;
            Ok(BufReader::new(file))
        };
        let mut parts = Vec::with_capacity(self.parts.len());
        for Followers { rows, leaders } in &self.parts {
            if let Some(leaders) = leaders.as_ref().map(open).transpose().map_err(unreadable)? {
                parts.push((rows, leaders));
            }
        }
        Ok(LeaderReader { parts })
    }
}

/// Reads the leaders of followers, row by row.
#[derive(Debug)]
pub struct LeaderReader<'a> {
    parts: Vec<(&'a RowSet, BufReader<File>)>,
}

impl LeaderReader<'_> {
    /// The leader of `row`, if that is a follower. It must be asked for every row, in their order.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next(&mut self, row: u64) -> Result<Option<u64>> {
        let Some((_, file)) = self.parts.iter_mut().find(|(rows, _)| rows.contains(row)) else { return Ok(None) };
        let mut number = [0; 8];
        file.read_exact(&mut number).map_err(unreadable)?;
        Ok(Some(u64::from_le_bytes(number)))
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::io("a temporary file of the state directory cannot be read", error)
}

/// Tests whether the same request gets another answer each time.
fn is_sampled(draft: &Draft<'_>) -> bool {
    let members = json::trusted_members(&draft.body);
    let number = |name| json::find(&members, name).and_then(|member| member.value.parse::<f64>().ok());
    number("temperature").is_some_and(|temperature| temperature > 0.0) && number("seed").is_none()
}
