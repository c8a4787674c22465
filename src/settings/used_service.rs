//! The service that a command uses: its base URL, its key, and what the config file says of it.

use std::path::Path;

use super::config::{ConfigFile, resolve_path};
use super::key::KeySource;
use super::service::{ServiceSettings, chosen, find};
use super::{DEFAULT_BASE_URL, Flags, Origin, Setting, home};
use crate::error::Result;

/// The service that gets the requests, and its key.
pub(super) struct UsedService {
    pub base_url: Setting<String>,
    pub key: KeySource,
    /// `None`: Together, or only a base URL.
    pub service: Option<ServiceSettings>,
}

impl UsedService {
    /// Resolves the service. `path`: the config file, where relative paths begin.
    ///
    /// # Errors
    /// 2 for a service that is unknown or invalid.
    pub fn of(flags: &Flags, env: &dyn Fn(&str) -> Option<String>, config: &ConfigFile, path: &Path) -> Result<Self> {
        let in_config = |file| resolve_path(file, path, home().as_deref());
        let chosen = chosen(flags, env, config.service.as_ref()).filter(|_| !flags.sandbox);
        let found = chosen.as_ref().map(|name| find(name, &config.services, path)).transpose()?.flatten();
        let base_url = match (&chosen, found) {
            (Some(name), Some(found)) => Setting { value: found.base_url(&name.value)?, origin: Origin::Config },
            (Some(name), None) => Setting { value: DEFAULT_BASE_URL.to_owned(), origin: name.origin.clone() },
            (None, _) => Setting::of(flags.base_url.clone(), Origin::Flag("--base-url"))
                .or(Setting::of(env("TOGETHER_BASE_URL"), Origin::Env("TOGETHER_BASE_URL")))
                .or(Setting::of(config.base_url.clone(), Origin::Config))
                .unwrap_or_else(|| Setting::default(DEFAULT_BASE_URL.to_owned())),
        };
        let key = match (&chosen, found) {
            _ if flags.no_key => KeySource::Refused(Origin::Flag("--no-key")),
            (Some(name), Some(found)) if flags.api_key_file.is_none() => {
                found.key_source(&name.value, env, &in_config)?
            }
            _ => {
                let file = config.api_key_file.clone().map(in_config).transpose()?;
                KeySource::of(flags, env("TOGETHER_API_KEY"), file)
            }
        };
        let service = chosen.zip(found).map(|(name, found)| found.settings(name)).transpose()?;
        Ok(Self { base_url, key, service })
    }
}
