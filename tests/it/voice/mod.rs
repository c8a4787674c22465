//! Everything that llbatch prints, as it stands: one good run of each command, the ends of a job, the commonest errors.
//!
//! A story is a list of commands. Its snapshot holds the exit code, stdout and stderr of each, at 80 columns. Times, ids,
//! ports, paths and versions are masked. A reworded message shows up as a diff: review it and accept it with
//! `INSTA_UPDATE=always cargo test --test it voice`.

mod commands;
mod documents;
mod ends;
mod errors;
pub mod mask;
mod refusals;

use std::fmt::Write as _;
use std::process::Command;

use crate::support::{Home, Out, Running, Server, prompts};

/// Commands that share a home, and what each of them printed.
struct Story {
    home: Home,
    url: String,
    /// The transcript, not yet masked.
    log: String,
}

impl Story {
    /// A story against the service at `url`.
    fn with(url: &str) -> Self {
        Self { home: Home::new(), url: url.to_owned(), log: String::new() }
    }

    /// A story against `server`, with four good rows in `in.jsonl`.
    fn of(server: &Server) -> Self {
        let story = Self::with(&server.url);
        story.home.write("in.jsonl", prompts(1..=4));
        story
    }

    /// A story without a service.
    fn offline() -> Self {
        let story = Self::with("http://127.0.0.1:9/v1");
        story.home.write("in.jsonl", prompts(1..=4));
        story
    }

    /// The command of a command line; words with spaces stand in single quotes.
    fn command(&self, line: &str) -> Command {
        let words = words(line);
        let mut command = self.home.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
        command.env("TOGETHER_BASE_URL", &self.url);
        command
    }

    /// Runs `llbatch LINE` and notes what it printed.
    fn tell(&mut self, line: &str) {
        let out = self.home.finish(self.command(line));
        self.note(line, &out);
    }

    /// Does the same, and lets `edit` hide what no mask can know.
    fn tell_edited(&mut self, line: &str, edit: impl Fn(String) -> String) {
        let mut out = self.home.finish(self.command(line));
        (out.stdout, out.stderr) = (edit(out.stdout), edit(out.stderr));
        self.note(line, &out);
    }

    /// Does the same for every line.
    fn tell_all(&mut self, lines: &[&str]) {
        for line in lines {
            self.tell(line);
        }
    }

    /// Does the same, but keeps only the first lines.
    fn tell_start(&mut self, line: &str, lines: usize) {
        self.tell_edited(line, |text| match text.split_inclusive('\n').take(lines).collect::<String>() {
            start if start == text => text,
            start => start + "…\n",
        });
    }

    /// Runs `llbatch LINE`, which must succeed, and notes nothing.
    fn quietly(&self, line: &str) {
        self.home.finish(self.command(line)).code(0);
    }

    /// Starts `llbatch LINE`.
    fn start(&self, line: &str) -> Running {
        self.home.start(self.command(line))
    }

    /// Notes what a command printed.
    fn note(&mut self, line: &str, out: &Out) {
        write!(self.log, "$ llbatch {line}\n[exit code {}]\n", out.code).unwrap();
        for (name, text) in [("stdout", &out.stdout), ("stderr", &out.stderr)] {
            if !text.is_empty() {
                write!(self.log, "--- {name}\n{text}").unwrap();
                self.log.push_str(if text.ends_with('\n') { "" } else { "[no line end]\n" });
            }
        }
        self.log.push('\n');
    }

    /// The masked transcript.
    fn text(&self) -> String {
        mask::masked(&self.log, &self.home.path("").display().to_string())
    }
}

/// Splits a command line at spaces outside single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in line.split('\'').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Compares the story with its snapshot.
macro_rules! assert_story {
    ($name:literal, $story:expr) => {
        insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!($name, $story.text()) })
    };
}
use assert_story;
