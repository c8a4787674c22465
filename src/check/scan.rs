//! Blocks parsed by several threads, their findings taken in input order.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::duplicates::SeenId;
use super::{CheckOptions, ID_LIMIT};
use crate::error::{Error, Exit, Result};
use crate::input::{Block, Inputs};
use crate::price::Table;
use crate::request::{Draft, Endpoint, Problem, Record, RequestBuilder};
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
    /// What was looked at, and which of the block's models it is for. `None`: the row has a problem.
    pub looked: Option<(usize, T)>,
}

/// Parses a block.
pub fn look_over<T>(
    block: &Block,
    shape: &RequestBuilder,
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
                let at_hand = found.models.len().saturating_sub(MODELS_AT_HAND);
                let known = found.models[at_hand..].iter().position(|(known, _)| **known == *draft.model);
                let model = known.map_or(found.models.len(), |place| at_hand + place);
                if known.is_none() {
                    found.models.push((shape.shared(&draft.model), 0));
                }
                found.models[model].1 += 1;
                let id = if draft.generated_id { SeenId::Generated } else { SeenId::given(&draft.id, draft.row) };
                found.rows.push(Seen { id, looked: Some((model, look(&draft))) });
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
pub const SHORT: u64 = 2048;

/// Larger bodies are not counted: that takes longer than the service takes to say no.
pub const COUNTABLE: usize = 8 << 20;

/// Bytes of a token on average, at most: even one letter over and over makes tokens of 8 to 16.
const LONGEST_TOKEN: u64 = 32;

/// The problem of a row whose prompt and answer are surely more than its model reads.
fn too_long(record: &Record<'_>, draft: &Draft<'_>, table: &Table) -> Option<Problem> {
    let answer = draft.max_tokens.unwrap_or(0);
    let most = tokens::bound(&draft.body).saturating_add(answer);
    if most <= SHORT {
        return None;
    }
    let context = table.get(&draft.model)?.context?;
    if most <= context {
        return None;
    }
    let prompt = if draft.body.len() > COUNTABLE {
        draft.body.len() as u64 / LONGEST_TOKEN
    } else {
        Estimator::shared().request(&draft.body, draft.endpoint == Endpoint::Chat)
    };
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
    let places: Vec<Mutex<Option<R>>> = (0..places(threads)).map(|_| Mutex::default()).collect();
    let at = |place: usize| places[place].lock().unwrap_or_else(PoisonError::into_inner);
    drive(inputs, threads, &|block, place| *at(place) = Some(work(block)), &mut |place| {
        let done = at(place).take();
        take(done.ok_or_else(died)?)
    })
}

/// Blocks that may wait for each thread, so that it never waits for us.
const AHEAD: usize = 2;

/// Blocks that may be under way.
fn places(threads: usize) -> usize {
    threads.max(1) * AHEAD
}

fn died() -> Error {
    Error::new(Exit::Failure, "a checking thread died").hint("please report this")
}

/// The same whatever a result is (so that there is one copy of this in the program): `work` leaves it at a place, which is
/// free again when `take` has seen it.
fn drive(
    inputs: &Inputs,
    threads: usize,
    work: &(dyn Fn(&Block, usize) + Sync),
    take: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<()> {
    let mut blocks = inputs.blocks()?;
    let Some(first) = blocks.next()? else { return Ok(()) };
    let second = if threads > 1 { blocks.next()? } else { None };
    // A single block is done before a thread has started.
    let Some(second) = second else {
        let mut next = Some(first);
        while let Some(block) = next {
            work(&block, 0);
            take(0)?;
            drop(block);
            next = blocks.next()?;
        }
        return Ok(());
    };

    thread::scope(|scope| {
        let workers: Vec<(SyncSender<(Block, usize)>, Receiver<usize>)> = (0..threads)
            .map(|_| {
                let (send_block, next_block) = sync_channel::<(Block, usize)>(AHEAD);
                let (send_done, next_done) = sync_channel(AHEAD);
                scope.spawn(move || {
                    for (block, place) in next_block {
                        work(&block, place);
                        if send_done.send(place).is_err() {
                            return;
                        }
                    }
                });
                (send_block, next_done)
            })
            .collect();
        let mut waiting = VecDeque::from([first, second]);
        let (mut sent, mut taken) = (0_usize, 0_usize);
        loop {
            let next = match waiting.pop_front() {
                Some(block) => Some(block),
                None => blocks.next()?,
            };
            let ended = next.is_none();
            if let Some(block) = next {
                workers[sent % threads].0.send((block, sent % places(threads))).map_err(|_| died())?;
                sent += 1;
            }
            // The oldest goes first; wait for it when enough is under way, or when nothing more comes.
            while taken < sent && (ended || sent - taken >= places(threads)) {
                take(workers[taken % threads].1.recv().map_err(|_| died())?)?;
                taken += 1;
            }
            if ended {
                return Ok(());
            }
        }
    })
}
