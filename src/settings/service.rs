//! Services other than Together: `[services.NAME]` in the config file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::Deserialize;

use super::key::KeySource;
use super::{Flags, Origin, Setting};
use crate::api::{Dialect, OwnHeader, canonical_base};
use crate::error::{Error, Result};
use crate::price::{Decimal, Nanos, Overrides};

/// The name of the service that llbatch uses if nothing names another one.
const TOGETHER: &str = "together";

/// `[services.NAME]` in the config file.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServiceConfig {
    base_url: Option<BaseUrls>,
    key: Option<NoKey>,
    api_key_file: Option<PathBuf>,
    api_key_env: Option<String>,
    dialect: Dialect,
    headers: HeaderTable,
    /// Discount of batches for every model, 0 to 1. Without it, llbatch knows of none.
    batch_discount: Option<Decimal>,
    models: Overrides,
    affinity: Option<Affinity>,
}

/// The choice of a base URL for a row, where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// Rows whose prompts begin alike go to one base URL, whose server has that beginning in its cache.
    Prefix,
}

/// One base URL, or a list of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "`base_url` is a URL in quotes, or a list of them")]
enum BaseUrls {
    One(String),
    List(Vec<String>),
}

impl BaseUrls {
    fn all(&self) -> &[String] {
        match self {
            Self::One(url) => std::slice::from_ref(url),
            Self::List(urls) => urls,
        }
    }
}

/// `key = "none"`. No error repeats another value, because it may be a key.
#[derive(Debug, Clone, Copy)]
struct NoKey;

impl<'de> Deserialize<'de> for NoKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) if text == "none" => Ok(Self),
            _ => Err(serde::de::Error::custom(
                "the only value of `key` is \"none\"; name the file of a key by `api_key_file`, or its environment \
                 variable by `api_key_env`",
            )),
        }
    }
}

/// `headers`. No error repeats a value, because it may be a secret.
#[derive(Debug, Default, Clone)]
struct HeaderTable(BTreeMap<String, SecretString>);

impl<'de> Deserialize<'de> for HeaderTable {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let invalid = || serde::de::Error::custom("`headers` is a table of texts: { \"X-Org\" = \"my-team\" }");
        let toml::Value::Table(table) = toml::Value::deserialize(deserializer)? else { return Err(invalid()) };
        let text = |value| match value {
            toml::Value::String(text) => Ok(SecretString::from(text)),
            _ => Err(invalid()),
        };
        let headers = table.into_iter().map(|(name, value)| Ok((name, text(value)?)));
        headers.collect::<Result<_, _>>().map(Self)
    }
}

/// A service of the config file.
#[derive(Debug)]
pub struct ServiceSettings {
    /// Its name, and what chose it.
    pub name: Setting<String>,
    /// The user's own headers for it.
    pub headers: Vec<OwnHeader>,
    /// The form of its files and batches.
    pub dialect: Dialect,
    /// The discount of its batches, if the user named one.
    pub batch_discount: Option<Nanos>,
    /// Its own prices.
    pub models: Overrides,
    /// Its base URLs after the first, as given.
    pub more_urls: Vec<String>,
    /// The choice of a base URL for a row.
    pub affinity: Option<Affinity>,
}

/// The service that the jobs of a command remember.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum JobsService {
    /// The command names no jobs, or they are of several services.
    #[default]
    Unknown,
    /// The sandbox.
    Sandbox,
    /// A service of the config file.
    Named(String),
    /// Together, or a base URL that no service of the config file had.
    Unnamed,
}

/// The name of the service that flags, jobs, environment or the config file choose, in this order. `None`: a base URL.
pub(super) fn chosen(
    flags: &Flags,
    env: &dyn Fn(&str) -> Option<String>,
    config: Option<&String>,
) -> Option<Setting<String>> {
    if let Some(name) = &flags.service {
        return Some(Setting { value: name.clone(), origin: Origin::Flag("--service") });
    }
    match &flags.jobs_service {
        _ if flags.base_url.is_some() => None,
        JobsService::Named(name) => Some(Setting { value: name.clone(), origin: Origin::Job }),
        JobsService::Unnamed | JobsService::Sandbox => None,
        JobsService::Unknown => Setting::of(env("LLBATCH_SERVICE"), Origin::Env("LLBATCH_SERVICE")).or_else(|| {
            let config = config.filter(|_| env("TOGETHER_BASE_URL").is_none());
            Setting::of(config.cloned(), Origin::Config)
        }),
    }
}

/// Finds a service in the config file. `None`: it is Together, without a table of its own.
///
/// # Errors
/// 2 for a name that is unknown.
pub(super) fn find<'a>(
    name: &Setting<String>,
    services: &'a BTreeMap<String, ServiceConfig>,
    config: &Path,
) -> Result<Option<&'a ServiceConfig>> {
    if let Some(found) = services.get(&name.value) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.value.is_empty() || !name.value.bytes().all(plain) {
            let what = format!("config file {}: [services.{:?}] is no name of a service", config.display(), name.value);
            return Err(Error::usage(what).hint("use letters, digits, `-`, `_` and `.`"));
        }
        return Ok(Some(found));
    }
    if name.value == TOGETHER {
        return Ok(None);
    }
    let own = services.keys().map(String::as_str);
    let known: Vec<&str> = own.filter(|name| *name != TOGETHER).chain([TOGETHER]).collect();
    let what = match name.origin {
        Origin::Config => format!("config file {}: no service `{}`", config.display(), name.value),
        _ => format!("no service `{}` ({})", name.value, name.origin),
    };
    Err(Error::usage(what).hint(format!(
        "known services: {}; [services.NAME] in {} adds one",
        known.join(", "),
        config.display()
    )))
}

impl ServiceConfig {
    /// The first base URL, as given.
    ///
    /// # Errors
    /// 2 if there is none.
    pub(super) fn base_url(&self, name: &str) -> Result<String> {
        let urls = self.base_url.as_ref().map(BaseUrls::all).unwrap_or_default();
        urls.first().cloned().ok_or_else(|| {
            Error::usage(format!("config file: [services.{name}] has no base_url"))
                .hint("name the URL of its API, such as base_url = \"http://127.0.0.1:8000/v1\"")
        })
    }

    /// The base URLs after the first, as given.
    ///
    /// # Errors
    /// 2 if one is there twice.
    fn more_urls(&self, place: &str) -> Result<Vec<String>> {
        let urls = self.base_url.as_ref().map(BaseUrls::all).unwrap_or_default();
        let canonical = |url: &String| canonical_base(url).map_or_else(|_| url.clone(), String::from);
        let all: Vec<String> = urls.iter().map(canonical).collect();
        if let Some((_, url)) = all.iter().enumerate().find(|(place, url)| all[..*place].contains(url)) {
            return Err(Error::usage(format!("{place} base_url: {url} is there twice")).hint("name each server once"));
        }
        Ok(urls.get(1..).unwrap_or_default().to_vec())
    }

    /// The settings of the service under this name.
    ///
    /// # Errors
    /// 2 for an invalid header, or a base URL that is there twice.
    pub(super) fn settings(&self, name: Setting<String>) -> Result<ServiceSettings> {
        let place = format!("config file: [services.{}]", name.value);
        let header = |(name, value): (&String, &SecretString)| {
            OwnHeader::new(name, value.clone()).map_err(|why| Error::usage(format!("{place} headers: {why}")))
        };
        let headers = self.headers.0.iter().map(header).collect::<Result<Vec<_>>>()?;
        if headers.iter().any(|header| header.name() == "authorization") && self.key.is_none() {
            return Err(Error::usage(format!("{place} headers: Authorization is how llbatch sends the key")).hint(
                "name the key by api_key_file or api_key_env, or set key = \"none\" as well to send this header",
            ));
        }
        Ok(ServiceSettings {
            name,
            headers,
            dialect: self.dialect,
            batch_discount: self.batch_discount.map(|Decimal(part)| part),
            models: self.models.clone(),
            more_urls: self.more_urls(&place)?,
            affinity: self.affinity,
        })
    }

    /// The source of the service's own key.
    ///
    /// # Errors
    /// 2 if there are several.
    pub(super) fn key_source(
        &self,
        name: &str,
        env: &dyn Fn(&str) -> Option<String>,
        resolve: &dyn Fn(PathBuf) -> Result<PathBuf>,
    ) -> Result<KeySource> {
        let place = format!("config file: [services.{name}]");
        match (self.key, &self.api_key_file, &self.api_key_env) {
            (None, None, None) => Ok(KeySource::Unset),
            (Some(NoKey), None, None) => Ok(KeySource::Refused(Origin::Config)),
            (None, Some(path), None) => {
                Ok(KeySource::File(Setting { value: resolve(path.clone())?, origin: Origin::Config }))
            }
            (None, None, Some(variable)) => {
                if !is_variable(variable) {
                    return Err(Error::usage(format!("{place} api_key_env is no name of an environment variable"))
                        .hint("it names the variable that holds the key: api_key_env = \"OPENAI_API_KEY\""));
                }
                Ok(KeySource::of_variable(variable, env(variable)))
            }
            _ => Err(Error::usage(format!("{place} names several keys"))
                .hint("keep one of key, api_key_file and api_key_env")),
        }
    }
}

/// Tests for the name of an environment variable. An error must not repeat a key that stands in its place.
fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.as_bytes()[0].is_ascii_digit()
}
