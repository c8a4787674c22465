//! What a network can do to requests and answers, done to `run` and to the batch commands by a server on plain TCP.

mod batch;
mod create;
mod download;
mod hints;
mod leaks;
mod pages;
mod run;

use std::time::Duration;

use crate::support::{Canned, Harm, Home, prompts, rows};

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
