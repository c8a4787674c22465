//! The fault server of the tests as a program, for scripts: it prints its base URL and serves until it is killed.
//!
//! `faults [--before HOST:PORT] [--rate 0.1] [--on TEXT] [--seed N] FAULT...`: one request in ten (whose method and path
//! contain TEXT) meets one of these faults, drawn at random. `GET /faults/stats` counts requests, payments and faults.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "a program of one line")]

#[path = "../it/support/fault/mod.rs"]
#[expect(dead_code, unused_imports, reason = "scripts need less of it than the tests")]
mod fault;

use std::sync::Mutex;

use fault::{Fault, FaultServer, Source};

fn main() {
    let (mut source, mut rate, mut on, mut seed) = (Source::Oracle, 0.1, String::new(), 1);
    let mut faults: Vec<Fault> = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} lacks its value"));
        match word.as_str() {
            "--before" => source = Source::Upstream(value()),
            "--rate" => rate = value().parse().unwrap(),
            "--on" => on = value(),
            "--seed" => seed = value().parse().unwrap(),
            fault => faults.push(fault.parse().unwrap()),
        }
    }
    assert!(!faults.is_empty(), "no fault is named");
    let random = Mutex::new(fastrand::Rng::with_seed(seed));
    let script = move |asked: &fault::Asked<'_>| {
        let mut random = random.lock().unwrap();
        if asked.line.contains(&on) && random.f64() < rate {
            return faults[random.usize(..faults.len())].clone();
        }
        Fault::None
    };
    let server = FaultServer::serving("127.0.0.1:0", source, script).unwrap();
    println!("{}", server.url);
    loop {
        std::thread::park();
    }
}
