//! The inputs of a submission, looked at: checked, told apart by their content, divided between batches and realtime.

use std::sync::Arc;

use super::Remote;
use super::submit::Order;
use crate::check::notices;
use crate::check::problems::{self, Action};
use crate::check::route::{self, Route};
use crate::check::{Checked, Pass};
use crate::context::Ctx;
use crate::error::{Error, Result};
use crate::input::{Inputs, OpenedInputs, StdinCopy};
use crate::outcome::Fingerprint;
use crate::price::Table;
use crate::request::Shape;
use crate::row_set::RowSet;
use crate::store::Store;
use crate::text;
use crate::ui::Progress;

/// The inputs, looked at.
pub struct Looked {
    pub inputs: Inputs,
    pub shape: Shape,
    pub checked: Checked,
    pub key: String,
    pub shown: String,
    pub stamp: Option<String>,
    /// With `--via auto`: the rows for realtime.
    pub realtime: Option<RowSet>,
    /// ... and why each model goes where it goes.
    pub routes: Vec<(String, String)>,
    /// Keeps what came through a pipe for as long as it is read.
    _stdin: Option<StdinCopy>,
}

pub fn look(order: &Order, remote: Remote<'_>, store: &Store, ctx: &Ctx, progress: &Progress) -> Result<Looked> {
    progress.phase("reading input");
    let OpenedInputs { inputs, stdin } =
        OpenedInputs::open(&order.inputs, order.stdin, order.input_format, || store.spool())?;
    let shown = inputs.shown();
    let shape = Shape::new(&order.params)?;
    let stamp = inputs.stamp();
    progress.phase("checking input");
    let mut content = Content::new(remote.name);
    let mut realtime = order.auto.then(RowSet::default);
    let table = &ctx.settings.prices;
    let in_batch = |model: &str| !order.auto || route::saves(table.get(model));
    let pass = Pass { max_problems: order.max_problems, table: Some(table), ..Pass::new(&inputs, &shape) };
    let checked = pass.inspect(
        &|draft| (draft.fingerprint(), Box::<str>::from(&*draft.id), in_batch(&draft.model)),
        &mut |row, found| {
            let found = found.map(|found| found.value);
            if let Some(rows) = realtime.as_mut().filter(|_| found.as_ref().is_some_and(|found| !found.2)) {
                rows.insert(row);
            }
            content.row(found.as_ref().map(|(fp, id, _)| (&**id, *fp)));
        },
    )?;
    problems::report(&checked, order.skip_invalid, order.max_problems, Action::Send, &ctx.ui)?;
    problems::say_stream_removed(&checked, &ctx.ui);
    let found = notices::notices(&checked.models, &ctx.settings.prices);
    let routes = if order.auto { divide(&checked.models, table, ctx) } else { Vec::new() };
    if !order.auto {
        notices::show(&found, &ctx.ui);
    }
    let rows: u64 = found.iter().filter(|notice| !notice.is_discounted()).map(|notice| notice.rows).sum();
    if order.require_discount && !order.auto && rows > 0 {
        return Err(Error::usage(format!(
            "--require-discount: {} would cost as much as realtime, or be refused; nothing was sent",
            text::plural(rows, "row")
        ))
        .hint("`llbatch run` sends them at realtime; a discount that you know of goes into the config file: [models.\"NAME\"] batch_discount = 0.5"));
    }
    if let Some(refused) = found.iter().find(|notice| notice.is_refused() && !order.auto) {
        ctx.ui.hint(&format!("--via auto, or `llbatch run`, answers the rows of {} at realtime", refused.model));
    }
    let key = content.key();
    Ok(Looked { inputs, shape, checked, key, shown, stamp, realtime, routes, _stdin: stdin })
}

/// Says which models go where; gives back why.
fn divide(models: &[(Arc<str>, u64)], table: &Table, ctx: &Ctx) -> Vec<(String, String)> {
    let divided = models.iter().map(|(model, rows)| {
        let route = Route::of(table.get(model));
        ctx.ui.note(&route.line(model, *rows));
        (model.to_string(), route.why)
    });
    divided.collect()
}

/// A hash of every row's id and request: the same for the same content, however it is spelled.
pub struct Content(blake3::Hasher);

impl Content {
    pub fn new(service: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("llbatch 2026-11 content of a batch job");
        hasher.update(service.as_bytes()).update(&[0]);
        Self(hasher)
    }

    pub fn row(&mut self, found: Option<(&str, Fingerprint)>) {
        match found {
            Some((id, fp)) => self.0.update(&(id.len() as u64).to_le_bytes()).update(id.as_bytes()).update(&fp.0),
            None => self.0.update(&u64::MAX.to_le_bytes()),
        };
    }

    pub fn key(&self) -> String {
        format!("b{}", &self.0.finalize().to_hex()[..31])
    }
}
