//! How the server behaves, and the text form of it that an environment variable can carry.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::faults::Fault;
use super::lifecycle::BatchConfig;
use super::limits::HintStyle;
use super::script::duration;

/// How the server behaves.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, set by name")]
pub struct Config {
    /// Where to listen: a loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The only key that is taken. None: any bearer token but one that begins with `bad-key`.
    pub key: Option<String>,
    /// Time from a request's arrival to its answer.
    pub latency: Duration,
    /// Fraction by which the latency varies in either direction, from 0 to 1.
    pub latency_jitter: f64,
    /// Requests a second and key; none: no limit.
    pub rps: Option<f64>,
    /// Requests that may come at once; none: one second's worth, at least one.
    pub burst: Option<f64>,
    /// Tokens a second and key; none: no limit.
    pub tokens_per_second: Option<f64>,
    /// Inference requests worked on at once; one more is answered 503. None: no limit.
    pub capacity: Option<u64>,
    /// Whether every answer carries the `X-Ratelimit-*` headers.
    pub rate_headers: bool,
    /// How a 429 of the rate limit says when to come back.
    pub retry_after: HintStyle,
    /// Whether answers are compressed for clients that take gzip.
    pub gzip: bool,
    /// Scripted faults; the first that strikes counts.
    pub faults: Vec<Fault>,
    /// Where chance starts from.
    pub seed: u64,
    /// Whether payments are counted per prompt.
    pub track: bool,
    /// The largest inference body, in bytes.
    pub max_body: usize,
    /// Where files and batches are kept, for any number of servers, one after the other or at once; what is older than a
    /// week goes when a server starts. None: a temporary directory that goes with the server.
    pub state_dir: Option<PathBuf>,
    /// How batch jobs go.
    pub batch: BatchConfig,
    /// Whether file contents are redirected to the object store, as uploads are.
    pub content_redirect: bool,
    /// Whether downloads honour `Range`.
    pub ranges: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            key: None,
            latency: Duration::ZERO,
            latency_jitter: 0.0,
            rps: None,
            burst: None,
            tokens_per_second: None,
            capacity: None,
            rate_headers: false,
            retry_after: HintStyle::Seconds,
            gzip: false,
            faults: Vec::new(),
            seed: 0,
            track: false,
            // Far above any prompt, images included; it keeps a mistake from filling the memory.
            max_body: 64 << 20,
            state_dir: None,
            batch: BatchConfig::default(),
            content_redirect: false,
            ranges: true,
        }
    }
}

/// The text form, for a help text.
pub const SCRIPT_HELP: &str = "\
Between semicolons, or between commas up to the first fault= or fails=:
  validation=TIME, run=TIME, cancel=TIME     how long a batch is in each state
  expires-at=FRACTION, fails=TEXT            how it ends instead
  list-undone, list-lag=TIME, unset=omit|null|empty, content-redirect, no-ranges
  latency=TIME, rps=N, seed=N                as the flags above
  fault=SPEC                                 may be repeated
  LLBATCH_SANDBOX='run=1s,expires-at=0.5;fault=status=500,on=row,nth=3'";

/// Reads a number from 0 to 1.
pub fn fraction(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| format!("{text}: not a number from 0 to 1"))
}

impl Config {
    /// Changes what `text` names (see [`SCRIPT_HELP`]).
    ///
    /// # Errors
    /// The part that cannot be read, and why.
    pub fn script(&mut self, text: &str) -> Result<(), String> {
        for part in text.split(';') {
            let mut rest = part.trim();
            while !rest.is_empty() {
                // Both may hold commas.
                let takes_all = rest.starts_with("fault=") || rest.starts_with("fails=");
                let (word, more) = if takes_all { (rest, "") } else { rest.split_once(',').unwrap_or((rest, "")) };
                let word = word.trim();
                if !word.is_empty() {
                    self.set(word).map_err(|why| format!("{word:?}: {why}"))?;
                }
                rest = more.trim();
            }
        }
        Ok(())
    }

    fn set(&mut self, word: &str) -> Result<(), String> {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key.trim(), Some(value.trim())),
            None => (word, None),
        };
        match (key, value) {
            ("list-undone", None) => self.batch.list_undone = true,
            ("content-redirect", None) => self.content_redirect = true,
            ("no-ranges", None) => self.ranges = false,
            ("validation", Some(value)) => self.batch.validation = duration(value)?,
            ("run", Some(value)) => self.batch.run = duration(value)?,
            ("cancel", Some(value)) => self.batch.cancel = duration(value)?,
            ("expires-at", Some(value)) => self.batch.expires_at = Some(fraction(value)?),
            ("fails", Some(value)) => self.batch.fails = Some(value.to_owned()),
            ("list-lag", Some(value)) => self.batch.list_lag = duration(value)?,
            ("unset", Some(value)) => self.batch.unset = value.parse()?,
            ("latency", Some(value)) => self.latency = duration(value)?,
            ("rps", Some(value)) => {
                let rate = value.parse().ok().filter(|rate: &f64| *rate > 0.0 && rate.is_finite());
                self.rps = Some(rate.ok_or_else(|| format!("{value}: not a number of requests a second"))?);
            }
            ("seed", Some(value)) => self.seed = value.parse().map_err(|_| format!("{value}: not a whole number"))?,
            ("fault", Some(value)) => self.faults.push(value.parse::<Fault>()?),
            ("list-undone" | "content-redirect" | "no-ranges", Some(_)) => {
                return Err("takes no value: it stands alone".to_owned());
            }
            (
                "validation" | "run" | "cancel" | "expires-at" | "fails" | "list-lag" | "unset" | "latency" | "rps"
                | "seed" | "fault",
                None,
            ) => return Err("needs a value, as in run=1s".to_owned()),
            _ => {
                return Err("no such setting; there are validation, run, cancel, expires-at, fails, list-undone, \
                            list-lag, unset, content-redirect, no-ranges, latency, rps, seed and fault"
                    .to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::lifecycle::Unset;
    use super::*;

    #[test]
    fn a_text_sets_what_it_names() {
        let mut config = Config::default();
        config.script("run=1s, expires-at=0.5,fault=status=500,on=row,rate=0.1").unwrap();
        assert_eq!((config.batch.run, config.batch.expires_at), (Duration::from_secs(1), Some(0.5)));
        assert_eq!(config.faults, ["status=500,on=row,rate=0.1".parse().unwrap()]);
        assert_eq!(config.batch.validation, BatchConfig::default().validation);

        let mut config = Config::default();
        let text = "validation=0; cancel=20ms ;list-undone,no-ranges;;content-redirect;unset=null;list-lag=1m,latency=5ms;\
                    rps=2.5,seed=7; fault=hang,on=list ; fails=no, not today; fault=missing,nth=3";
        config.script(text).unwrap();
        assert_eq!((config.batch.validation, config.batch.cancel), (Duration::ZERO, Duration::from_millis(20)));
        assert!(config.batch.list_undone && config.content_redirect && !config.ranges);
        assert_eq!((config.batch.unset, config.batch.list_lag), (Unset::Null, Duration::from_mins(1)));
        assert_eq!((config.latency, config.rps, config.seed), (Duration::from_millis(5), Some(2.5), 7));
        assert_eq!(config.batch.fails.as_deref(), Some("no, not today"));
        assert_eq!(config.faults.len(), 2);
        config.script("").unwrap();
    }

    #[test]
    fn mistakes_name_the_part() {
        let cases = [
            ("run=1s,run=soon", "\"run=soon\": soon: not a time"),
            ("expires-at=2", "from 0 to 1"),
            ("expires-at=NaN", "from 0 to 1"),
            ("rps=0", "requests a second"),
            ("unset=maybe", "omit, null or empty"),
            ("list-undone=yes", "takes no value"),
            ("run", "needs a value"),
            ("speed=3", "no such setting"),
            ("fault=explode", "no such fault"),
            ("seed=-1", "whole number"),
        ];
        for (text, part) in cases {
            let error = Config::default().script(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn the_help_names_every_setting() {
        for word in SCRIPT_HELP.split([' ', ',', '\n']).filter(|word| word.ends_with("=TIME") || word.ends_with("=N")) {
            let value = if word.ends_with("=N") { "1" } else { "1s" };
            let text = format!("{}={value}", word.split('=').next().unwrap());
            Config::default().script(&text).unwrap_or_else(|why| panic!("{why}"));
        }
        let example = SCRIPT_HELP.split('\'').nth(1).unwrap();
        let mut config = Config::default();
        config.script(example).unwrap();
        assert_eq!(config.faults.len(), 1);
    }
}
