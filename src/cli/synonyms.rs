//! The words that other tools use for llbatch's commands and flags.

use std::ffi::OsString;

use clap::CommandFactory;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Cli;

/// Commands of other tools, and llbatch's answer.
const COMMANDS: [(&[&str], &str); 9] = [
    (&["list", "ls", "jobs", "ps"], "`llbatch status` lists the jobs"),
    (&["download", "results", "get", "output"], "`llbatch fetch JOB -o FILE` writes a job's results"),
    (&["cost", "costs", "usage", "spend"], "`llbatch status --cost` shows what was spent"),
    (&["price", "prices", "pricing"], "`llbatch models` shows prices"),
    (&["log", "logs", "show", "info"], "`llbatch report JOB` shows a job; -v and -vv print details of any command"),
    (&["config", "init", "login", "auth", "env"], "`llbatch doctor` shows every setting and where it comes from"),
    (&["batch", "create", "upload"], "`llbatch submit FILE` makes batches"),
    (&["validate", "dry-run", "lint", "count"], "`llbatch check FILE` validates and prices the rows"),
    (&["delete", "rm", "remove", "prune"], "`llbatch clean JOB` removes the local data of an ended job"),
];

/// Flags of other tools, and llbatch's answer.
const FLAGS: [(&[&str], &str); 22] = [
    (
        &[
            "--parallel",
            "--parallelism",
            "--workers",
            "--num-workers",
            "--max-workers",
            "--threads",
            "--jobs",
            "-j",
            "-c",
        ],
        "--concurrency N sets the number of requests in flight",
    ),
    (&["--budget", "--max-budget", "--max-usd", "--cost-limit"], "--max-cost USD limits the cost"),
    (&["--template", "--user-prompt"], "--prompt 'Classify: {{ text }}' makes the prompt from a row's fields"),
    (&["--prompt-file", "--template-file"], "--prompt @FILE reads the template from a file"),
    (&["--system-prompt", "--system-message"], "--system TEXT sets the system prompt"),
    (
        &["--input", "--input-file", "--file", "-i", "-f"],
        "name the input files without a flag: llbatch run FILE -o OUT",
    ),
    (&["--output-file", "--out", "--save-to"], "-o FILE writes the results to a file"),
    (
        &["--batch-size", "--chunk-size"],
        "llbatch splits batches by itself; --concurrency N sets the requests in flight of `run`",
    ),
    (
        &["--head", "--max-rows", "--num-rows", "--max-requests", "--first", "-n"],
        "--limit N uses only the first N rows, --sample N as many at random, --preview shows requests",
    ),
    (&["--sep", "--separator", "--delim", "--field-separator", "-d"], "--delimiter CHAR names the delimiter of tables"),
    (&["--charset", "--input-encoding"], "--encoding NAME names the encoding of the input"),
    (&["--timeout"], "--request-timeout TIME bounds one request, --deadline TIME the whole run"),
    (
        &["--overwrite", "--force", "--no-cache", "--restart"],
        "-o FILE is replaced by a whole result; --fresh starts anew",
    ),
    (&["--cache", "--continue"], "an interrupted run resumes by itself; --resume also reuses a finished job's answers"),
    (&["--rate-limit", "--requests-per-minute", "--max-rpm"], "--rpm N sets the requests a minute"),
    (&["--tokens-per-minute", "--max-tpm"], "--tpm N sets the tokens a minute"),
    (&["--max-retries", "--retry"], "--retries N sets the retries of a row"),
    (&["--url", "--endpoint-url", "--api-base", "--host"], "--base-url URL names the service"),
    (
        &["--append"],
        "-o FILE is always a whole result: write each run to a file of its own, and join them with `cat NEW >> ALL`",
    ),
    (
        &["--max-failures", "--max-errors", "--fail-fast", "--stop-on-error", "--failure-threshold"],
        "a failed row stops no other: try a few with --limit N, count the failures with --summary FILE and exit code 3",
    ),
    (
        &["--few-shot", "--fewshot", "--shots", "--examples"],
        "--system @FILE holds the examples, or each row's `messages` hold them as turns",
    ),
    (
        &["--api-key", "--key", "--token"],
        "the key is never a flag's value: export TOGETHER_API_KEY, or pass --api-key-file FILE",
    ),
];

/// Endings of files that llbatch reads.
const ENDINGS: [&str; 8] = [".jsonl", ".json", ".csv", ".tsv", ".txt", ".ndjson", ".gz", ".zst"];

/// Replaces clap's tip, which goes by the likeness of letters, by llbatch's word for the same thing. A tip that corrects
/// a typing error stays. `argv` is the command line.
pub fn advise(error: &mut clap::Error, argv: &[OsString]) {
    let (given, suggested) = match error.kind() {
        ErrorKind::InvalidSubcommand => (ContextKind::InvalidSubcommand, ContextKind::SuggestedSubcommand),
        ErrorKind::UnknownArgument => (ContextKind::InvalidArg, ContextKind::SuggestedArg),
        _ => return,
    };
    let Some(ContextValue::String(word)) = error.get(given) else { return };
    let word = word.split('=').next().unwrap_or_default().to_owned();
    let tip = if given == ContextKind::InvalidArg { find(&FLAGS, &word) } else { command(&word) };
    let near = match error.get(suggested) {
        Some(ContextValue::String(near)) => is_near(&word, near),
        Some(ContextValue::Strings(all)) => all.iter().any(|near| is_near(&word, near)),
        _ => false,
    };
    if tip.is_some() || !near {
        error.remove(suggested);
        error.remove(ContextKind::Suggested);
        error.remove(ContextKind::TrailingArg);
        // Clap's usage names the flag that it took for the nearest.
        error.insert(ContextKind::Usage, ContextValue::StyledStr(usage(argv)));
    }
    if let Some(tip) = tip {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
}

/// The usage of the command that `argv` names.
fn usage(argv: &[OsString]) -> StyledStr {
    let mut cli = Cli::command();
    cli.build();
    let named = argv.iter().skip(1).filter_map(|word| word.to_str()).find(|word| cli.find_subcommand(word).is_some());
    match named.and_then(|name| cli.find_subcommand_mut(name)) {
        Some(command) => command.render_usage(),
        None => cli.render_usage(),
    }
}

fn command(word: &str) -> Option<String> {
    if ENDINGS.iter().any(|ending| word.ends_with(ending)) || std::path::Path::new(word).is_file() {
        return Some(
            "`llbatch run FILE -o OUT` answers a file's rows now, `llbatch submit FILE` in batches".to_owned(),
        );
    }
    find(&COMMANDS, word)
}

fn find(table: &[(&[&str], &str)], word: &str) -> Option<String> {
    table.iter().find(|(words, _)| words.contains(&word)).map(|(_, tip)| (*tip).to_owned())
}

/// Tells a typing error from another word: at most a third of the letters differ.
pub(super) fn is_near(word: &str, other: &str) -> bool {
    strsim::osa_distance(word, other) * 3 <= word.trim_start_matches('-').len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advice(line: &str) -> String {
        let argv: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let mut error = Cli::command().try_get_matches_from(&argv).unwrap_err();
        advise(&mut error, &argv);
        error.render().to_string()
    }

    #[test]
    fn words_of_other_tools_are_answered_with_ours() {
        for (line, tip) in [
            ("llbatch list", "`llbatch status`"),
            ("llbatch download", "`llbatch fetch"),
            ("llbatch cost", "--cost`"),
            ("llbatch batch", "`llbatch submit"),
            ("llbatch big.jsonl", "`llbatch run FILE -o OUT`"),
            ("llbatch run a.jsonl --num-workers 4", "--concurrency"),
            ("llbatch run a.jsonl -j 4", "--concurrency"),
            ("llbatch run a.jsonl --budget 5", "--max-cost"),
            ("llbatch run a.jsonl --template x", "--prompt '"),
            ("llbatch run a.jsonl --prompt-file x", "--prompt @FILE"),
            ("llbatch run a.jsonl --timeout 5m", "--request-timeout"),
            ("llbatch run a.jsonl --api-key x", "TOGETHER_API_KEY"),
            ("llbatch run a.jsonl --append", ">> ALL`"),
            ("llbatch run a.jsonl --max-failures 3", "--limit N"),
            ("llbatch run a.jsonl --fail-fast", "--limit N"),
            ("llbatch run a.jsonl --few-shot x", "--system @FILE"),
        ] {
            let text = advice(line);
            assert!(text.contains("tip: ") && text.contains(tip), "{line}: {text}");
            assert!(!text.contains("similar"), "{line}: {text}");
            if line.starts_with("llbatch run") {
                assert!(text.contains("Usage: llbatch run [OPTIONS] [INPUT]..."), "{line}: {text}");
            }
        }
    }

    #[test]
    fn typing_error_is_corrected_and_another_word_is_not() {
        assert!(advice("llbatch run a.jsonl --max-token 4").contains("'--max-tokens'"));
        assert!(advice("llbatch stauts").contains("'status'"));
        let text = advice("llbatch run a.jsonl --zebra");
        assert!(!text.contains("tip:"), "{text}");
    }

    /// A flag that llbatch has itself is never unknown.
    #[test]
    fn no_word_of_ours_is_listed_as_another_tools() {
        let mut cli = Cli::command();
        cli.build();
        let run = cli.find_subcommand("run").unwrap();
        for flag in run.get_arguments().filter_map(|arg| arg.get_long()) {
            assert_eq!(find(&FLAGS, &format!("--{flag}")), None, "{flag}");
        }
        for command in cli.get_subcommands() {
            assert_eq!(find(&COMMANDS, command.get_name()), None);
        }
    }
}
