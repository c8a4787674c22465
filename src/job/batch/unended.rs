//! Says which batches of a job have not ended, since when they are being cancelled, and what ends them.

use std::time::Duration;

use super::session::Session;
use crate::error::{Error, Exit, Result};
use crate::job::stop::Stop;
use crate::job::verdict::{JobCommand, JobFacts, Verdict, cancelling_since};
use crate::text;

/// Describes the time since which batches are being cancelled: `11-29 10:03 (2h 3m)`.
pub fn since(millis: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
    let passed = Duration::try_from(jiff::Timestamp::now().duration_since(time)).unwrap_or_default();
    let shown = time.to_zoned(jiff::tz::TimeZone::system()).strftime("%m-%d %H:%M").to_string();
    format!("{shown} ({})", text::duration(Duration::from_secs(passed.as_secs())))
}

/// Writes a sentence without its full stop: `1 batch of j-… has not ended`, and since when it is being cancelled.
pub fn unended(session: &Session<'_>) -> Result<String> {
    let batches = session.batches()?;
    let (missing, open) = batches
        .iter()
        .filter(|batch| batch.is_open())
        .fold((0, 0), |(missing, open), batch| if batch.ended { (missing + 1, open) } else { (missing, open + 1) });
    let count = match (missing, open) {
        (0, _) => text::unended(open, &session.job.id),
        (_, 0) => format!("the results of {} of {} are still missing", text::batches(missing), session.job.id),
        _ => format!("{}, and the results of {missing} more are still missing", text::unended(open, &session.job.id)),
    };
    let since = cancelling_since(&batches).map(|at| format!(" and is being cancelled since {}", since(at)));
    Ok(count + &since.unwrap_or_default())
}

/// Records a job for a `fetch` before the end, and builds the error. `waited`: it has waited.
pub fn unfinished(session: &mut Session<'_>, waited: bool) -> Result<Error> {
    let stop = waited.then(|| Stop::of_wait(false));
    let what = stop.as_ref().map_or_else(|| "not finished yet".to_owned(), |stop| stop.reason.clone());
    let facts = JobFacts { command: JobCommand::Fetch { waited }, stop, ..session.record()? };
    Ok(early_end(session, &Verdict::of(&facts), format!("{what}: {}", unended(session)?)))
}

/// Records a job for a `submit --wait` whose time is up, and builds the error. `deadline`: its limit is `--deadline`.
pub(super) fn too_late(session: &mut Session<'_>, deadline: bool) -> Result<Error> {
    let (command, stop) = (JobCommand::SubmitWait, Some(Stop::of_wait(deadline)));
    let verdict = Verdict::of(&JobFacts { command, stop, ..session.record()? });
    let open = session.open_batches()?;
    let working = session.batches()?.iter().any(|batch| batch.is_open() && !batch.is_unsent() && !batch.ended);
    let works = if working { ", and the service keeps working" } else { "" };
    let begun = if open.postponed > 0 {
        format!(" ({} not begun by the service)", text::count(open.postponed as u64))
    } else {
        String::new()
    };
    Ok(early_end(session, &verdict, format!("{}; {}{begun}{works}", verdict.reason, unended(session)?)))
}

/// Adds the last way to end the job to the error of a call about its batches: to give them up. It is the only one if the
/// service never answers otherwise.
pub(super) fn with_last_way(session: &Session<'_>, error: Error) -> Error {
    let about_service = matches!(error.exit, Exit::Failure | Exit::Auth | Exit::Budget | Exit::TempFail);
    let sent = session.batches().is_ok_and(|all| all.iter().any(|batch| batch.is_open() && !batch.is_unsent()));
    if !about_service || !sent {
        return error;
    }
    let way = format!(
        "`llbatch cancel {}{} --abandon` gives its batches up if this never ends, although the service may still bill \
         their rows",
        session.job.id,
        session.flags()
    );
    let hint = error.hint.as_ref().map_or_else(|| way.clone(), |hint| format!("{hint}; {way}"));
    error.hint(hint)
}

/// Builds the error of a command that ends before the job.
pub(super) fn early_end(session: &Session<'_>, verdict: &Verdict, message: String) -> Error {
    verdict.error(message, &session.job.id, &session.flags())
}
