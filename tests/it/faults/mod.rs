//! What a network can do to requests and answers, done to `run` and to the batch commands by a server on plain TCP.

mod batch;
mod create;
mod download;
mod hints;
mod leaks;
mod pages;
mod run;

use std::time::Duration;

use crate::support::{Asked, Canned, FaultServer, Harm, Home, Server, answered, prompts, rows};

/// Harms that leave a request without its answer, all of them after it arrived: paid, or for all we know.
fn broken_answers() -> Vec<(Harm, &'static str)> {
    vec![
        (Harm::Reset, "network"),
        (Harm::Close, "network"),
        (Harm::ResetInHead, "network"),
        (Harm::ResetAfterHead, "bad_response"),
        (Harm::ResetInBody, "bad_response"),
        (Harm::Hang, "timeout"),
        (Harm::HangInHead, "timeout"),
        (Harm::HangInBody, "timeout"),
        (Harm::Drip(Duration::from_millis(50)), "timeout"),
        (Harm::LongLength, "bad_response"),
        (Harm::ShortLength, "bad_response"),
        (Harm::CutLines, "bad_response"),
        (Harm::EofLines, "bad_response"),
        (Harm::CutChunk, "bad_response"),
        (Harm::LostChunk, "bad_response"),
        (Harm::GzipLie, "bad_response"),
        (Harm::GzipCut, "bad_response"),
        (Harm::After(Canned::page()), "bad_response"),
        (Harm::After(Canned::status(500)), "server_error"),
        (Harm::After(Canned::status(524)), "server_error"),
    ]
}

/// Whether it leaves a request waiting until a time is up.
const fn hangs(harm: &Harm) -> bool {
    matches!(harm, Harm::Hang | Harm::HangInHead | Harm::HangInBody | Harm::Drip(_))
}

/// Those of the broken answers that end by themselves.
fn quick_harms() -> Vec<Harm> {
    broken_answers().into_iter().map(|(harm, _)| harm).filter(|harm| !hangs(harm)).collect()
}

/// Stands before `server` and does `harm` to whatever it is meant for.
fn harming(server: &Server, harm: &Harm, meant: impl Fn(&Asked<'_>) -> bool + Send + Sync + 'static) -> FaultServer {
    let harm = harm.clone();
    FaultServer::before(&server.address(), move |asked| if meant(asked) { harm.clone() } else { Harm::None })
}

/// The job of six rows that stood `harm` is one batch, paid once, and every row has its answer.
#[track_caller]
fn once(home: &Home, server: &Server, harm: &Harm) {
    answered(&home.read("out.jsonl"), 1..=6);
    assert_eq!((server.batches().len(), server.bill(), server.paid_again()), (1, 6, 0), "{harm}");
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
    rows(&home.read("out.jsonl")).into_iter().map(own).collect()
}
