//! `llbatch completions` and `llbatch man`: shell completions and man pages, generated from the command line's
//! definition.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::job_words::with_jobs;
use super::{Cli, print_on};
use crate::error::{Error, Exit, Result};
use crate::ui::Ui;

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch completions bash > ~/.local/share/bash-completion/completions/llbatch
  llbatch completions zsh > ~/.zfunc/_llbatch
  llbatch completions fish > ~/.config/fish/completions/llbatch.fish")]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL", required_unless_present = "jobs")]
    shell: Option<Shell>,
    /// Print the jobs that a script offers
    #[arg(long, hide = true)]
    jobs: bool,
}

impl CompletionsArgs {
    /// Returns whether a script asks for the jobs.
    pub(super) const fn lists_jobs(&self) -> bool {
        self.jobs
    }
}

/// Print the man page, or that of a command
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch man | man -l -
  llbatch man run | man -l -
  llbatch man --dir ~/.local/share/man/man1")]
pub struct ManArgs {
    /// Command to show
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
    /// Write all pages into this directory instead
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    dir: Option<PathBuf>,
}

/// Runs `completions`.
pub fn completions(args: &CompletionsArgs, json: bool, ui: &Ui) -> Result<Exit> {
    let Some(shell) = args.shell else { return Ok(Exit::Ok) };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "llbatch", &mut script);
    print(&with_jobs(&String::from_utf8_lossy(&script), shell), json, ui)
}

/// Runs `man`.
pub fn man(args: &ManArgs, json: bool, ui: &Ui) -> Result<Exit> {
    let mut whole = Cli::command().propagate_version(true);
    // Gives every command the global flags and its full name.
    whole.build();
    if let Some(dir) = &args.dir {
        let failed = |e| Error::io(format!("{}: cannot write the man pages", dir.display()), e);
        std::fs::create_dir_all(dir).map_err(failed)?;
        clap_mangen::generate_to(whole, dir).map_err(failed)?;
        return Ok(Exit::Ok);
    }
    let command = match &args.command {
        None => whole,
        Some(name) => whole.find_subcommand(name).cloned().ok_or_else(|| {
            Error::usage(format!("unknown command `{name}`")).hint("`llbatch --help` lists the commands")
        })?,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .source(concat!("llbatch ", env!("CARGO_PKG_VERSION")))
        .render(&mut page)
        .map_err(|e| Error::new(Exit::Failure, "the man page cannot be made").because(e))?;
    print(&String::from_utf8_lossy(&page), json, ui)
}

/// Prints a text, in a document with `--json`.
pub(super) fn print(text: &str, json: bool, ui: &Ui) -> Result<Exit> {
    if json {
        print_on(&format!("{}\n", serde_json::json!({"version": 1, "text": text})), ui)?;
    } else {
        print_on(text, ui)?;
    }
    Ok(Exit::Ok)
}
