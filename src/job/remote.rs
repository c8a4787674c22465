//! The service that a command talks to.

use crate::api::Client;

/// The service that a command talks to.
#[derive(Debug, Clone, Copy)]
pub struct Remote<'a> {
    /// Its client.
    pub client: &'a Client,
    /// Its base URL, or `sandbox`: jobs of different services are told apart by it.
    pub name: &'a str,
    /// A hash of the key: accounts are told apart by it.
    pub account: &'a str,
}
