//! Batches written down, with their files and rows, before the first of them is sent.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::Work;
use crate::check::{Checked, Pass};
use crate::error::Result;
use crate::input::Inputs;
use crate::money::Money;
use crate::money::worst::Worst;
use crate::outcome::{ErrorCode, Fingerprint, Outcome, Usage};
use crate::price::Nanos;
use crate::request::Shape;
use crate::request::batch_line::Limits;
use crate::split::stage::{NewBatchFile, Stage};
use crate::split::{Split, SplitOptions, SplitRow, split};
use crate::store::{BatchJob, Step};

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
        let open = |number: u32, _: &str| -> Result<NewBatchFile> {
            let path: PathBuf = dir.join(name(number));
            stage.open(path)
        };
        let mut money = Money::new(self.ctx.settings.prices.clone());
        let mut estimate = Some(Nanos::ZERO);
        let mut priced = Nanos::ZERO;
        let mut worst = Worst::new(self.ctx.settings.prices.clone(), true);
        let mut most: HashMap<u32, Option<Nanos>> = HashMap::new();
        let mut waiting = 0;
        // Rows that cannot be sent are outcomes at once; a retry leaves them as they are.
        let mut bad: Vec<Outcome> = Vec::new();
        let options = SplitOptions {
            open: &open,
            limits: Limits::default(),
            threads: Pass::default_threads(),
            first_number: first,
            only,
            digests: true,
            max_problems: 20,
        };
        let split = split(inputs, shape, checked, &options, &mut |placed| {
            match placed {
                SplitRow::Line { row, file, id, wire_id, fingerprint, model, reserve } => {
                    each(Some((id, fingerprint)));
                    db.ask(file, row, id, wire_id, fingerprint, reserve)?;
                    // The bound on prompt tokens is about twice what they come to.
                    let about = Usage { prompt: reserve.prompt / 2, completion: reserve.completion };
                    let sum = most.entry(file).or_insert(Some(Nanos::ZERO));
                    *sum = sum.zip(worst.of(model, reserve)).map(|(sum, cost)| sum + cost);
                    let cost = money.cost(model, true, about);
                    estimate = estimate.zip(cost).map(|(sum, cost)| sum + cost);
                    priced += cost.unwrap_or_default();
                }
                SplitRow::Invalid(invalid) => {
                    each(None);
                    if !retry {
                        bad.push(Outcome::unsent(
                            invalid.row,
                            invalid.id.clone(),
                            Arc::clone(&invalid.model),
                            ErrorCode::InvalidRequest,
                            invalid.message.clone(),
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
        for shard in &split.files {
            db.put_batch(&BatchJob {
                number: shard.number,
                model: shard.model.to_string(),
                endpoint: format!("/v1{}", shape.endpoint().path()),
                rows: shard.rows,
                bytes: shard.bytes,
                sha256: shard.sha256.clone(),
                name: name(shard.number),
                step: Step::Planned,
                file_id: None,
                others: Vec::new(),
                begun_at: None,
                begun_there: None,
                tries: 0,
                account: None,
                id: None,
                status: None,
                progress: None,
                output_file_id: None,
                error_file_id: None,
                error: None,
                deadline: None,
                created_at: None,
                completed_at: None,
                most: most.get(&shard.number).copied().flatten(),
                admitted: false,
                cancel: false,
                ended: false,
                unknown_since: None,
                unknown_times: 0,
                broken: None,
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
