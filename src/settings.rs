//! Flag > environment > config file > default, each value with where it came from. Every environment variable is named here,
//! and nothing in the working directory is ever read: a repository must not be able to say where a key goes.

mod key;
mod proxy;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcetera::BaseStrategy;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::api::canonical_base;
use crate::error::{Error, Exit, Result};
use crate::price::{Decimal, Nanos, Overrides, Refreshed, Table};

/// Where requests go unless told otherwise (together-wire, "Base").
const DEFAULT_BASE_URL: &str = "https://api.together.ai/v1";

/// Scripts the built-in server of `--sandbox`.
pub const SANDBOX_ENV: &str = "LLBATCH_SANDBOX";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A command-line flag.
    Flag(&'static str),
    /// An environment variable.
    Env(&'static str),
    /// The config file.
    Config,
    /// Built in.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Env(name) => write!(f, "environment, {name}"),
            Self::Config => f.write_str("config file"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and its origin.
#[derive(Debug, Clone)]
pub struct Setting<T> {
    /// The value in force.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

/// What the global flags said.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--state-dir`
    pub state_dir: Option<PathBuf>,
    /// `--base-url`
    pub base_url: Option<String>,
    /// `--api-key-file`
    pub api_key_file: Option<PathBuf>,
    /// `--sandbox`
    pub sandbox: bool,
}

/// The config file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    base_url: Option<String>,
    api_key_file: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    /// Defaults of `run`.
    pub run: RunConfig,
    submit: SubmitConfig,
    budget: BudgetConfig,
    models: Overrides,
}

/// `[budget]` in the config file, in USD.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BudgetConfig {
    per_day: Option<Decimal>,
    per_month: Option<Decimal>,
}

/// What may be spent over all jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budgets {
    /// From midnight to midnight.
    pub per_day: Option<Nanos>,
    /// From the first of the month on.
    pub per_month: Option<Nanos>,
}

impl Budgets {
    /// Whether there is any.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.per_day.is_some() || self.per_month.is_some()
    }
}

/// `[submit]` in the config file.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SubmitConfig {
    /// After so long a batch that was created stands in the service's list.
    settle_after: Option<String>,
}

/// `[run]` in the config file: the flags of the same names.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// `--model`
    pub model: Option<String>,
    /// `--concurrency`
    pub concurrency: Option<Knob>,
    /// `--rpm`
    pub rpm: Option<Knob>,
    /// `--tpm`
    pub tpm: Option<Knob>,
    /// `--retries`
    pub retries: Option<u32>,
    /// `--request-timeout`
    pub request_timeout: Option<String>,
    /// `--give-up-after`
    pub give_up_after: Option<String>,
}

/// A number or `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Knob {
    /// Found out while running.
    #[default]
    Auto,
    /// As given.
    Fixed(u64),
}

impl std::str::FromStr for Knob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match text.replace('_', "").parse::<u64>() {
            Ok(0) | Err(_) => Err(format!("`{text}` is neither a positive whole number nor `auto`")),
            Ok(n) => Ok(Self::Fixed(n)),
        }
    }
}

impl<'de> Deserialize<'de> for Knob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(u64),
            Text(String),
        }
        let text = match Raw::deserialize(deserializer)? {
            Raw::Number(n) => n.to_string(),
            Raw::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Everything that does not depend on the subcommand.
#[derive(Debug)]
pub struct Settings {
    /// The config file that was looked for, and whether it was there.
    pub config_path: Setting<PathBuf>,
    /// Whether there is a config file.
    pub config_found: bool,
    /// Base URL of the service, as given.
    pub base_url: Setting<String>,
    /// State directory.
    pub state_dir: Setting<PathBuf>,
    /// Where the key is to be found.
    key: KeySource,
    /// The variable that names a proxy, and the proxy.
    proxy: Option<(&'static str, SecretString)>,
    /// Use the built-in server.
    pub sandbox: bool,
    /// How the built-in server is to behave ([`SANDBOX_ENV`]), as text that only the sandbox can read.
    pub sandbox_script: Option<String>,
    /// Defaults of `run`.
    pub run: RunConfig,
    /// After so long a batch that was created is believed to stand in the service's list.
    pub settle_after: Option<Duration>,
    /// Budgets over all jobs.
    pub budget: Budgets,
    /// Prices: built in, as the service last listed them, and the user's own, which win.
    pub prices: Table,
    overrides: Overrides,
}

#[derive(Debug)]
enum KeySource {
    File(Setting<PathBuf>),
    Env(SecretString),
    None,
}

/// Reads a variable of the environment.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Settings {
    /// Puts flags, environment and config file together.
    ///
    /// # Errors
    /// 2 if the config file is wrong or one that was asked for is not there.
    pub fn resolve(flags: &Flags, env: Env<'_>) -> Result<Self> {
        let env = |name: &'static str| env(name).filter(|v| !v.is_empty());
        let base = etcetera::base_strategy::Xdg::new()
            .map_err(|e| Error::usage("the home directory cannot be told; set HOME").because(e))?;
        let config_path = pick(
            (flags.config.clone(), "--config"),
            (env("LLBATCH_CONFIG").map(PathBuf::from), "LLBATCH_CONFIG"),
            None,
            || base.config_dir().join("llbatch").join("config.toml"),
        );
        at_home(&config_path)?;
        let (config, config_found) = read_config(&config_path)?;
        let beside = |path| placed(path, &config_path.value, base.home_dir());
        let state_dir = pick(
            (flags.state_dir.clone(), "--state-dir"),
            (env("LLBATCH_STATE_DIR").map(PathBuf::from), "LLBATCH_STATE_DIR"),
            config.state_dir.map(beside),
            || base.state_dir().unwrap_or_else(|| base.data_dir()).join("llbatch"),
        );
        at_home(&state_dir)?;
        let base_url = pick(
            (flags.base_url.clone(), "--base-url"),
            (env("TOGETHER_BASE_URL"), "TOGETHER_BASE_URL"),
            config.base_url,
            || DEFAULT_BASE_URL.to_owned(),
        );
        let key = match (&flags.api_key_file, env("TOGETHER_API_KEY"), config.api_key_file) {
            (Some(path), _, _) => {
                KeySource::File(Setting { value: path.clone(), origin: Origin::Flag("--api-key-file") })
            }
            (None, Some(key), _) => KeySource::Env(SecretString::from(key)),
            (None, None, Some(path)) => KeySource::File(Setting { value: beside(path), origin: Origin::Config }),
            (None, None, None) => KeySource::None,
        };
        let service = if flags.sandbox {
            Some("sandbox".to_owned())
        } else {
            canonical_base(&base_url.value).ok().map(String::from)
        };
        let refreshed = service.as_deref().and_then(|service| read_refreshed(&state_dir.value, service));
        let prices = reprice(refreshed.as_ref(), &config.models)?;
        Ok(Self {
            config_path,
            config_found,
            base_url,
            state_dir,
            key,
            proxy: proxy::VARIABLES.iter().find_map(|name| Some((*name, SecretString::from(env(name)?)))),
            sandbox: flags.sandbox,
            sandbox_script: env(SANDBOX_ENV),
            run: config.run,
            settle_after: config
                .submit
                .settle_after
                .as_deref()
                .map(duration)
                .transpose()
                .map_err(|e| Error::usage(format!("config file: [submit] settle_after: {e}")))?,
            budget: Budgets {
                per_day: amount("per_day", config.budget.per_day)?,
                per_month: amount("per_month", config.budget.per_month)?,
            },
            prices,
            overrides: config.models,
        })
    }

    /// The key.
    ///
    /// # Errors
    /// 4 if there is none that can be used: no text that is a key, a file that cannot be read, or that others can read too.
    pub fn key(&self) -> Result<SecretString> {
        match &self.key {
            KeySource::Env(key) => key::checked(key.expose_secret(), "TOGETHER_API_KEY"),
            KeySource::File(path) => key::read(&path.value),
            KeySource::None => Err(Error::new(Exit::Auth, "no API key").hint(
                "export TOGETHER_API_KEY=…, or --api-key-file FILE (readable by you alone); to try things without a key, add --sandbox",
            )),
        }
    }
}

impl Settings {
    /// Where the key is from, if one was named.
    #[must_use]
    pub const fn key_origin(&self) -> Option<&Origin> {
        match &self.key {
            KeySource::Env(_) => Some(&Origin::Env("TOGETHER_API_KEY")),
            KeySource::File(path) => Some(&path.origin),
            KeySource::None => None,
        }
    }

    /// A proxy that cannot be used must not be passed by in silence: who named one does not want to go without.
    ///
    /// # Errors
    /// 2 if the environment names a proxy that is none.
    pub fn check_proxy(&self) -> Result<()> {
        self.proxy.as_ref().map_or(Ok(()), |(name, proxy)| proxy::check(name, proxy.expose_secret()))
    }
}

/// With an empty `HOME` the default places would lie in the working directory, which decides nothing.
fn at_home(path: &Setting<PathBuf>) -> Result<()> {
    if path.origin == Origin::Default && !path.value.is_absolute() {
        return Err(Error::usage("the home directory cannot be told; set HOME"));
    }
    Ok(())
}

/// Where a path of the config file leads: `~/` home, and what is relative to the place of the file, never to the working
/// directory.
fn placed(path: PathBuf, config: &Path, home: &Path) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) => home.join(rest),
        Err(_) => config.parent().unwrap_or(Path::new("")).join(path),
    }
}

/// A budget, which must be more than nothing.
fn amount(name: &str, given: Option<Decimal>) -> Result<Option<Nanos>> {
    match given {
        Some(Decimal(usd)) if usd <= Nanos::ZERO => {
            Err(Error::usage(format!("config file: [budget] {name} = {usd} is no budget"))
                .hint("an amount in USD above 0"))
        }
        given => Ok(given.map(|usd| usd.0)),
    }
}

/// Where the list of models of a service is kept.
#[must_use]
pub fn models_path(state_dir: &Path, service: &str) -> PathBuf {
    let name = &blake3::hash(service.as_bytes()).to_hex()[..8];
    state_dir.join(format!("models-{name}.json"))
}

/// What the service last said of its models, if it was asked.
fn read_refreshed(state_dir: &Path, service: &str) -> Option<Refreshed> {
    let text = std::fs::read(models_path(state_dir, service)).ok()?;
    serde_json::from_slice::<Refreshed>(&text).ok().filter(|refreshed| refreshed.service == service)
}

fn reprice(refreshed: Option<&Refreshed>, overrides: &Overrides) -> Result<Table> {
    let table = Table::builtin();
    refreshed.map_or_else(|| table.clone(), |refreshed| table.clone().refreshed(refreshed)).with(overrides)
}

impl Settings {
    /// Prices anew, with what the service has just said.
    ///
    /// # Errors
    /// 2 if the config file's own prices make no sense with it.
    pub fn reprice(&self, refreshed: Option<&Refreshed>) -> Result<Table> {
        reprice(refreshed, &self.overrides)
    }

    /// Tells accounts apart without telling the key: a one-way hash, cut short.
    #[must_use]
    pub fn account(&self, key: &SecretString) -> String {
        let hash = blake3::derive_key("llbatch 2026-11 account of an API key", key.expose_secret().as_bytes());
        blake3::Hash::from(hash).to_hex()[..16].to_owned()
    }
}

fn pick<T>(
    flag: (Option<T>, &'static str),
    env: (Option<T>, &'static str),
    config: Option<T>,
    default: impl FnOnce() -> T,
) -> Setting<T> {
    if let Some(value) = flag.0 {
        return Setting { value, origin: Origin::Flag(flag.1) };
    }
    if let Some(value) = env.0 {
        return Setting { value, origin: Origin::Env(env.1) };
    }
    match config {
        Some(value) => Setting { value, origin: Origin::Config },
        None => Setting { value: default(), origin: Origin::Default },
    }
}

fn read_config(path: &Setting<PathBuf>) -> Result<(Config, bool)> {
    let shown = path.value.display();
    let bytes = match std::fs::read(&path.value) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && path.origin == Origin::Default => {
            return Ok((Config::default(), false));
        }
        Err(e) => {
            return Err(Error::usage(format!("config file {shown} ({}): cannot be read", path.origin)).because(e));
        }
    };
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        let line = memchr::memchr_iter(b'\n', &bytes[..e.valid_up_to()]).count() + 1;
        Error::usage(format!("config file {shown}: line {line} is not UTF-8")).hint("save it again as UTF-8")
    })?;
    let config = toml::from_str(text).map_err(|e| {
        Error::usage(format!("config file {shown}: {}", e.to_string().trim_end()))
            .hint("keys: base_url, api_key_file, state_dir, [run] model/concurrency/rpm/tpm/retries/request_timeout/give_up_after, [submit] settle_after, [budget] per_day/per_month, [models.\"NAME\"] input/output/batch_discount/batch/context")
    })?;
    Ok((config, true))
}

/// A span of time as people write it: `90s`, `10m`, `1h 30m`; a bare number is seconds.
///
/// # Errors
/// A sentence that says what was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no duration such as 90s, 10m or 1h30m");
    if let Ok(seconds) = text.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| bad());
    }
    let span: jiff::SignedDuration = text.trim().parse().map_err(|_| bad())?;
    Duration::try_from(span).map_err(|_| bad())
}

/// The same, for spans that may be days: `30d`.
///
/// # Errors
/// A sentence that says what was expected.
pub fn long_duration(text: &str) -> Result<Duration, String> {
    match text.trim().strip_suffix('d').and_then(|days| days.trim().parse::<f64>().ok()) {
        Some(days) => Duration::try_from_secs_f64(days * 86_400.0)
            .map_err(|_| format!("`{text}` is no duration such as 30d or 12h")),
        None => duration(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(flags: &Flags, vars: &[(&str, &str)]) -> Result<Settings> {
        let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::resolve(flags, &|name| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
    }

    #[test]
    fn the_nearer_source_wins_and_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "base_url = \"https://config/v1\"\n[run]\nrpm = 60\nconcurrency = \"auto\"\n[models.\"x/y\"]\ninput = 0.06\noutput = \"0.12\"\n").expect("a file");
        let mut flags = Flags { config: Some(path), ..Flags::default() };
        let settings = resolve(&flags, &[]).expect("settings");
        assert_eq!(
            (settings.base_url.value.as_str(), &settings.base_url.origin),
            ("https://config/v1", &Origin::Config)
        );
        assert_eq!(settings.run.rpm, Some(Knob::Fixed(60)));
        assert_eq!(settings.run.concurrency, Some(Knob::Auto));
        assert_eq!(
            settings.prices.get("x/y").and_then(|e| e.price).map(|p| (p.input, p.output)),
            Some((60_000_000, 120_000_000))
        );
        let settings = resolve(&flags, &[("TOGETHER_BASE_URL", "https://env")]).expect("settings");
        assert_eq!(settings.base_url.origin, Origin::Env("TOGETHER_BASE_URL"));
        flags.base_url = Some("https://flag".to_owned());
        let settings = resolve(&flags, &[("TOGETHER_BASE_URL", "https://env")]).expect("settings");
        assert_eq!(settings.base_url.value, "https://flag");
        assert_eq!(
            resolve(&Flags::default(), &[("TOGETHER_BASE_URL", "")]).expect("settings").base_url.origin,
            Origin::Default
        );
    }

    #[test]
    fn mistakes_in_the_config_file_are_usage_errors_with_their_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("config.toml");
        for text in
            ["base_ulr = \"x\"", "[run]\nrpm = \"many\"", "[run]\nrpm = 0", "[models.\"x\"]\ninput = -1", "not toml"]
        {
            std::fs::write(&path, text).expect("a file");
            let error = resolve(&Flags { config: Some(path.clone()), ..Flags::default() }, &[]).expect_err(text);
            assert_eq!(error.exit, Exit::Usage, "{text}");
        }
        std::fs::write(&path, b"[run]\nmodel = \"\xff\"").expect("a file");
        let error = resolve(&Flags { config: Some(path.clone()), ..Flags::default() }, &[]).expect_err("no text");
        assert!(error.exit == Exit::Usage && error.message.contains("line 2"), "{error}");
        let missing = Flags { config: Some(dir.path().join("none.toml")), ..Flags::default() };
        assert_eq!(resolve(&missing, &[]).expect_err("missing").exit, Exit::Usage);
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1h 30m", 5400), ("2h", 7200)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        for text in ["", "soon", "-5m", "-1", "NaN"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
