//! Failures of stores as errors of the command: the URL, what happened there, and the remedy. No text of a server or a
//! library is repeated, since it may hold a secret; a status and a code of S3's form are.

use object_store::client::{HttpError, HttpErrorKind};
use url::Url;

use super::connector::{InClear, NoMetadata, is_metadata};
use super::url::{ObjectPlace, ObjectUrl, StoreKind};
use crate::error::{Error, Exit};

/// The longest code of an error that is shown. They are words such as `NoSuchKey`.
const LONGEST_CODE: usize = 60;

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectFailure {
    pub kind: FailureKind,
    /// Status and code, as far as the server told them.
    pub told: String,
}

/// The kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureKind {
    NoBucket,
    NoObject,
    Denied,
    /// There are no credentials, or they could not be had.
    NoCredentials,
    /// The object has another version than the pinned one.
    Changed,
    /// Nothing answers, or the server is busy or broken.
    Unreachable,
    /// Plain http to another machine.
    InClear,
    /// The bucket is in another region.
    OtherRegion,
    /// The server's answer is not that of such a store.
    Unfit,
}

/// The direction of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Objects are inputs.
    Read,
    /// Objects are outputs.
    Write,
}

impl ObjectFailure {
    pub fn new(kind: FailureKind, told: impl Into<String>) -> Self {
        Self { kind, told: told.into() }
    }

    /// The failure of a status of HTTP.
    pub fn of_status(status: u16, code: Option<&str>) -> Self {
        let kind = match (status, code) {
            (_, Some("NoSuchBucket" | "ContainerNotFound")) => FailureKind::NoBucket,
            (404 | 410, _) => FailureKind::NoObject,
            (401 | 403, _) => FailureKind::Denied,
            (_, Some("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired")) => FailureKind::Denied,
            (_, Some("AuthorizationHeaderMalformed" | "PermanentRedirect")) => FailureKind::OtherRegion,
            (412, _) => FailureKind::Changed,
            (408 | 429 | 500.., _) => FailureKind::Unreachable,
            _ => FailureKind::Unfit,
        };
        Self::new(kind, format!("HTTP {status}{}", code.map(|code| format!(" {code}")).unwrap_or_default()))
    }

    /// Returns true if the same request may succeed later.
    pub const fn may_pass(&self) -> bool {
        matches!(self.kind, FailureKind::Unreachable)
    }

    /// The error of a command that wanted to read or write `url`.
    pub fn error(&self, url: &ObjectUrl, direction: Direction) -> Error {
        let (exit, text, hint) = self.words(url, direction);
        let told = if self.told.is_empty() { String::new() } else { format!(" ({})", self.told) };
        Error::new(exit, format!("{}: {text}{told}", url.shown())).hint(hint)
    }

    fn words(&self, url: &ObjectUrl, direction: Direction) -> (Exit, String, String) {
        let (verb, local) = match direction {
            Direction::Read => ("read", Exit::NoInput),
            Direction::Write => ("write", Exit::Io),
        };
        let credentials = credentials(url);
        match self.kind {
            FailureKind::NoBucket => {
                (local, "there is no such bucket".to_owned(), format!("check its name; {}", endpoint(url)))
            }
            FailureKind::NoObject => (
                local,
                "there is no such object".to_owned(),
                format!("check bucket and key; a final / means all objects below; {}", endpoint(url)),
            ),
            FailureKind::Denied => (local, format!("the server refuses to let llbatch {verb} it"), credentials),
            FailureKind::NoCredentials => (local, "there are no credentials for this store".to_owned(), credentials),
            FailureKind::Changed => (
                Exit::Failure,
                "the object changed while llbatch read it".to_owned(),
                "run the same command again when no program writes to the object".to_owned(),
            ),
            FailureKind::Unreachable => (
                Exit::TempFail,
                "the server cannot be reached now".to_owned(),
                format!("{}; then run the same command again", endpoint(url)),
            ),
            FailureKind::InClear => (
                Exit::Usage,
                format!("llbatch does not {verb} it over plain http"),
                format!("give an endpoint with https://; {}", endpoint(url)),
            ),
            FailureKind::OtherRegion => {
                (local, "the bucket is in another region".to_owned(), "set AWS_REGION to its region".to_owned())
            }
            FailureKind::Unfit => (
                local,
                "the server's answer is not one that llbatch can use".to_owned(),
                format!("{}; or download the file first", endpoint(url)),
            ),
        }
    }
}

/// The remedy where credentials are missing or refused.
fn credentials(url: &ObjectUrl) -> String {
    match &url.place {
        ObjectPlace::Bucket { store: StoreKind::S3, .. } => {
            "check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what they may do; for a public bucket set \
             AWS_SKIP_SIGNATURE=true"
        }
        ObjectPlace::Bucket { store: StoreKind::Gcs, .. } => {
            "check GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`, and what the account may do"
        }
        ObjectPlace::Bucket { store: StoreKind::Azure, .. } => {
            "check AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, or AZURE_STORAGE_CONNECTION_STRING"
        }
        ObjectPlace::Web(_) => "if the URL is presigned, it may have expired: make a new one",
        ObjectPlace::Hub { .. } => "check the name; for a private or gated dataset set HF_TOKEN, and accept its terms on Hugging Face",
    }
    .to_owned()
}

/// The place where the address of the server comes from.
fn endpoint(url: &ObjectUrl) -> String {
    match &url.place {
        ObjectPlace::Bucket { store: StoreKind::S3, .. } => "check AWS_ENDPOINT_URL and AWS_REGION, if set",
        ObjectPlace::Bucket { store: StoreKind::Gcs, .. } => "check STORAGE_EMULATOR_HOST, if set, and the network",
        ObjectPlace::Bucket { store: StoreKind::Azure, .. } => "check AZURE_STORAGE_ACCOUNT and the network",
        ObjectPlace::Web(_) => "check the address and the network",
        ObjectPlace::Hub { .. } => "check the name, HF_ENDPOINT, if set, and the network",
    }
    .to_owned()
}

/// The error of an object that changed while it was read. It is the error of a changed file.
pub fn changed(url: &ObjectUrl) -> Error {
    ObjectFailure::new(FailureKind::Changed, "").error(url, Direction::Read)
}

/// An error in the command line or the environment.
pub(super) fn usage(text: &str, hint: &str) -> Error {
    Error::usage(text).hint(hint)
}

impl From<&object_store::Error> for ObjectFailure {
    fn from(error: &object_store::Error) -> Self {
        use object_store::Error as Store;
        let text = chain(error);
        let (status, code) = (status_in(&text), code_in(&text));
        let told = |status: u16| Self::of_status(status, code);
        match error {
            Store::NotFound { .. } => told(404),
            Store::PermissionDenied { .. } => told(403),
            Store::Unauthenticated { .. } => told(401),
            Store::Precondition { .. } | Store::NotModified { .. } => told(412),
            Store::InvalidPath { source } => Self::new(FailureKind::Unfit, unnamable(source)),
            _ => of_http(error)
                .or_else(|| refused_credentials(&text, status))
                .or_else(|| status.map(told))
                .unwrap_or_else(|| {
                    let region = text.contains("redirect without LOCATION");
                    Self::new(if region { FailureKind::OtherRegion } else { FailureKind::Unfit }, "")
                }),
        }
    }
}

/// The words for a key that no request can name.
fn unnamable(error: &object_store::path::Error) -> String {
    use object_store::path::Error as Bad;
    match error {
        Bad::EmptySegment { path } => format!("the key {path:?} has an empty part between slashes"),
        Bad::BadSegment { path, .. } => format!("the key {path:?} has a part that no request can name"),
        _ => "a key has a part that no request can name".to_owned(),
    }
}

/// The failure to get credentials, which the words of the library tell, and the address that it asked.
fn refused_credentials(text: &str, status: Option<u16>) -> Option<ObjectFailure> {
    // Behind these words comes the text of a server.
    let ours = text.split("Server returned").next().unwrap_or_default();
    // An address may hold any words, in the key of an object.
    let (addresses, words): (Vec<&str>, Vec<&str>) = ours.split_whitespace().partition(|word| word.contains("://"));
    let asked = addresses.iter().find_map(|address| Some(Url::parse(address).ok()?.host_str()?.to_owned()));
    let words = words.join(" ");
    let about = asked.is_some_and(|host| is_metadata(&host))
        || ["redential", "token request", "token file", "service account", "Access Key"]
            .iter()
            .any(|part| words.contains(part));
    // A service that is busy may give them later.
    let lasts = status.is_none_or(|status| (400..500).contains(&status) && !matches!(status, 408 | 429));
    (about && lasts).then(|| ObjectFailure::new(FailureKind::NoCredentials, ""))
}

/// The failure of an exchange that gave no status.
fn of_http(error: &(dyn std::error::Error + 'static)) -> Option<ObjectFailure> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if cause.is::<InClear>() {
            return Some(ObjectFailure::new(FailureKind::InClear, ""));
        }
        if let Some(NoMetadata { did }) = cause.downcast_ref::<NoMetadata>() {
            let (kind, told) = if *did {
                (FailureKind::Unreachable, "no credentials from this machine's metadata service")
            } else {
                // This machine is in no cloud.
                (FailureKind::NoCredentials, "")
            };
            return Some(ObjectFailure::new(kind, told));
        }
        if let Some(http) = cause.downcast_ref::<HttpError>()
            && http.kind() != HttpErrorKind::Unknown
        {
            let told = match http.kind() {
                HttpErrorKind::Connect => "no connection",
                HttpErrorKind::Timeout => "no answer in time",
                _ => "the connection broke",
            };
            return Some(ObjectFailure::new(FailureKind::Unreachable, told));
        }
        next = cause.source();
    }
    None
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push('\n');
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn status_in(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// The code of an error document of S3's form.
pub(super) fn code_in(text: &str) -> Option<&str> {
    let (code, _) = text.split_once("<Code>")?.1.split_once("</Code>")?;
    (code.len() <= LONGEST_CODE && code.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(code)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn errors_name_the_place_and_the_remedy_and_no_secret() {
        let url = ObjectUrl::parse(Path::new("https://h/a.csv?sig=canary")).unwrap();
        let exits = [404, 403, 412, 503, 301].map(|status| {
            let error = ObjectFailure::of_status(status, None).error(&url, Direction::Read);
            assert!(error.message.starts_with("https://h/a.csv?[redacted]: ") && error.hint.is_some(), "{error}");
            error.exit
        });
        assert_eq!(exits, [Exit::NoInput, Exit::NoInput, Exit::Failure, Exit::TempFail, Exit::NoInput]);
        let document = "x status code: 404: <Error><Code>NoSuchBucket</Code><Message>canary</Message></Error>";
        let failure = ObjectFailure::of_status(status_in(document).unwrap(), code_in(document));
        assert_eq!(failure, ObjectFailure::new(FailureKind::NoBucket, "HTTP 404 NoSuchBucket"));
    }

    #[test]
    fn words_of_a_key_decide_nothing() {
        let kind = |text: &str| {
            let error = object_store::Error::Generic { store: "S3", source: text.to_owned().into() };
            ObjectFailure::from(&error).kind
        };
        let get = |url: &str, rest: &str| kind(&format!("Error performing GET {url} in 2ms - {rest}"));
        let key = "https://b.s3.amazonaws.com/credentials-eval/169.254.1.1/token-file/x";
        let role = "http://169.254.169.254/latest/meta-data/iam/security-credentials/";
        for (found, expected) in [
            (get(key, "Server returned non-2xx status code: 503: SlowDown"), FailureKind::Unreachable),
            (get(key, "Server returned non-2xx status code: 400: <Key>credentials</Key>"), FailureKind::Unfit),
            (get(key, "Received redirect without LOCATION, this"), FailureKind::OtherRegion),
            (get(role, "Server returned non-2xx status code: 404: "), FailureKind::NoCredentials),
            (get(role, "Server returned non-2xx status code: 503: "), FailureKind::Unreachable),
            (
                kind(
                    "Error performing token request: Error performing POST https://oauth2.googleapis.com/token in 1s - \
                      Server returned non-2xx status code: 400: invalid_grant",
                ),
                FailureKind::NoCredentials,
            ),
            (kind("Failed to read token file '/x': none"), FailureKind::NoCredentials),
        ] {
            assert_eq!(found, expected);
        }
        let silent = |did| object_store::Error::Generic {
            store: "S3",
            source: HttpError::new(HttpErrorKind::Unknown, NoMetadata { did }).into(),
        };
        assert_eq!(ObjectFailure::from(&silent(false)).kind, FailureKind::NoCredentials);
        assert_eq!(ObjectFailure::from(&silent(true)).kind, FailureKind::Unreachable);
    }
}
