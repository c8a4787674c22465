//! `llbatch serve`: the built-in server in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{print_json, print_text};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::sandbox::{
    self, BatchConfig, CachedTokens, Downloads, FixedWindow, SandboxConfig, ScriptedFault, ServedDialect, Unset,
};
use crate::settings::SANDBOX_ENV;

/// Run a local server for rehearsals and tests, compatible with Together or OpenAI
///
/// Prints its base URL on stdout and serves until interrupted. Each answer is derived from its prompt, the same every
/// time.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = long_help())]
pub struct ServeArgs {
    /// Address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Form of the API
    #[arg(long, value_name = "DIALECT", default_value = "together", value_parser = dialect())]
    dialect: ServedDialect,
    /// The only key that the server accepts [default: every key that does not begin with bad-key]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Latency of an answer
    #[arg(long, value_name = "TIME", default_value = "0s")]
    latency: String,
    /// Random variation of the latency, 0 to 1
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0)]
    jitter: f64,
    /// Requests per second; more get a 429
    #[arg(long, value_name = "N")]
    rps: Option<f64>,
    /// Requests accepted at once under --rps [default: one second's worth]
    #[arg(long, value_name = "N", requires = "rps")]
    burst: Option<f64>,
    /// Tokens per second
    #[arg(long, value_name = "N")]
    tokens_per_second: Option<f64>,
    /// Requests of a key in each fixed window, as in 120/1m; more get a 429
    #[arg(long, value_name = "N/TIME")]
    window: Option<FixedWindow>,
    /// Concurrent requests; more get a 429 that says so
    #[arg(long, value_name = "N", value_parser = sandbox::whole::<u64>, conflicts_with = "capacity")]
    parallel: Option<u64>,
    /// Requests worked on at once; more wait for their turn
    #[arg(long, value_name = "N", value_parser = sandbox::whole::<usize>)]
    slots: Option<usize>,
    /// Concurrent requests; more get a 503
    #[arg(long, value_name = "N")]
    capacity: Option<u64>,
    /// Send x-ratelimit-* headers on every answer
    #[arg(long)]
    rate_headers: bool,
    /// Form of the retry hint in a 429
    #[arg(long, value_name = "HOW", default_value = "seconds", value_parser = ["none", "seconds", "date", "reset", "ms"])]
    retry_after: String,
    /// Compress answers
    #[arg(long)]
    gzip: bool,
    /// Scripted fault; may be repeated (see --help)
    #[arg(long, value_name = "SPEC")]
    fault: Vec<ScriptedFault>,
    /// Seed of all random choices
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Count payments per prompt, for GET /sandbox/stats
    #[arg(long)]
    track: bool,
    /// Report parts of prompts as cached, and bill them at a tenth of the price
    #[arg(long, value_name = "HOW", default_value = "none", value_parser = cached_tokens())]
    cached_tokens: CachedTokens,
    /// Keep the beginnings of prompts for TIME after their last use, and report and bill them as cached
    #[arg(long, value_name = "TIME", value_parser = sandbox::duration)]
    prefix_cache: Option<Duration>,
    #[command(flatten)]
    batches: Box<Batches>,
}

/// The options for batch jobs and files.
#[derive(Debug, Args)]
#[command(next_help_heading = "Batches")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct Batches {
    /// Directory for files and batches, to share with other servers [default: deleted with the server]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Time in VALIDATING
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = sandbox::duration)]
    batch_validation: Duration,
    /// Time in IN_PROGRESS
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = sandbox::duration)]
    batch_run: Duration,
    /// Time in CANCELING
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = sandbox::duration)]
    batch_cancel: Duration,
    /// End batches as EXPIRED with this fraction of their rows answered
    #[arg(long, value_name = "FRACTION", value_parser = sandbox::fraction)]
    expires_at: Option<f64>,
    /// End batches as FAILED with this error text
    #[arg(long, value_name = "TEXT")]
    batch_fails: Option<String>,
    /// Batches that may be unfinished at once; one more ends as FAILED, because the queue is full
    #[arg(long, value_name = "N")]
    batch_queue: Option<usize>,
    /// List unfinished rows of EXPIRED and CANCELLED batches in the error file
    #[arg(long)]
    list_undone: bool,
    /// Time before a new batch appears in the list of batches
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = sandbox::duration)]
    list_lag: Duration,
    /// Form of the unset fields of a batch [default: omit; null in OpenAI's dialect]
    #[arg(long, value_name = "HOW", value_parser = unset())]
    unset: Option<Unset>,
    /// Most batches in a page of the list, in OpenAI's dialect
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
    list_page: u8,
    /// Write the body of an answer as a JSON string, in OpenAI's dialect
    #[arg(long)]
    body_text: bool,
    /// Redirect downloads to the storage, like uploads
    #[arg(long)]
    content_redirect: bool,
    /// Ignore the Range header of downloads
    #[arg(long)]
    no_ranges: bool,
}

fn unset() -> impl clap::builder::TypedValueParser<Value = Unset> {
    use clap::builder::TypedValueParser;
    clap::builder::PossibleValuesParser::new(["omit", "null", "empty"]).try_map(|text| text.parse::<Unset>())
}

fn dialect() -> impl clap::builder::TypedValueParser<Value = ServedDialect> {
    use clap::builder::TypedValueParser;
    clap::builder::PossibleValuesParser::new(["together", "openai"]).try_map(|text| text.parse::<ServedDialect>())
}

fn cached_tokens() -> impl clap::builder::TypedValueParser<Value = CachedTokens> {
    use clap::builder::TypedValueParser;
    clap::builder::PossibleValuesParser::new(["none", "flat", "nested"]).try_map(|text| text.parse::<CachedTokens>())
}

impl Batches {
    fn config(&self) -> BatchConfig {
        BatchConfig {
            validation: self.batch_validation,
            run: self.batch_run,
            cancel: self.batch_cancel,
            expires_at: self.expires_at,
            fails: self.batch_fails.clone(),
            queue: self.batch_queue,
            list_undone: self.list_undone,
            list_lag: self.list_lag,
            unset: self.unset,
            list_page: usize::from(self.list_page),
            body_text: self.body_text,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  llbatch serve --listen 127.0.0.1:8080 --rps 10
  llbatch serve --latency 200ms --fault status=503,rate=0.05,retry-after=2 --fault truncate,every=50
  llbatch serve --batch-run 1m --expires-at 0.9 --fault reset,on=create,after
  llbatch run prompts.jsonl --base-url http://127.0.0.1:8080 -o out.jsonl      (TOGETHER_API_KEY=anything)";

fn long_help() -> String {
    format!(
        "{EXAMPLES}\n\nFaults:\n{}\n\n{SANDBOX_ENV} in the environment scripts the built-in server of --sandbox.\n{}",
        sandbox::FAULT_HELP,
        sandbox::SCRIPT_HELP
    )
}

impl ServeArgs {
    fn config(self) -> Result<SandboxConfig> {
        let latency = sandbox::duration(&self.latency).map_err(|e| Error::usage(format!("--latency: {e}")))?;
        let retry_after = self.retry_after.parse().map_err(|e| Error::usage(format!("--retry-after: {e}")))?;
        Ok(SandboxConfig {
            listen: self.listen,
            dialect: self.dialect,
            key: self.key,
            latency,
            latency_jitter: self.jitter,
            rps: self.rps,
            burst: self.burst,
            tokens_per_second: self.tokens_per_second,
            window: self.window,
            parallel: self.parallel,
            slots: self.slots,
            capacity: self.capacity,
            rate_headers: self.rate_headers,
            retry_after,
            gzip: self.gzip,
            faults: self.fault,
            seed: self.seed,
            track: self.track,
            cached_tokens: self.cached_tokens,
            prefix_cache: self.prefix_cache,
            batch: self.batches.config(),
            state_dir: self.batches.keep,
            downloads: Downloads { redirect: self.batches.content_redirect, ignore_ranges: self.batches.no_ranges },
            ..SandboxConfig::default()
        })
    }
}

/// Runs the subcommand.
pub fn run(args: ServeArgs, ctx: &Ctx) -> Result<Exit> {
    let listen = args.listen;
    let key = if args.key.is_some() { "that key" } else { "any key" };
    let server = sandbox::start(args.config()?)
        .map_err(|e| Error::new(Exit::Failure, format!("cannot serve on {listen}")).because(e))?;
    let signals = stop_on_signal(server.stopper())?;
    if ctx.json {
        print_json(&serde_json::json!({"version": 1, "base_url": server.url}), ctx)?;
    } else {
        print_text(&format!("{}\n", server.url), ctx)?;
    }
    ctx.ui.note(&format!("serving until interrupted; pass its URL with --base-url, and {key} in TOGETHER_API_KEY"));
    server.wait();
    Ok(signals.join().ok().flatten().unwrap_or(Exit::Failure))
}

/// Starts a thread that cancels `stopper` on SIGINT or SIGTERM and returns the exit code of that signal. It catches
/// signals when this returns, because a program that has read the printed address may send one at once.
fn stop_on_signal(stopper: CancellationToken) -> Result<JoinHandle<Option<Exit>>> {
    let (ready, is_ready) = mpsc::channel::<()>();
    let wait = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(async {
            let mut int = signal(SignalKind::interrupt()).ok()?;
            let mut term = signal(SignalKind::terminate()).ok()?;
            drop(ready);
            let exit = tokio::select! {
                _ = int.recv() => Exit::Interrupt,
                _ = term.recv() => Exit::Terminate,
            };
            stopper.cancel();
            Some(exit)
        })
    };
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(wait);
    let thread = thread.map_err(|e| Error::new(Exit::Failure, "a thread cannot be started").because(e))?;
    // The channel carries no message. It closes when the thread is ready, or has failed.
    let _ = is_ready.recv();
    Ok(thread)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct ServeLine {
        #[command(flatten)]
        batches: Batches,
    }

    #[test]
    fn the_flags_default_to_what_the_sandbox_does() {
        let line = ServeLine::try_parse_from(["serve"]).unwrap();
        assert_eq!(line.batches.config(), BatchConfig::default());
    }
}
