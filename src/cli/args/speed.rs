//! Flags about the speed of sending in real time.

use std::time::Duration;

use clap::Args;

use crate::api::StreamPatience;
use crate::context::Ctx;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::realtime::limiter::RateOptions;
use crate::realtime::{AUTO_CONCURRENCY, MOST_PER_URL, SpeedOptions};
use crate::request::TokenGrowth;
use crate::settings::{self, AutoOr};

/// Most inputs that any known service takes in one request: `OpenAI`'s API reference, "Create embeddings" (read 2026-11).
const MOST_PACKED: i64 = 2048;

/// Flags about the speed of sending in real time.
#[derive(Debug, Args, Default)]
pub struct SpeedArgs {
    /// Concurrent requests
    #[arg(long, value_name = "N|auto", help_heading = "Speed")]
    pub concurrency: Option<AutoOr<u64>>,
    /// With --endpoint embeddings: up to N rows share a request, where they differ only in `input` [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "stream", value_parser = clap::value_parser!(u16).range(1..=MOST_PACKED), help_heading = "Speed")]
    pub pack: Option<u16>,
    /// Requests per minute
    #[arg(long, value_name = "N|auto", help_heading = "Speed")]
    pub rpm: Option<AutoOr<u64>>,
    /// Tokens per minute
    #[arg(long, value_name = "N|auto", help_heading = "Speed")]
    pub tpm: Option<AutoOr<u64>>,
    /// Retries of a failing row; rate limits (429, 503) do not count [default: 5]
    #[arg(long, value_name = "N", help_heading = "Speed")]
    pub retries: Option<u32>,
    /// Send a row up to N times more if its answer breaks --json-schema or --choices [default: 0]
    #[arg(long, value_name = "N", help_heading = "Speed")]
    pub recheck: Option<u32>,
    /// With --recheck: if an answer was cut off, resend its row with FACTOR times its max_tokens, at most CAP
    #[arg(long, value_name = "FACTOR[,CAP]", requires = "recheck", help_heading = "Speed")]
    pub grow_max_tokens: Option<TokenGrowth>,
    /// Time limit of one request; with --stream, of an answer that comes whole [default: 10m]
    #[arg(long, value_name = "TIME", help_heading = "Speed")]
    pub request_timeout: Option<String>,
    /// Receive answers as streams: the limit is the silence, not the whole time; results stay the same
    #[arg(long, help_heading = "Speed")]
    pub stream: bool,
    /// With --stream: time for the first piece of an answer [default: 2m]
    #[arg(long, value_name = "TIME", requires = "stream", help_heading = "Speed")]
    pub first_token_timeout: Option<String>,
    /// With --stream: time between two pieces of an answer [default: 60s]
    #[arg(long, value_name = "TIME", requires = "stream", help_heading = "Speed")]
    pub stall_timeout: Option<String>,
    /// Stop (resumable) if no request succeeds for this long [default: 15m]
    #[arg(long, value_name = "TIME", help_heading = "Speed")]
    pub give_up_after: Option<String>,
    /// After a first Ctrl-C or SIGTERM, time for requests in flight to finish [default: 20s]
    #[arg(long, value_name = "TIME", help_heading = "Speed")]
    pub grace: Option<String>,
}

impl SpeedArgs {
    /// Returns true if a flag about speed was given.
    pub fn is_given(&self) -> bool {
        let texts = [&self.request_timeout, &self.give_up_after, &self.grace];
        let knobs = [self.concurrency, self.rpm, self.tpm];
        texts.into_iter().any(Option::is_some)
            || knobs.iter().any(Option::is_some)
            || self.retries.is_some()
            || self.recheck.is_some()
            || self.pack.is_some()
            || self.stream
    }

    /// Fills what the flags leave open from the config file and the defaults.
    ///
    /// # Errors
    /// 2 for an invalid time, or for more connections than this process may open.
    pub fn options(&self, deadline: Option<Deadline>, ctx: &Ctx) -> Result<SpeedOptions> {
        let args = self;
        let config = &ctx.settings.run;
        let time = |name: &str, flag: &Option<String>, config: Option<Duration>, default: u64| match flag {
            Some(text) => settings::duration(text).map_err(|e| Error::usage(format!("{name}: {e}"))),
            None => Ok(config.unwrap_or(Duration::from_secs(default))),
        };
        let positive = |name: &str, flag: &Option<String>, config: Option<Duration>, default: u64| {
            let time = time(name, flag, config, default)?;
            if time.is_zero() {
                let what = format!("{name} 0s: no request could be answered in time");
                return Err(Error::usage(what).hint(format!("pass a longer time, such as {name} {default}s")));
            }
            Ok(time)
        };
        let concurrency = args.concurrency.or(config.concurrency);
        let rpm = args.rpm.or(config.rpm);
        // Every request holds a socket; some files are open too.
        let room = open_files().saturating_sub(64).max(1);
        let wanted = match concurrency.unwrap_or_default() {
            AutoOr::Fixed(n) => usize::try_from(n).unwrap_or(usize::MAX),
            AutoOr::Auto => AUTO_CONCURRENCY.max(MOST_PER_URL * (1 + ctx.settings.more_urls().len())).min(room),
        };
        if wanted > room {
            return Err(Error::usage(format!("--concurrency {wanted}: this process may open only {room} connections"))
                .hint("raise the limit with `ulimit -n`, or pass a lower --concurrency"));
        }
        let rates = RateOptions {
            rpm: match rpm {
                Some(AutoOr::Fixed(n)) => Some(n as f64),
                _ => None,
            },
            tpm: match args.tpm.or(config.tpm) {
                Some(AutoOr::Fixed(n)) => Some(n),
                _ => None,
            },
            // A user who names a concurrency or a rate has decided how to begin. Otherwise the pace begins low and grows.
            open: matches!(rpm, Some(AutoOr::Fixed(_)))
                || (rpm.is_none() && matches!(concurrency, Some(AutoOr::Fixed(_)))),
        };
        let request_timeout = positive("--request-timeout", &args.request_timeout, config.request_timeout, 600)?;
        let patience = StreamPatience {
            first_token: positive("--first-token-timeout", &args.first_token_timeout, None, 120)?,
            stall: positive("--stall-timeout", &args.stall_timeout, None, 60)?,
            whole: request_timeout,
        };
        Ok(SpeedOptions {
            concurrency: wanted,
            pack: args.pack.map_or(1, usize::from),
            auto: !matches!(concurrency, Some(AutoOr::Fixed(_))),
            rates,
            retries: args.retries.or(config.retries).unwrap_or(5),
            rechecks: args.recheck.unwrap_or(0),
            by_prefix: false,
            growth: args.grow_max_tokens,
            request_timeout,
            stream: args.stream.then_some(patience),
            deadline,
            give_up_after: time("--give-up-after", &args.give_up_after, config.give_up_after, 900)?,
            grace: time("--grace", &args.grace, config.grace, 20)?,
        })
    }
}

/// Raises the soft limit of open files as far as possible and returns it.
fn open_files() -> usize {
    /// Beyond this nothing is gained, and some systems report "unlimited".
    const ENOUGH: u64 = 65_536;
    match rlimit::increase_nofile_limit(ENOUGH) {
        Ok(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        Err(_) => 256,
    }
}
