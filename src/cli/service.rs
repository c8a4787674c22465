//! The service that a command talks to: Together, or the built-in server inside this process.

use secrecy::SecretString;

use super::sandbox;
use crate::api::{Client, ClientOptions, canonical_base};
use crate::context::Ctx;
use crate::error::{Error, Result};
use crate::job::remote::Remote;
use crate::sandbox::Sandbox;

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
}

/// Connects to the service of the settings, with the user's key.
///
/// # Errors
/// 2 for an invalid base URL or proxy, 4 without a valid key.
pub(super) fn connect(ctx: &Ctx) -> Result<Service> {
    let sandbox = sandbox::start_if_asked(ctx)?;
    let (base_url, key, name) = if let Some(server) = &sandbox {
        (server.url.clone(), "sandbox".to_owned().into(), "sandbox".to_owned())
    } else {
        let base = canonical_base(&ctx.settings.base_url.value)
            .map_err(|e| Error::usage(format!("base URL ({}): {e}", ctx.settings.base_url.origin)))?;
        if base.scheme() == "https" {
            ctx.settings.check_proxy()?;
        }
        (base.to_string(), ctx.settings.key()?, base.to_string())
    };
    let account = ctx.settings.account(&key);
    let client = connect_to(base_url, Some(key))?;
    Ok(Service { client, name, account, _sandbox: sandbox })
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

/// Returns the name of the command's service without connecting to it.
pub(super) fn name(ctx: &Ctx) -> Option<String> {
    if ctx.settings.sandbox {
        return Some("sandbox".to_owned());
    }
    canonical_base(&ctx.settings.base_url.value).ok().map(|base| base.to_string())
}
