//! Objects at URLs: found, read in ranges, listed and written whole.
//!
//! `s3://`, `gs://` and `az://` go through the `object_store` crate, `https://` and `hf://` through requests of this room.
//! A [`RemoteObject`] is pinned: each read names the version that was found first, and a changed object is an error, so that
//! no reader ever sees two versions. Callers block; the work is done by one thread of this room.

mod aws;
mod azure;
mod background;
mod bucket;
mod connector;
mod failure;
mod gcp;

mod hub;
mod listing;
mod pinned;
mod reader;
mod redirects;
mod swap;
mod upload;
mod url;
mod web;

pub use bucket::ObjectBucket;
pub use failure::{Direction, changed};
pub use listing::{expand, stands_for};
pub use pinned::{FoundObject, RemoteObject};
pub use reader::ObjectReader;
pub use swap::SwapVersion;
pub use upload::{ObjectUpload, abort_stale, object_place};
pub use url::{ObjectUrl, is_url, kept_path, shown_path};
