//! What the [`Ui`] decides and what comes out of it.

use std::time::{Duration, Instant};

use super::*;
use crate::error::Exit;

/// A stderr that can be read afterwards.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Heard {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const PIPE: Facts = Facts { stderr_terminal: false, stdout_terminal: false, movable: false, columns: None };
const TERMINAL: Facts = Facts { stderr_terminal: true, stdout_terminal: true, movable: true, columns: Some(132) };

fn ui(options: UiOptions, facts: Facts) -> (Ui, Heard) {
    let heard = Heard::default();
    (Ui::with(options, facts, Box::new(heard.clone())), heard)
}

fn say_all(options: UiOptions, facts: Facts) -> String {
    let (ui, heard) = ui(options, facts);
    ui.note("a note");
    ui.detail("a detail");
    ui.warn("a warning");
    ui.hint("a hint");
    ui.block("a\n  block\n");
    ui.error(&Error::new(Exit::Io, "no luck").because(io::Error::other("none at all")).hint("try again"));
    heard.text()
}

#[test]
fn everything_is_said_once_and_quiet_keeps_what_matters() {
    let options = UiOptions::default();
    let all = "a note\nwarning: a warning\nhint: a hint\na\n  block\nerror: no luck: none at all\n  hint: try again\n";
    assert_eq!(say_all(options, PIPE), all);
    let quiet = "warning: a warning\nerror: no luck: none at all\n  hint: try again\n";
    assert_eq!(say_all(UiOptions { quiet: true, verbose: 1, ..options }, PIPE), quiet);
    assert_eq!(say_all(UiOptions { json: true, ..options }, PIPE), all.replace("a\n  block\n", ""));
    let verbose = all.replace("a note\n", "a note\na detail\n");
    assert_eq!(say_all(UiOptions { verbose: 1, ..options }, PIPE), verbose);
}

#[test]
fn colour_is_for_capable_terminals_unless_told_otherwise() {
    let dumb = Facts { movable: false, ..TERMINAL };
    for (color, no_color_env, facts, expected) in [
        (When::Auto, false, TERMINAL, true),
        (When::Auto, true, TERMINAL, false),
        (When::Auto, false, PIPE, false),
        (When::Auto, false, dumb, false),
        (When::Always, true, PIPE, true),
        (When::Never, false, TERMINAL, false),
    ] {
        let (ui, heard) = ui(UiOptions { color, no_color_env, ..UiOptions::default() }, facts);
        ui.warn("x");
        assert_eq!(ui.colour(), expected, "{color} {no_color_env} {facts:?}");
        assert_eq!(heard.text(), if expected { "\x1b[33mwarning:\x1b[0m x\n" } else { "warning: x\n" });
    }
}

#[test]
fn only_our_own_escapes_are_in_talk_wherever_it_goes() {
    let hostile = "\x1b]52;c;eA==\x07\x1b[2J";
    let talk = |facts| {
        let (ui, heard) = ui(UiOptions { color: When::Never, ..UiOptions::default() }, facts);
        ui.note(hostile);
        ui.warn(hostile);
        ui.hint(hostile);
        ui.block(hostile);
        ui.error(&Error::usage(hostile).hint(hostile));
        ui.log().write_all(format!("{hostile}\n").as_bytes()).unwrap();
        heard.text()
    };
    for facts in [TERMINAL, PIPE] {
        assert!(!talk(facts).contains(['\x1b', '\x07']), "{:?}", talk(facts));
        assert_eq!(talk(facts).matches("^[]52;c;eA==^G^[[2J").count(), 7);
    }
}

#[test]
fn data_is_bytes_for_a_pipe_and_visible_on_a_terminal() {
    let raw = b"a\x1b[2J\xff\n";
    for (facts, expected) in [(PIPE, &raw[..]), (TERMINAL, b"a^[[2J\\xff\n")] {
        let out = Heard::default();
        let mut data = Data::new(ui(UiOptions::default(), facts).0, out.clone());
        data.write_all(raw).unwrap();
        data.flush().unwrap();
        assert_eq!(*out.0.lock().unwrap(), expected);
    }
}

#[test]
fn beside_a_bar_lines_are_written_whole() {
    let out = Heard::default();
    let (ui, _) = ui(UiOptions::default(), Facts { movable: false, ..TERMINAL });
    let bar = ui.add_bar(ProgressBar::hidden());
    let mut data = Data::new(ui.clone(), out.clone());
    data.write_all(b"one\ntw").unwrap();
    data.flush().unwrap();
    assert_eq!(out.text(), "one\n");
    data.write_all(b"o\nthr").unwrap();
    assert_eq!(out.text(), "one\ntwo\n");
    ui.remove_bar(&bar);
    data.flush().unwrap();
    assert_eq!(out.text(), "one\ntwo\nthr");
    drop(data);
    assert_eq!(out.text(), "one\ntwo\nthr");
}

#[test]
fn progress_is_shown_where_it_does_no_harm() {
    let to_file = Facts { stdout_terminal: false, ..TERMINAL };
    let dumb = Facts { movable: false, ..to_file };
    for (progress, quiet, facts, results, expected) in [
        (When::Auto, false, TERMINAL, Results::Elsewhere, Mode::Bar),
        (When::Auto, false, TERMINAL, Results::Stdout, Mode::Hidden),
        (When::Auto, false, to_file, Results::Stdout, Mode::Bar),
        (When::Auto, false, dumb, Results::Stdout, Mode::Lines),
        (When::Auto, false, PIPE, Results::Stdout, Mode::Lines),
        (When::Auto, false, Facts { stdout_terminal: true, ..PIPE }, Results::Stdout, Mode::Lines),
        (When::Always, false, TERMINAL, Results::Stdout, Mode::Bar),
        (When::Always, false, PIPE, Results::Elsewhere, Mode::Lines),
        (When::Never, false, TERMINAL, Results::Elsewhere, Mode::Hidden),
        (When::Always, true, TERMINAL, Results::Elsewhere, Mode::Hidden),
    ] {
        let (ui, _) = ui(UiOptions { quiet, progress, ..UiOptions::default() }, facts);
        assert_eq!(ui.mode(results), expected, "{progress} quiet={quiet} {facts:?} {results:?}");
    }
}

#[test]
fn a_log_gets_a_line_now_and_then_and_finish_ends_it() {
    let (ui, heard) = ui(UiOptions::default(), PIPE);
    let progress = Progress::with(&ui, Mode::Lines, Duration::from_millis(5));
    let until = |text: &str| {
        let end = Instant::now() + Duration::from_secs(10);
        while !heard.text().contains(text) {
            assert!(Instant::now() < end, "no `{text}` in {:?}", heard.text());
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    progress.phase("checking input");
    until("llbatch: checking input\n");
    progress.update(Snapshot { total: 10, done: 4, ..Snapshot::default() });
    until("llbatch: 4 of 10 rows, ");
    progress.clone().finish();
    let said = heard.text();
    progress.finish();
    progress.update(Snapshot::default());
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(heard.text(), said);
    assert!(said.ends_with('\n'));
}

#[test]
fn a_short_run_says_nothing_and_ends_at_once() {
    let (ui, heard) = ui(UiOptions::default(), PIPE);
    let start = Instant::now();
    let progress = ui.progress(Results::Elsewhere);
    progress.update(Snapshot { total: 1, ..Snapshot::default() });
    assert!(progress.is_shown());
    drop(progress);
    assert!(start.elapsed() < Duration::from_secs(5), "it does not wait for its tick");
    assert_eq!(heard.text(), "");
}

#[test]
fn columns_beat_the_terminal_and_pipes_get_whole_values() {
    for (columns, facts, width, table) in [
        (None, TERMINAL, 132, 132),
        (Some(60), TERMINAL, 60, 60),
        (Some(0), TERMINAL, 132, 132),
        (None, PIPE, 80, usize::MAX),
        (Some(60), PIPE, 60, 60),
    ] {
        let (ui, _) = ui(UiOptions { columns, ..UiOptions::default() }, facts);
        assert_eq!((ui.width(), ui.table_width()), (width, table), "{columns:?}");
    }
    let (ui, _) = ui(UiOptions { columns: Some(100), ..UiOptions::default() }, TERMINAL);
    assert_eq!([ui.width_for_bar(70), ui.width_for_bar(120), ui.width_for_bar(usize::MAX)], [70, 100, 100]);
}

#[test]
fn a_choice_is_read_as_it_is_written() {
    for when in [When::Auto, When::Always, When::Never] {
        assert_eq!(when.to_string().parse(), Ok(when));
    }
    assert!("Sometimes\x1b".parse::<When>().is_err_and(|text| text.contains("`Sometimes^[`")));
}
