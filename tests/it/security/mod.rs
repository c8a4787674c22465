//! What must not leak, be obeyed or be trusted: the key, prompts, redirects, certificates, proxies, the working directory,
//! terminals, spreadsheets, paths and modes.

mod key;
mod modes;
mod paths;
mod prompts;
mod proxy;
mod redirects;
mod service;
mod surroundings;
mod tables;
mod terminal;
mod tls;
