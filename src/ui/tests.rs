//! Tests of the decisions and the output of [`Ui`].

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

const PIPE: Streams = Streams { stderr_terminal: false, stdout_terminal: false, movable: false, columns: None };
const TERMINAL: Streams = Streams { stderr_terminal: true, stdout_terminal: true, movable: true, columns: Some(132) };

fn ui(options: UiOptions, streams: Streams) -> (Ui, Heard) {
    let heard = Heard::default();
    (Ui::with(options, streams, Box::new(heard.clone())), heard)
}

fn say_all(options: UiOptions, streams: Streams) -> String {
    let (ui, heard) = ui(options, streams);
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
    let dumb = Streams { movable: false, ..TERMINAL };
    for (color, no_color_env, streams, expected) in [
        (AutoSwitch::Auto, false, TERMINAL, true),
        (AutoSwitch::Auto, true, TERMINAL, false),
        (AutoSwitch::Auto, false, PIPE, false),
        (AutoSwitch::Auto, false, dumb, false),
        (AutoSwitch::Always, true, PIPE, true),
        (AutoSwitch::Never, false, TERMINAL, false),
    ] {
        let (ui, heard) = ui(UiOptions { color, no_color_env, ..UiOptions::default() }, streams);
        ui.warn("x");
        assert_eq!(ui.colour(), expected, "{color} {no_color_env} {streams:?}");
        assert_eq!(heard.text(), if expected { "\x1b[33mwarning:\x1b[0m x\n" } else { "warning: x\n" });
    }
}

#[test]
fn summary_is_dimmed_but_for_its_failures() {
    let text = "  rows      4: 3 answered\n  errors    1 timeout\n            1 network\n  exit      3: failed\n  time      2s\n";
    let (quiet, heard) = ui(UiOptions { color: AutoSwitch::Never, ..UiOptions::default() }, TERMINAL);
    quiet.block(text);
    assert_eq!(heard.text(), text);
    let (coloured, heard) = ui(UiOptions::default(), TERMINAL);
    coloured.block(text);
    let dim = |line: &str| format!("\x1b[2m{line}\x1b[0m");
    let expected = text
        .replace("  rows      4: 3 answered", &dim("  rows      4: 3 answered"))
        .replace("  time      2s", &dim("  time      2s"));
    assert_eq!(heard.text(), expected);
}

#[test]
fn only_our_own_escapes_are_in_talk_wherever_it_goes() {
    let hostile = "\x1b]52;c;eA==\x07\x1b[2J";
    let talk = |streams| {
        let (ui, heard) = ui(UiOptions { color: AutoSwitch::Never, ..UiOptions::default() }, streams);
        ui.note(hostile);
        ui.warn(hostile);
        ui.hint(hostile);
        ui.block(hostile);
        ui.error(&Error::usage(hostile).hint(hostile));
        ui.log(LogLevel::Info).write_all(format!("{hostile}\n").as_bytes()).unwrap();
        heard.text()
    };
    for streams in [TERMINAL, PIPE] {
        assert!(!talk(streams).contains(['\x1b', '\x07']), "{:?}", talk(streams));
        assert_eq!(talk(streams).matches("^[]52;c;eA==^G^[[2J").count(), 7);
    }
}

#[test]
fn data_is_bytes_for_a_pipe_and_visible_on_a_terminal() {
    let raw = b"a\x1b[2J\xff\n";
    for (streams, expected) in [(PIPE, &raw[..]), (TERMINAL, b"a^[[2J\\xff\n")] {
        let out = Heard::default();
        let mut data = StdoutWriter::new(ui(UiOptions::default(), streams).0, out.clone());
        data.write_all(raw).unwrap();
        data.flush().unwrap();
        assert_eq!(*out.0.lock().unwrap(), expected);
    }
}

#[test]
fn beside_a_bar_lines_are_written_whole() {
    let out = Heard::default();
    let (ui, _) = ui(UiOptions::default(), Streams { movable: false, ..TERMINAL });
    let bar = ui.add_bar(ProgressBar::hidden());
    let mut data = StdoutWriter::new(ui.clone(), out.clone());
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
    let to_file = Streams { stdout_terminal: false, ..TERMINAL };
    let dumb = Streams { movable: false, ..to_file };
    for (progress, quiet, streams, results, expected) in [
        (AutoSwitch::Auto, false, TERMINAL, Results::Elsewhere, ProgressMode::Bar),
        (AutoSwitch::Auto, false, TERMINAL, Results::Stdout, ProgressMode::Hidden),
        (AutoSwitch::Auto, false, to_file, Results::Stdout, ProgressMode::Bar),
        (AutoSwitch::Auto, false, dumb, Results::Stdout, ProgressMode::Lines),
        (AutoSwitch::Auto, false, PIPE, Results::Stdout, ProgressMode::Lines),
        (AutoSwitch::Auto, false, Streams { stdout_terminal: true, ..PIPE }, Results::Stdout, ProgressMode::Lines),
        (AutoSwitch::Always, false, TERMINAL, Results::Stdout, ProgressMode::Bar),
        (AutoSwitch::Always, false, PIPE, Results::Elsewhere, ProgressMode::Lines),
        (AutoSwitch::Never, false, TERMINAL, Results::Elsewhere, ProgressMode::Hidden),
        (AutoSwitch::Always, true, TERMINAL, Results::Elsewhere, ProgressMode::Hidden),
    ] {
        let (ui, _) = ui(UiOptions { quiet, progress, ..UiOptions::default() }, streams);
        assert_eq!(ui.mode(results), expected, "{progress} quiet={quiet} {streams:?} {results:?}");
    }
}

#[test]
fn a_log_gets_a_line_now_and_then_and_finish_ends_it() {
    let (ui, heard) = ui(UiOptions::default(), PIPE);
    let progress = Progress::start(&ui, ProgressMode::Lines, Duration::from_millis(5));
    let until = |text: &str| {
        let end = Instant::now() + Duration::from_secs(10);
        while !heard.text().contains(text) {
            assert!(Instant::now() < end, "no `{text}` in {:?}", heard.text());
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    progress.phase("checking input");
    until("llbatch: checking input\n");
    progress.update(RunCounts { total: 10, done: 4, ..RunCounts::default() });
    until("llbatch: 4 of 10 rows, ");
    progress.clone().finish();
    let said = heard.text();
    progress.finish();
    progress.update(RunCounts::default());
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(heard.text(), said);
    assert!(said.ends_with('\n'));
}

#[test]
fn a_short_run_says_nothing_and_ends_at_once() {
    let (ui, heard) = ui(UiOptions::default(), PIPE);
    let start = Instant::now();
    let progress = ui.progress(Results::Elsewhere);
    progress.update(RunCounts { total: 1, ..RunCounts::default() });
    assert!(progress.is_shown());
    drop(progress);
    assert!(start.elapsed() < Duration::from_secs(5), "it does not wait for its tick");
    assert_eq!(heard.text(), "");
}

#[test]
fn columns_beat_the_terminal_and_pipes_get_whole_values() {
    for (columns, streams, width, table) in [
        (None, TERMINAL, 132, 132),
        (Some(60), TERMINAL, 60, 60),
        (Some(0), TERMINAL, 132, 132),
        (None, PIPE, 80, usize::MAX),
        (Some(60), PIPE, 60, 60),
    ] {
        let (ui, _) = ui(UiOptions { columns, ..UiOptions::default() }, streams);
        assert_eq!((ui.width(), ui.table_width()), (width, table), "{columns:?}");
    }
    let (ui, _) = ui(UiOptions { columns: Some(100), ..UiOptions::default() }, TERMINAL);
    assert_eq!([ui.width_for_bar(70), ui.width_for_bar(120), ui.width_for_bar(usize::MAX)], [70, 100, 100]);
}

#[test]
fn a_choice_is_read_as_it_is_written() {
    for when in [AutoSwitch::Auto, AutoSwitch::Always, AutoSwitch::Never] {
        assert_eq!(when.to_string().parse(), Ok(when));
    }
    assert!("Sometimes\x1b".parse::<AutoSwitch>().is_err_and(|text| text.contains("`Sometimes^[`")));
}
