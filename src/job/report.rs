//! The report on a job or on results files, with the same verdict as the command that wrote them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::batch::adopt::find_local;
use super::batch::status::JobStatus;
use super::spec::{Spec, inputs_of, spec_of};
use super::verdict::{JobFacts, RowFacts, Verdict};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::ReadOptions;
use crate::objects::{is_url, shown_path};
use crate::outcome::Fingerprint;
use crate::report::details::{ReportDetails, ReportDocument, ReportSource};
use crate::report::{Folded, batch_time, of_files, of_job, time_of};
use crate::request::{Params, RequestBuilder};
use crate::store::Store;
use crate::summary::{JobTime, Totals};

/// Builds the report on `names`: one job, or results files. `batch_price` prices the rows of files at the batch price.
/// `prompts`: the report shows the prompts of some rows, which are read from the input.
pub fn report_on(names: &[String], batch_price: bool, prompts: bool, ctx: &Ctx) -> Result<ReportDocument> {
    match Named::of(names, ctx)? {
        Named::Files => of_results(names, batch_price, ctx),
        Named::Job if batch_price => {
            Err(Error::usage("--batch is for results files; llbatch knows how a job was paid for"))
        }
        Named::Job => of_named(&names[0], prompts, ctx),
    }
}

/// Builds the report on a job by its id, without prompts.
pub fn report_on_job(id: &str, ctx: &Ctx) -> Result<ReportDocument> {
    of_named(id, false, ctx)
}

/// The meaning of the names on the command line.
enum Named {
    Job,
    Files,
}

impl Named {
    /// Decides between a job and files, and tells the user which one it chose if both exist.
    fn of(names: &[String], ctx: &Ctx) -> Result<Self> {
        // A pipe is a file too: `<(zcat FILE)`.
        let is_file = |name: &str| {
            let path = Path::new(name);
            name == "-" || is_url(path) || path.metadata().is_ok_and(|file| !file.is_dir())
        };
        let [name] = names else {
            return match names.iter().find(|name| !is_file(name)) {
                None => Ok(Self::Files),
                Some(name) => Err(Error::new(Exit::NoInput, format!("{name}: there is no such file"))
                    .hint("name one job, or any number of results files")),
            };
        };
        if name == "-" {
            return Ok(Self::Files);
        }
        let path_like = name.contains(['/', '.']);
        if path_like && Path::new(name).is_dir() {
            return Err(Error::new(Exit::NoInput, format!("{name}: is a directory, not a file")).hint("name its files"));
        }
        if path_like && is_file(name) {
            // The file is readable even if the store is not.
            if job_exists(name, ctx).unwrap_or(false) {
                ctx.ui.note(&format!("{name}: reading the file, not the job of that name"));
            }
            return Ok(Self::Files);
        }
        match (job_exists(name, ctx)?, is_file(name)) {
            (true, true) => ctx.ui.note(&format!("{name}: reading the job, not the file of that name (./{name})")),
            (false, true) => {
                ctx.ui.note(&format!("{name}: reading the file, because no job has that name"));
                return Ok(Self::Files);
            }
            (false, false) if path_like => {
                return Err(Error::new(
                    Exit::NoInput,
                    format!("{name}: there is no such file, and no job of that name"),
                )
                .hint("check the name; `llbatch status` lists the jobs"));
            }
            (false, false) => {
                return Err(Error::usage(format!("no job and no file `{name}`")).hint(
                    "name a job by its id, the beginning of it, its --name or `last` (`llbatch status` lists the jobs), or \
                     results files, such as out.jsonl",
                ));
            }
            _ => {}
        }
        Ok(Self::Job)
    }
}

fn job_exists(name: &str, ctx: &Ctx) -> Result<bool> {
    // A report on a file needs no state directory, and must not create one.
    let Some(place) = ctx.settings.state_place().ok().filter(|place| place.dir.join("ledger.db").exists()) else {
        return Ok(false);
    };
    let store = Store::open(place)?;
    match find_local(name, &store, &store.ledger()?) {
        Ok(_) => Ok(true),
        // Several jobs have this name. `of_named` finds them again and returns the error.
        Err(error) if error.exit == Exit::Usage => Ok(error.hint.is_none()),
        Err(error) => Err(error),
    }
}

/// Reports on results files. They do not record their price, so `batch_price` decides it.
fn of_results(files: &[String], batch_price: bool, ctx: &Ctx) -> Result<ReportDocument> {
    let read = of_files(files, ctx.settings.prices.clone(), batch_price)?;
    for warning in &read.warnings {
        ctx.ui.warn(warning);
    }
    let totals = &read.folded.totals;
    let rows = RowFacts::of(totals.succeeded() + totals.failed(), totals);
    let verdict = Verdict::of(&JobFacts::of_rows(rows));
    let summary = totals.summary(&verdict.meta_of_files());
    let shown = files.iter().map(|file| shown_path(Path::new(file))).collect();
    Ok(read.folded.details.into_report(summary, ReportSource::Files { files: shown, batch_price }, None))
}

/// Reports on the job that `name` means.
fn of_named(name: &str, prompts: bool, ctx: &Ctx) -> Result<ReportDocument> {
    let store = Store::open(ctx.settings.state_place()?)?;
    let JobStatus { job, batches, busy, lost, .. } =
        JobStatus::of(find_local(name, &store, &store.ledger()?)?, &store)?;
    if let Some(error) = lost {
        return Err(error);
    }
    let spec = spec_of(&job)?;
    let input = || Ok((inputs_of(&spec, &store, &job.id)?, RequestBuilder::new(&spec.params)?));
    let db = store.open_job(&job.id)?;
    let kept = db.totals()?.and_then(|bytes| Folded::kept(&bytes, &ctx.settings.prices));
    let totals = Totals::new(job.total).asking_json(spec.params.json_schema.is_some());
    let folded = kept.map_or_else(|| of_job(&db, ctx.settings.prices.clone(), totals, input), Ok)?;
    let rows = RowFacts::of(job.total, &folded.totals);
    let verdict = Verdict::of(&JobFacts::seen(&job, rows, &batches, busy));
    let time = JobTime { batches: batch_time(&batches), realtime: Duration::from_millis(job.active_ms) };
    let mut meta = verdict.meta(&job, &spec, time, ctx);
    meta.batched = batches.iter().any(|batch| batch.remote.id.is_some());
    let summary = folded.totals.summary(&meta);
    let seconds = time_of(&job, &batches).map(|time| time.as_secs_f64());
    let source = ReportSource::Job {
        name: job.name.clone(),
        created_at: jiff::Timestamp::from_millisecond(job.created_at).unwrap_or_default().to_string(),
        input: job.input.clone(),
        settings: settings_of(&spec),
    };
    let mut report = folded.details.into_report(summary, source, seconds);
    if !prompts {
        return Ok(report);
    }
    // The input may be gone or have changed. The report then lacks prompts, and nothing else.
    match prompts_of(&report.details, &spec, &store, &job.id) {
        Ok(prompts) => report.details.add_prompts(&prompts),
        Err(error) => ctx.ui.detail(&format!("the report has no prompts: {error}")),
    }
    Ok(report)
}

/// The settings that shaped the job's requests: the endpoint, the concurrency, and the flags that were given.
fn settings_of(spec: &Spec) -> BTreeMap<String, Value> {
    let members = |value: serde_json::Result<Value>| match value {
        Ok(Value::Object(members)) => members,
        _ => serde_json::Map::new(),
    };
    let mut settings = BTreeMap::new();
    for (given, unset) in [
        (serde_json::to_value(&spec.params), serde_json::to_value(Params::default())),
        (serde_json::to_value(spec.reading), serde_json::to_value(ReadOptions::default())),
    ] {
        let unset = members(unset);
        settings.extend(members(given).into_iter().filter(|(name, value)| unset.get(name) != Some(value)));
    }
    let delimiter = spec.reading.delimiter.map(|byte| char::from(byte).to_string());
    settings.extend(delimiter.map(|character| ("delimiter".to_owned(), character.into())));
    settings.insert("endpoint".to_owned(), spec.params.endpoint.as_str().into());
    settings.extend(spec.concurrency.as_ref().map(|n| ("concurrency".to_owned(), n.as_str().into())));
    if spec.skip_invalid {
        settings.insert("skip_invalid".to_owned(), true.into());
    }
    settings
}

/// Reads the prompts of the rows that a report shows. A row whose request has changed has none.
fn prompts_of(details: &ReportDetails, spec: &Spec, store: &Store, job: &str) -> Result<HashMap<u64, String>> {
    let wanted: HashMap<u64, Fingerprint> = details.prompt_keys().map(|key| (key.row, key.fingerprint)).collect();
    let mut prompts = HashMap::new();
    let Some(last) = wanted.keys().max() else { return Ok(prompts) };
    let builder = RequestBuilder::new(&spec.params)?;
    let mut blocks = inputs_of(spec, store, job)?.blocks()?;
    while let Some(block) = blocks.next()? {
        let mut next = block.first_row();
        if next > *last {
            break;
        }
        block.for_each(|record| {
            let row = next;
            next += 1;
            let Some(fingerprint) = wanted.get(&row) else { return };
            let Ok(draft) = record.as_ref().map_err(drop).and_then(|record| builder.draft(record).map_err(drop)) else {
                return;
            };
            if let Some(prompt) = draft.prompt().filter(|_| draft.fingerprint() == *fingerprint) {
                prompts.insert(row, prompt);
            }
        });
    }
    Ok(prompts)
}
