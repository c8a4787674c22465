//! `llbatch serve`: the built-in server in the foreground.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::print_text;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::sandbox::{self, Config, Fault, HintStyle};

/// A local Together-compatible server for rehearsals and tests
///
/// Prints its base URL on stdout and serves until interrupted. Answers are made up from the prompt, the same every time.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = long_help())]
pub struct Serve {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The only key that is taken [default: any but bad-key…]
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Time to answer
    #[arg(long, value_name = "TIME", default_value = "0s")]
    latency: String,
    /// Variation of the latency, 0 to 1
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0)]
    jitter: f64,
    /// Requests a second; more are refused with 429
    #[arg(long, value_name = "N")]
    rps: Option<f64>,
    /// Requests that may come at once under --rps [default: one second's worth]
    #[arg(long, value_name = "N", requires = "rps")]
    burst: Option<f64>,
    /// Tokens a second
    #[arg(long, value_name = "N")]
    tokens_per_second: Option<f64>,
    /// Requests worked on at once; more are answered 503
    #[arg(long, value_name = "N")]
    capacity: Option<u64>,
    /// Send x-ratelimit-* headers on every answer
    #[arg(long)]
    rate_headers: bool,
    /// How a 429 says when to come back
    #[arg(long, value_name = "HOW", default_value = "seconds", value_parser = ["none", "seconds", "date", "reset", "ms"])]
    retry_after: String,
    /// Compress answers
    #[arg(long)]
    gzip: bool,
    /// A scripted fault; may be repeated (see --help)
    #[arg(long, value_name = "SPEC")]
    fault: Vec<Fault>,
    /// Where chance starts from
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Count payments per prompt, for GET /sandbox/stats
    #[arg(long)]
    track: bool,
}

const EXAMPLES: &str = "\
Examples:
  llbatch serve --listen 127.0.0.1:8080 --rps 10
  llbatch serve --latency 200ms --fault status=503,rate=0.05,retry-after=2 --fault truncate,every=50
  llbatch run prompts.jsonl --base-url http://127.0.0.1:8080 -o out.jsonl      (TOGETHER_API_KEY=anything)";

fn long_help() -> String {
    format!("{EXAMPLES}\n\nFaults:\n{}", sandbox::FAULT_HELP)
}

/// Runs the subcommand.
pub fn run(args: Serve, ctx: &Ctx) -> Result<Exit> {
    let latency: Duration = sandbox::duration(&args.latency).map_err(|e| Error::usage(format!("--latency: {e}")))?;
    let retry_after: HintStyle = args.retry_after.parse().map_err(|e| Error::usage(format!("--retry-after: {e}")))?;
    let config = Config {
        listen: args.listen,
        key: args.key,
        latency,
        latency_jitter: args.jitter,
        rps: args.rps,
        burst: args.burst,
        tokens_per_second: args.tokens_per_second,
        capacity: args.capacity,
        rate_headers: args.rate_headers,
        retry_after,
        gzip: args.gzip,
        faults: args.fault,
        seed: args.seed,
        track: args.track,
        ..Config::default()
    };
    let handle = sandbox::start(config)
        .map_err(|e| Error::new(Exit::Failure, format!("cannot serve on {}", args.listen)).because(e))?;
    print_text(&format!("{}\n", handle.url), ctx)?;
    ctx.ui.note("serving until interrupted; use it with --base-url and any key in TOGETHER_API_KEY");
    let stopper = handle.stopper();
    let waiter = std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok()?;
                let exit = tokio::select! {
                    _ = tokio::signal::ctrl_c() => Exit::Interrupt,
                    _ = term.recv() => Exit::Terminate,
                };
                stopper.cancel();
                Some(exit)
            })
        })
        .map_err(|e| Error::new(Exit::Failure, "a thread cannot be started").because(e))?;
    handle.wait();
    Ok(waiter.join().ok().flatten().unwrap_or(Exit::Failure))
}
