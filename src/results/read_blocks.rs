//! Blocks of the input that were read to build requests, kept for the results, which need the same records a little later.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::input::Block;

/// Bytes of blocks that are kept. The rows in flight and those in front of them fill a few blocks.
const ROOM: u64 = 16 << 20;

/// Blocks in input order that wait for the results of their rows. They take a bounded part of memory. Where a slow row
/// leaves no room for more, the results read the missing blocks again.
pub struct ReadBlocks {
    kept: Mutex<KeptBlocks>,
    room: u64,
}

#[derive(Default)]
struct KeptBlocks {
    blocks: VecDeque<Arc<Block>>,
    bytes: u64,
}

impl Default for ReadBlocks {
    fn default() -> Self {
        Self::with_room(ROOM)
    }
}

impl ReadBlocks {
    /// Keeps up to `room` bytes, and always one block.
    pub(super) fn with_room(room: u64) -> Self {
        Self { kept: Mutex::default(), room }
    }

    fn kept(&self) -> MutexGuard<'_, KeptBlocks> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a block, if there is room.
    pub fn push(&self, block: &Arc<Block>) {
        let mut kept = self.kept();
        if kept.blocks.is_empty() || kept.bytes + block.memory() <= self.room {
            kept.bytes += block.memory();
            kept.blocks.push_back(Arc::clone(block));
        }
    }

    /// Takes the block that holds `row`, if it was kept. Those before it go too, as rows are asked for in ascending order.
    pub(super) fn take(&self, row: u64) -> Option<Arc<Block>> {
        let mut kept = self.kept();
        while kept.blocks.front().is_some_and(|block| block.first_row() <= row) {
            let block = kept.blocks.pop_front()?;
            kept.bytes -= block.memory();
            if row < block.first_row() + block.rows() {
                return Some(block);
            }
        }
        None
    }
}

impl std::fmt::Debug for ReadBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadBlocks").field("blocks", &self.kept().blocks.len()).finish()
    }
}
