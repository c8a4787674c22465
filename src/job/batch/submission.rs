//! The input of a submission: checked, identified by its content, and divided between batches and realtime.

use std::sync::Arc;

use super::ask::SubmitAsk;
use crate::check::notices;
use crate::check::problems::{self, Action};
use crate::check::route::{self, Route};
use crate::check::{Checked, Pass, first_look, refuse_headers, say_doubts};
use crate::context::Ctx;
use crate::error::{Error, Result};
use crate::input::{Inputs, OpenedInputs, StdinCopy};
use crate::job::ask::InputSource;
use crate::job::finish::Workspace;
use crate::job::identity::{Requests, RowContent, key_maker};
use crate::price::PriceTable;
use crate::request::RequestBuilder;
use crate::row_set::RowSet;
use crate::text;
use crate::ui::Progress;

/// The input of a submission.
pub(super) struct Submission {
    /// The files to read.
    pub inputs: Inputs,
    /// The builder of their requests.
    pub builder: Arc<RequestBuilder>,
    /// The result of the check.
    pub checked: Checked,
    /// The key of its content.
    pub key: String,
    /// Its requests.
    pub requests: Requests,
    /// The inputs as the user typed them.
    pub shown: String,
    /// [`Inputs::stamp`] before the first read.
    pub stamp: Option<String>,
    /// With `--via auto`: the rows for realtime.
    pub realtime: Option<RowSet>,
    /// With `--via auto`: each model, with the reason for its transport.
    pub routes: Vec<(String, String)>,
    /// Keeps the copy of standard input while it is read.
    _stdin: Option<StdinCopy>,
}

impl Submission {
    /// Reads and checks the input.
    ///
    /// # Errors
    /// 65 for invalid rows, 66 for an input that cannot be read, 2 with `--require-discount`.
    pub fn of(ask: &SubmitAsk, service: &str, workspace: Workspace<'_>, progress: &Progress) -> Result<Self> {
        progress.phase("reading input");
        let (source, reading) = (&ask.input.source, ask.input.flags.reading);
        let stdin = *source == InputSource::Stdin;
        let OpenedInputs { inputs, stdin } =
            OpenedInputs::open(source.files(), stdin, reading, || workspace.store.spool())?;
        let builder = Arc::new(RequestBuilder::for_batches(&ask.input.flags.params)?);
        let stamp = inputs.stamp();
        progress.phase("checking input");
        first_look(&inputs, &builder, &workspace.ctx.ui)?;
        if !ask.problems.skip_invalid {
            refuse_headers(&inputs, &builder)?;
        }
        let mut requests = Requests::new(service, inputs.chosen().shard());
        let mut realtime = ask.auto.is_some().then(RowSet::default);
        let table = &workspace.ctx.settings.prices;
        let in_batch = |model: &str| ask.auto.is_none() || route::saves(table.get(model));
        let listed = ask.problems.listed;
        let keys = ask.once.dedupe.then(|| key_maker(service));
        let pass =
            Pass { max_problems: listed, table: Some(table), keys: keys.as_ref(), ..Pass::new(&inputs, &builder) };
        let checked = pass.inspect(
            &|draft| (draft.fingerprint(), Box::<str>::from(&*draft.id), in_batch(&draft.model)),
            &mut |row, found| {
                let found = found.map(|found| found.value);
                if let Some(rows) = realtime.as_mut().filter(|_| found.as_ref().is_some_and(|found| !found.2)) {
                    rows.insert(row);
                }
                requests.row(found.as_ref().map(|(fingerprint, id, _)| RowContent { id, fingerprint: *fingerprint }));
            },
        )?;
        problems::report(&checked, ask.problems.skip_invalid, listed, Action::Send, &workspace.ctx.ui)?;
        problems::say_stream_removed(&checked, &workspace.ctx.ui);
        say_doubts(&checked, &builder, workspace.ctx);
        let routes = if ask.auto.is_some() {
            divide(&checked.models, table, workspace.ctx)
        } else {
            notice(ask, &checked, workspace.ctx)?
        };
        let (key, shown) = (requests.key(), source.shown());
        Ok(Self { inputs, builder, checked, key, requests, shown, stamp, realtime, routes, _stdin: stdin })
    }
}

/// Shows notices about the models before they go into batches. It routes no model.
fn notice(ask: &SubmitAsk, checked: &Checked, ctx: &Ctx) -> Result<Vec<(String, String)>> {
    let found = notices::notices(&checked.models, &ctx.settings.prices);
    notices::show(&found, &ctx.ui);
    let rows: u64 = found.iter().filter(|notice| !notice.is_discounted()).map(|notice| notice.rows).sum();
    if ask.require_discount && rows > 0 {
        return Err(Error::usage(format!(
            "--require-discount: {} would cost as much as realtime, or be refused; nothing was sent",
            text::plural(rows, "row")
        ))
        .hint(
            "send them with `llbatch run`, or set a known discount in the config file: [models.\"NAME\"] \
               batch_discount = 0.5",
        ));
    }
    if let Some(refused) = found.iter().find(|notice| notice.is_refused()) {
        ctx.ui.hint(&format!(
            "pass --via auto, or use `llbatch run`, to send the rows of {} in real time",
            refused.model
        ));
    }
    Ok(Vec::new())
}

/// Routes the models and shows the routes. Returns each model with the reason.
fn divide(models: &[(Arc<str>, u64)], table: &PriceTable, ctx: &Ctx) -> Vec<(String, String)> {
    let divided = models.iter().map(|(model, rows)| {
        let route = Route::of(table.get(model));
        ctx.ui.note(&route.line(model, *rows));
        (model.to_string(), route.why)
    });
    divided.collect()
}
