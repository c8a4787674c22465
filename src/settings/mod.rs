//! Settings, each with its origin: flag, then environment, then config file, then default.
//!
//! Every environment variable is named here. llbatch reads no settings from the working directory, because a repository
//! must not decide where a key is sent.

mod config;
mod duration;
mod key;
mod proxy;
mod service;
mod task_place;
mod used_service;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use config::{AutoOr, Budgets, RunConfig};
use config::{budgets, read_config, resolve_path};
pub use duration::{duration, long_duration};
use key::KeySource;
use secrecy::{ExposeSecret, SecretString};
pub use service::{JobsService, ServiceSettings};
pub use task_place::TaskPlace;
use used_service::UsedService;

use crate::api::{Dialect, canonical_base};
use crate::error::{Error, Exit, Result};
use crate::price::{Nanos, Overrides, PriceTable, Refreshed};
use crate::state_place::{StateMode, StatePlace};

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
    /// The job that a command names.
    Job,
    /// The default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Env(name) => write!(f, "environment, {name}"),
            Self::Config => f.write_str("config file"),
            Self::Job => f.write_str("the job"),
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
    /// `--state-mode`
    pub state_mode: Option<StateMode>,
    /// `--base-url`
    pub base_url: Option<String>,
    /// `--service`
    pub service: Option<String>,
    /// The service of the jobs that the command names. It goes before the environment.
    pub jobs_service: JobsService,
    /// `--api-key-file`
    pub api_key_file: Option<PathBuf>,
    /// `--no-key`
    pub no_key: bool,
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
    /// Base URL of the service, as given; its first one, if it has several.
    pub base_url: Setting<String>,
    /// The service of the config file that is used. `None`: Together, or only a base URL.
    pub service: Option<ServiceSettings>,
    /// The names of the services in the config file.
    pub services: Vec<String>,
    /// State directory. `None`: it would be in the home directory, which is unknown.
    pub state: Option<Setting<PathBuf>>,
    /// The mode of the state directory.
    pub state_mode: StateMode,
    key: KeySource,
    proxy: Option<ProxyVariable>,
    /// Use the sandbox in place of the service.
    pub sandbox: bool,
    /// The script of the sandbox ([`SANDBOX_ENV`]), which only the sandbox reads.
    pub sandbox_script: Option<String>,
    /// The form of files and batches that the sandbox takes, by its script.
    pub sandbox_dialect: Dialect,
    /// Defaults of commands that send in real time.
    pub run: RunConfig,
    /// The time after which a created batch must be in the service's list.
    pub settle_after: Option<Duration>,
    /// The time that `cancel` waits for the service to end the batches.
    pub cancel_wait: Option<Duration>,
    /// Budgets that all jobs share.
    pub budget: Budgets,
    /// The file whose content signs notices.
    signing_file: Option<PathBuf>,
    /// Prices: the user's own, then those that the service last listed, then the built-in ones.
    pub prices: PriceTable,
    /// `prices` has the names of the service's models: it is Together or the sandbox, or has listed its models.
    pub lists_models: bool,
    /// The prices that a list of the service stands beside.
    own_prices: OwnPrices,
}

/// The prices that need no list of the service.
#[derive(Debug)]
struct OwnPrices {
    /// Together's, unless a service of the config file is another one.
    built_in: PriceTable,
    /// `[models]`
    models: Overrides,
    /// `[services.NAME.models]`
    of_service: Overrides,
    /// `[services.NAME] batch_discount`
    batch_discount: Option<Nanos>,
    /// The service's name, for errors.
    service: String,
    /// The service is not Together.
    elsewhere: bool,
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
        let env = |name: &str| env(name).filter(|v| !v.is_empty());
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
        let state_mode = state_mode(flags, &env, config.state_mode)?;
        let UsedService { base_url, key, service: named } = UsedService::of(flags, &env, &config, &config_path.value)?;
        let signing_file = config.notify.secret_file.clone().map(path_in_config).transpose()?;
        let service = if flags.sandbox {
            Some("sandbox".to_owned())
        } else {
            canonical_base(&base_url.value).ok().map(String::from)
        };
        let own_prices = OwnPrices::of(named.as_ref(), service.as_deref(), config.models);
        let listed_by = service.as_deref().map(|url| lister(named.as_ref().map(|named| &*named.name.value), url));
        let refreshed = listed_by.zip(state.as_ref());
        let refreshed = refreshed.and_then(|(lister, state)| read_refreshed(&state.value, &lister));
        let find_proxy = |name: &&'static str| Some(ProxyVariable { name, proxy: SecretString::from(env(name)?) });
        Ok(Self {
            config_found,
            base_url,
            key,
            proxy: proxy::VARIABLES.iter().find_map(find_proxy),
            sandbox: flags.sandbox,
            sandbox_script: env(SANDBOX_ENV),
            sandbox_dialect: Dialect::default(),
            settle_after: config.submit.settle_after,
            cancel_wait: config.submit.cancel_wait,
            budget: budgets(&config.budget)?,
            signing_file,
            prices: own_prices.beside(refreshed.as_ref())?,
            lists_models: flags.sandbox || refreshed.is_some() || is_together(service.as_deref()),
            run: config.run,
            own_prices,
            service: named,
            services: config.services.into_keys().collect(),
            config_path,
            state,
            state_mode,
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

    /// The state directory, and how it is used.
    ///
    /// # Errors
    /// 2 if nothing names it and the home directory is unknown.
    pub fn state_place(&self) -> Result<StatePlace<'_>> {
        Ok(StatePlace { dir: self.state_dir()?, mode: self.state_mode })
    }

    /// Reads the API key. `None`: the service is asked without one.
    ///
    /// # Errors
    /// 4 if the key is invalid, others than its owner can read the key file, or Together would be asked without a key.
    pub fn key(&self) -> Result<Option<SecretString>> {
        if let Some(key) = self.key.read()? {
            return Ok(Some(key));
        }
        if !is_together(canonical_base(&self.base_url.value).ok().map(String::from).as_deref()) {
            return Ok(None);
        }
        let hint = match &self.service {
            Some(service) => {
                format!("set api_key_file, or api_key_env = \"TOGETHER_API_KEY\", in [services.{}]", service.name.value)
            }
            None => {
                "set TOGETHER_API_KEY, or pass --api-key-file FILE (readable by you alone); to try llbatch without a \
                     key, add --sandbox"
                    .to_owned()
            }
        };
        Err(Error::new(Exit::Auth, "no API key").hint(hint))
    }

    /// The file whose content signs notices.
    pub fn signing_file(&self) -> Option<&Path> {
        self.signing_file.as_deref()
    }

    /// Reads the secret that signs notices. `None`: the config file names none.
    ///
    /// # Errors
    /// 2 if it is invalid, or others than its owner can read the file.
    pub fn notify_secret(&self) -> Result<Option<SecretString>> {
        let read = |path: &PathBuf| key::read_secret(path, "[notify] secret_file");
        let secret = self.signing_file.as_ref().map(read).transpose();
        secret.map_err(|error| Error { exit: Exit::Usage, ..error })
    }

    /// Returns true if the service takes a pattern of answers, as Together does (`response_format` of type `regex`).
    pub fn takes_patterns(&self) -> bool {
        self.sandbox || is_together(canonical_base(&self.base_url.value).ok().map(String::from).as_deref())
    }

    /// The origin of the API key, or of the decision against one, if the user named any.
    pub fn key_origin(&self) -> Option<String> {
        self.key.origin()
    }

    /// The user decided that no key is sent: no configuration can add one later.
    pub const fn refuses_key(&self) -> bool {
        matches!(self.key, KeySource::Refused(_))
    }

    /// The config file names an environment variable that is not set.
    pub const fn key_is_unset(&self) -> bool {
        matches!(self.key, KeySource::Env { key: None, .. })
    }

    /// The name of the service in the config file that is used.
    pub fn service_name(&self) -> Option<&str> {
        self.service.as_ref().map(|service| service.name.value.as_str())
    }

    /// The base URLs of the service after the first, as given.
    pub fn more_urls(&self) -> &[String] {
        self.service.as_ref().map(|service| service.more_urls.as_slice()).unwrap_or_default()
    }

    /// The form of files and batches that the service takes.
    pub fn dialect(&self) -> Dialect {
        match &self.service {
            _ if self.sandbox => self.sandbox_dialect,
            Some(service) => service.dialect,
            None => Dialect::default(),
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
        self.own_prices.beside(refreshed)
    }

    /// A one-way hash of the key, cut short, that tells accounts apart.
    pub fn account(&self, key: &SecretString) -> String {
        let hash = blake3::derive_key("llbatch 2026-11 account of an API key", key.expose_secret().as_bytes());
        blake3::Hash::from(hash).to_hex()[..16].to_owned()
    }
}

impl OwnPrices {
    /// Without a price of its own, a model of a named service other than Together has none: it is unknown.
    fn of(named: Option<&ServiceSettings>, base: Option<&str>, models: Overrides) -> Self {
        let built_in = PriceTable::builtin();
        // A base URL that is invalid stops the command later.
        let elsewhere = base.is_some() && base != Some("sandbox") && !is_together(base);
        match named {
            None => Self {
                built_in,
                models,
                of_service: Overrides::default(),
                batch_discount: None,
                service: String::new(),
                elsewhere,
            },
            Some(named) => {
                let (service, of_service) = (named.name.value.clone(), named.models.clone());
                let batch_discount = named.batch_discount;
                if is_together(base) {
                    return Self { built_in, models, of_service, batch_discount, service, elsewhere };
                }
                let (built_in, models) = (PriceTable::default(), Overrides::default());
                Self { built_in, models, of_service, batch_discount, service, elsewhere }
            }
        }
    }

    fn beside(&self, refreshed: Option<&Refreshed>) -> Result<PriceTable> {
        let table = self.built_in.clone();
        let table = match refreshed {
            None => table,
            Some(refreshed) if self.elsewhere => table.refreshed_elsewhere(refreshed),
            Some(refreshed) => table.refreshed(refreshed),
        };
        let mut table = table.with(&self.models)?;
        if let Some(part) = self.batch_discount {
            table = table.with_batch_discount(part).map_err(|why| {
                Error::usage(format!("config file: [services.{}] {why}", self.service)).hint("write 0.5 for half price")
            })?;
        }
        let table = table.with(&self.of_service).map_err(|error| {
            let message = error.message.replace("[models.", &format!("[services.{}.models.", self.service));
            Error { message, ..error }
        })?;
        let name = Some(self.service.as_str()).filter(|name| !name.is_empty());
        Ok(if self.elsewhere { table.of_another(name) } else { table })
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
    let host = base_url.and_then(|url| url.split_once("://")).and_then(|(_, rest)| rest.split(['/', ':']).next());
    host.is_some_and(|host| {
        ["together.ai", "together.xyz"]
            .iter()
            .any(|own| host.strip_suffix(own).is_some_and(|sub| sub.is_empty() || sub.ends_with('.')))
    })
}

/// The service of a saved list of models: its name in the config file, wherever it is, or its base URL.
pub fn lister(name: Option<&str>, base_url: &str) -> String {
    name.map_or_else(|| base_url.to_owned(), |name| format!("{name}="))
}

/// The mode of the state directory: of the flag, the environment, or the config file.
fn state_mode(flags: &Flags, env: Env<'_>, config: Option<StateMode>) -> Result<StateMode> {
    if let Some(mode) = flags.state_mode {
        return Ok(mode);
    }
    let in_env = env("LLBATCH_STATE_MODE").map(|text| text.parse::<StateMode>()).transpose();
    let in_env = in_env.map_err(|e| Error::usage(format!("LLBATCH_STATE_MODE: {e}")))?;
    Ok(in_env.or(config).unwrap_or_default())
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

#[cfg(test)]
mod tests;
