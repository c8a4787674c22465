//! A block of the input as lines of batch files: what the threads that parse do for the one that writes.

use std::sync::Arc;

use super::wire::Wires;
use super::{SplitOptions, generated_id};
use crate::check::Checked;
use crate::input::Block;
use crate::outcome::{Fingerprint, Usage};
use crate::request::batch_line::{self, Limits};
use crate::request::{Draft, Problem, Record, RequestBuilder};
use crate::tokens;

/// What a line adds to its body, about: for the first guess of a buffer's size.
const AROUND: usize = 64;

/// The rows of a block, in order.
#[derive(Debug, Default)]
pub struct Lines {
    /// Rows that the block holds, those passed over too.
    pub rows: u64,
    pub items: Vec<Item>,
    /// The lines, each with its line end, back to back.
    pub bytes: Vec<u8>,
    /// The ids of the lines, back to back.
    pub ids: String,
    /// What [`Line::model`] counts.
    pub models: Vec<Arc<str>>,
    /// Rows too large for any batch; the first of them, and how many.
    pub oversize: Vec<Problem>,
    pub oversize_count: u64,
}

#[derive(Debug)]
pub enum Item {
    Line(Line),
    Bad(Box<Bad>),
}

/// A row that can be sent.
#[derive(Debug)]
pub struct Line {
    pub row: u64,
    /// Where its line ends in [`Lines::bytes`], and its id in [`Lines::ids`].
    pub end: usize,
    pub id_end: usize,
    pub wire: Option<Box<str>>,
    pub model: usize,
    pub fingerprint: Fingerprint,
    pub reserve: Usage,
}

/// A row that cannot.
#[derive(Debug)]
pub struct Bad {
    pub row: u64,
    pub id: Box<str>,
    pub model: Arc<str>,
    pub message: String,
}

/// What lines are made with; shared by the threads.
pub struct Maker<'a> {
    pub shape: &'a RequestBuilder,
    pub wires: &'a Wires,
    pub checked: &'a Checked,
    pub limits: Limits,
    pub only: Option<&'a (dyn Fn(u64) -> bool + Sync)>,
    pub digests: bool,
    pub max_problems: usize,
}

impl<'a> Maker<'a> {
    pub fn new(shape: &'a RequestBuilder, wires: &'a Wires, checked: &'a Checked, options: &SplitOptions<'a>) -> Self {
        let &SplitOptions { limits, only, digests, max_problems, .. } = options;
        Self { shape, wires, checked, limits, only, digests, max_problems }
    }

    /// The lines of a block.
    pub fn lines(&self, block: &Block) -> Lines {
        let rows = usize::try_from(block.rows()).unwrap_or(0);
        let room = usize::try_from(block.bytes()).unwrap_or(0) + rows * AROUND;
        let mut lines = Lines {
            rows: block.rows(),
            items: Vec::with_capacity(rows),
            bytes: Vec::with_capacity(room),
            ..Lines::default()
        };
        let mut row = block.first_row();
        block.for_each(|record| {
            let this = row;
            row += 1;
            if self.only.is_some_and(|wanted| !wanted(this)) {
                return;
            }
            let item = match record.and_then(
                #[expect(clippy::result_large_err, reason = "a problem is rare")]
                |record| Ok((record, self.shape.draft(&record)?)),
            ) {
                Ok((record, draft)) => match self.checked.stand_in(this, &draft.id) {
                    Some(id) => {
                        let message = format!("the id {:?} was used by an earlier row", draft.id);
                        Item::Bad(Box::new(Bad { row: this, id, model: self.shape.shared(&draft.model), message }))
                    }
                    None => self.line(&record, &draft, &mut lines),
                },
                Err(problem) => {
                    let id = problem.id.clone().unwrap_or_else(|| generated_id(this));
                    let id = self.checked.stand_in(this, &id).unwrap_or_else(|| id.into());
                    let model = Arc::from("");
                    Item::Bad(Box::new(Bad { row: this, id, model, message: problem.to_string() }))
                }
            };
            lines.items.push(item);
        });
        lines
    }

    fn line(&self, record: &Record<'_>, draft: &Draft<'_>, lines: &mut Lines) -> Item {
        let start = lines.bytes.len();
        let wire = self.wires.of(draft.row, &draft.id);
        batch_line::append(&mut lines.bytes, wire.as_deref().unwrap_or(&draft.id), draft);
        let size = (lines.bytes.len() - start) as u64;
        if size > self.limits.bytes {
            lines.bytes.truncate(start);
            let problem = oversize(record, size, self.limits.bytes);
            let message = problem.to_string();
            lines.oversize_count += 1;
            if lines.oversize.len() < self.max_problems {
                lines.oversize.push(Problem { id: Some(draft.id.as_ref().to_owned()), ..problem });
            }
            let model = self.shape.shared(&draft.model);
            return Item::Bad(Box::new(Bad { row: draft.row, id: draft.id.as_ref().into(), model, message }));
        }
        let model = lines.models.iter().position(|known| **known == *draft.model).unwrap_or_else(|| {
            lines.models.push(self.shape.shared(&draft.model));
            lines.models.len() - 1
        });
        lines.ids.push_str(&draft.id);
        Item::Line(Line {
            row: draft.row,
            end: lines.bytes.len(),
            id_end: lines.ids.len(),
            wire,
            model,
            fingerprint: if self.digests { draft.fingerprint() } else { Fingerprint::default() },
            reserve: Usage { prompt: tokens::bound(&draft.body), completion: draft.answer_bound().unwrap_or(0) },
        })
    }
}

fn oversize(record: &Record<'_>, size: u64, limit: u64) -> Problem {
    let text = format!("the request makes a line of {size} bytes, and a batch file holds {limit} in all");
    Problem::new(record, "too_large", text).hint("shorten the request, or answer this row with `llbatch run`")
}
