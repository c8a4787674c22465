//! Blocks parsed by several threads, their findings taken in input order.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};

use crate::error::{Error, Exit, Result};
use crate::input::{Block, Inputs};

/// Blocks that may wait for each thread, so that it never waits for the one that cuts blocks.
const AHEAD: usize = 2;

/// Cuts blocks in the caller's thread, lets `threads` others do `work` on them, and gives the results to `take` in
/// order until it fails. The number of blocks under way is bounded, and so is memory.
pub fn scan<R: Send>(
    inputs: &Inputs,
    threads: usize,
    work: &(dyn Fn(&Block) -> R + Sync),
    take: &mut dyn FnMut(R) -> Result<()>,
) -> Result<()> {
    let slots: Vec<Mutex<Option<R>>> = (0..slots(threads)).map(|_| Mutex::default()).collect();
    let at = |slot: usize| slots[slot].lock().unwrap_or_else(PoisonError::into_inner);
    drive(inputs, threads, &|block, slot| *at(slot) = Some(work(block)), &mut |slot| {
        let done = at(slot).take();
        take(done.ok_or_else(died)?)
    })
}

/// Number of blocks that may be under way.
fn slots(threads: usize) -> usize {
    threads.max(1) * AHEAD
}

fn died() -> Error {
    Error::new(Exit::Failure, "a checking thread crashed").hint("please report this")
}

/// Does the same for results of any type, so that the program holds one copy of it. `work` leaves its result in a slot,
/// which is free again when `take` has seen it.
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
        let workers: Vec<Worker> = (0..threads).map(|_| Worker::start(scope, work)).collect();
        let mut waiting = VecDeque::from([first, second]);
        let (mut sent, mut taken) = (0_usize, 0_usize);
        loop {
            let next = match waiting.pop_front() {
                Some(block) => Some(block),
                None => blocks.next()?,
            };
            let ended = next.is_none();
            if let Some(block) = next {
                workers[sent % threads].blocks.send((block, sent % slots(threads))).map_err(|_| died())?;
                sent += 1;
            }
            // The oldest goes first; wait for it when enough is under way, or when nothing more comes.
            while taken < sent && (ended || sent - taken >= slots(threads)) {
                take(workers[taken % threads].done.recv().map_err(|_| died())?)?;
                taken += 1;
            }
            if ended {
                return Ok(());
            }
        }
    })
}

/// A thread that works on blocks, and the channels to it and back.
struct Worker {
    /// A block, and the slot for its result.
    blocks: SyncSender<(Block, usize)>,
    /// Slots that were filled.
    done: Receiver<usize>,
}

impl Worker {
    fn start<'scope>(scope: &'scope Scope<'scope, '_>, work: &'scope (dyn Fn(&Block, usize) + Sync)) -> Self {
        let (blocks, next_block) = sync_channel::<(Block, usize)>(AHEAD);
        let (send_done, done) = sync_channel(AHEAD);
        scope.spawn(move || {
            for (block, slot) in next_block {
                work(&block, slot);
                if send_done.send(slot).is_err() {
                    return;
                }
            }
        });
        Self { blocks, done }
    }
}
