//! The service that a command talks to.

use std::cell::Cell;

use crate::api::Client;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::store::service_identity;

/// The service that a command talks to.
#[derive(Debug, Clone, Copy)]
pub struct Remote<'a> {
    /// The client of its first base URL, which alone takes files and batches.
    pub client: &'a Client,
    /// The clients of its other base URLs.
    pub others: &'a [Client],
    /// Its first base URL, or `sandbox`.
    pub name: &'a str,
    /// Its name in the config file, if it has one there.
    pub service: Option<&'a str>,
    /// A hash of the key, or [`WITHOUT_KEY`]. It distinguishes accounts. Empty: a key is needed and missing, and nothing can be
    /// sent.
    pub account: &'a str,
    /// The user does not know yet that no key is sent. It is said before the first request.
    pub unsaid: &'a Cell<bool>,
}

/// The account of requests without a key.
pub const WITHOUT_KEY: &str = "none";

impl<'a> Remote<'a> {
    /// This service, with the base URL that a job's files and batches are at, if the service still has it.
    pub fn at(self, url: &str) -> Self {
        let moved = self.others.iter().find(|client| client.base() == url);
        moved.map_or(self, |client| Self { client, name: client.base(), ..self })
    }

    /// The clients of all base URLs.
    pub fn clients(&self) -> impl Iterator<Item = &'a Client> {
        std::iter::once(self.client).chain(self.others)
    }

    /// Refuses to go on without a key where one is needed. Everything that costs nothing to look at comes before this.
    ///
    /// # Errors
    /// 4 without a valid key.
    pub fn ready(&self, ctx: &Ctx) -> Result<()> {
        if self.account.is_empty() {
            ctx.settings.key()?;
            return Err(Error::new(Exit::Auth, format!("no key is used for {}", self.name)));
        }
        if self.unsaid.take() {
            ctx.ui.note(&format!(
                "no key is configured for {}, so it is asked without one",
                shown(self.service, self.name)
            ));
        }
        Ok(())
    }

    /// Returns true if requests are sent without a key.
    pub fn is_without_key(&self) -> bool {
        self.account == WITHOUT_KEY
    }

    /// The text that tells the service's jobs from those of others.
    pub fn identity(&self) -> String {
        service_identity(self.service, self.name)
    }
}

/// The service as messages name it.
pub fn shown(service: Option<&str>, base_url: &str) -> String {
    service.map_or_else(|| base_url.to_owned(), |name| format!("{name} ({base_url})"))
}
