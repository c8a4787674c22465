//! The service that a command talks to.

use crate::api::Client;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};

/// The service that a command talks to.
#[derive(Debug, Clone, Copy)]
pub struct Remote<'a> {
    /// Its client.
    pub client: &'a Client,
    /// Its base URL, or `sandbox`. It distinguishes jobs of different services.
    pub name: &'a str,
    /// A hash of the key. It distinguishes accounts. Empty: there is no key, and nothing can be sent.
    pub account: &'a str,
}

impl Remote<'_> {
    /// Refuses to go on without a key. Everything that costs nothing to look at comes before this.
    ///
    /// # Errors
    /// 4 without a valid key.
    pub fn ready(&self, ctx: &Ctx) -> Result<()> {
        if self.account.is_empty() {
            ctx.settings.key()?;
            return Err(Error::new(Exit::Auth, format!("no key is used for {}", self.name)));
        }
        Ok(())
    }
}
