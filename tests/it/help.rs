//! The help texts as they stand: a change of a snapshot is a change of what users read.

use crate::support::Home;

fn help(args: &[&str]) -> String {
    let out = Home::new().llbatch(args).code(0);
    assert_eq!(out.stderr, "", "help goes to stdout");
    for line in out.stdout.lines() {
        assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
    }
    // Clap leaves spaces at the ends of lines.
    out.stdout.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// The commands whose `--help` has a snapshot of the same name.
const COMMANDS: [&str; 18] = [
    "run",
    "submit",
    "wait",
    "fetch",
    "retry",
    "cancel",
    "status",
    "report",
    "merge",
    "prepare",
    "check",
    "models",
    "serve",
    "clean",
    "doctor",
    "man",
    "completions",
    "help",
];

#[test]
fn help_of_every_command() {
    for command in COMMANDS {
        insta::assert_snapshot!(command, help(&[command, "--help"]));
    }
    insta::assert_snapshot!("llbatch", help(&["--help"]));
    insta::assert_snapshot!("run_short", help(&["run", "-h"]));
}

#[test]
fn help_command_shows_the_same_help() {
    assert_eq!(help(&["help"]), help(&["--help"]));
    assert_eq!(help(&["help", "retry"]), help(&["retry", "--help"]));
    assert_eq!(Home::new().llbatch(&["help", "nosuch"]).code, 2);
}

#[test]
fn version_is_that_of_the_crate() {
    let out = Home::new().llbatch(&["--version"]).code(0);
    assert_eq!(out.stdout, format!("llbatch {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn version_and_help_are_documents_with_json() {
    let document = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&Home::new().llbatch(args).code(0).stdout).unwrap_or_else(|e| panic!("{args:?}: {e}"))
    };
    let version = serde_json::json!({"version": 1, "llbatch": env!("CARGO_PKG_VERSION")});
    for args in [["--version", "--json"], ["--json", "-V"], ["version", "--json"]] {
        assert_eq!(document(&args), version, "{args:?}");
    }
    let retry = document(&["retry", "--help", "--json"]);
    assert_eq!(
        (&retry["version"], retry["help"].as_str()),
        (&1.into(), Some(&*Home::new().llbatch(&["retry", "--help"]).stdout))
    );
    for args in [&["help", "--json"][..], &["--json", "help"], &["--help", "--json"]] {
        assert!(document(args)["help"].as_str().unwrap().contains("Usage: llbatch"), "{args:?}");
    }
    assert_eq!(document(&["help", "retry", "--json"]), retry);
    let wrong: serde_json::Value =
        serde_json::from_str(&Home::new().llbatch(&["help", "nosuch", "--json"]).code(2).stdout).unwrap();
    assert!(wrong["error"]["message"].as_str().unwrap().contains("`nosuch`"), "{wrong}");
}

/// `docs/reference.md` as the command line makes it.
fn reference() -> String {
    let mut text =
        "# Reference\n\nEvery command and flag, as `--help` prints them. `llbatch man` has the same text as man \
                    pages.\n\n## llbatch\n\n"
            .to_owned();
    let block = |args: &[&str]| format!("```text\n{}\n```\n", help(args).trim_end());
    text.push_str(&block(&["--help"]));
    for command in COMMANDS {
        text += &["\n## llbatch ", command, "\n\n", &block(&[command, "--help"])].concat();
    }
    text
}

#[test]
fn reference_is_the_help_of_every_command() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference.md");
    let wanted = reference();
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/reference.md is not what --help prints; `INSTA_UPDATE=always cargo test --test it help` writes it anew"
    );
}
