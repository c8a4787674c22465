//! Files at addresses of the web, read in ranges where the server allows it.

use std::io::Write;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED, RANGE};
use url::Url;

use super::background;
use super::failure::{Direction, FailureKind, ObjectFailure};
use super::hub;
use super::pinned::ObjectVersion;
use super::redirects::{HostToken, WebAnswer, get, unreached};
use super::url::{ObjectPlace, ObjectUrl};
use crate::error::{Error, Result};

/// Bytes of an error's body that are looked at.
const ERROR_BODY: usize = 16 << 10;

/// A file on the web.
#[derive(Debug, Clone)]
pub struct WebObject {
    url: Url,
    token: Option<HostToken>,
    /// The part of the path of `url` that an answer's commit replaces.
    revision: Option<usize>,
}

impl WebObject {
    pub(super) const fn at(url: Url, token: Option<HostToken>) -> Self {
        Self { url, token, revision: None }
    }

    /// The same file, whose address names the commit in this part of its path once that is known.
    pub(super) fn at_revision(self, part: usize) -> Self {
        Self { revision: Some(part), ..self }
    }

    /// Asks for the first byte, which tells size and version. `None`: it cannot be read in ranges of one version.
    pub(super) fn look_up(self, shown: &ObjectUrl) -> Result<(Self, Option<ObjectVersion>)> {
        let url = shown.clone();
        background::wait(async move {
            let (answer, status) = self.ask(&range_of(&(0..1)), &url).await?;
            let version = match status {
                206 | 416 => version_of(answer.response.headers()),
                _ => None,
            };
            let commit = answer.commit;
            if let (ObjectPlace::Hub { repository, revision, .. }, Some(commit)) =
                (&url.place, commit.as_deref().filter(|commit| hub::is_commit(commit)))
            {
                hub::pin(repository, revision.as_deref(), commit);
            }
            Ok((self.pinned_to(commit.as_deref()), version))
        })
    }

    /// Replaces the revision in the address by the commit that it stood for.
    fn pinned_to(mut self, commit: Option<&str>) -> Self {
        if let (Some(at), Some(commit)) = (self.revision.take(), commit.filter(|commit| hub::is_commit(commit))) {
            // The parts are encoded already.
            let path: Vec<&str> = self.url.path().split('/').collect();
            let parts: Vec<&str> =
                path.iter().enumerate().map(|(n, part)| if n == at { commit } else { part }).collect();
            let path = parts.join("/");
            self.url.set_path(&path);
        }
        self
    }

    /// Sends a GET. A status that is neither a success nor 416 is an error.
    async fn ask(&self, headers: &HeaderMap, shown: &ObjectUrl) -> Result<(WebAnswer, u16)> {
        let failed = |failure: ObjectFailure| failure.error(shown, Direction::Read);
        let mut wait = std::time::Duration::from_millis(200);
        for last in [false, false, false, true] {
            let answer = match get(&self.url, headers, self.token.as_ref()).await {
                Ok(answer) => answer,
                Err(failure) if failure.may_pass() && !last => {
                    tokio::time::sleep(wait).await;
                    wait *= 3;
                    continue;
                }
                Err(failure) => return Err(failed(failure)),
            };
            let status = answer.response.status().as_u16();
            if matches!(status, 200 | 206 | 416) {
                return Ok((answer, status));
            }
            let failure = refusal(answer.response).await;
            if last || !failure.may_pass() {
                return Err(failed(failure));
            }
            tokio::time::sleep(wait).await;
            wait *= 3;
        }
        Err(failed(ObjectFailure::new(FailureKind::Unreachable, "")))
    }

    /// Reads a range of one version.
    pub(super) async fn read(&self, version: &ObjectVersion, range: Range<u64>) -> Result<Bytes, ObjectFailure> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        // The version is compared when it comes back. As a condition, it would also meet the servers that redirect.
        let answer = get(&self.url, &range_of(&range), self.token.as_ref()).await?;
        match answer.response.status().as_u16() {
            206 if version_of(answer.response.headers()).as_ref() == Some(version) => {}
            200 | 206 | 416 => return Err(ObjectFailure::of_status(412, None)),
            _ => return Err(refusal(answer.response).await),
        }
        let mut response = answer.response;
        let mut bytes = BytesMut::with_capacity(length);
        while let Some(piece) = response.chunk().await.map_err(|error| unreached(&error))? {
            if bytes.len() + piece.len() > length {
                return Err(ObjectFailure::new(FailureKind::Unfit, "more bytes than asked for"));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// Copies the whole file to `to`.
    ///
    /// # Errors
    /// 66 or 75 if it cannot be read, 74 if the copy cannot be written.
    pub fn copy(&self, shown: &ObjectUrl, mut to: std::fs::File) -> Result<()> {
        let (web, url) = (self.clone(), shown.clone());
        background::wait(async move {
            let (answer, _) = web.ask(&HeaderMap::new(), &url).await?;
            let mut response = answer.response;
            let unwritable = |e| Error::io(format!("{}: the copy cannot be stored", url.shown()), e);
            let (expected, mut copied) = (response.content_length(), 0);
            loop {
                let piece = response.chunk().await.map_err(|e| unreached(&e).error(&url, Direction::Read))?;
                let Some(piece) = piece else { break };
                to.write_all(&piece).map_err(unwritable)?;
                copied += piece.len() as u64;
            }
            if expected.is_some_and(|expected| expected != copied) {
                let failure = ObjectFailure::new(FailureKind::Unreachable, "the file was cut off");
                return Err(failure.error(&url, Direction::Read));
            }
            to.sync_all().map_err(unwritable)
        })
    }

    /// Reads a JSON document. Returns it with the address of the next page.
    pub(super) fn document(self, shown: &ObjectUrl) -> Result<(serde_json::Value, Option<String>)> {
        let url = shown.clone();
        background::wait(async move {
            let (answer, _) = self.ask(&HeaderMap::new(), &url).await?;
            let next = answer.response.headers().get(reqwest::header::LINK).and_then(|link| link.to_str().ok());
            let next =
                next.and_then(|link| Some(link.split_once("rel=\"next\"")?.0.rsplit_once('<')?.1.split_once('>')?.0));
            let next = next.map(str::to_owned);
            let bytes = answer.response.bytes().await.map_err(|e| unreached(&e).error(&url, Direction::Read))?;
            let unfit = |_| ObjectFailure::new(FailureKind::Unfit, "no JSON").error(&url, Direction::Read);
            Ok((serde_json::from_slice(&bytes).map_err(unfit)?, next))
        })
    }
}

fn range_of(range: &Range<u64>) -> HeaderMap {
    let text = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
    HeaderValue::from_str(&text).map(|value| HeaderMap::from_iter([(RANGE, value)])).unwrap_or_default()
}

/// The size and version that an answer to a range names.
fn version_of(headers: &HeaderMap) -> Option<ObjectVersion> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let size = text(CONTENT_RANGE)?.rsplit_once('/')?.1.parse().ok()?;
    let tag = text(ETAG).or_else(|| text(LAST_MODIFIED))?.to_owned();
    Some(ObjectVersion { size, tag })
}

/// Reads the failure of an answer.
async fn refusal(mut response: Response) -> ObjectFailure {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while body.len() < ERROR_BODY
        && let Ok(Some(piece)) = response.chunk().await
    {
        body.extend_from_slice(&piece);
    }
    ObjectFailure::of_status(status, super::failure::code_in(&String::from_utf8_lossy(&body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commit_takes_the_place_of_the_revision() {
        let pinned = |url: &str, part| {
            WebObject::at(url.parse().unwrap(), None).at_revision(part).pinned_to(Some("c0ffee")).url.to_string()
        };
        let url = "https://h/datasets/main/x/resolve/refs%2Fpr%2F1/d/a%20b.csv";
        assert_eq!(pinned(url, 5), "https://h/datasets/main/x/resolve/c0ffee/d/a%20b.csv");
        let unknown = WebObject::at(url.parse().unwrap(), None).at_revision(5).pinned_to(Some("../x"));
        assert_eq!(unknown.url.as_str(), url);
    }
}
