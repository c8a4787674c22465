//! Flag > environment > config file > default, each value with where it came from. Every environment variable is named here,
//! and nothing in the working directory is ever read: a repository must not be able to say where a key goes.

mod config;
mod key;
mod proxy;
mod span;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use config::{Budgets, Knob, RunConfig};
use config::{amount, placed, read_config};
use etcetera::BaseStrategy;
use secrecy::{ExposeSecret, SecretString};
pub use span::{duration, long_duration};

use crate::api::canonical_base;
use crate::error::{Error, Exit, Result};
use crate::price::{Overrides, Refreshed, Table};

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

/// Where the list of models of a service is kept.
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

#[cfg(test)]
mod tests;
