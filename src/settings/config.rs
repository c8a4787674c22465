//! The config file: its keys and its errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::service::ServiceConfig;
use super::{Origin, Setting, duration, homeless};
use crate::error::{Error, Result};
use crate::price::{Decimal, Nanos, Overrides};
use crate::state_place::StateMode;

/// The keys of the config file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ConfigFile {
    pub(super) base_url: Option<String>,
    pub(super) api_key_file: Option<PathBuf>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) state_mode: Option<StateMode>,
    pub(super) run: RunConfig,
    pub(super) submit: SubmitConfig,
    pub(super) budget: BudgetConfig,
    pub(super) notify: NotifyConfig,
    pub(super) models: Overrides,
    pub(super) service: Option<String>,
    pub(super) services: BTreeMap<String, ServiceConfig>,
}

/// `[budget]` in the config file, in USD.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BudgetConfig {
    pub(super) per_day: Option<Decimal>,
    pub(super) per_month: Option<Decimal>,
}

/// `[notify]` in the config file.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NotifyConfig {
    /// The file with the secret that signs the notices of `--notify`.
    pub(super) secret_file: Option<PathBuf>,
}

/// The budgets that all jobs share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budgets {
    /// Budget from midnight to midnight.
    pub per_day: Option<Nanos>,
    /// Budget from the first of the month on.
    pub per_month: Option<Nanos>,
}

impl Budgets {
    /// Returns whether any budget is set.
    pub const fn is_set(&self) -> bool {
        self.per_day.is_some() || self.per_month.is_some()
    }
}

/// `[submit]` in the config file.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SubmitConfig {
    /// The time after which a created batch must be in the service's list.
    #[serde(deserialize_with = "time")]
    pub(super) settle_after: Option<Duration>,
    /// The time that `cancel` waits for the service to end the batches.
    #[serde(deserialize_with = "time")]
    pub(super) cancel_wait: Option<Duration>,
}

/// `[run]` in the config file: defaults of the flags with the same names.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// `--model`
    pub model: Option<String>,
    /// `--concurrency`
    pub concurrency: Option<AutoOr<u64>>,
    /// `--rpm`
    pub rpm: Option<AutoOr<u64>>,
    /// `--tpm`
    pub tpm: Option<AutoOr<u64>>,
    /// `--retries`
    pub retries: Option<u32>,
    /// `--request-timeout`
    #[serde(deserialize_with = "time")]
    pub request_timeout: Option<Duration>,
    /// `--give-up-after`
    #[serde(deserialize_with = "time")]
    pub give_up_after: Option<Duration>,
    /// `--grace`
    #[serde(deserialize_with = "time")]
    pub grace: Option<Duration>,
}

/// `auto`, or a value that the user has fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoOr<T> {
    /// llbatch finds the value while it runs.
    #[default]
    Auto,
    /// The user's value.
    Fixed(T),
}

impl std::str::FromStr for AutoOr<u64> {
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

impl<'de> Deserialize<'de> for AutoOr<u64> {
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

/// Reads a duration, so that the error of an invalid one names its place in the file.
fn time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    duration(&text).map(Some).map_err(serde::de::Error::custom)
}

/// Reads the config file. `None`: there is no file at the default path.
pub(super) fn read_config(path: &Setting<PathBuf>) -> Result<Option<ConfigFile>> {
    let shown = path.value.display();
    // Nobody asked for the default file. One in a home directory of somebody else cannot be seen.
    if path.origin == Origin::Default && std::fs::metadata(&path.value).is_err() {
        return Ok(None);
    }
    let bytes = match std::fs::read(&path.value) {
        Ok(bytes) => bytes,
        Err(e) => {
            return Err(Error::usage(format!("config file {shown} ({}): cannot be read", path.origin)).because(e));
        }
    };
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        let line = memchr::memchr_iter(b'\n', &bytes[..e.valid_up_to()]).count() + 1;
        Error::usage(format!("config file {shown}: line {line} is not UTF-8")).hint("save it again as UTF-8")
    })?;
    let config = toml::from_str(text).map_err(|e| {
        let shown_error = with_line(text, &e);
        // The hint lists the keys of all tables.
        let what = shown_error.split(", expected one of ").next().unwrap_or_default();
        let error = Error::usage(format!("config file {shown}: {}", what.trim_end()));
        if let Some(hint) = hint_for_secret(e.message()) {
            return error.hint(hint);
        }
        error.hint(
            "keys: base_url, api_key_file, state_dir, state_mode, service, [run] \
                   model/concurrency/rpm/tpm/retries/request_timeout/give_up_after/grace, [submit] settle_after/cancel_wait, \
                   [budget] per_day/per_month, [notify] secret_file, [models.\"NAME\"] input/output/cached_input/batch_discount/batch/context/\
                   image_tokens, [services.NAME] base_url/key/api_key_file/api_key_env/headers/dialect/batch_discount and \
                   [services.NAME.models.\"NAME\"]; `llbatch help services` explains them",
        )
    })?;
    Ok(Some(config))
}

/// Describes an error and its line, without the text of that line and without values: either may be a key.
fn with_line(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = memchr::memchr_iter(b'\n', &text.as_bytes()[..at]).count() + 1;
    let message = error.message();
    let shown = match (message.split_once(": string \""), message.rsplit_once("\", expected ")) {
        (Some((what, _)), Some((_, expected))) => format!("{what}: a string, expected {expected}"),
        _ => message.to_owned(),
    };
    format!("line {line}: {shown}")
}

/// Returns the place of a secret, if the file has one under an unknown key.
fn hint_for_secret(message: &str) -> Option<&'static str> {
    let field = message.strip_prefix("unknown field `")?.split('`').next()?.to_ascii_lowercase();
    if field.contains("secret") {
        return Some("write the secret to a file of mode 600, and name it: [notify] secret_file = \"PATH\"");
    }
    let hint =
        "write the key to a file of mode 600, and name it: api_key_file = \"PATH\", at the top or in [services.NAME]";
    (field.contains("key") || field.contains("token")).then_some(hint)
}

/// Resolves a path in the config file. `~/` is the home directory. A relative path starts at the file's own directory,
/// never at the working directory.
///
/// # Errors
/// 2 if it needs the home directory, which is unknown.
pub(super) fn resolve_path(path: PathBuf, config: &Path, home: Option<&Path>) -> Result<PathBuf> {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => Ok(home.join(rest)),
        (Ok(_), None) => {
            let what = format!("config file {}: {}", config.display(), path.display());
            Err(homeless(&what).hint("set HOME, or name the whole path; LLBATCH_STATE_DIR names the state directory"))
        }
        (Err(_), _) => Ok(config.parent().unwrap_or(Path::new("")).join(path)),
    }
}

pub(super) fn budgets(config: &BudgetConfig) -> Result<Budgets> {
    let amount = |name: &str, given: Option<Decimal>| match given {
        Some(Decimal(usd)) if usd <= Nanos::ZERO => {
            Err(Error::usage(format!("config file: [budget] {name} = {usd} is not a valid budget"))
                .hint("set an amount in USD above 0"))
        }
        given => Ok(given.map(|usd| usd.0)),
    };
    Ok(Budgets { per_day: amount("per_day", config.per_day)?, per_month: amount("per_month", config.per_month)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_duration_is_named_with_its_place_in_the_file() {
        for key in ["[run]\ngrace", "[run]\nrequest_timeout", "[submit]\nsettle_after", "[submit]\ncancel_wait"] {
            let error = toml::from_str::<ConfigFile>(&format!("{key} = \"soon\"")).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains("`soon` is not a duration"), "{error}");
            assert!(toml::from_str::<ConfigFile>(&format!("{key} = \"2m\"")).is_ok());
        }
    }

    #[test]
    fn no_error_repeats_what_may_be_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = Setting { value: dir.path().join("config.toml"), origin: Origin::Flag("--config") };
        for text in [
            "[services.a]\nkey = \"canary\"",
            "[services.a]\napi_key = \"canary\"",
            "[services.a]\nheaders = \"X-Org: canary\"",
            "[services.a]\nheaders = { \"X-Org\" = \"canary\", \"X-B\" = 1 }",
            "[services.a]\nheaders = { \"X-Org\" = \"canary\" } x",
            "[services.a.headers]\nX-Org = \"canary\nb\"",
            "services.a.headers.X = [\"canary\"]",
            "[services]\na = { base_url = 5, key = \"canary\" }",
            "api_key = \"canary\"",
            "TOGETHER_API_KEY = \"canary\"",
            "[run]\napi_key = \"canary\"",
            "[notify]\nsecret = \"canary\"",
            "notify.secret = \"canary\"",
            "notify = \"canary\"",
            "run = \"canary\\\", expected a\"",
            "[models.\"x\"]\nkey = \"canary\"",
            "models = \"canary\"",
            "key = \"canary\" x",
            "base_url = [\"canary\"]",
            "api_key_file = { key = \"canary\" }",
            "canary",
        ] {
            std::fs::write(&path.value, text).unwrap();
            let error = read_config(&path).unwrap_err();
            assert!(error.exit.code() == 2 && error.message.contains("line "), "{text}: {error}");
            let hint = error.hint.as_deref().unwrap_or_default();
            assert!(!error.message.contains("canary") && !hint.contains("canary"), "{text}: {error}");
            assert!(!error.message.contains("unknown field") || !hint.is_empty(), "{text}: {error}");
        }
    }
}
