//! Blocks parsed by several threads, their findings taken in input order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::duplicates::SeenId;
use super::{CheckOptions, ID_LIMIT};
use crate::error::{Error, Exit, Result};
use crate::input::{Block, Inputs};
use crate::price::Table;
use crate::request::{Draft, Endpoint, Problem, Record, Shape};
use crate::tokens::{self, Estimator};

/// What a block held.
pub struct Found<T> {
    pub rows: Vec<Seen<T>>,
    /// The block's first problems.
    pub problems: Vec<Problem>,
    pub bad_rows: u64,
    pub bytes: u64,
    pub long_ids: u64,
    pub stream_removed: u64,
    /// One may be there several times.
    pub models: Vec<(Arc<str>, u64)>,
}

/// Models of a block that are looked for one by one: more are no models but a column of other values.
const MODELS_AT_HAND: usize = 16;

/// What is kept of a row.
pub struct Seen<T> {
    pub id: SeenId,
    /// `None`: the row has a problem.
    pub looked: Option<T>,
}

/// Parses a block.
pub fn look_over<T>(
    block: &Block,
    shape: &Shape,
    options: &CheckOptions<'_>,
    look: &(dyn Fn(&Draft<'_>) -> T + Sync),
) -> Found<T> {
    let mut found = Found {
        rows: Vec::with_capacity(usize::try_from(block.rows()).unwrap_or(0)),
        problems: Vec::new(),
        bad_rows: 0,
        bytes: block.bytes(),
        long_ids: 0,
        stream_removed: 0,
        models: Vec::new(),
    };
    block.for_each(|record| {
        match record.and_then(
            #[expect(clippy::result_large_err, reason = "a problem is rare")]
            |record| {
                let draft = shape.draft(&record)?;
                match options.table.and_then(|table| too_long(&record, &draft, table)) {
                    Some(problem) => Err(problem),
                    None => Ok(draft),
                }
            },
        ) {
            Ok(draft) => {
                found.stream_removed += u64::from(draft.stream_removed);
                found.long_ids += u64::from(is_long(&draft.id));
                // Mostly the one of the row before.
                match found.models.iter_mut().rev().take(MODELS_AT_HAND).find(|(known, _)| **known == *draft.model) {
                    Some((_, count)) => *count += 1,
                    None => found.models.push((shape.shared(&draft.model), 1)),
                }
                let id = if draft.generated_id { SeenId::Generated } else { SeenId::given(&draft.id, draft.row) };
                found.rows.push(Seen { id, looked: Some(look(&draft)) });
            }
            Err(problem) => {
                found.bad_rows += 1;
                found.long_ids += u64::from(problem.id.as_deref().is_some_and(is_long));
                let row = problem.row.unwrap_or(0);
                let id = problem.id.as_deref().map_or(SeenId::Generated, |id| SeenId::given(id, row));
                found.rows.push(Seen { id, looked: None });
                if found.problems.len() < options.max_problems {
                    found.problems.push(problem);
                }
            }
        }
    });
    found
}

/// Requests below this many tokens fit every model that there is, and need not be looked up.
const SHORT: u64 = 2048;

/// Larger bodies are not counted: that takes longer than the service takes to say no.
const COUNTABLE: usize = 8 << 20;

/// The problem of a row whose prompt and answer are surely more than its model reads.
fn too_long(record: &Record<'_>, draft: &Draft<'_>, table: &Table) -> Option<Problem> {
    let answer = draft.max_tokens.unwrap_or(0);
    let most = tokens::bound(&draft.body).saturating_add(answer);
    if most <= SHORT {
        return None;
    }
    let context = table.get(&draft.model)?.context?;
    if most <= context || draft.body.len() > COUNTABLE {
        return None;
    }
    let prompt = Estimator::shared().request(&draft.body, draft.endpoint == Endpoint::Chat);
    // An estimate may be a tenth too high.
    if (prompt - prompt / 10).saturating_add(answer) <= context {
        return None;
    }
    let bound = draft.max_tokens.map_or_else(String::new, |n| format!(" and max_tokens of {n}"));
    let text = format!("about {prompt} prompt tokens{bound} are more than the {context} that {} reads", draft.model);
    let mut problem = Problem::new(record, "context_length", text).hint(format!(
        "shorten it, or lower max_tokens; if the model reads more: [models.\"{}\"] context = N in the config file",
        draft.model
    ));
    problem.id = Some(draft.id.to_string());
    Some(problem)
}

/// Whether the service would not take the id as it is.
pub fn is_long(id: &str) -> bool {
    id.len() > ID_LIMIT && id.chars().nth(ID_LIMIT).is_some()
}

/// Cuts blocks in the caller's thread, has `work` done by `threads` others in turn, and gives the results to `take` in
/// order, until it fails. Blocks under way are bounded, so memory is too.
pub fn scan<R: Send>(
    inputs: &Inputs,
    threads: usize,
    work: &(dyn Fn(&Block) -> R + Sync),
    take: &mut dyn FnMut(R) -> Result<()>,
) -> Result<()> {
    /// Blocks that may wait for each thread, so that it never waits for us.
    const AHEAD: usize = 2;

    let mut blocks = inputs.blocks()?;
    let Some(first) = blocks.next()? else { return Ok(()) };
    let second = if threads > 1 { blocks.next()? } else { None };
    // A single block is done before a thread has started.
    let Some(second) = second else {
        take(work(&first))?;
        drop(first);
        while let Some(block) = blocks.next()? {
            take(work(&block))?;
        }
        return Ok(());
    };

    thread::scope(|scope| {
        let workers: Vec<(SyncSender<Block>, Receiver<R>)> = (0..threads)
            .map(|_| {
                let (send_block, next_block) = sync_channel::<Block>(AHEAD);
                let (send_result, next_result) = sync_channel(AHEAD);
                scope.spawn(move || {
                    for block in next_block {
                        if send_result.send(work(&block)).is_err() {
                            return;
                        }
                    }
                });
                (send_block, next_result)
            })
            .collect();
        let died = || Error::new(Exit::Failure, "a checking thread died").hint("please report this");
        let mut waiting = VecDeque::from([first, second]);
        let (mut sent, mut taken) = (0_usize, 0_usize);
        loop {
            let next = match waiting.pop_front() {
                Some(block) => Some(block),
                None => blocks.next()?,
            };
            let ended = next.is_none();
            if let Some(block) = next {
                workers[sent % threads].0.send(block).map_err(|_| died())?;
                sent += 1;
            }
            // The oldest goes first; wait for it when enough is under way, or when nothing more comes.
            while taken < sent && (ended || sent - taken >= threads * AHEAD) {
                take(workers[taken % threads].1.recv().map_err(|_| died())?)?;
                taken += 1;
            }
            if ended {
                return Ok(());
            }
        }
    })
}
