//! The inputs of a submission, looked at: checked, told apart by their content, divided between batches and realtime.

use std::sync::Arc;

use super::Remote;
use super::submit::Order;
use crate::check::notices;
use crate::check::problems::{self, Deed};
use crate::check::route::{self, Route};
use crate::check::{self, CheckOptions, Checked};
use crate::context::Ctx;
use crate::error::{Error, Result};
use crate::input::{Format, Inputs};
use crate::job::spool_stdin;
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
    _spool: Option<tempfile::NamedTempFile>,
}

pub fn look(order: &Order, remote: Remote<'_>, store: &Store, ctx: &Ctx, progress: &Progress) -> Result<Looked> {
    progress.phase("reading input");
    let (inputs, spool, shown) = if order.stdin {
        let (file, _) = spool_stdin(store)?;
        let format = order.input_format.unwrap_or(Format::Jsonl);
        (Inputs::spooled(file.path().to_owned(), "-", format), Some(file), "-".to_owned())
    } else {
        let shown = order.inputs.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" ");
        (Inputs::resolve(&order.inputs, order.input_format)?, None, shown)
    };
    let shape = Shape::new(&order.params)?;
    let stamp = inputs.stamp();
    progress.phase("checking input");
    let mut content = Content::new(remote.name);
    let mut realtime = order.auto.then(RowSet::default);
    let table = &ctx.settings.prices;
    let in_batch = |model: &str| !order.auto || route::saves(table.get(model));
    let options =
        CheckOptions { max_problems: order.max_problems, table: Some(&ctx.settings.prices), ..CheckOptions::default() };
    let checked = check::check_with(
        &inputs,
        &shape,
        &options,
        &|draft| (draft.fingerprint(), Box::<str>::from(&*draft.id), in_batch(&draft.model)),
        &mut |row, found| {
            if let Some(rows) = realtime.as_mut().filter(|_| found.as_ref().is_some_and(|found| !found.2)) {
                rows.insert(row);
            }
            content.row(found.as_ref().map(|(fp, id, _)| (&**id, *fp)));
        },
    )?;
    problems::report(&checked, order.skip_invalid, order.max_problems, Deed::Send, &ctx.ui)?;
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
    Ok(Looked { inputs, shape, checked, key, shown, stamp, realtime, routes, _spool: spool })
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
