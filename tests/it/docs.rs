//! README and the manual, typed as they stand: every `console` block is run on the sandbox, and its output compared.
//!
//! A line `$ COMMAND` is run by `sh`, and a command goes on over lines that end with `\`. The lines below it are its output,
//! standard error included. A line `…` stands for any lines, `…` in a line for any text. Ids of jobs, times and versions are
//! masked on both sides, and sentences may be broken anywhere. All blocks of a page share a directory, which holds `samples/`. A command that fails is followed by
//! `$ echo $?`. Blocks that need a key, a network or a terminal are marked `sh`, and are not run.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Home, side_by_side, unwrapped};
use crate::voice::mask::masked;

/// A command of a console block, and the output that the page shows.
struct Step {
    command: String,
    shown: Vec<String>,
}

/// Batches of the sandbox take no time here.
const QUICK: &str = "validation=0s,run=0s,cancel=0s";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// README and the pages of the manual, by their paths below the root.
fn pages() -> Vec<String> {
    let files = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    let names = files.map(|path| format!("docs/{}", path.file_name().unwrap().display()));
    let mut pages: Vec<String> = names.chain(["README.md".to_owned(), "AGENTS.md".to_owned()]).collect();
    pages.sort();
    pages
}

fn read(page: &str) -> String {
    std::fs::read_to_string(root().join(page)).unwrap_or_else(|e| panic!("{page}: {e}"))
}

/// The commands of the console blocks of a page.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut inside, mut goes_on) = (false, false);
    for line in text.lines() {
        match line {
            "```console" => inside = true,
            "```" => inside = false,
            _ if !inside => {}
            _ if goes_on => {
                let command = &mut steps.last_mut().unwrap().command;
                command.push('\n');
                command.push_str(line);
                goes_on = line.ends_with('\\');
            }
            _ => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => {
                    steps.push(Step { command: command.to_owned(), shown: Vec::new() });
                    goes_on = line.ends_with('\\');
                }
                (None, Some(step)) => step.shown.push(line.to_owned()),
                (None, None) => panic!("a console block begins with output: {line}"),
            },
        }
    }
    steps
}

/// `sh` in the hermetic environment of `home`, without a key. Standard error goes to standard output.
fn shell(home: &Home, command: &str, last: i32) -> Command {
    let ours = home.command(&[]);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec 2>&1\n(exit {last})\n{command}\n")]).current_dir(home.path(".")).env_clear();
    shell.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let tools = Path::new(env!("CARGO_BIN_EXE_llbatch")).parent().unwrap().display().to_string();
    shell.env("PATH", format!("{tools}:/usr/local/bin:/usr/bin:/bin")).env("LLBATCH_SANDBOX", QUICK);
    shell.env_remove("TOGETHER_API_KEY").env_remove("TOGETHER_BASE_URL");
    shell
}

/// Whether `line` is `shown`, in which `…` stands for any text.
fn line_fits(shown: &str, line: &str) -> bool {
    let Some((start, rest)) = shown.split_once('…') else { return shown == line };
    let Some(mut left) = line.strip_prefix(start) else { return false };
    let parts: Vec<&str> = rest.split('…').collect();
    let (end, middle) = parts.split_last().unwrap();
    for part in middle {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(end)
}

/// Whether the lines are those shown; a line `…` stands for any lines.
fn lines_fit(shown: &[&str], lines: &[&str]) -> bool {
    match (shown.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((&"…", rest)), _) => (0..=lines.len()).any(|skipped| lines_fit(rest, &lines[skipped..])),
        (Some((first, shown)), Some((line, lines))) => line_fits(first, line) && lines_fit(shown, lines),
        _ => false,
    }
}

/// Output of a command with ids, times and versions masked, and each sentence on one line.
fn comparable(text: &str, place: &str) -> String {
    let mut out = masked(&unwrapped(text), place);
    // Shown and printed lines may not be the same ones, so numbers of jobs would differ.
    while let Some(at) = out.find("j-job0") {
        out.replace_range(at..at + "j-job00001".len(), "j-JOB");
    }
    out
}

/// Runs the blocks of a page, and returns how what they print differs from what the page shows.
fn differences(page: &str) -> String {
    let home = Home::new();
    std::fs::create_dir(home.path("samples")).unwrap();
    for sample in std::fs::read_dir(root().join("samples")).unwrap() {
        let sample = sample.unwrap().path();
        std::fs::copy(&sample, home.path("samples").join(sample.file_name().unwrap())).unwrap();
    }
    let place = home.path("").display().to_string();
    let mut found = String::new();
    let steps = steps(&read(page));
    let mut last = 0;
    for (at, Step { command, shown }) in steps.iter().enumerate() {
        let out = home.finish(shell(&home, command, last));
        let (wanted, printed) = (comparable(&shown.join("\n"), &place), comparable(&out.stdout, &place));
        let (wanted, lines): (Vec<&str>, Vec<&str>) = (wanted.lines().collect(), printed.lines().collect());
        if !lines_fit(&wanted, &lines) {
            write!(found, "{page}: $ {command}\n--- shown, masked\n{}\n--- printed\n", wanted.join("\n")).unwrap();
            writeln!(found, "{printed}").unwrap();
        }
        if out.code != 0 && steps.get(at + 1).is_none_or(|next| next.command != "echo $?") {
            write!(found, "{page}: $ {command}\nends with {}, and `$ echo $?` does not follow\n", out.code).unwrap();
        }
        last = out.code;
    }
    found
}

#[test]
fn console_blocks_print_what_they_show() {
    let pages = pages();
    let found = std::sync::Mutex::new(String::new());
    side_by_side(&pages, |page| {
        let differences = differences(page);
        found.lock().unwrap().push_str(&differences);
    });
    let found = found.into_inner().unwrap();
    assert!(found.is_empty(), "{found}");
    let count: usize = pages.iter().map(|page| steps(&read(page)).len()).sum();
    assert!(count > 30, "{count} commands: the blocks were not found");
}

#[test]
fn elisions_stand_for_any_text_and_nothing_else() {
    assert!(line_fits("a … c", "a b c") && line_fits("…", "") && line_fits("x…y…z", "x1y2z"));
    assert!(!line_fits("a … c", "a b d") && !line_fits("a", "a b") && !line_fits("x…y", "xy z"));
    assert!(lines_fit(&["a", "…", "d"], &["a", "b", "c", "d"]) && lines_fit(&["…"], &[]));
    assert!(!lines_fit(&["a", "…"], &["b"]) && !lines_fit(&["a"], &["a", "b"]));
}

#[test]
fn links_between_pages_lead_somewhere() {
    for page in pages().into_iter().chain(["CONTRIBUTING.md".to_owned(), "SECURITY.md".to_owned()]) {
        let text = read(&page);
        let folder = root().join(&page).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let file = link.split('#').next().unwrap();
            if !link.contains("://") && !file.is_empty() {
                assert!(folder.join(file).exists(), "{page} links to {link}, which is not there");
            }
        }
    }
}

#[test]
fn help_prints_every_page_of_the_manual() {
    let home = Home::new();
    let summary = read("docs/SUMMARY.md");
    let listed: BTreeSet<&str> =
        summary.split("](").skip(1).filter_map(|rest| rest.split_once(".md)")).map(|(name, _)| name).collect();
    let help = home.llbatch(&["help"]).code(0).stdout;
    let pages = pages();
    let files = pages.iter().filter_map(|page| page.strip_prefix("docs/")?.strip_suffix(".md"));
    let files: BTreeSet<&str> = files.filter(|name| *name != "SUMMARY").collect();
    assert_eq!(files, listed, "docs/SUMMARY.md lists every page of docs/");
    let (_, named) = help.split_once("Pages: ").unwrap();
    let named: BTreeSet<&str> = named.split([',', '.', ' ', '\n']).filter(|word| !word.is_empty()).collect();
    assert_eq!(files, named, "`llbatch --help` names every page");
    for page in files {
        let text = read(&format!("docs/{page}.md"));
        assert_eq!(home.llbatch(&["help", page]).code(0).stdout, text, "{page}");
    }
    home.llbatch(&["help", "nosuch"]).code(2).says(&["`nosuch`", "money"]);
    for (typed, near) in [("reslts", "results"), ("stauts", "status"), ("mony", "money"), ("sumbit", "submit")] {
        home.llbatch(&["help", typed]).code(2).says(&[&format!("`llbatch help {near}` is the nearest")]);
    }
    for (word, page) in
        [("resume", "realtime"), ("Cron", "schedulers"), ("exit-codes", "errors"), ("config", "services")]
    {
        home.llbatch(&["help", word]).code(2).says(&[&format!("`llbatch help {page}` is about it")]);
    }
}

#[test]
fn readme_decides_and_starts_in_few_lines() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 180, "{lines} lines; what is more belongs into docs/");
    let agents = read("AGENTS.md").lines().count();
    assert!(agents <= 60, "{agents} lines in AGENTS.md");
}

/// The first cells of a page's tables whose head is `| message |`.
fn quoted_messages(page: &str) -> Vec<String> {
    let text = read(page);
    let mut messages = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        inside = line.starts_with("| message |") || inside && line.starts_with('|');
        let cell = line.strip_prefix("| `").filter(|_| inside).map(|row| row.replace("\\|", "/"));
        if let Some(cell) = cell.as_deref().and_then(|row| row.split(" |").next()) {
            messages.push(cell.trim_matches('`').to_owned());
        }
    }
    messages
}

/// Every file below `folder` whose name ends so, as one text.
fn all_text(folder: &Path, ending: &str) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text.push_str(&all_text(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
    text
}

#[test]
fn errors_page_quotes_messages_that_llbatch_prints() {
    let printed = all_text(&root().join("tests/it"), ".snap") + &all_text(&root().join("src"), ".rs");
    let messages = quoted_messages("docs/errors.md");
    assert!(messages.len() > 30, "{messages:?}");
    for message in messages {
        for part in message.split('…').map(str::trim).filter(|part| part.len() > 3) {
            assert!(printed.contains(part), "nothing prints {part:?}, which docs/errors.md quotes in {message:?}");
        }
    }
}
