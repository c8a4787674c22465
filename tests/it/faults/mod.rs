//! Network faults, applied to `run` and to the batch commands by a server on plain TCP.

mod batch;
mod create;
mod download;
mod hints;
mod leaks;
mod pages;
mod run;

use std::time::Duration;

use crate::support::{Asked, Canned, Fault, FaultServer, Home, Server, answered, prompts, rows};

/// Faults that leave a request without its answer after it arrived: it is paid, or may be.
fn broken_answers() -> Vec<(Fault, &'static str)> {
    vec![
        (Fault::Reset, "network"),
        (Fault::Close, "network"),
        (Fault::ResetInHead, "network"),
        (Fault::ResetAfterHead, "bad_response"),
        (Fault::ResetInBody, "bad_response"),
        (Fault::Hang, "timeout"),
        (Fault::HangInHead, "timeout"),
        (Fault::HangInBody, "timeout"),
        (Fault::Drip(Duration::from_millis(50)), "timeout"),
        (Fault::LongLength, "bad_response"),
        (Fault::ShortLength, "bad_response"),
        (Fault::CutLines, "bad_response"),
        (Fault::EofLines, "bad_response"),
        (Fault::CutChunk, "bad_response"),
        (Fault::LostChunk, "bad_response"),
        (Fault::GzipLie, "bad_response"),
        (Fault::GzipCut, "bad_response"),
        (Fault::After(Canned::page()), "bad_response"),
        (Fault::After(Canned::status(500)), "server_error"),
        (Fault::After(Canned::status(524)), "server_error"),
    ]
}

/// Whether it leaves a request waiting until a time is up.
const fn hangs(fault: &Fault) -> bool {
    matches!(fault, Fault::Hang | Fault::HangInHead | Fault::HangInBody | Fault::Drip(_))
}

/// The broken answers that end by themselves.
fn quick_faults() -> Vec<Fault> {
    broken_answers().into_iter().map(|(fault, _)| fault).filter(|fault| !hangs(fault)).collect()
}

/// Stands before `server` and applies `fault` to the requests that `meant` picks.
fn before(server: &Server, fault: &Fault, meant: impl Fn(&Asked<'_>) -> bool + Send + Sync + 'static) -> FaultServer {
    let fault = fault.clone();
    FaultServer::before(&server.address(), move |asked| if meant(asked) { fault.clone() } else { Fault::None })
}

/// The job of six rows that met `fault` is one batch, paid once, and every row has its answer.
#[track_caller]
fn once(home: &Home, server: &Server, fault: &Fault) {
    answered(&home.read("out.jsonl"), 1..=6);
    assert_eq!((server.batches().len(), server.bill(), server.paid_again()), (1, 6, 0), "{fault}");
}

/// The number of the row `question N`; 0 for another prompt.
fn number(prompt: &str) -> usize {
    prompt.strip_prefix("question ").and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// A home with so many prompts in `in.jsonl`.
fn home(rows: u32) -> Home {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=rows));
    home
}

/// The error codes of `out.jsonl`, in order; "ok" for an answer, which must be the row's own.
#[track_caller]
fn ends(home: &Home) -> Vec<String> {
    let own = |row: crate::support::Row| {
        let hash = crate::support::paid_hash(&format!("question {}", &row.id[1..]));
        row.code.clone().unwrap_or_else(|| {
            assert!(row.content().contains(&hash), "{} carries another row's answer: {}", row.id, row.line);
            "ok".to_owned()
        })
    };
    rows(&home.results("out.jsonl")).into_iter().map(own).collect()
}
