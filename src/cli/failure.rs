//! The last word of a command that fails: clap's errors, the document of `--json`, the line of `--quiet`.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::Write;

use clap::error::ErrorKind;
use serde::Serialize;

use super::synonyms;
use crate::error::{Error, Exit, FailureDocument};
use crate::text;
use crate::ui::{LogFormat, Ui, UiOptions};

/// Prints clap's error or help, and returns the exit code. Help and version go to stdout and are no error.
pub fn explain(mut error: clap::Error, argv: &[OsString]) -> Exit {
    let json = argv.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    if !error.use_stderr() {
        // A closed pipe does not matter here.
        drop(match error.kind() {
            ErrorKind::DisplayVersion if json => print(&VersionDocument::default()),
            _ if json => print(&HelpDocument { version: 1, help: error.render().to_string() }),
            _ => error.print(),
        });
        return Exit::Ok;
    }
    synonyms::advise(&mut error, argv);
    if json {
        drop(print(&FailureDocument::from(&usage_error(&error))));
    }
    if wants_json_log(argv) {
        let options = UiOptions { log: LogFormat::Json, json, ..UiOptions::default() };
        Ui::new(options).error(&usage_error(&error));
        return Exit::Usage;
    }
    // The error repeats words of the command line, which may be untrusted file names (`llbatch run *`). Then it is printed
    // without colours, because the words may contain escape codes of their own.
    let safe = |word: &OsString| matches!(text::visible(&word.to_string_lossy()), Cow::Borrowed(_));
    drop(if argv.iter().all(safe) {
        error.print()
    } else {
        std::io::stderr().write_all(text::visible(&error.render().to_string()).as_bytes())
    });
    Exit::Usage
}

/// Returns whether the command line, which is invalid, asks for a log of objects.
fn wants_json_log(argv: &[OsString]) -> bool {
    let words: Vec<&OsString> = argv.iter().take_while(|word| *word != "--").collect();
    words.iter().any(|word| *word == "--log-format=json")
        || words.windows(2).any(|pair| pair[0] == "--log-format" && pair[1] == "json")
}

/// The document of `--version --json`.
#[derive(Debug, Serialize)]
pub(super) struct VersionDocument {
    version: u8,
    llbatch: &'static str,
}

impl Default for VersionDocument {
    fn default() -> Self {
        Self { version: 1, llbatch: env!("CARGO_PKG_VERSION") }
    }
}

/// The document of `--help --json`.
#[derive(Debug, Serialize)]
struct HelpDocument {
    version: u8,
    help: String,
}

/// The parts of clap's text: the first paragraph is the message, and its tip is the remedy.
fn usage_error(error: &clap::Error) -> Error {
    let text = error.render().to_string();
    let message = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    let lines: Vec<&str> = message.lines().map(str::trim).collect();
    Error::usage(lines.join(" ")).hint(tip.unwrap_or("`llbatch --help` lists commands and flags"))
}

/// Gives a failed command what it still owes: the document of `--json`, and a line on stderr even with `--quiet`.
pub fn tell(exit: Exit, ui: &Ui) {
    if matches!(exit, Exit::Ok | Exit::ClosedPipe) {
        return;
    }
    if let Some(document) = ui.owed_document() {
        // If stdout cannot be written, stderr has the error.
        drop(print(&document));
    }
    if ui.is_quiet() && !ui.has_spoken() {
        ui.warn(&format!("exit {}: {}", exit.code(), exit.name().replace('_', " ")));
    }
}

fn print(document: &impl Serialize) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, document)?;
    writeln!(out)
}
