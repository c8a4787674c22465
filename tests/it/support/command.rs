//! The binary in a hermetic environment: no variable, home or state of the user gets in.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{PATIENCE, Server};

/// The key of every command. It may appear nowhere.
pub const KEY: &str = "canary-key-3f9a1c77";

const BINARY: &str = env!("CARGO_BIN_EXE_llbatch");

/// A directory that is working directory, home and state directory of the commands run in it.
pub struct Home {
    dir: tempfile::TempDir,
    started: AtomicU32,
}

/// The outcome of a command.
pub struct Out {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Out {
    /// Panics with the whole output unless the command ended with `code`.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// Panics unless stderr contains all of `parts`.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "stderr lacks {part:?}:\n{}", self.stderr);
        }
        self
    }
}

impl Home {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["home", "tmp"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        Self { dir, started: AtomicU32::new(0) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory that holds the jobs.
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// Writes the config file.
    pub fn config(&self, text: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path("home/config/llbatch")).unwrap();
        self.write("home/config/llbatch/config.toml", text);
    }

    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The results in `name`: those in `name.partial` if the last command did not end with 0 or 3.
    #[track_caller]
    pub fn results(&self, name: &str) -> String {
        let partial = format!("{name}.partial");
        self.read(if self.exists(&partial) { &partial } else { name })
    }

    #[track_caller]
    pub fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.read(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// The hermetic command.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.path("home"))
            .env("XDG_CONFIG_HOME", self.path("home/config"))
            .env("XDG_STATE_HOME", self.path("home/state"))
            .env("TMPDIR", self.path("tmp"))
            .env("LLBATCH_STATE_DIR", self.state())
            .env("TOGETHER_API_KEY", KEY)
            // An address that nobody serves: a test that forgets its server must not find the real one.
            .env("TOGETHER_BASE_URL", "http://127.0.0.1:9/v1")
            .env("COLUMNS", "80")
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC");
        command
    }

    /// `llbatch ARGS` to its end.
    pub fn llbatch(&self, args: &[&str]) -> Out {
        self.finish(self.command(args))
    }

    /// `llbatch ARGS --base-url URL`, not started.
    pub fn command_at(&self, url: &str, args: &[&str]) -> Command {
        self.command(&[args, &["--base-url", url]].concat())
    }

    /// `llbatch ARGS --base-url URL` to its end.
    pub fn at(&self, url: &str, args: &[&str]) -> Out {
        self.finish(self.command_at(url, args))
    }

    /// `llbatch run --base-url SERVER ARGS` to its end.
    pub fn run(&self, server: &Server, args: &[&str]) -> Out {
        self.finish(self.run_command(&server.url, args))
    }

    /// The same with `input` on its standard input.
    pub fn run_with_stdin(&self, url: &str, args: &[&str], input: &[u8]) -> Out {
        self.write("stdin.bytes", input);
        let mut command = self.run_command(url, args);
        command.stdin(File::open(self.path("stdin.bytes")).unwrap());
        self.start(command).wait()
    }

    /// `llbatch run --base-url URL ARGS`, not started.
    pub fn run_command(&self, url: &str, args: &[&str]) -> Command {
        let mut all = vec!["run", "--base-url", url];
        all.extend(args);
        self.command(&all)
    }

    /// `llbatch run --base-url SERVER ARGS`, started.
    pub fn spawn(&self, server: &Server, args: &[&str]) -> Running {
        let mut command = self.run_command(&server.url, args);
        command.stdin(Stdio::null());
        self.start(command)
    }

    /// Runs `command` to its end.
    pub fn finish(&self, mut command: Command) -> Out {
        command.stdin(Stdio::null());
        self.start(command).wait()
    }

    /// Starts `command`. Its output goes to files, so that no pipe fills up.
    pub fn start(&self, mut command: Command) -> Running {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let (stdout, stderr) = (self.path(&format!("tmp/stdout-{number}")), self.path(&format!("tmp/stderr-{number}")));
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        Running { child: command.spawn().unwrap(), stdout, stderr }
    }

    /// Every file below the directory that contains `text`, the commands' own output included.
    pub fn files_with(&self, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut left = vec![self.dir.path().to_owned()];
        while let Some(path) = left.pop() {
            if path.is_dir() {
                left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if contains(&std::fs::read(&path).unwrap(), text.as_bytes()) {
                found.push(path.strip_prefix(self.dir.path()).unwrap().display().to_string());
            }
        }
        found
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A running command. It is killed when dropped.
pub struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Sends a signal by its name, such as `INT`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// SIGKILL, and waits for the end. `None`: it was killed; otherwise it had ended before.
    pub fn kill(mut self) -> Option<i32> {
        self.child.kill().unwrap();
        self.child.wait().unwrap().code()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The most memory that it has had so far, in KiB; 0 once it has ended.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak.map_or(0, |peak| peak.trim().trim_end_matches(" kB").parse().unwrap())
    }

    /// Its stderr so far.
    pub fn stderr(&self) -> String {
        unwrapped(&text(&self.stderr))
    }

    /// Its stdout so far.
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Out {
        let mut ended = None;
        let started = Instant::now();
        while ended.is_none() && started.elapsed() < PATIENCE {
            ended = self.child.try_wait().unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        let (stdout, stderr) = (self.stdout(), self.stderr());
        let status = ended.unwrap_or_else(|| panic!("still running\n--- stderr\n{stderr}"));
        Out { code: code(status), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal by its name to a process.
pub fn signal(process: u32, name: &str) {
    // `kill` is built into every shell; the test has no unsafe code to call it otherwise.
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status().unwrap();
    assert!(sent.success(), "kill -{name}");
}

/// The exit code; a death by signal is minus its number, so that it is never mistaken for one.
fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
}

/// Joins the lines of sentences that the width has broken. Such a line begins with four blanks.
pub fn unwrapped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        match line.strip_prefix("    ").filter(|rest| !rest.starts_with(' ') && !out.is_empty()) {
            Some(rest) => out.extend([" ", rest]),
            None if out.is_empty() => out.push_str(line),
            None => out.extend(["\n", line]),
        }
    }
    if text.ends_with('\n') {
        out.push('\n');
    }
    out
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}
