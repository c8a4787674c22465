//! Security: keys, prompts, redirects, certificates, proxies, the working directory, terminals, spreadsheets, paths and
//! file modes.

mod clear;
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
