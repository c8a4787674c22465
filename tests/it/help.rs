//! Help texts, as they stand: a change here is a change of what users read.

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

#[test]
fn help_of_the_program() {
    insta::assert_snapshot!("help", help(&["--help"]));
}

#[test]
fn help_of_run() {
    insta::assert_snapshot!("run", help(&["run", "--help"]));
}

#[test]
fn short_help_of_run() {
    insta::assert_snapshot!("run_short", help(&["run", "-h"]));
}

#[test]
fn help_of_serve() {
    insta::assert_snapshot!("serve", help(&["serve", "--help"]));
}

#[test]
fn help_of_status_and_report() {
    insta::assert_snapshot!("status", help(&["status", "--help"]));
    insta::assert_snapshot!("report", help(&["report", "--help"]));
}

#[test]
fn help_of_prepare() {
    insta::assert_snapshot!("prepare", help(&["prepare", "--help"]));
}

#[test]
fn help_of_the_batch_commands() {
    for command in ["submit", "wait", "fetch", "retry", "cancel", "clean"] {
        insta::assert_snapshot!(command, help(&[command, "--help"]));
    }
}

#[test]
fn help_of_check_and_models() {
    insta::assert_snapshot!("check", help(&["check", "--help"]));
    insta::assert_snapshot!("models", help(&["models", "--help"]));
}

#[test]
fn help_of_doctor_completions_and_man() {
    for command in ["doctor", "completions", "man"] {
        insta::assert_snapshot!(command, help(&[command, "--help"]));
    }
}

#[test]
fn version_is_that_of_the_crate() {
    let out = Home::new().llbatch(&["--version"]).code(0);
    assert_eq!(out.stdout, format!("llbatch {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn readme_shows_the_current_help() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("a README");
    let block = readme
        .split_once("<!-- help -->\n```text\n")
        .and_then(|(_, rest)| rest.split_once("\n```"))
        .expect("the block")
        .0;
    let shown: Vec<&str> = block.lines().map(str::trim_end).collect();
    assert_eq!(shown.join("\n"), help(&["--help"]).trim_end());
}
