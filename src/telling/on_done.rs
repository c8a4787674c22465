//! The command of `--on-done`: the only program that llbatch starts, and only because the user names it.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempPath;
use tokio::time::{Instant, sleep};

use super::Telling;
use super::end_report::EndReport;
use crate::ui::Ui;

/// Time between two looks at the command.
const TICK: Duration = Duration::from_millis(20);
/// Longer lines of the command are cut into pieces of so many bytes.
const LONGEST_LINE: u64 = 64 << 10;
/// Time for the last lines of a command that has ended.
const LAST_LINES: Duration = Duration::from_millis(500);
/// Time for an orderly end of a command that took too long.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A command that works.
#[derive(Debug)]
pub(super) struct RunningCommand {
    /// Its processes, and those that they started.
    group: Option<Pid>,
    /// The file with the summary. It is removed when the command has ended.
    _summary: TempPath,
}

impl RunningCommand {
    /// Ends the processes at once.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // The group may have ended by itself.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// Runs `command` in a shell, and waits for it.
///
/// # Errors
/// The words of its failure.
pub(super) async fn run(
    command: &str,
    end: &EndReport,
    telling: &Telling,
    limit: Duration,
    ui: &Ui,
) -> Result<(), String> {
    let (mut child, relays) = start(command, end, telling, ui)?;
    let ended = wait(&mut child, Instant::now() + limit).await;
    // A process that the command has left behind may keep its output open.
    for relay in &relays {
        let _ = relay.recv_timeout(LAST_LINES);
    }
    let running = telling.with(|told| told.running.take());
    let late = match ended? {
        Some(status) if status.success() => return Ok(()),
        Some(status) => {
            return Err(match (status.code(), status.signal()) {
                (Some(code), _) => format!("the command ended with exit code {code}"),
                (None, signal) => format!("signal {} ended the command", signal.unwrap_or_default()),
            });
        }
        None => format!("the command took more than {} s and was ended", limit.as_secs_f64()),
    };
    if let Some(running) = running {
        running.signal(Signal::TERM);
        let in_time = wait(&mut child, Instant::now() + LAST_WORDS).await;
        running.kill();
        if !matches!(in_time, Ok(Some(_))) {
            // Killed, so this does not take long.
            let _ = child.wait();
        }
    }
    Err(late)
}

/// Starts the command in a group of processes of its own, so that a hanging one can be ended with everything that it started.
fn start(command: &str, end: &EndReport, telling: &Telling, ui: &Ui) -> Result<(Child, Vec<Receiver<()>>), String> {
    let summary = tempfile::Builder::new().prefix("llbatch-").suffix(".json").tempfile();
    let summary = summary.and_then(|mut file| {
        std::io::Write::write_all(&mut file, end.document.as_bytes())?;
        Ok(file.into_temp_path())
    });
    let summary = summary.map_err(|error| format!("the file with the summary cannot be written: {error}"))?;
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .env("LLBATCH_JOB", &end.job)
        .env("LLBATCH_STATE", &end.state)
        .env("LLBATCH_EXIT", end.exit.code().to_string())
        .env("LLBATCH_SUMMARY", &*summary)
        .stdin(Stdio::null())
        .process_group(0);
    // Stdout is for results, and the command's words are none.
    match ui.stderr_for_child() {
        Some(stderr) => shell.stdout(stderr),
        None => shell.stdout(Stdio::piped()).stderr(Stdio::piped()),
    };
    let mut child = shell.spawn().map_err(|error| format!("`sh` cannot be started: {error}"))?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    telling.with(|told| told.running = Some(RunningCommand { group, _summary: summary }));
    let relays = [relay(child.stdout.take(), ui), relay(child.stderr.take(), ui)];
    Ok((child, relays.into_iter().flatten().collect()))
}

/// Waits for the end of the command. `None`: it still works.
async fn wait(child: &mut Child, until: Instant) -> Result<Option<std::process::ExitStatus>, String> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Some(status)),
            Ok(None) if Instant::now() >= until => return Ok(None),
            Ok(None) => sleep(TICK).await,
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Repeats the lines of the command on stderr. The thread ends with the last process that can write there, and says so.
fn relay(from: Option<impl Read + Send + 'static>, ui: &Ui) -> Option<Receiver<()>> {
    let from = from?;
    let ui = ui.clone();
    let (end, ended) = channel::<()>();
    let read = move || {
        let _end = end;
        let (mut from, mut line) = (BufReader::new(from), Vec::new());
        while from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            ui.relay(&String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)));
            line.clear();
        }
    };
    // Without a thread, the command's words are lost, and nothing else.
    drop(std::thread::Builder::new().name("on-done".to_owned()).spawn(read));
    Some(ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;
    use crate::ui::UiOptions;

    fn told(command: &str, limit: Duration) -> Result<(), String> {
        let end = EndReport::of(Exit::RowsFailed, Vec::new(), || None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let telling = Telling::default();
        let ended = runtime.block_on(run(command, &end, &telling, limit, &Ui::new(UiOptions::default())));
        assert!(telling.with(|told| told.running.is_none()));
        ended
    }

    #[test]
    fn failure_of_the_command_is_in_words() {
        let long = Duration::from_secs(50);
        assert_eq!(told("exit 0", long), Ok(()));
        assert_eq!(told("exit 7", long), Err("the command ended with exit code 7".to_owned()));
        assert_eq!(told("kill -9 $$", long), Err("signal 9 ended the command".to_owned()));
    }

    #[test]
    fn command_that_hangs_is_ended_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let (alive, late) = (dir.path().join("alive"), dir.path().join("late"));
        // It ignores the polite signal, and its child would write a file later.
        let command = format!(
            "trap '' TERM; (sleep 3; touch {}) & touch {}; sleep 60; sleep 60",
            late.display(),
            alive.display()
        );
        let started = std::time::Instant::now();
        let words = told(&command, Duration::from_millis(500)).unwrap_err();
        assert_eq!(words, "the command took more than 0.5 s and was ended");
        assert!(alive.exists() && started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(3_500).saturating_sub(started.elapsed()));
        assert!(!late.exists(), "a process of the command is left");
    }
}
