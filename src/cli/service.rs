//! The service that a command talks to: Together, or the built-in server inside this process.

use secrecy::SecretString;

use super::sandbox;
use crate::api::{Client, ClientOptions, canonical_base};
use crate::context::Ctx;
use crate::error::{Error, Result};
use crate::job::remote::Remote;
use crate::sandbox::Sandbox;

/// A client and who is at the other end.
#[derive(Debug)]
pub(super) struct Service {
    pub client: Client,
    /// As jobs tell services apart: the base URL, or `sandbox`.
    pub name: String,
    /// As accounts are told apart: a hash of the key.
    pub account: String,
    _sandbox: Option<Sandbox>,
}

impl Service {
    pub fn remote(&self) -> Remote<'_> {
        Remote { client: &self.client, name: &self.name, account: &self.account }
    }
}

/// Finds out where to send, and as whom.
///
/// # Errors
/// 2 for a base URL or proxy that cannot be used, 4 if there is no key that can.
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

/// Connections to a base URL with a key, both of which were looked at before.
///
/// # Errors
/// 2 if there are no certificates to go by.
pub(super) fn connect_to(base_url: String, key: Option<SecretString>) -> Result<Client> {
    let user_agent = format!("llbatch/{}", env!("CARGO_PKG_VERSION"));
    Client::new(&ClientOptions { base_url, key, user_agent }).map_err(|e| {
        Error::usage(e)
            .hint("install the system's certificates (ca-certificates), or set SSL_CERT_FILE or SSL_CERT_DIR")
    })
}

/// The name of the service that this command would talk to, without talking to it.
pub(super) fn name(ctx: &Ctx) -> Option<String> {
    if ctx.settings.sandbox {
        return Some("sandbox".to_owned());
    }
    canonical_base(&ctx.settings.base_url.value).ok().map(|base| base.to_string())
}
