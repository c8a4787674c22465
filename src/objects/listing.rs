//! Inputs that stand for several objects: a final `/`, or a pattern.

use std::path::{Path, PathBuf};

use super::bucket::ObjectBucket;
use super::failure::Direction;
use super::url::{ObjectPlace, ObjectUrl};
use super::{hub, is_url};
use crate::error::{Error, Exit, Result};
use crate::text::glob;

/// Returns true if `url` may stand for several objects.
fn is_pattern(url: &ObjectUrl) -> bool {
    match &url.place {
        ObjectPlace::Bucket { key, .. } => key.is_empty() || key.ends_with('/') || glob::is_glob(key),
        ObjectPlace::Hub { path, .. } => path.is_empty() || path.ends_with('/') || glob::is_glob(path),
        ObjectPlace::Web(_) => false,
    }
}

/// The paths of a command with each final `/` and each pattern in a URL replaced by the objects that it stands for, in the
/// order of their keys. Files and other URLs stay as they are.
///
/// # Errors
/// 2 for an invalid URL, 66 if nothing matches or a store cannot be listed, 75 if one cannot be reached.
pub fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::with_capacity(paths.len());
    for path in paths {
        if !is_url(path) {
            all.push(path.clone());
            continue;
        }
        let url = ObjectUrl::parse(path)?;
        if is_pattern(&url) {
            all.extend(objects_of(&url)?.iter().map(|url| PathBuf::from(url.shown())));
        } else {
            all.push(path.clone());
        }
    }
    Ok(all)
}

/// Tests whether `input`, which may be a pattern, stands for the object at `output`.
pub fn stands_for(input: &Path, output: &Path) -> bool {
    let (Ok(input), Ok(output)) = (ObjectUrl::parse(input), ObjectUrl::parse(output)) else { return false };
    let (ObjectPlace::Bucket { store: a, bucket: b, key: pattern }, ObjectPlace::Bucket { store, bucket, key }) =
        (&input.place, &output.place)
    else {
        return input == output;
    };
    (a, b) == (store, bucket) && (pattern == key || is_pattern(&input) && is_within(pattern, key))
}

/// Tests whether `key` is one of those that a pattern, or a final slash, stands for.
fn is_within(pattern: &str, key: &str) -> bool {
    if glob::is_glob(pattern) {
        return glob::matches_shown(pattern, key);
    }
    key.strip_prefix(pattern).is_some_and(glob::is_shown)
}

/// Tests whether there is an object with the signs of a pattern in its key, which is then the one that is meant.
fn is_object(url: &ObjectUrl) -> Result<bool> {
    match &url.place {
        ObjectPlace::Bucket { key, .. } if glob::is_glob(key) && !key.ends_with('/') => {
            // Without the right to list, a store refuses to say that an object is missing.
            Ok(ObjectBucket::open(url, Direction::Read)?.version(key).is_ok())
        }
        _ => Ok(false),
    }
}

/// The objects that a pattern stands for.
fn objects_of(url: &ObjectUrl) -> Result<Vec<ObjectUrl>> {
    if is_object(url)? {
        return Ok(vec![url.clone()]);
    }
    let keys: Vec<String> = match &url.place {
        ObjectPlace::Bucket { key, .. } => {
            let (from, wanted) = (glob::fixed_prefix(key), key.clone());
            // One part of the key is open: what lies in folders below need not be listed.
            let flat = glob::is_glob(key) && !key[from.len()..].contains('/') && !key.contains("**");
            let fits = move |key: &str| is_within(&wanted, key);
            let listed = ObjectBucket::open(url, Direction::Read)?.list_where(from, flat, fits)?;
            // A store's own mark of a folder is an empty object.
            listed.into_iter().filter(|o| o.size > 0).map(|object| object.key).collect()
        }
        ObjectPlace::Hub { repository, revision, path } => {
            let mut paths = hub::list(repository, revision.as_deref(), glob::fixed_prefix(path), url)?;
            if paths.contains(path) {
                return Ok(vec![url.clone()]);
            }
            paths.retain(|found| is_within(path, found));
            paths
        }
        ObjectPlace::Web(_) => return Ok(vec![url.clone()]),
    };
    let found: Vec<ObjectUrl> = keys.iter().map(|key| url.with_key(key)).collect();
    if found.is_empty() {
        return Err(Error::new(Exit::NoInput, format!("{}: there is no such object", url.shown()))
            .hint("`*` matches within one part of a key, `**` over parts, and a final / all objects below"));
    }
    Ok(found)
}
