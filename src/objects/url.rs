//! URLs of objects, and their form without secrets.

use std::path::{Path, PathBuf};

use url::Url;

use super::failure::usage;
use crate::api::is_on_this_machine;
use crate::error::{Error, Exit, Result};

/// Parts of the names of parameters whose values give access, such as those of a presigned URL.
const SECRET_PARTS: [&str; 9] = ["sig", "token", "key", "cred", "secret", "passw", "auth", "policy", "code"];
/// The query of a URL whose secret is left out.
const REDACTED: &str = "[redacted]";
/// The longest name in front of `://`.
const LONGEST_SCHEME: usize = 8;

/// The URL of an object, or of several.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectUrl {
    pub(super) place: ObjectPlace,
    shown: String,
}

/// The place that a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ObjectPlace {
    /// A key in a bucket, or in a container.
    Bucket { store: StoreKind, bucket: String, key: String },
    /// An address of the web.
    Web(Url),
    /// A file of a dataset on Hugging Face.
    Hub {
        /// `OWNER/NAME`
        repository: String,
        revision: Option<String>,
        path: String,
    },
}

/// The kinds of object storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum StoreKind {
    S3,
    Gcs,
    Azure,
}

impl StoreKind {
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}

/// Returns true if `path` is a URL of this room and no file.
pub fn is_url(path: &Path) -> bool {
    scheme_of(path).is_some_and(|(scheme, _)| ["s3", "gs", "az", "http", "https", "hf"].contains(&&*scheme))
}

/// The scheme of a URL in lower case, and the text behind `://`.
fn scheme_of(path: &Path) -> Option<(String, &str)> {
    let (scheme, rest) = path.to_str()?.split_once("://")?;
    let plain = scheme.len() <= LONGEST_SCHEME && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| (scheme.to_ascii_lowercase(), rest))
}

/// The name of an input or output in messages: a URL without its secrets, or the path.
pub fn shown_path(path: &Path) -> String {
    kept_path(path).display().to_string()
}

/// The form of a path that is kept with a job: a URL without its secrets, or the path itself.
pub fn kept_path(path: &Path) -> PathBuf {
    match is_url(path).then(|| ObjectUrl::parse(path)) {
        Some(Ok(url)) => PathBuf::from(url.shown),
        // An invalid URL may hold a secret too.
        Some(Err(_)) => PathBuf::from(bare(&path.to_string_lossy())),
        None => path.to_owned(),
    }
}

/// The scheme, host and path of an invalid URL.
fn bare(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let rest = rest.rsplit('@').next().unwrap_or_default();
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    // Behind a colon comes a port. Anything else is a password.
    let host = match host.split_once(':') {
        Some((_, port)) if port.parse::<u16>().is_err() => REDACTED,
        _ => host,
    };
    path.map_or_else(|| format!("{scheme}://{host}"), |path| format!("{scheme}://{host}/{path}"))
}

impl ObjectUrl {
    /// Reads a URL as typed.
    ///
    /// # Errors
    /// 2 if it is invalid, or plain http to another machine.
    pub fn parse(path: &Path) -> Result<Self> {
        let unknown =
            || usage("the address is not one that llbatch reads", "use s3://, gs://, az://, https:// or hf://");
        let (scheme, rest) = scheme_of(path).ok_or_else(unknown)?;
        let text = path.to_string_lossy();
        match &*scheme {
            "s3" => Self::in_bucket(StoreKind::S3, rest, &text),
            "gs" => Self::in_bucket(StoreKind::Gcs, rest, &text),
            "az" => Self::in_bucket(StoreKind::Azure, rest, &text),
            "hf" => Self::on_hub(rest, &text),
            "http" | "https" => Self::on_web(&text),
            _ => Err(unknown()),
        }
    }

    /// The URL of a place in a bucket.
    pub(super) const fn of(place: ObjectPlace) -> Self {
        Self { place, shown: String::new() }
    }

    fn in_bucket(store: StoreKind, rest: &str, text: &str) -> Result<Self> {
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        // `$web` and `$root` are containers of Azure.
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-$".contains(&byte);
        if bucket.is_empty() || !bucket.bytes().all(fits) {
            let hint = format!("write {}://BUCKET/KEY; credentials come from the environment", store.scheme());
            return Err(usage(&format!("{}: the URL has no valid bucket", bare(text)), &hint));
        }
        // Requests cannot name such a key: on the way, `//` and `/../` become others.
        let whole = key.strip_suffix('/').unwrap_or(key);
        if !key.is_empty() && whole.split('/').any(|part| matches!(part, "" | "." | "..")) {
            let text = format!(
                "{}://{bucket}/{key}: the key has an empty part between slashes, or `.` or `..`",
                store.scheme()
            );
            return Err(usage(&text, "check how it is written; to read such an object, copy it to another key"));
        }
        let place = ObjectPlace::Bucket { store, bucket: bucket.to_owned(), key: key.to_owned() };
        Ok(Self { place, shown: format!("{}://{bucket}/{key}", store.scheme()) })
    }

    fn on_hub(rest: &str, text: &str) -> Result<Self> {
        let form = || {
            usage(&format!("{}: the URL names no file of a dataset", bare(text)), "write hf://datasets/OWNER/NAME/PATH")
        };
        let mut parts = rest.strip_prefix("datasets/").ok_or_else(form)?.splitn(3, '/');
        let (Some(owner), Some(name), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(form());
        };
        // A revision with slashes is written with %2F, or is one of Hugging Face's own references.
        let (name, revision) = match name.split_once('@') {
            Some((name, revision)) => (name, Some(revision.replace("%2F", "/").replace("%2f", "/"))),
            None => (name, None),
        };
        let (revision, path) = match (revision.as_deref(), path.split_once('/')) {
            (Some("refs"), Some((kind @ ("convert" | "pr"), rest))) => {
                let (reference, path) = rest.split_once('/').ok_or_else(form)?;
                (Some(format!("refs/{kind}/{reference}")), path)
            }
            _ => (revision, path),
        };
        if owner.is_empty() || name.is_empty() || revision.as_deref() == Some("") || rest.contains(['?', '#']) {
            return Err(form());
        }
        let place = ObjectPlace::Hub { repository: format!("{owner}/{name}"), revision, path: path.to_owned() };
        Ok(Self { place, shown: format!("hf://{rest}") })
    }

    fn on_web(text: &str) -> Result<Self> {
        // The text itself may hold a password.
        let invalid = |why: &str, hint: &str| usage(&format!("the address is invalid: {why}"), hint);
        let mut url = Url::parse(text).map_err(|e| invalid(&e.to_string(), "check how it is written"))?;
        url.set_fragment(None);
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("it holds a user or a password", "leave them out, or download the file first"));
        }
        if url.query() == Some(REDACTED) {
            let text = format!("{url}: the query of this URL holds a secret, which llbatch does not keep");
            return Err(Error::new(Exit::NoInput, text).hint("run the command with the whole URL, or a new one, again"));
        }
        let shown = redacted(&url);
        if url.scheme() == "http" && !is_on_this_machine(url.as_str()) {
            let hint = "use https://; llbatch reads plain http only from this machine";
            return Err(usage(&format!("{shown}: plain http is not encrypted"), hint));
        }
        Ok(Self { place: ObjectPlace::Web(url), shown })
    }

    /// The URL without its secrets.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The text by whose ending the format is known.
    pub fn name(&self) -> &Path {
        match &self.place {
            ObjectPlace::Bucket { key, .. } => Path::new(key),
            ObjectPlace::Web(url) => Path::new(url.path()),
            ObjectPlace::Hub { path, .. } => Path::new(path),
        }
    }

    /// The same place with another key, found by listing.
    pub(super) fn with_key(&self, other: &str) -> Self {
        let mut place = self.place.clone();
        let shown = match &mut place {
            ObjectPlace::Bucket { store, bucket, key } => {
                other.clone_into(key);
                format!("{}://{bucket}/{key}", store.scheme())
            }
            ObjectPlace::Hub { repository, revision, path } => {
                other.clone_into(path);
                let at = revision.as_ref().map(|revision| format!("@{}", revision.replace('/', "%2F")));
                format!("hf://datasets/{repository}{}/{path}", at.unwrap_or_default())
            }
            ObjectPlace::Web(_) => self.shown.clone(),
        };
        Self { place, shown }
    }

    /// The same URL with `suffix` behind the key.
    pub fn with_suffix(&self, suffix: &str) -> Self {
        match &self.place {
            ObjectPlace::Bucket { key, .. } => self.with_key(&format!("{key}{suffix}")),
            ObjectPlace::Hub { .. } | ObjectPlace::Web(_) => self.clone(),
        }
    }
}

/// A URL without the values of its query, if one of them gives access.
fn redacted(url: &Url) -> String {
    let secret = |name: &str| {
        let name = name.to_ascii_lowercase();
        SECRET_PARTS.iter().any(|part| name.contains(part))
    };
    if !url.query_pairs().any(|(name, _)| secret(&name)) && url.query().is_none_or(|query| query.contains('=')) {
        return url.to_string();
    }
    let mut bare = url.clone();
    bare.set_query(None);
    format!("{bare}?{REDACTED}")
}

impl std::fmt::Debug for ObjectUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_files() {
        let url = |text: &str| is_url(Path::new(text));
        assert!(
            url("s3://b/k") && url("HTTPS://h/x") && url("hf://datasets/o/n/p") && url("gs://b/") && url("az://c/k")
        );
        assert!(!url("in.jsonl") && !url("dir/s3:/x") && !url("file://x") && !url("a b://x") && !url("-"));
    }

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        let shown = |text: &str| shown_path(Path::new(text));
        for (url, expected) in [
            ("https://h/a.csv?X-Amz-Signature=canary&x=1", "https://h/a.csv?[redacted]"),
            ("https://h/a.csv?sv=1&SIG=canary", "https://h/a.csv?[redacted]"),
            ("https://h/a.csv?canary", "https://h/a.csv?[redacted]"),
            ("https://h/a.csv?part=2#top", "https://h/a.csv?part=2"),
            ("https://me:canary@h/a.csv?sig=canary", "https://h/a.csv"),
            ("s3://b/a?b=1", "s3://b/a?b=1"),
            ("in?sig=1.csv", "in?sig=1.csv"),
        ] {
            assert_eq!(shown(url), expected);
        }
        let url = ObjectUrl::parse(Path::new("https://h/a.csv?sig=canary")).unwrap();
        assert!(!format!("{url:?}").contains("canary"));
    }

    #[test]
    fn messages_about_invalid_urls_hold_no_secret() {
        for url in [
            "s3://canary:canary@bucket/k.jsonl",
            "s3://canary:canary/x@bucket/k.jsonl",
            "az://canary:canary/k.jsonl",
            "gs://bucket?token=canary",
            "hf://datasets/o/n/x.csv?token=canary",
            "hf://canary@datasets/o/n/x.csv",
            "https://me:canary@h/x.csv",
            "http://canary:canary@10.1.2.3/x.csv?canary",
        ] {
            let error = ObjectUrl::parse(Path::new(url)).unwrap_err();
            let hint = error.hint.clone().unwrap_or_default();
            assert!(!format!("{error}{hint}{}", shown_path(Path::new(url))).contains("canary"), "{url}: {error}");
        }
    }

    #[test]
    fn keys_that_requests_cannot_name_are_refused() {
        let parsed = |text: &str| ObjectUrl::parse(Path::new(text)).map(|url| url.shown().to_owned());
        for bad in ["s3://b//k", "s3://b//", "s3://b/a//k", "gs://b/a/../k", "az://c/./k", "s3://b/a//"] {
            assert_eq!(parsed(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
        for good in ["s3://b/", "s3://b/k", "s3://b/a/", "s3://b/a/..k", "s3://b/a/*/[b]"] {
            assert_eq!(parsed(good).unwrap(), good);
        }
    }

    #[test]
    fn revisions_are_written_as_hugging_face_writes_them() {
        let place = |text: &str| match ObjectUrl::parse(Path::new(text)).unwrap().place {
            ObjectPlace::Hub { repository, revision, path } => (repository, revision, path),
            other => panic!("{other:?}"),
        };
        let hub = |revision: Option<&str>| ("o/n".to_owned(), revision.map(str::to_owned), "d/x.csv".to_owned());
        assert_eq!(place("hf://datasets/o/n/d/x.csv"), hub(None));
        assert_eq!(place("hf://datasets/o/n@v1/d/x.csv"), hub(Some("v1")));
        assert_eq!(place("hf://datasets/o/n@refs/convert/parquet/d/x.csv"), hub(Some("refs/convert/parquet")));
        assert_eq!(place("hf://datasets/o/n@refs%2Fpr%2F1/d/x.csv"), hub(Some("refs/pr/1")));
        for bad in ["hf://datasets/o", "hf://o/n/x", "s3://", "s3:///k", "http://example.com/x.csv", "https://u:p@h/x"]
        {
            assert_eq!(ObjectUrl::parse(Path::new(bad)).unwrap_err().exit, crate::error::Exit::Usage, "{bad}");
        }
    }
}
