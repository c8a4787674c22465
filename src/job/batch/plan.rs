//! Batches written down, with their files and rows, before the first of them is sent.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::Work;
use crate::check::{CheckOptions, Checked};
use crate::error::Result;
use crate::input::Inputs;
use crate::outcome::{ErrorCode, Fingerprint, Outcome, Transport, Usage};
use crate::price::{Nanos, PriceBook};
use crate::request::Shape;
use crate::request::batch_line::Limits;
use crate::split::stage::Stage;
use crate::split::{Opened, Placed, Split, SplitOptions, split};
use crate::store::{Asked, BatchJob};

/// Rows written to the database at a time.
const GROUP: u64 = 65_536;

impl Work<'_> {
    /// Plans batches for the rows of `inputs` that `only` picks (none: all); in a `retry` the others have their outcomes
    /// already. Their files are on the disk and they are
    /// written down when this returns, all or none. `each` is told of every row, in order.
    ///
    /// # Errors
    /// 65 for more models than fit, 74 if the disk refuses.
    pub fn plan(
        &mut self,
        inputs: &Inputs,
        shape: &Shape,
        checked: &Checked,
        (only, retry): (Option<&(dyn Fn(u64) -> bool + Sync)>, bool),
        each: &mut dyn FnMut(Option<(&str, Fingerprint)>),
    ) -> Result<Split> {
        self.progress.phase("writing batch files");
        self.forget_counts();
        let mut db = self.courier.db.borrow_mut();
        let first = db.batches()?.last().map_or(1, |batch| batch.number + 1);
        db.forget_plan(first)?;
        let (dir, job) = (self.courier.dir.clone(), self.job.id.clone());
        let stage = Stage::new(0o600);
        let name = |number: u32| format!("llb-{job}-{number}.jsonl");
        let open = |number: u32, _: &str| -> Result<Opened> {
            let path: PathBuf = dir.join(name(number));
            stage.open(path)
        };
        let mut prices = PriceBook::new(self.ctx.settings.prices.clone());
        let mut estimate = Some(Nanos::ZERO);
        let mut priced = Nanos::ZERO;
        let mut most: HashMap<u32, Option<Nanos>> = HashMap::new();
        let mut waiting = 0;
        // Rows that cannot be sent are outcomes at once; a retry leaves them as they are.
        let mut bad: Vec<Outcome> = Vec::new();
        let options = SplitOptions {
            open: &open,
            limits: Limits::default(),
            threads: CheckOptions::default().threads,
            first_number: first,
            only,
            digests: true,
            max_problems: 20,
        };
        let split = split(inputs, shape, checked, &options, &mut |placed| {
            match placed {
                Placed::Row { row, shard, id, wire, fingerprint, model, reserve } => {
                    each(Some((id, fingerprint)));
                    db.ask(shard, &Asked { row, id, wire, fingerprint, reserve })?;
                    // The bound on prompt tokens is about twice what they come to.
                    let about = Usage { prompt: reserve.prompt / 2, completion: reserve.completion };
                    let sum = most.entry(shard).or_insert(Some(Nanos::ZERO));
                    *sum = sum.zip(prices.most(model, Transport::Batch, reserve, 1)).map(|(sum, cost)| sum + cost);
                    let cost = prices.cost(model, Transport::Batch, about);
                    estimate = estimate.zip(cost).map(|(sum, cost)| sum + cost);
                    priced += cost.unwrap_or_default();
                }
                Placed::Bad { row, id, model, message } => {
                    each(None);
                    if !retry {
                        bad.push(Outcome::unsent(
                            row,
                            id.into(),
                            Arc::clone(model),
                            ErrorCode::InvalidRequest,
                            message,
                        ));
                    }
                }
            }
            waiting += 1;
            if waiting >= GROUP {
                waiting = 0;
                db.commit(false)?;
            }
            Ok(())
        })?;
        stage.commit()?;
        // All or none: from here to the commit is one transaction.
        db.retire_asked(first)?;
        for outcome in &bad {
            db.put(outcome)?;
        }
        for shard in &split.shards {
            db.put_batch(&BatchJob {
                number: shard.number,
                model: shard.model.to_string(),
                endpoint: format!("/v1{}", shape.endpoint().path()),
                rows: shard.rows,
                bytes: shard.bytes,
                sha256: shard.sha256.clone(),
                name: name(shard.number),
                most: most.get(&shard.number).copied().flatten(),
                ..BatchJob::default()
            })?;
        }
        db.commit(true)?;
        drop(db);
        self.priced = priced;
        self.job.estimate = match (retry, self.job.estimate, estimate) {
            (false, _, estimate) => estimate,
            (true, old, new) => old.zip(new).map(|(old, new)| old + new),
        };
        self.tell_ledger(true)?;
        Ok(split)
    }
}
