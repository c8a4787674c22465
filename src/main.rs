//! Parse, run, turn the outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    ExitCode::from(llbatch::cli::main(&argv).code())
}
