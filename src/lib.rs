//! # llbatch: prompts in, answers out
//!
//! N rows in, N rows out, in input order, every row answered or carrying its error; nothing lost, nothing paid twice.
//!
//! One package: this library with a thin binary. Data flows one way; a retry lives inside a row's task, and nothing else
//! flows back:
//!
//! ```text
//! input ─▶ request ─▶ plan (check, shards) ─▶ realtime | batch ─▶ outcome ─▶ pipeline ─▶ store, output, summary, progress
//! ```
//!
//! | room | what it knows | may use |
//! | --- | --- | --- |
//! | [`error`] | what stops a command, and its exit code | – |
//! | [`outcome`], [`tokens`], [`price`], [`summary`] | what became of a row, what it cost, the fold of all | each other, left to right |
//! | [`request`] | a record of the input and the request that it stands for, as text, never as a tree | outcome |
//! | [`input`] | files, compression, formats; cut into blocks of whole records | request |
//! | [`plan`] | a pass over all rows before anything is sent: problems, duplicate ids; the lines of batch files | input, request, outcome, tokens |
//! | [`api`] | the service: requests, files, batches; error classes, limits, when to try again | nothing of ours |
//! | [`realtime`] | requests in flight under the limiter and the budget; rows in, events out | api, request, outcome, tokens, price |
//! | [`batch`] | one job's batches as small state machines: upload, create once, look up, ask, download; results joined with their rows | api, outcome, store |
//! | [`store`] | SQLite: `ledger.db` and a file per job; kernel locks, and what live processes tell each other | outcome, price |
//! | [`output`] | result lines, the report as a page, and files that appear when they are complete | outcome, price, summary, request (fields) |
//! | [`ui`] | talk on stderr, data on stdout, progress, tables, escaping | price |
//! | [`sandbox`] | the built-in Together-compatible server, written from the service's documents | nothing of ours |
//! | [`pipeline`] | the one consumer of events, and a job from its inputs to its summary | all of the above, settings, context |
//! | [`settings`], [`context`] | flag > environment > config file > default; what every command is given | error, price, ui |
//! | [`cli`] | the only user of clap; one file per subcommand | everything |
//!
//! Three threads work on a run. The *reader* parses the input and hands over rows in small batches. The *network* thread
//! (a current-thread runtime) admits rows (a permit, then the limiter), sends, reads and decides. The *writer* takes
//! outcomes, commits them in groups, and only then lets them be shown: in input order, from a small window or, for rows
//! that overtook a slow one by far, back from the database. Memory is a few bits a row beside what is in flight.
//!
//! A batch job keeps a copy of its input, the rows that each batch was asked, and every answer in the file in which it
//! came; so its results can be joined and written after the input is gone. Results are taken in three steps at once:
//! while one batch is downloaded, the one before is joined with its rows, and the one before that is stored. Before a
//! batch is created, that it may have been is on disk; a reply that is lost is looked up in the service's list, never
//! sent again blindly.
//!
//! Before rows up to *n* are sent, "rows up to *n* may have been sent" is on disk; so after a kill it is known which rows
//! may have been paid for without an answer. An answer keeps its place among those in flight until it is committed, so
//! no more than `--concurrency` of them were. Requests are rebuilt from the input on a resume and matched to answers by
//! their fingerprint.
//!
//! Processes know of each other by kernel locks, which die with them. One works on a job; who waits for it gets that job's
//! results. Those with the same key and service tell each other what they learn of its limit, and divide it. What the config
//! file's budgets leave is drawn from the ledger slice by slice, in one transaction each.
//!
//! `tests/layers.rs` holds the imports against this table.

mod api;
mod atomic_file;
mod batch;
mod check;
pub mod cli;
mod context;
#[doc(hidden)]
pub mod door;
mod error;
mod input;
mod job;
mod money;
mod outcome;
mod price;
mod realtime;
mod report;
mod request;
mod results;
mod row_set;
pub mod sandbox;
mod settings;
mod split;
mod store;
mod summary;
mod text;
mod tokens;
mod ui;
