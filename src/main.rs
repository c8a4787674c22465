//! Parse, run, turn the outcome into an exit code.

use std::process::ExitCode;

/// Rows are made on one thread and freed on another; glibc's allocator is slow at that. Without huge pages (`no_thp`) a run
/// takes 16 MiB less, and no more time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    let exit = llbatch::cli::main(&argv, |exit| std::process::exit(exit.code().into()));
    ExitCode::from(exit.code())
}
