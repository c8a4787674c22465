//! The service that a command talks to: Together, or the built-in server inside this process.

use std::cell::Cell;

use secrecy::SecretString;
use url::Url;

use super::sandbox;
use crate::api::{Client, ClientOptions, InvalidBase, OwnHeader, canonical_base, endpoint_of, is_in_clear};
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::job::remote::{Remote, WITHOUT_KEY};
use crate::sandbox::Sandbox;
use crate::store::{Job, JobBatch, Store, service_identity};

/// A client, with the service and the account that it talks to.
#[derive(Debug)]
pub(super) struct Service {
    /// The client of the first base URL.
    pub client: Client,
    /// The clients of the other base URLs.
    pub others: Vec<Client>,
    /// The first base URL, or `sandbox`.
    pub name: String,
    /// The name in the config file, if it has one there. Both together distinguish services.
    named: Option<String>,
    /// A hash of the key. It distinguishes accounts. Empty: see [`Remote::account`].
    pub account: String,
    /// [`Remote::unsaid`]
    unsaid: Cell<bool>,
    _sandbox: Option<Sandbox>,
}

impl Service {
    pub fn remote(&self) -> Remote<'_> {
        Remote {
            client: &self.client,
            others: &self.others,
            name: &self.name,
            service: self.named.as_deref(),
            account: &self.account,
            unsaid: &self.unsaid,
        }
    }

    /// The service for a command on these jobs. What is in the store needs neither key nor network: with `offline`, jobs
    /// whose results are all there may be of any service.
    ///
    /// # Errors
    /// 4 without a valid key, if the service is needed.
    pub fn for_jobs(mut self, jobs: &[Job], offline: bool, ctx: &Ctx) -> Result<Self> {
        let store = Store::open(ctx.settings.state_place()?)?;
        let stored = |job: &Job| store.open_job(&job.id).and_then(|db| db.batches());
        // One whose file cannot be read is refused later, with its own words.
        let awaits = |job: &Job| stored(job).is_ok_and(|batches| batches.iter().any(JobBatch::is_open));
        if !offline || jobs.iter().any(awaits) {
            // A job of another service is refused later.
            let mine = self.remote().identity();
            if jobs.iter().all(|job| job.service_identity().is_none_or(|theirs| theirs == mine)) {
                self.remote().ready(ctx)?;
            }
            return Ok(self);
        }
        let mine = self.remote().identity();
        if let Some(job) = jobs.first().filter(|job| job.service_identity().is_some_and(|theirs| theirs != mine)) {
            let (name, named) = (job.service().unwrap_or_default(), job.service_name());
            self = Self { name, named, account: String::new(), ..self };
        }
        Ok(self)
    }
}

/// Connects to the service of the settings, with the user's key.
///
/// # Errors
/// 2 for an invalid base URL or proxy, 4 without a valid key.
pub(super) fn connect(ctx: &Ctx) -> Result<Service> {
    let service = connect_later(ctx)?;
    service.remote().ready(ctx)?;
    Ok(service)
}

/// Connects to the service of the settings, with the user's key if there is one. [`Remote::ready`] asks for it.
///
/// # Errors
/// 2 for an invalid base URL or proxy.
pub(super) fn connect_later(ctx: &Ctx) -> Result<Service> {
    if let Some(server) = sandbox::start_if_asked(ctx)? {
        let key: SecretString = "sandbox".to_owned().into();
        let account = ctx.settings.account(&key);
        let client = connect_to(server.url.clone(), Some(key), Vec::new())?.with_dialect(ctx.settings.dialect());
        let (name, unsaid) = ("sandbox".to_owned(), Cell::default());
        return Ok(Service { client, others: Vec::new(), name, named: None, account, unsaid, _sandbox: Some(server) });
    }
    let first = checked_base(&ctx.settings.base_url.value, ctx)?;
    let others = ctx.settings.more_urls().iter().map(|url| checked_base(url, ctx)).collect::<Result<Vec<_>>>()?;
    if others.iter().chain([&first]).any(|base| base.scheme() == "https") {
        ctx.settings.check_proxy()?;
        if let Some(missing) = missing_certificates() {
            ctx.ui.warn(&missing);
        }
    }
    // A missing key stops the command later: see `Remote::ready`.
    let key = ctx.settings.key();
    let without_key = matches!(key, Ok(None));
    let key = key.ok().flatten();
    let account = match &key {
        Some(key) => ctx.settings.account(key),
        None if without_key => WITHOUT_KEY.to_owned(),
        None => String::new(),
    };
    let client = |base: &Url| {
        Ok(connect_to(base.to_string(), key.clone(), own_headers(ctx))?.with_dialect(ctx.settings.dialect()))
    };
    Ok(Service {
        client: client(&first)?,
        others: others.iter().map(client).collect::<Result<_>>()?,
        name: first.to_string(),
        named: ctx.settings.service_name().map(str::to_owned),
        account,
        unsaid: Cell::new(without_key && !ctx.settings.refuses_key()),
        _sandbox: None,
    })
}

/// The canonical form of a base URL of the settings. Says what is unusual about it.
///
/// # Errors
/// 2 if it is invalid, or a key would travel unencrypted.
fn checked_base(given: &str, ctx: &Ctx) -> Result<Url> {
    let origin = &ctx.settings.base_url.origin;
    let base = canonical_base(given).map_err(|e| invalid_base(format!("base URL ({origin}): {e}"), &e))?;
    if let Some(endpoint) = endpoint_of(given) {
        ctx.ui.note(&format!("the base URL is {base}: {endpoint} is the path of an endpoint"));
    }
    let in_clear = unencrypted(&base, ctx);
    if let Some(warning) =
        in_clear.map_err(|e| Error { message: format!("base URL ({origin}): {}", e.message), ..e })?
    {
        ctx.ui.warn(&warning);
    }
    Ok(base)
}

/// Names the remedy if a service refused a command for want of a key.
pub(super) fn explain_keyless(error: Error, ctx: &Ctx) -> Error {
    let settings = &ctx.settings;
    if error.exit != Exit::Auth || settings.sandbox || !matches!(settings.key(), Ok(None)) {
        return error;
    }
    error.hint(match settings.service_name() {
        Some(name) => format!("no key was sent; name one by api_key_file or api_key_env in [services.{name}]"),
        None => "no key was sent; set TOGETHER_API_KEY, or pass --api-key-file FILE".to_owned(),
    })
}

/// The user's own headers for the service.
fn own_headers(ctx: &Ctx) -> Vec<OwnHeader> {
    ctx.settings.service.as_ref().map(|service| service.headers.clone()).unwrap_or_default()
}

/// Refuses a service to which a key would travel unencrypted. Returns the warning that prompts do.
///
/// # Errors
/// 2 if the user has not decided against a key, or a header may hold one.
pub(super) fn unencrypted(base: &Url, ctx: &Ctx) -> Result<Option<String>> {
    if !is_in_clear(base) {
        return Ok(None);
    }
    if !ctx.settings.refuses_key() {
        let what = format!("{base} is plain http, which would send your key and prompts unencrypted");
        let how = match ctx.settings.service_name() {
            Some(name) => format!("key = \"none\" in [services.{name}]"),
            None => "--no-key".to_owned(),
        };
        return Err(Error::usage(what).hint(format!("use https; or send no key, with {how}")));
    }
    if let Some(header) = own_headers(ctx).iter().find(|header| header.may_hold_key()) {
        let what = format!("{base} is plain http, and the header {} may hold a key", header.name());
        return Err(Error::usage(what).hint("use https, or leave the header out"));
    }
    Ok(Some(format!("{base} is plain http: prompts and answers travel unencrypted")))
}

/// Builds the error for an invalid base URL, with the right one in its hint.
pub(super) fn invalid_base(message: String, invalid: &InvalidBase) -> Error {
    Error { hint: invalid.hint(), ..Error::usage(message) }
}

/// Builds a client for a base URL and a key, both checked before.
///
/// # Errors
/// 2 if the system has no certificates.
pub(super) fn connect_to(base_url: String, key: Option<SecretString>, headers: Vec<OwnHeader>) -> Result<Client> {
    let user_agent = format!("llbatch/{}", env!("CARGO_PKG_VERSION"));
    Client::new(&ClientOptions { base_url, key, headers, user_agent }).map_err(|e| {
        Error::usage(e)
            .hint("install the system's certificates (ca-certificates), or set SSL_CERT_FILE or SSL_CERT_DIR")
    })
}

/// Warns of a file of certificates that the environment names and that is missing. The library passes over it in silence.
pub(super) fn missing_certificates() -> Option<String> {
    let path = std::path::PathBuf::from(std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty())?);
    (!path.exists()).then(|| format!("SSL_CERT_FILE names {}, which is missing", path.display()))
}

/// Returns what distinguishes the command's service from others, without connecting to it: see [`Remote::identity`].
pub(super) fn identity(ctx: &Ctx) -> Option<String> {
    Some(service_identity(ctx.settings.service_name(), &name(ctx)?))
}

/// Returns the base URL of the command's service, or `sandbox`, without connecting to it.
pub(super) fn name(ctx: &Ctx) -> Option<String> {
    if ctx.settings.sandbox {
        return Some("sandbox".to_owned());
    }
    canonical_base(&ctx.settings.base_url.value).ok().map(|base| base.to_string())
}
