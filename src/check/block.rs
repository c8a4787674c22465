//! The findings in one block of an input, made on one of several threads.

use std::sync::Arc;

use super::context_length::{CONTEXT_LENGTH, too_long};
use super::duplicates::SeenId;
use super::first_look::header_problem;
use super::groups::ProblemGroups;
use super::pass::Pass;
use super::repeats;
use crate::input::{Block, ChosenRows, FieldNames};
use crate::request::{Draft, NO_PROMPT, Problem, Record};

/// Longest `custom_id` that the service takes, in characters (together-wire: "at most 64 characters").
const ID_LIMIT: usize = 64;

/// Models of a block that are compared one by one; a block with more has other values in the field `model`.
const MODELS_AT_HAND: usize = 16;

/// The findings in a block.
pub(super) struct BlockFindings<T> {
    pub rows: Vec<SeenRow<T>>,
    /// The block's first problems.
    pub problems: Vec<Problem>,
    /// All of them by what they say.
    pub groups: ProblemGroups,
    /// The problem of the table's header, and the rows that are bad for no other reason.
    pub header: Option<Problem>,
    pub headed_rows: u64,
    /// Bad rows of the shard, and of all shards.
    pub bad_rows: u64,
    pub total_bad_rows: u64,
    /// The size of the shard's rows; about, if there are others.
    pub bytes: u64,
    pub long_ids: u64,
    pub stream_removed: u64,
    /// Rows by model; a model may have several entries.
    pub models: Vec<(Arc<str>, u64)>,
    /// The first row with a part whose tokens have no known bound: its id, and the type of the part.
    pub unbounded: Option<(String, String)>,
    /// The fields of all records, if they are wanted.
    pub fields: Option<FieldNames>,
    /// Rows that are longer than their model reads.
    pub too_long: Vec<u64>,
}

/// A row of a block.
pub(super) struct SeenRow<T> {
    /// Its number in the whole input.
    pub number: u64,
    pub id: SeenId,
    /// It belongs to the shard of the command.
    pub is_own: bool,
    /// `None`: the row has a problem, or belongs to another shard.
    pub good: Option<GoodRow<T>>,
}

/// The inspection's result for a row without a problem.
pub(super) struct GoodRow<T> {
    /// Index into [`BlockFindings::models`].
    pub model: usize,
    pub value: T,
    /// The hashes of its request, if repeats are looked for.
    pub hashes: Option<(u64, u32)>,
}

impl<T> BlockFindings<T> {
    /// Parses a block and inspects its good rows.
    pub fn of(block: &Block, pass: &Pass<'_>, inspect: &(dyn Fn(&Draft<'_>) -> T + Sync)) -> Self {
        let mut found = Self {
            rows: Vec::with_capacity(usize::try_from(block.rows()).unwrap_or(0)),
            problems: Vec::new(),
            groups: ProblemGroups::new(pass.max_problems),
            header: header_problem(block, pass.builder),
            headed_rows: 0,
            bad_rows: 0,
            total_bad_rows: 0,
            bytes: 0,
            long_ids: 0,
            stream_removed: 0,
            models: Vec::new(),
            unbounded: None,
            fields: None,
            too_long: Vec::new(),
        };
        let mut fields = pass.fields.then(FieldNames::default);
        if let Some(fields) = &mut fields {
            fields.add_block(block);
        }
        let chosen = pass.inputs.chosen();
        let mut own_rows = 0;
        block.for_each(|record| {
            let (record, is_own) = placed(record, chosen);
            own_rows += u64::from(is_own);
            match record.and_then(
                #[expect(clippy::result_large_err, reason = "a problem is rare")]
                |record| {
                    let draft = pass.builder.draft(&record);
                    if let Some(fields) = &mut fields {
                        fields.add(&record, draft.as_ref().ok());
                    }
                    let draft = draft?;
                    match pass.table.and_then(|table| too_long(&record, &draft, table)) {
                        Some(problem) => Err(problem),
                        None => Ok(draft),
                    }
                },
            ) {
                Ok(draft) if is_own => found.good(&draft, pass, inspect(&draft)),
                Ok(draft) => {
                    found.rows.push(SeenRow { number: draft.number, id: SeenId::of(&draft), is_own, good: None });
                }
                Err(problem) => found.bad(problem, is_own, pass.max_problems),
            }
        });
        let bytes = block.bytes() * own_rows.max(u64::from(block.rows() == 0)) / block.rows().max(1);
        Self { bytes, fields, ..found }
    }

    fn good(&mut self, draft: &Draft<'_>, pass: &Pass<'_>, value: T) {
        self.stream_removed += u64::from(draft.stream_removed);
        self.long_ids += u64::from(is_long(&draft.id));
        if self.unbounded.is_none() {
            self.unbounded = draft.media().unbounded.clone().map(|kind| (draft.id.to_string(), kind));
        }
        let at_hand = self.models.len().saturating_sub(MODELS_AT_HAND);
        let known = self.models[at_hand..].iter().position(|(known, _)| **known == *draft.model);
        let model = known.map_or(self.models.len(), |place| at_hand + place);
        if known.is_none() {
            self.models.push((pass.builder.shared(&draft.model), 0));
        }
        self.models[model].1 += 1;
        let hashes = pass.keys.map(|_| repeats::hashes(draft));
        let good = Some(GoodRow { model, value, hashes });
        self.rows.push(SeenRow { number: draft.number, id: SeenId::of(draft), is_own: true, good });
    }

    fn bad(&mut self, problem: Problem, is_own: bool, max_problems: usize) {
        self.total_bad_rows += 1;
        self.bad_rows += u64::from(is_own);
        self.too_long.extend(problem.row.filter(|_| is_own && problem.code == CONTEXT_LENGTH));
        self.long_ids += u64::from(is_own && problem.id.as_deref().is_some_and(is_long));
        let number = problem.number.unwrap_or(0);
        let id = problem.id.as_deref().map_or(SeenId::Generated, |id| SeenId::given(id, number));
        self.rows.push(SeenRow { number, id, is_own, good: None });
        if problem.code == NO_PROMPT && self.header.is_some() {
            self.headed_rows += 1;
            return;
        }
        self.groups.add(&problem);
        if self.problems.len() < max_problems {
            self.problems.push(problem);
        }
    }
}

/// Gives a record of all shards its place in the shard, and tells whether it has one.
pub(super) fn placed<'a>(
    record: Result<Record<'a>, Problem>,
    chosen: &ChosenRows,
) -> (Result<Record<'a>, Problem>, bool) {
    let row = match &record {
        Ok(record) => record.row,
        Err(problem) => problem.row.unwrap_or(0),
    };
    let Some(row) = chosen.place(row) else { return (record, false) };
    let record = match record {
        Ok(record) => Ok(Record { row, ..record }),
        Err(problem) => Err(Problem { row: Some(row), ..problem }),
    };
    (record, true)
}

/// Tests whether an id is longer than the service takes.
pub fn is_long(id: &str) -> bool {
    id.len() > ID_LIMIT && id.chars().nth(ID_LIMIT).is_some()
}
