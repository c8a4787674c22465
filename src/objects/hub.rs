//! Datasets on Hugging Face.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use secrecy::SecretString;
use url::Url;

use super::failure::{Direction, FailureKind, ObjectFailure, usage};
use super::redirects::HostToken;
use super::url::ObjectUrl;
use super::web::WebObject;
use crate::api::is_on_this_machine;
use crate::error::Result;

const ENDPOINT: &str = "https://huggingface.co";
/// The revision that is read if the URL names none.
const REVISION: &str = "main";
/// Pages of a listing, of 1,000 files each. A longer listing is an error.
const PAGES: usize = 1000;

/// The commits for which revisions stood when they were first asked for, by dataset and revision. A command reads one commit,
/// however many files it names.
type Commits = HashMap<(String, String), String>;
static COMMITS: Mutex<Option<Commits>> = Mutex::new(None);

/// The commit to read at, or the revision while no answer has told the commit.
fn pinned(repository: &str, revision: &str) -> String {
    let commits = COMMITS.lock().unwrap_or_else(PoisonError::into_inner);
    let commit = commits.as_ref().and_then(|commits| commits.get(&(repository.to_owned(), revision.to_owned())));
    commit.map_or_else(|| revision.to_owned(), String::clone)
}

/// Keeps the commit for which a revision stands. The first one that an answer tells holds.
pub(super) fn pin(repository: &str, revision: Option<&str>, commit: &str) {
    let mut commits = COMMITS.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (repository.to_owned(), revision.unwrap_or(REVISION).to_owned());
    commits.get_or_insert_default().entry(key).or_insert_with(|| commit.to_owned());
}

/// A file of a dataset.
pub(super) fn file(repository: &str, revision: Option<&str>, path: &str, shown: &ObjectUrl) -> Result<WebObject> {
    let revision = pinned(repository, revision.unwrap_or(REVISION));
    let base = endpoint(shown)?;
    let url = address(&base, &["datasets", repository, "resolve"], &revision, path);
    // An empty part before the first slash, the endpoint's own, then `datasets`, owner, name and `resolve`.
    let own = base.path_segments().map_or(0, |parts| parts.filter(|part| !part.is_empty()).count());
    Ok(WebObject::at(url, token(&base)).at_revision(1 + own + 4))
}

/// The paths of the files of a dataset that begin with `prefix`, in order, at the commit that is read from then on.
///
/// # Errors
/// 66 if the listing cannot be read whole.
pub(super) fn list(repository: &str, revision: Option<&str>, prefix: &str, shown: &ObjectUrl) -> Result<Vec<String>> {
    let base = endpoint(shown)?;
    let named = revision.unwrap_or(REVISION);
    let about = address(&base, &["api", "datasets", repository, "revision"], named, "");
    // A mirror may not know that request. Then the first file that is read tells the commit.
    let commit = WebObject::at(about, token(&base)).document(shown).ok();
    if let Some(commit) = commit.as_ref().and_then(|(about, _)| about["sha"].as_str()).filter(|sha| is_commit(sha)) {
        pin(repository, revision, commit);
    }
    let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
    let at = pinned(repository, named);
    let mut url = address(&base, &["api", "datasets", repository, "tree"], &at, folder);
    url.set_query(Some("recursive=true"));
    let mut paths = Vec::new();
    for _ in 0..PAGES {
        let (page, next) = WebObject::at(url.clone(), token(&base)).document(shown)?;
        let unfit = || ObjectFailure::new(FailureKind::Unfit, "no list of files").error(shown, Direction::Read);
        for entry in page.as_array().ok_or_else(unfit)? {
            if let (Some("file"), Some(path)) = (entry["type"].as_str(), entry["path"].as_str()) {
                paths.push(path.to_owned());
            }
        }
        let Some(next) = next else {
            paths.retain(|path| path.starts_with(prefix));
            paths.sort_unstable();
            return Ok(paths);
        };
        url = next_page(&base, &url, &next).ok_or_else(unfit)?;
    }
    Err(ObjectFailure::new(FailureKind::Unfit, "a list of more than a million files").error(shown, Direction::Read))
}

/// Returns true if a text can be the name of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The address of the page behind `page`. A mirror passes on Hugging Face's own addresses, which are read from the mirror.
fn next_page(base: &Url, page: &Url, next: &str) -> Option<Url> {
    let next = page.join(next).ok()?;
    if next.origin() == base.origin() {
        return Some(next);
    }
    let mut at = base.clone();
    at.set_path(&format!("{}{}", base.path().trim_end_matches('/'), next.path()));
    at.set_query(next.query());
    Some(at)
}

fn address(base: &Url, parts: &[&str], revision: &str, path: &str) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty();
        segments.extend(parts.iter().flat_map(|part| part.split('/')));
        segments.push(revision);
        segments.extend(path.split('/').filter(|part| !part.is_empty()));
    }
    url
}

fn endpoint(shown: &ObjectUrl) -> Result<Url> {
    let named = std::env::var("HF_ENDPOINT").ok().filter(|text| !text.is_empty());
    let text = named.as_deref().unwrap_or(ENDPOINT);
    let fits = |url: &Url| url.scheme() == "https" || url.scheme() == "http" && is_on_this_machine(url.as_str());
    Url::parse(text).ok().filter(fits).ok_or_else(|| {
        usage(
            &format!("{}: HF_ENDPOINT is not an address with https://", shown.shown()),
            "unset HF_ENDPOINT, or set it to the address of a mirror",
        )
    })
}

fn token(base: &Url) -> Option<HostToken> {
    let token = std::env::var("HF_TOKEN").ok().filter(|token| !token.trim().is_empty())?;
    Some(HostToken { token: SecretString::from(token.trim().to_owned()), host: base.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_mirror_are_read_from_the_mirror() {
        let url = |text: &str| Url::parse(text).unwrap();
        let (mirror, path) = (url("https://mirror.example/hf"), "/api/datasets/o/n/tree/main");
        let page = url(&format!("https://mirror.example/hf{path}?recursive=true"));
        for (next, expected) in [
            (format!("https://huggingface.co{path}?cursor=x"), format!("https://mirror.example/hf{path}?cursor=x")),
            (format!("https://mirror.example/hf{path}?cursor=x"), format!("https://mirror.example/hf{path}?cursor=x")),
            (format!("/hf{path}?cursor=x"), format!("https://mirror.example/hf{path}?cursor=x")),
            ("?cursor=x".to_owned(), format!("https://mirror.example/hf{path}?cursor=x")),
        ] {
            assert_eq!(next_page(&mirror, &page, &next).unwrap().as_str(), expected);
        }
    }
}
