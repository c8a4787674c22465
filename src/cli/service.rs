//! The service that a command talks to: Together, or the built-in server inside this process.

use secrecy::SecretString;

use super::sandbox;
use crate::api::{Client, ClientOptions, InvalidBase, canonical_base, endpoint_of};
use crate::context::Ctx;
use crate::error::{Error, Result};
use crate::job::remote::Remote;
use crate::sandbox::Sandbox;
use crate::store::{Job, JobBatch, Store};

/// A client, with the service and the account that it talks to.
#[derive(Debug)]
pub(super) struct Service {
    pub client: Client,
    /// The base URL, or `sandbox`. It distinguishes services.
    pub name: String,
    /// A hash of the key. It distinguishes accounts.
    pub account: String,
    _sandbox: Option<Sandbox>,
}

impl Service {
    pub fn remote(&self) -> Remote<'_> {
        Remote { client: &self.client, name: &self.name, account: &self.account }
    }

    /// The service for a command on these jobs. What is in the store needs neither key nor network: with `offline`, jobs
    /// whose results are all there may be of any service.
    ///
    /// # Errors
    /// 4 without a valid key, if the service is needed.
    pub fn for_jobs(mut self, jobs: &[Job], offline: bool, ctx: &Ctx) -> Result<Self> {
        let store = Store::open(ctx.settings.state_dir()?)?;
        let stored = |job: &Job| store.open_job(&job.id).and_then(|db| db.batches());
        // One whose file cannot be read is refused later, with its own words.
        let awaits = |job: &Job| stored(job).is_ok_and(|batches| batches.iter().any(JobBatch::is_open));
        if !offline || jobs.iter().any(awaits) {
            // A job of another service is refused later.
            if jobs.iter().all(|job| job.service().is_none_or(|service| service == self.name)) {
                self.remote().ready(ctx)?;
            }
            return Ok(self);
        }
        if let Some(service) = jobs.first().and_then(Job::service).filter(|service| *service != self.name) {
            self = Self { name: service, account: String::new(), ..self };
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
        let client = connect_to(server.url.clone(), Some(key))?;
        return Ok(Service { client, name: "sandbox".to_owned(), account, _sandbox: Some(server) });
    }
    let given = &ctx.settings.base_url;
    let base =
        canonical_base(&given.value).map_err(|e| invalid_base(format!("base URL ({}): {e}", given.origin), &e))?;
    if let Some(endpoint) = endpoint_of(&given.value) {
        ctx.ui.note(&format!("the base URL is {base}: {endpoint} is the path of an endpoint"));
    }
    if base.scheme() == "https" {
        ctx.settings.check_proxy()?;
        if let Some(missing) = missing_certificates() {
            ctx.ui.warn(&missing);
        }
    }
    let key = ctx.settings.key().ok();
    let account = key.as_ref().map(|key| ctx.settings.account(key)).unwrap_or_default();
    Ok(Service { client: connect_to(base.to_string(), key)?, name: base.to_string(), account, _sandbox: None })
}

/// Builds the error for an invalid base URL, with the right one in its hint.
pub(super) fn invalid_base(message: String, invalid: &InvalidBase) -> Error {
    Error { hint: invalid.hint(), ..Error::usage(message) }
}

/// Builds a client for a base URL and a key, both checked before.
///
/// # Errors
/// 2 if the system has no certificates.
pub(super) fn connect_to(base_url: String, key: Option<SecretString>) -> Result<Client> {
    let user_agent = format!("llbatch/{}", env!("CARGO_PKG_VERSION"));
    Client::new(&ClientOptions { base_url, key, user_agent }).map_err(|e| {
        Error::usage(e)
            .hint("install the system's certificates (ca-certificates), or set SSL_CERT_FILE or SSL_CERT_DIR")
    })
}

/// Warns of a file of certificates that the environment names and that is missing. The library passes over it in silence.
pub(super) fn missing_certificates() -> Option<String> {
    let path = std::path::PathBuf::from(std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty())?);
    (!path.exists()).then(|| format!("SSL_CERT_FILE names {}, which is missing", path.display()))
}

/// Returns the name of the command's service without connecting to it.
pub(super) fn name(ctx: &Ctx) -> Option<String> {
    if ctx.settings.sandbox {
        return Some("sandbox".to_owned());
    }
    canonical_base(&ctx.settings.base_url.value).ok().map(|base| base.to_string())
}
