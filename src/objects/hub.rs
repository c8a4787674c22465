//! Datasets on Hugging Face.

use secrecy::SecretString;
use url::Url;

use super::failure::usage;
use super::redirects::HostToken;
use super::url::ObjectUrl;
use super::web::WebObject;
use crate::api::is_on_this_machine;
use crate::error::Result;

const ENDPOINT: &str = "https://huggingface.co";
/// The revision that is read if the URL names none.
const REVISION: &str = "main";
/// Pages of a listing, of 1,000 files each. More files are no input of one command.
const PAGES: usize = 1000;

/// A file of a dataset.
pub(super) fn file(repository: &str, revision: Option<&str>, path: &str, shown: &ObjectUrl) -> Result<WebObject> {
    let revision = revision.unwrap_or(REVISION);
    let base = endpoint(shown)?;
    let url = address(&base, &["datasets", repository, "resolve"], revision, path);
    // An empty part before the first slash, the endpoint's own, then `datasets`, owner, name and `resolve`.
    let own = base.path_segments().map_or(0, |parts| parts.filter(|part| !part.is_empty()).count());
    Ok(WebObject::at(url, token(&base)).at_revision(1 + own + 4))
}

/// The paths of the files of a dataset that begin with `prefix`, in order.
pub(super) fn list(repository: &str, revision: Option<&str>, prefix: &str, shown: &ObjectUrl) -> Result<Vec<String>> {
    let base = endpoint(shown)?;
    let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut url = address(&base, &["api", "datasets", repository, "tree"], revision.unwrap_or(REVISION), folder);
    url.set_query(Some("recursive=true"));
    let mut paths = Vec::new();
    for _ in 0..PAGES {
        let (page, next) = WebObject::at(url.clone(), token(&base)).document(shown)?;
        for entry in page.as_array().into_iter().flatten() {
            if let (Some("file"), Some(path)) = (entry["type"].as_str(), entry["path"].as_str()) {
                paths.push(path.to_owned());
            }
        }
        match next.and_then(|next| base.join(&next).ok()).filter(|next| next.origin() == base.origin()) {
            Some(next) => url = next,
            None => break,
        }
    }
    paths.retain(|path| path.starts_with(prefix));
    paths.sort_unstable();
    Ok(paths)
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
