//! The identity of a job: its requests, whatever its input is called and wherever it lies.

use std::collections::{BTreeMap, HashMap};

use super::finish::Workspace;
use super::spec::spec_of;
use crate::error::Result;
use crate::input::Shard;
use crate::outcome::{Fingerprint, Transport};
use crate::request::KeyMaker;
use crate::store::Job;
use crate::text;

/// Different requests that are compared with earlier jobs. A larger input is compared by a sample of this size.
const SAMPLE: usize = 65_536;
/// Earlier jobs that are compared, the newest first.
const JOBS: u32 = 20;
/// Answers of earlier jobs that are compared; more would delay the start.
const ANSWERS: u64 = 2_000_000;

/// The content of a row, as far as it identifies a job.
#[derive(Clone, Copy)]
pub(super) struct RowContent<'a> {
    /// The id of its result.
    pub id: &'a str,
    /// The digest of its request.
    pub fingerprint: Fingerprint,
}

/// A hash of every row's id and request, and a sample of the requests.
#[derive(Debug)]
pub struct Requests {
    hasher: blake3::Hasher,
    rows: u64,
    /// The smallest fingerprints, each with the number of its rows. Fingerprints are hashes, so this is a random sample.
    sample: BTreeMap<Fingerprint, u32>,
    /// The sample lacks requests.
    cut: bool,
}

/// An earlier job that has answers to some of the requests.
#[derive(Debug)]
struct Answered {
    job: Job,
    rows: u64,
}

impl Requests {
    /// Begins with the first row of a shard for this service.
    pub fn new(service: &str, shard: Option<Shard>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("llbatch 2026-11 content of a batch job");
        hasher.update(canonical_service(service).as_bytes()).update(&[0]);
        if let Some(shard) = shard {
            // No row begins with a zero length of its id.
            hasher.update(&0_u64.to_le_bytes()).update(shard.to_string().as_bytes()).update(&[0]);
        }
        Self { hasher, rows: 0, sample: BTreeMap::new(), cut: false }
    }

    /// Adds the next row, or `None` for an invalid one.
    pub fn row(&mut self, found: Option<RowContent<'_>>) {
        self.rows += 1;
        let Some(RowContent { id, fingerprint }) = found else {
            self.hasher.update(&u64::MAX.to_le_bytes());
            return;
        };
        self.hasher.update(&(id.len() as u64).to_le_bytes()).update(id.as_bytes()).update(&fingerprint.0);
        let sampled = !self.cut || self.sample.last_key_value().is_some_and(|(last, _)| fingerprint <= *last);
        if sampled {
            *self.sample.entry(fingerprint).or_default() += 1;
            if self.sample.len() > SAMPLE {
                self.sample.pop_last();
                self.cut = true;
            }
        }
    }

    /// The words about rows that make the request of an earlier one, for an opening line. Empty if there are few. It counts
    /// requests that are spelled alike, in a sample if there are many.
    pub(super) fn repeat_words(&self) -> String {
        /// Fewer are not worth a word: as many rows, and as many in a hundred.
        const FEWEST: [u64; 2] = [10, 1];
        let sampled: u64 = self.sample.values().map(|rows| u64::from(*rows)).sum();
        let repeated = sampled - self.sample.len() as u64;
        if repeated < FEWEST[0] || repeated * 100 < sampled * FEWEST[1] {
            return String::new();
        }
        let (about, repeated) =
            if self.cut { ("about ", repeated * self.rows / sampled.max(1)) } else { ("", repeated) };
        format!(", {about}{} of them repeat an earlier one (--dedupe sends each once)", text::count(repeated))
    }

    /// Returns the key of all rows so far. Equal content has equal keys, in any spelling.
    pub fn key(&self) -> String {
        format!("b{}", &self.hasher.finalize().to_hex()[..31])
    }

    /// Counts the rows whose requests `job` has answered. Each answer serves one row.
    fn answered_by(&self, job: &Job, workspace: Workspace<'_>) -> Result<u64> {
        let db = workspace.store.open_job(&job.id)?;
        let last = self.sample.last_key_value().map(|(last, _)| *last).filter(|_| self.cut);
        let mut served: HashMap<Fingerprint, u32> = HashMap::new();
        db.each_answered(last, |fingerprint| {
            if let Some(rows) = self.sample.get(&fingerprint) {
                let served = served.entry(fingerprint).or_default();
                *served = (*served + 1).min(*rows);
            }
        })?;
        let sum = |counts: &mut dyn Iterator<Item = &u32>| counts.map(|rows| u64::from(*rows)).sum::<u64>();
        let (served, sampled) = (sum(&mut served.values()), sum(&mut self.sample.values()));
        Ok(if self.cut { served * self.rows / sampled.max(1) } else { served })
    }

    /// Finds the job with the most answers to these requests among the last jobs.
    fn answered(&self, service: &str, workspace: Workspace<'_>) -> Result<Option<Answered>> {
        let mut best: Option<Answered> = None;
        let mut compared = 0;
        for job in workspace.ledger.recent(JOBS)? {
            let theirs =
                job.service_identity().is_some_and(|theirs| canonical_service(&theirs) == canonical_service(service));
            if !theirs || job.succeeded == 0 || !workspace.store.job_path(&job.id).exists() {
                continue;
            }
            compared += job.succeeded;
            if compared > ANSWERS {
                break;
            }
            // A note is not worth the end of a command: a damaged job is left out.
            let Ok(rows) = self.answered_by(&job, workspace) else { continue };
            if rows > best.as_ref().map_or(0, |best| best.rows) {
                best = Some(Answered { job, rows });
            }
        }
        Ok(best)
    }

    /// Says which earlier job has answers to these requests, before a new job pays for them. `last` is the last job of the
    /// same command. `transport` is that of the new job.
    pub(super) fn say_answered(
        &self,
        service: &str,
        last: Option<Job>,
        transport: Transport,
        workspace: Workspace<'_>,
    ) -> Result<()> {
        let ui = &workspace.ctx.ui;
        let Some(Answered { job, rows }) = self.answered(service, workspace)? else {
            if let Some(job) = last.filter(|job| job.state.ended() && job.failed > 0) {
                let failed = text::plural(job.failed, "row");
                ui.note(&format!("{} asked the same, and {failed} failed; a new job sends all rows", job.id));
            }
            return Ok(());
        };
        let same = last.is_some_and(|last| last.id == job.id)
            || spec_of(&job).is_ok_and(|spec| spec.content == Some(self.key()))
            || job.key == self.key();
        let id = &job.id;
        let remedy = match (job.transport, transport) {
            _ if same => "--resume takes them".to_owned(),
            // If these rows resumed the job, it would lose its others.
            _ if rows < job.succeeded => format!("--reuse-from={id} takes the good ones"),
            (Transport::Realtime, Transport::Realtime) => format!("--resume={id} takes them"),
            (Transport::Realtime, Transport::Batch) => format!("`llbatch run INPUT --resume={id}` takes them"),
            (Transport::Batch, _) => format!("`llbatch fetch {id} -o FILE` writes them"),
        };
        let about = if self.cut { "about " } else { "" };
        ui.note(&format!(
            "{id} ({}) has the answers to {about}{} of {}; {remedy}",
            job.state.as_str(),
            text::count(rows),
            text::plural(self.rows, "request"),
        ));
        Ok(())
    }
}

/// Makes the keys of requests to a service, under one spelling of its address.
pub(super) fn key_maker(service: &str) -> KeyMaker {
    KeyMaker::new(&canonical_service(service))
}

/// Returns one spelling for all spellings of a service's address on this machine.
pub(super) fn canonical_service(service: &str) -> String {
    let service = service.trim_end_matches('/');
    let Some((scheme, rest)) = service.split_once("://") else { return service.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.to_ascii_lowercase();
    let (name, port) = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).unwrap_or((&host, ""));
    let name = if matches!(name, "localhost" | "0.0.0.0") { "127.0.0.1" } else { name };
    format!("{scheme}://{name}:{port}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_have_one_spelling() {
        let cases = [
            ("http://localhost:8000/v1", "http://127.0.0.1:8000/v1", true),
            ("http://LOCALHOST:8000/v1/", "http://127.0.0.1:8000/v1", true),
            ("http://localhost:8000/v1", "http://127.0.0.1:8001/v1", false),
            ("http://localhost:8000/v1", "http://127.0.0.1:8000/v2", false),
            ("http://localhost/v1", "http://127.0.0.1/v1", true),
            ("http://0.0.0.0:8000/v1", "http://localhost:8000/v1", true),
            ("http://[::1]/v1", "http://127.0.0.1/v1", false),
            ("sandbox", "sandbox", true),
        ];
        for (a, b, same) in cases {
            assert_eq!(canonical_service(a) == canonical_service(b), same, "{a} {b}");
        }
    }

    #[test]
    fn sample_is_bounded_and_the_key_is_of_all_rows() {
        let fill = |rows: u64, requests: &mut Requests| {
            for row in 0..rows {
                let hash = blake3::hash(&row.to_le_bytes());
                let fingerprint = Fingerprint(hash.as_bytes()[..16].try_into().unwrap());
                requests.row(Some(RowContent { id: &row.to_string(), fingerprint }));
            }
        };
        let (mut few, mut many) = (Requests::new("s", None), Requests::new("s", None));
        fill(10, &mut few);
        fill(100_000, &mut many);
        assert_eq!((few.sample.len(), few.cut), (10, false));
        assert_eq!((many.sample.len(), many.cut, many.rows), (SAMPLE, true, 100_000));
        assert_ne!(few.key(), many.key());
        assert_eq!((few.repeat_words(), many.repeat_words()), (String::new(), String::new()));
        fill(10, &mut few);
        assert_eq!(few.repeat_words(), ", 10 of them repeat an earlier one (--dedupe sends each once)");
        fill(100_000, &mut many);
        assert_eq!(many.repeat_words(), ", about 100,000 of them repeat an earlier one (--dedupe sends each once)");
    }
}
