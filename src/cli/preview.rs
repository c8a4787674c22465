//! `--preview`: the requests of the first rows, on stdout, in place of sending them.

use serde::Serialize;
use serde_json::value::RawValue;

use super::args::InputArgs;
use super::{print_json, print_text};
use crate::check::first_look;
use crate::check::groups::ProblemGroups;
use crate::check::preview::{PreviewedRequest, Previews};
use crate::check::problems::{self, Action};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::OpenedInputs;
use crate::json;
use crate::request::{InputPlace, RequestBuilder};
use crate::store::Store;

#[derive(Serialize)]
struct PreviewDocument<'a> {
    version: u8,
    requests: Vec<RequestEntry<'a>>,
}

#[derive(Serialize)]
struct RequestEntry<'a> {
    custom_id: &'a str,
    file: &'a str,
    line: InputPlace,
    url: &'static str,
    body: &'a RawValue,
}

/// Prints the requests of the first `rows` rows.
///
/// # Errors
/// 65 for an invalid row, 66 if an input cannot be read.
pub(super) fn show(args: &InputArgs, rows: u64, ctx: &Ctx) -> Result<Exit> {
    let builder = RequestBuilder::new(&args.params(&ctx.settings)?)?;
    let new_file = || Store::open(ctx.settings.state_place()?)?.spool();
    let opened = OpenedInputs::open(&args.inputs, args.stdin()?, args.reading(), new_file)?;
    first_look(&opened.inputs, &builder, &ctx.ui)?;
    let previews = Previews::of(&opened.inputs, &builder, rows)?;
    if previews.rows == 0 {
        return Err(Error::new(Exit::Data, format!("{}: the input has no rows", opened.inputs.shown())));
    }
    let url = builder.endpoint().path();
    if ctx.json {
        print_json(&PreviewDocument::of(&previews.requests, url), ctx)?;
    } else {
        for PreviewedRequest { id, file, line, body } in &previews.requests {
            ctx.ui.note(&format!("{id} ({file}:{line}), for {url}:"));
            print_text(&format!("{}\n", json::pretty(body)), ctx)?;
        }
    }
    if previews.problems.is_empty() {
        return Ok(Exit::Ok);
    }
    let bad = previews.problems.len() as u64;
    problems::list(&ProblemGroups::of(&previews.problems, bad), args.max_problems, &ctx.ui);
    problems::judge(bad, previews.rows, args.skip_invalid, Action::Send, &ctx.ui)
        .map_err(|error| error.problems(&previews.problems))?;
    Ok(Exit::Ok)
}

impl<'a> PreviewDocument<'a> {
    fn of(requests: &'a [PreviewedRequest], url: &'static str) -> Self {
        let entry = |request: &'a PreviewedRequest| {
            let PreviewedRequest { id, file, line, body } = request;
            Some(RequestEntry { custom_id: id, file, line: *line, url, body: serde_json::from_str(body).ok()? })
        };
        Self { version: 1, requests: requests.iter().filter_map(entry).collect() }
    }
}
