//! Settings, each with its origin: flag, then environment, then config file, then default.
//!
//! Every environment variable is named here. llbatch reads no settings from the working directory, because a repository
//! must not decide where a key is sent.

mod config;
mod duration;
mod key;
mod proxy;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use config::{AutoOr, Budgets, RunConfig};
use config::{budgets, read_config, resolve_path};
pub use duration::{duration, long_duration};
use secrecy::{ExposeSecret, SecretString};

use crate::api::canonical_base;
use crate::error::{Error, Exit, Result};
use crate::price::{Overrides, PriceTable, Refreshed};

/// The default base URL of the service (together-wire, "Base").
const DEFAULT_BASE_URL: &str = "https://api.together.ai/v1";

/// The variable with a script for the sandbox.
pub const SANDBOX_ENV: &str = "LLBATCH_SANDBOX";

/// The origin of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A command-line flag.
    Flag(&'static str),
    /// An environment variable.
    Env(&'static str),
    /// The config file.
    Config,
    /// The default.
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
    /// Its origin.
    pub origin: Origin,
}

impl<T> Setting<T> {
    fn of(value: Option<T>, origin: Origin) -> Option<Self> {
        value.map(|value| Self { value, origin })
    }

    fn default(value: T) -> Self {
        Self { value, origin: Origin::Default }
    }
}

/// The values of the global flags.
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

/// The settings that all subcommands share.
#[derive(Debug)]
pub struct Settings {
    /// Path of the config file. Empty: it would be in the home directory, which is unknown.
    pub config_path: Setting<PathBuf>,
    /// The config file exists.
    pub config_found: bool,
    /// Base URL of the service, as given.
    pub base_url: Setting<String>,
    /// State directory. `None`: it would be in the home directory, which is unknown.
    pub state: Option<Setting<PathBuf>>,
    key: KeySource,
    proxy: Option<ProxyVariable>,
    /// Use the sandbox in place of the service.
    pub sandbox: bool,
    /// The script of the sandbox ([`SANDBOX_ENV`]), which only the sandbox reads.
    pub sandbox_script: Option<String>,
    /// Defaults of commands that send in real time.
    pub run: RunConfig,
    /// The time after which a created batch must be in the service's list.
    pub settle_after: Option<Duration>,
    /// Budgets that all jobs share.
    pub budget: Budgets,
    /// Prices: the user's own, then those that the service last listed, then the built-in ones.
    pub prices: PriceTable,
    /// `prices` has the names of the service's models: it is Together or the sandbox, or has listed its models.
    pub lists_models: bool,
    overrides: Overrides,
}

/// The source of the API key.
#[derive(Debug)]
enum KeySource {
    File(Setting<PathBuf>),
    Env(SecretString),
    None,
}

/// The environment variable that sets a proxy.
#[derive(Debug)]
struct ProxyVariable {
    name: &'static str,
    proxy: SecretString,
}

/// Reads an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Settings {
    /// Resolves the settings from flags, environment and config file.
    ///
    /// # Errors
    /// 2 if the config file is invalid, or the one that the user named is missing.
    pub fn resolve(flags: &Flags, env: Env<'_>) -> Result<Self> {
        let env = |name: &'static str| env(name).filter(|v| !v.is_empty());
        // A place in the home directory is looked for only where nothing else names one.
        let below_home = |variable: &'static str, path: &str| {
            let own = env(variable).map(PathBuf::from).filter(|path| path.is_absolute());
            own.or_else(|| home().map(|home| home.join(path)))
        };
        let config_path = Setting::of(flags.config.clone(), Origin::Flag("--config"))
            .or(Setting::of(env("LLBATCH_CONFIG").map(PathBuf::from), Origin::Env("LLBATCH_CONFIG")))
            .unwrap_or_else(|| {
                let dir = below_home("XDG_CONFIG_HOME", ".config");
                Setting::default(dir.map(|dir| dir.join("llbatch/config.toml")).unwrap_or_default())
            });
        let file = read_config(&config_path)?;
        let config_found = file.is_some();
        let config = file.unwrap_or_default();
        let path_in_config = |path| resolve_path(path, &config_path.value, home().as_deref());
        let state = Setting::of(flags.state_dir.clone(), Origin::Flag("--state-dir"))
            .or(Setting::of(env("LLBATCH_STATE_DIR").map(PathBuf::from), Origin::Env("LLBATCH_STATE_DIR")))
            .or(Setting::of(config.state_dir.clone().map(path_in_config).transpose()?, Origin::Config))
            .or_else(|| Some(Setting::default(below_home("XDG_STATE_HOME", ".local/state")?.join("llbatch"))));
        let base_url = Setting::of(flags.base_url.clone(), Origin::Flag("--base-url"))
            .or(Setting::of(env("TOGETHER_BASE_URL"), Origin::Env("TOGETHER_BASE_URL")))
            .or(Setting::of(config.base_url.clone(), Origin::Config))
            .unwrap_or_else(|| Setting::default(DEFAULT_BASE_URL.to_owned()));
        let key =
            KeySource::of(flags, env("TOGETHER_API_KEY"), config.api_key_file.clone().map(path_in_config).transpose()?);
        let service = if flags.sandbox {
            Some("sandbox".to_owned())
        } else {
            canonical_base(&base_url.value).ok().map(String::from)
        };
        let refreshed = service.as_deref().zip(state.as_ref());
        let refreshed = refreshed.and_then(|(service, state)| read_refreshed(&state.value, service));
        let find_proxy = |name: &&'static str| Some(ProxyVariable { name, proxy: SecretString::from(env(name)?) });
        Ok(Self {
            config_found,
            base_url,
            key,
            proxy: proxy::VARIABLES.iter().find_map(find_proxy),
            sandbox: flags.sandbox,
            sandbox_script: env(SANDBOX_ENV),
            settle_after: config.submit.settle_after,
            budget: budgets(&config.budget)?,
            prices: reprice(refreshed.as_ref(), &config.models)?,
            lists_models: flags.sandbox || refreshed.is_some() || is_together(service.as_deref()),
            run: config.run,
            overrides: config.models,
            config_path,
            state,
        })
    }

    /// The state directory.
    ///
    /// # Errors
    /// 2 if nothing names it and the home directory is unknown.
    pub fn state_dir(&self) -> Result<&Path> {
        let unknown =
            || homeless("the state directory").hint("set LLBATCH_STATE_DIR, or HOME, or pass --state-dir DIR");
        self.state.as_ref().map(|state| state.value.as_path()).ok_or_else(unknown)
    }

    /// Reads the API key.
    ///
    /// # Errors
    /// 4 if there is no valid key, or others than its owner can read the key file.
    pub fn key(&self) -> Result<SecretString> {
        match &self.key {
            KeySource::Env(key) => key::checked(key.expose_secret(), "TOGETHER_API_KEY"),
            KeySource::File(path) => key::read(&path.value),
            KeySource::None => Err(Error::new(Exit::Auth, "no API key").hint(
                "set TOGETHER_API_KEY, or pass --api-key-file FILE (readable by you alone); to try llbatch without a \
                 key, add --sandbox",
            )),
        }
    }

    /// The origin of the API key, if the user named one.
    pub const fn key_origin(&self) -> Option<&Origin> {
        match &self.key {
            KeySource::Env(_) => Some(&Origin::Env("TOGETHER_API_KEY")),
            KeySource::File(path) => Some(&path.origin),
            KeySource::None => None,
        }
    }

    /// Refuses an invalid proxy. The HTTP library would ignore it silently, against the user's will.
    ///
    /// # Errors
    /// 2 if the environment names an invalid proxy.
    pub fn check_proxy(&self) -> Result<()> {
        self.proxy.as_ref().map_or(Ok(()), |given| proxy::check(given.name, given.proxy.expose_secret()))
    }

    /// The prices with those that the service has just listed.
    ///
    /// # Errors
    /// 2 if the config file's own prices are invalid beside them.
    pub fn reprice(&self, refreshed: Option<&Refreshed>) -> Result<PriceTable> {
        reprice(refreshed, &self.overrides)
    }

    /// A one-way hash of the key, cut short, that tells accounts apart.
    pub fn account(&self, key: &SecretString) -> String {
        let hash = blake3::derive_key("llbatch 2026-11 account of an API key", key.expose_secret().as_bytes());
        blake3::Hash::from(hash).to_hex()[..16].to_owned()
    }
}

impl KeySource {
    fn of(flags: &Flags, env: Option<String>, config: Option<PathBuf>) -> Self {
        match (&flags.api_key_file, env, config) {
            (Some(path), _, _) => Self::File(Setting { value: path.clone(), origin: Origin::Flag("--api-key-file") }),
            (None, Some(key), _) => Self::Env(SecretString::from(key)),
            (None, None, Some(path)) => Self::File(Setting { value: path, origin: Origin::Config }),
            (None, None, None) => Self::None,
        }
    }
}

/// The home directory, by `HOME` or the user's account. A relative one would lead to the working directory.
fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute())
}

/// The error of a path that needs the home directory.
fn homeless(what: &str) -> Error {
    Error::usage(format!("{what} is unknown, because the home directory is"))
}

/// Tests whether a base URL is Together's.
fn is_together(base_url: Option<&str>) -> bool {
    let host = base_url.and_then(|url| url.strip_prefix("https://")).and_then(|rest| rest.split(['/', ':']).next());
    host.is_some_and(|host| {
        ["together.ai", "together.xyz"]
            .iter()
            .any(|own| host.strip_suffix(own).is_some_and(|sub| sub.is_empty() || sub.ends_with('.')))
    })
}

/// The path of the saved list of a service's models.
pub fn models_path(state_dir: &Path, service: &str) -> PathBuf {
    let name = &blake3::hash(service.as_bytes()).to_hex()[..8];
    state_dir.join(format!("models-{name}.json"))
}

/// Reads the saved list of the service's models, if there is one.
fn read_refreshed(state_dir: &Path, service: &str) -> Option<Refreshed> {
    let text = std::fs::read(models_path(state_dir, service)).ok()?;
    serde_json::from_slice::<Refreshed>(&text).ok().filter(|refreshed| refreshed.service == service)
}

fn reprice(refreshed: Option<&Refreshed>, overrides: &Overrides) -> Result<PriceTable> {
    let table = PriceTable::builtin();
    refreshed.map_or_else(|| table.clone(), |refreshed| table.clone().refreshed(refreshed)).with(overrides)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(flags: &Flags, vars: &[(&str, &str)]) -> Result<Settings> {
        let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Settings::resolve(flags, &|name| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
    }

    #[test]
    fn nearer_source_wins_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(
            &path,
            "base_url = \"https://config/v1\"\n[run]\nrpm = 60\nconcurrency = \
                               \"auto\"\n[models.\"x/y\"]\ninput = 0.06\noutput = \"0.12\"\n",
        )
        .unwrap();
        let mut flags = Flags { config: Some(path), ..Flags::default() };
        let settings = resolve(&flags, &[]).unwrap();
        assert_eq!(
            (settings.base_url.value.as_str(), &settings.base_url.origin),
            ("https://config/v1", &Origin::Config)
        );
        assert_eq!(settings.run.rpm, Some(AutoOr::Fixed(60)));
        assert_eq!(settings.run.concurrency, Some(AutoOr::Auto));
        assert_eq!(
            settings.prices.get("x/y").and_then(|e| e.price).map(|p| (p.input, p.output)),
            Some((60_000_000, 120_000_000))
        );
        let settings = resolve(&flags, &[("TOGETHER_BASE_URL", "https://env")]).unwrap();
        assert_eq!(settings.base_url.origin, Origin::Env("TOGETHER_BASE_URL"));
        flags.base_url = Some("https://flag".to_owned());
        let settings = resolve(&flags, &[("TOGETHER_BASE_URL", "https://env")]).unwrap();
        assert_eq!(settings.base_url.value, "https://flag");
        assert_eq!(resolve(&Flags::default(), &[("TOGETHER_BASE_URL", "")]).unwrap().base_url.origin, Origin::Default);
    }

    #[test]
    fn invalid_config_file_is_a_usage_error_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        for text in
            ["base_ulr = \"x\"", "[run]\nrpm = \"many\"", "[run]\nrpm = 0", "[models.\"x\"]\ninput = -1", "not toml"]
        {
            std::fs::write(&path, text).unwrap();
            let error = resolve(&Flags { config: Some(path.clone()), ..Flags::default() }, &[]).expect_err(text);
            assert_eq!(error.exit, Exit::Usage, "{text}");
        }
        std::fs::write(&path, b"[run]\nmodel = \"\xff\"").unwrap();
        let error = resolve(&Flags { config: Some(path.clone()), ..Flags::default() }, &[]).unwrap_err();
        assert!(error.exit == Exit::Usage && error.message.contains("line 2"), "{error}");
        let missing = Flags { config: Some(dir.path().join("none.toml")), ..Flags::default() };
        assert_eq!(resolve(&missing, &[]).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn durations_are_parsed_as_people_write_them() {
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
