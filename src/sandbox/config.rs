//! The behaviour of the server, and the text form of it that an environment variable can carry.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::batch_config::BatchConfig;
use super::cache::CachedTokens;
use super::dialect::ServedDialect;
use super::faults::ScriptedFault;
use super::hint::HintStyle;
use super::units::{duration, fraction};
use super::window::FixedWindow;

/// The behaviour of the server.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// The address to listen on: a loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The form of the API.
    pub dialect: ServedDialect,
    /// The only key that is accepted; by default any bearer token but one that begins with `bad-key`.
    pub key: Option<String>,
    /// Time from a request's arrival to its answer.
    pub latency: Duration,
    /// Fraction by which the latency varies in either direction, from 0 to 1.
    pub latency_jitter: f64,
    /// Requests a second and key; by default without a limit.
    pub rps: Option<f64>,
    /// Requests that may come at once; by default one second's worth, at least one.
    pub burst: Option<f64>,
    /// Tokens a second and key; by default without a limit.
    pub tokens_per_second: Option<f64>,
    /// Requests of a key in each fixed window; by default without a limit.
    pub window: Option<FixedWindow>,
    /// Inference requests at once; one more is answered 429, as too many in parallel. By default there is no limit.
    pub parallel: Option<u64>,
    /// Inference requests worked on at once; others wait for their turn. By default all are.
    pub slots: Option<usize>,
    /// Inference requests worked on at once; one more is answered 503. By default there is no limit.
    pub capacity: Option<u64>,
    /// Every answer carries the `X-Ratelimit-*` headers.
    pub rate_headers: bool,
    /// The header by which a 429 of the rate limit tells when to retry.
    pub retry_after: HintStyle,
    /// The server compresses answers for clients that accept gzip.
    pub gzip: bool,
    /// Scripted faults; the first that strikes counts.
    pub faults: Vec<ScriptedFault>,
    /// The seed of chance.
    pub seed: u64,
    /// The server counts payments per prompt.
    pub track: bool,
    /// Parts of prompts are cached, billed at a tenth of the price, and reported in this form. In batches they cost the
    /// batch price.
    pub cached_tokens: CachedTokens,
    /// The beginnings of prompts are cached for this time after their last use, and billed and reported like other cached
    /// parts. In batches they are not.
    pub prefix_cache: Option<Duration>,
    /// The largest inference body, in bytes.
    pub max_body: usize,
    /// The directory of files and batches, for any number of servers, one after the other or at once. Objects older
    /// than a week are removed when a server starts. By default a temporary directory is removed with the server.
    pub state_dir: Option<PathBuf>,
    /// The course of batch jobs.
    pub batch: BatchConfig,
    /// The handling of downloads.
    pub downloads: Downloads,
}

/// The handling of downloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Downloads {
    /// Downloads are redirected to the object store, as uploads are.
    pub redirect: bool,
    /// The server ignores `Range`.
    pub ignore_ranges: bool,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            dialect: ServedDialect::default(),
            key: None,
            latency: Duration::ZERO,
            latency_jitter: 0.0,
            rps: None,
            burst: None,
            tokens_per_second: None,
            window: None,
            parallel: None,
            slots: None,
            capacity: None,
            rate_headers: false,
            retry_after: HintStyle::Seconds,
            gzip: false,
            faults: Vec::new(),
            seed: 0,
            track: false,
            cached_tokens: CachedTokens::None,
            prefix_cache: None,
            // Far above any prompt, images included; it keeps a mistake from filling the memory.
            max_body: 64 << 20,
            state_dir: None,
            batch: BatchConfig::default(),
            downloads: Downloads::default(),
        }
    }
}

/// The text form, for a help text.
pub const SCRIPT_HELP: &str = "\
Settings, separated by semicolons, or by commas up to the first fault= or fails=:
  validation=TIME, run=TIME, cancel=TIME     how long a batch is in each state
  expires-at=FRACTION, fails=TEXT            how a batch ends instead
  list-undone, list-lag=TIME, unset=omit|null|empty, content-redirect, no-ranges
  list-page=N, body-text                     in the dialect of OpenAI
  latency=TIME, rps=N, window=N/TIME, parallel=N, slots=N, seed=N
                                             as the flags above
  dialect=together|openai                    as the flag above
  cached-tokens=none|flat|nested             as the flag above
  prefix-cache=TIME                          as the flag above
  fault=SPEC                                 may be repeated
  LLBATCH_SANDBOX='run=1s,expires-at=0.5;fault=status=500,on=row,nth=3'";

/// The settings of a script that have a value.
const WITH_VALUE: [&str; 18] = [
    "list-page",
    "dialect",
    "validation",
    "run",
    "cancel",
    "expires-at",
    "fails",
    "list-lag",
    "unset",
    "latency",
    "rps",
    "window",
    "parallel",
    "slots",
    "seed",
    "cached-tokens",
    "prefix-cache",
    "fault",
];
const UNKNOWN: &str = "unknown setting; expected validation, run, cancel, expires-at, fails, list-undone, list-lag, \
                       unset, content-redirect, no-ranges, list-page, body-text, latency, rps, window, parallel, slots, seed, dialect, \
                       cached-tokens, prefix-cache and fault";

impl SandboxConfig {
    /// The form in which answers in real time report cached tokens.
    pub const fn reported_cache(&self) -> CachedTokens {
        match (self.cached_tokens, self.prefix_cache) {
            (CachedTokens::None, Some(_)) => CachedTokens::Flat,
            (form, _) => form,
        }
    }

    /// Changes the settings that `text` names (see [`SCRIPT_HELP`]). The error names the part that is invalid, and why.
    pub fn script(&mut self, text: &str) -> Result<(), String> {
        for part in text.split(';') {
            let mut rest = part.trim();
            while !rest.is_empty() {
                // Both may hold commas.
                let takes_all = rest.starts_with("fault=") || rest.starts_with("fails=");
                let (word, more) = if takes_all { (rest, "") } else { rest.split_once(',').unwrap_or((rest, "")) };
                let word = word.trim();
                if !word.is_empty() {
                    self.read(word).map_err(|why| format!("{word:?}: {why}"))?;
                }
                rest = more.trim();
            }
        }
        Ok(())
    }

    fn read(&mut self, word: &str) -> Result<(), String> {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key.trim(), Some(value.trim())),
            None => (word, None),
        };
        let flag = match key {
            "list-undone" => Some(&mut self.batch.list_undone),
            "body-text" => Some(&mut self.batch.body_text),
            "content-redirect" => Some(&mut self.downloads.redirect),
            "no-ranges" => Some(&mut self.downloads.ignore_ranges),
            _ => None,
        };
        match (flag, value) {
            (Some(flag), None) => {
                *flag = true;
                Ok(())
            }
            (Some(_), Some(_)) => Err("takes no value: it stands alone".to_owned()),
            (None, Some(value)) => self.set(key, value),
            (None, None) if WITH_VALUE.contains(&key) => Err("needs a value, as in run=1s".to_owned()),
            (None, None) => Err(UNKNOWN.to_owned()),
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "validation" => self.batch.validation = duration(value)?,
            "run" => self.batch.run = duration(value)?,
            "cancel" => self.batch.cancel = duration(value)?,
            "expires-at" => self.batch.expires_at = Some(fraction(value)?),
            "fails" => self.batch.fails = Some(value.to_owned()),
            "list-lag" => self.batch.list_lag = duration(value)?,
            "unset" => self.batch.unset = Some(value.parse()?),
            "list-page" => {
                let most = value.parse().ok().filter(|most| (1..=100).contains(most));
                self.batch.list_page = most.ok_or_else(|| format!("{value}: not a whole number from 1 to 100"))?;
            }
            "latency" => self.latency = duration(value)?,
            "rps" => {
                let rate = value.parse().ok().filter(|rate: &f64| *rate > 0.0 && rate.is_finite());
                self.rps = Some(rate.ok_or_else(|| format!("{value}: not a number of requests a second"))?);
            }
            "window" => self.window = Some(value.parse()?),
            "parallel" => self.parallel = Some(whole(value)?),
            "slots" => self.slots = Some(whole(value)?),
            "seed" => self.seed = value.parse().map_err(|_| format!("{value}: not a whole number"))?,
            "dialect" => self.dialect = value.parse()?,
            "cached-tokens" => self.cached_tokens = value.parse()?,
            "prefix-cache" => self.prefix_cache = Some(duration(value)?),
            "fault" => self.faults.push(value.parse()?),
            _ => return Err(UNKNOWN.to_owned()),
        }
        Ok(())
    }
}

/// Reads a whole number above zero.
pub fn whole<N: TryFrom<u64>>(value: &str) -> Result<N, String> {
    let number = value.parse::<u64>().ok().filter(|number| *number > 0).and_then(|number| number.try_into().ok());
    number.ok_or_else(|| format!("{value}: not a whole number above zero"))
}

#[cfg(test)]
mod tests {
    use super::super::batch_config::Unset;
    use super::*;

    #[test]
    fn a_script_sets_the_values_that_it_names() {
        let mut config = SandboxConfig::default();
        config.script("run=1s, expires-at=0.5,fault=status=500,on=row,rate=0.1").unwrap();
        assert_eq!((config.batch.run, config.batch.expires_at), (Duration::from_secs(1), Some(0.5)));
        assert_eq!(config.faults, ["status=500,on=row,rate=0.1".parse().unwrap()]);
        assert_eq!(config.batch.validation, BatchConfig::default().validation);

        let mut config = SandboxConfig::default();
        let text = "validation=0; cancel=20ms \
                    ;list-undone,no-ranges;;content-redirect;unset=null;list-lag=1m,latency=5ms;\
                    rps=2.5,window=5/2s,parallel=3,slots=2,seed=7,dialect=openai,list-page=2,body-text,cached-tokens=nested;prefix-cache=9s; \
                    fault=hang,on=list ; fails=no, not today; fault=missing,nth=3";
        config.script(text).unwrap();
        assert_eq!((config.batch.validation, config.batch.cancel), (Duration::ZERO, Duration::from_millis(20)));
        assert!(config.batch.list_undone && config.downloads == Downloads { redirect: true, ignore_ranges: true });
        assert_eq!((config.batch.unset, config.batch.list_lag), (Some(Unset::Null), Duration::from_mins(1)));
        assert_eq!(config.window, Some(FixedWindow { requests: 5, length: Duration::from_secs(2) }));
        assert_eq!((config.parallel, config.slots), (Some(3), Some(2)));
        assert_eq!((config.latency, config.rps, config.seed), (Duration::from_millis(5), Some(2.5), 7));
        assert_eq!((config.dialect, config.cached_tokens), (ServedDialect::Openai, CachedTokens::Nested));
        assert_eq!(config.prefix_cache, Some(Duration::from_secs(9)));
        assert_eq!((config.batch.list_page, config.batch.body_text), (2, true));
        assert_eq!(config.batch.fails.as_deref(), Some("no, not today"));
        assert_eq!(config.faults.len(), 2);
        config.script("").unwrap();
    }

    #[test]
    fn an_invalid_part_is_named() {
        let cases = [
            ("run=1s,run=soon", "\"run=soon\": soon: not a time"),
            ("expires-at=2", "from 0 to 1"),
            ("expires-at=NaN", "from 0 to 1"),
            ("rps=0", "requests a second"),
            ("window=5", "such as 120/1m"),
            ("slots=0", "above zero"),
            ("unset=maybe", "omit, null or empty"),
            ("list-page=0", "from 1 to 100"),
            ("dialect=other", "together or openai"),
            ("cached-tokens=some", "none, flat or nested"),
            ("list-undone=yes", "takes no value"),
            ("run", "needs a value"),
            ("speed=3", "unknown setting"),
            ("fault=explode", "unknown fault"),
            ("seed=-1", "whole number"),
        ];
        for (text, part) in cases {
            let error = SandboxConfig::default().script(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_help_names_every_setting() {
        for word in SCRIPT_HELP.split([' ', ',', '\n']).filter(|word| word.ends_with("=TIME") || word.ends_with("=N")) {
            let value = if word.ends_with("=N") { "1" } else { "1s" };
            let text = format!("{}={value}", word.split('=').next().unwrap());
            SandboxConfig::default().script(&text).unwrap_or_else(|why| panic!("{why}"));
        }
        let example = SCRIPT_HELP.split('\'').nth(1).unwrap();
        let mut config = SandboxConfig::default();
        config.script(example).unwrap();
        assert_eq!(config.faults.len(), 1);
    }
}
