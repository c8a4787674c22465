//! # llbatch: prompts in, answers out
//!
//! N rows in, N rows out, in input order, every row answered or carrying its error; nothing lost, nothing paid twice.
//!
//! One package: this library with a thin binary. Rows flow one way. A retry lives inside a row's task. Only acknowledgements
//! flow back: claims that are on disk, answers that are committed, money that was drawn.
//!
//! ```text
//! input ─▶ request ─▶ check ─▶ job: realtime | split, batch ─▶ outcome ─▶ store ─▶ results, report
//!                                                              money beside all of it
//! ```
//!
//! Each room may use the rooms named in its row and nothing else. No two rooms use each other. `tests/layers.rs` reads this
//! table and holds the code against it. Every room but two may also use the ground: `error`, `text`, `json`, `completion`,
//! `pack` and `batch_status`.
//! [`api`] and [`sandbox`] may use only what their rows name. `door` opens some rooms to the fuzz targets.
//!
//! | room | knows | may use |
//! | --- | --- | --- |
//! | [`error`] | what stops a command, and its exit code | – |
//! | [`text`] | numbers, durations, widths and aligned columns as people read them | – |
//! | [`json`] | JSON text in place: members, spans, white space; never a tree | – |
//! | [`completion`] | the body of an answer: choices, usage, error, and whether it answers at all | – |
//! | [`pack`] | values as bytes in the store, and back | – |
//! | [`batch_status`] | the states of a batch, in one spelling for all services | – |
//! | [`row_set`] | a set of rows at one bit each | – |
//! | [`columnar`] | Parquet files: rows as JSON text, and back; from bytes that can be read at any place | – |
//! | [`atomic_file`] | files and objects that appear when they are complete | objects |
//! | [`machine`] | names of this host, its boot and this process; whether another process has ended; the signals that this one ignores | – |
//! | [`state_place`] | the state directory's path, and whether one host or several see it | – |
//! | [`deadline`] | the end of a wait: a span, or a time of day by the clock on the wall | – |
//! | [`attached`] | local files that requests carry: found, typed and hashed, and read when they are sent | – |
//! | [`outcome`] | the fate of one row: answer or error, usage, attempts | – |
//! | [`tokens`] | estimates and bounds of tokens | – |
//! | [`request`] | a record of the input and the request that it stands for, as text, never as a tree | attached, outcome, tokens |
//! | [`rules`] | the rules that an answer must pass: schema, choices, completeness | outcome |
//! | [`price`] | prices per model, money in exact nano-dollars | outcome |
//! | [`summary`] | the fold of all outcomes: rows, tokens, money, latency, errors by code | outcome, price |
//! | [`input`] | files, compression, formats; cut into blocks of whole records | columnar, objects, request |
//! | [`api`] | the service: requests, files, batches; error classes, limits, when to try again | `batch_status`, completion, json, text |
//! | [`objects`] | objects at URLs: found and pinned, read in ranges, listed, written whole | api |
//! | [`sandbox`] | the built-in server, compatible with Together and `OpenAI`, written from the services' documents | nothing of ours |
//! | [`fault`] | the error code of a failed request | api, outcome |
//! | [`store`] | SQLite: `ledger.db` and a database per job; the answers, in files beside it; kernel locks; what live processes tell each other | outcome, price, deadline, machine, `row_set`, `state_place` |
//! | [`produced`] | files that answers bring, whole on the disk before their rows count | outcome, request |
//! | [`sealed`] | answers in immutable parts that tasks on several machines share, as files or objects; which copy of a task sends | `atomic_file`, machine, objects, outcome, request |
//! | [`realtime`] | requests in flight under the limiter and the budget; rows in, events out | api, fault, request, rules, outcome, tokens, price, store, deadline |
//! | [`batch`] | one job's batches as small state machines: upload, create once, look up, poll, download, join | api, fault, request, rules, outcome, store, deadline |
//! | [`settings`] | flag > environment > config file > default; most values with their origin | api, price, `state_place` |
//! | [`ui`] | talk on stderr, data on stdout, progress | price |
//! | [`telling`] | progress and end of a command, told to others: a file of metrics, a command, a notice | api, `atomic_file`, machine, outcome, price, summary, ui |
//! | [`context`] | what every command is given: settings, ui, telling, the form of its output | settings, telling, ui |
//! | [`check`] | one pass over all rows before anything is sent: problems, duplicate ids, estimates, notices | context, input, outcome, price, request, `row_set`, store, tokens, ui |
//! | [`split`] | rows divided into batch files within the service's limits | `atomic_file`, check, input, objects, outcome, price, request, `row_set`, tokens |
//! | [`money`] | what work has cost and may still cost: budgets, reservations, exposure | context, input, outcome, price, realtime, request, `row_set`, store, summary, tokens |
//! | [`results`] | result lines in input order, and the files they go to | `atomic_file`, columnar, context, input, outcome, price, request, `row_set`, rules, store, summary |
//! | [`report`] | figures folded from a job or from results files, as text, JSON and a page | batch, input, money, objects, outcome, price, request, rules, store, summary |
//! | [`merge`] | results of several tasks put together in input order | batch, check, columnar, input, objects, report, request, results, `row_set`, summary |
//! | [`job`] | a job from its inputs to its summary, in real time or by batches | everything but cli and sandbox |
//! | [`cli`] | clap; one file per subcommand | everything |
//!
//! # A run
//!
//! Three threads work on a realtime run. The *reader* parses the input and hands rows over in small batches. The *network*
//! thread, a current-thread runtime, admits each row by a permit and the limiter, sends it, and decides what follows. The
//! *writer* (`job`'s consumer) takes outcomes, commits them in groups, and only then shows them. Results are written in input order: from a
//! small window, or, for rows that are far ahead of a slow one, back from the store. Tables take the records' own fields
//! from the blocks that the reader has read; blocks for which memory has no room are read again. Memory is a few bits a row
//! beside the requests in flight.
//!
//! Before rows up to *n* are sent, "rows up to *n* may have been sent" is on disk; with `--group-by-prefix`, the numbers of the rows. This *claim* tells after a kill which rows
//! may have been paid for without an answer ([`realtime::claims`] explains it). An answer keeps its permit until it is committed, so
//! a kill loses at most `--concurrency` answers. Its body is appended to the job's answer log first; the database holds where
//! it lies, and its checksum. Short answers of a new job of few rows lie in the database itself.
//!
//! Where a service has several base URLs, each row is sent to one of them, and each URL has its own health; limiter and breaker
//! cover them all. With `--dedupe`, a row whose request was sent before becomes a *follower*. It takes no permit and no claim, waits in
//! a table of the job's database, and gets the outcome of its leader once that is committed.
//!
//! # A batch job
//!
//! A batch job keeps a copy of its input, the rows that each batch was asked, and every answer in the file in which it came.
//! Its results can therefore be joined and written after the input is gone. While one batch is downloaded, the one before is
//! joined with its rows, and the one before that is stored. A creation whose reply is lost is looked up, never repeated blindly
//! ([`job::batch`] explains how it is settled).
//!
//! # The end of a job
//!
//! A command that writes the results of a job ends in [`job::finish`]. It adds what is outstanding to what was paid, and asks one pure
//! function for the verdict: [`job::verdict`] decides state, exit code, reason and next command for both transports. Every other
//! command on a job asks it too: it reports, lists, waits, submits, sends again or cancels. Only a command that begins nothing,
//! such as a dry run, has no verdict. `merge` has no job, and only asks for the verdict on its rows.
//!
//! The commit that ends a job marks it as *untold*, and the last act of the command removes the mark. If the command is killed
//! in between, the same command delivers the job again and sends nothing.
//!
//! # Processes
//!
//! Processes know of each other by kernel locks, which die with their process. One process works on a job. A process that
//! waited for it gets the results of that job. Processes with the same key and service share what they learn of its limit, and
//! divide it. Budgets of the config file are drawn from the ledger slice by slice, each in one transaction.

mod api;
mod atomic_file;
mod attached;
mod batch;
mod batch_status;
mod check;
pub mod cli;
mod columnar;
mod completion;
mod context;
mod deadline;
#[doc(hidden)]
pub mod door;
mod error;
mod fault;
mod input;
mod job;
mod json;
mod machine;
mod merge;
mod money;
mod objects;
mod outcome;
mod pack;
mod price;
mod produced;
mod realtime;
mod report;
mod request;
mod results;
mod row_set;
mod rules;
pub mod sandbox;
mod sealed;
mod settings;
mod split;
mod state_place;
mod store;
mod summary;
mod telling;
mod text;
mod tokens;
mod ui;
