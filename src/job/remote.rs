//! The service that a command talks to.

use crate::api::Client;

/// The service that a command talks to.
#[derive(Debug, Clone, Copy)]
pub struct Remote<'a> {
    /// Its client.
    pub client: &'a Client,
    /// Its base URL, or `sandbox`. It distinguishes jobs of different services.
    pub name: &'a str,
    /// A hash of the key. It distinguishes accounts.
    pub account: &'a str,
}
