//! Form fields of an upload: from the query, and from an urlencoded or multipart body.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::multipart::{Multipart, MultipartError};
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::{StatusCode, header};
use bytes::Bytes;
use url::form_urlencoded;

use super::body::{Unread, read};
use super::call::Call;
use super::errors;
use super::reply::Refused;

/// The largest plain upload: the service's limit for a batch, and a little more to be refused properly.
const MAX_UPLOAD: usize = 256 << 20;

/// A file that came with a form.
#[derive(Debug)]
pub struct FormFile {
    pub name: String,
    pub bytes: Bytes,
}

/// Form fields by name; the last one of a name counts.
#[derive(Debug, Default)]
pub struct Form {
    fields: BTreeMap<String, String>,
    /// The part with a file name.
    pub file: Option<FormFile>,
}

impl Form {
    /// Reads the query and the body of a request.
    pub async fn read(call: &Call, body: Body) -> Result<Self, Refused> {
        let mut form = Self::default();
        form.add_encoded(call.query.as_bytes());
        let kind = call.headers.get(header::CONTENT_TYPE);
        let is = |name: &str| kind.is_some_and(|kind| kind.as_bytes().starts_with(name.as_bytes()));
        if is("multipart/form-data") {
            let mut request = Request::new(body);
            *request.headers_mut() = call.headers.clone();
            DefaultBodyLimit::max(MAX_UPLOAD).apply(&mut request);
            let parts = Multipart::from_request(request, &()).await;
            let parts = parts.map_err(|why| errors::invalid(None, &why.body_text()))?;
            form.add_parts(parts).await.map_err(|why| match why.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Unread::TooLarge.reply(),
                _ => errors::invalid(None, &why.body_text()),
            })?;
        } else {
            let body = read(body, MAX_UPLOAD).await.map_err(Unread::reply)?;
            if is("application/x-www-form-urlencoded") {
                form.add_encoded(&body);
            }
        }
        Ok(form)
    }

    fn add_encoded(&mut self, text: &[u8]) {
        self.fields.extend(form_urlencoded::parse(text).into_owned());
    }

    async fn add_parts(&mut self, mut parts: Multipart) -> Result<(), MultipartError> {
        while let Some(part) = parts.next_field().await? {
            let name = part.name().unwrap_or_default().to_owned();
            let file_name = part.file_name().map(str::to_owned);
            let bytes = part.bytes().await?;
            match file_name {
                Some(name) => self.file = Some(FormFile { name, bytes }),
                None => drop(self.fields.insert(name, String::from_utf8_lossy(&bytes).into_owned())),
            }
        }
        Ok(())
    }

    /// A field's text, if it is there and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A field's text, or the refusal of a form without it.
    pub fn required(&self, name: &str) -> Result<&str, Refused> {
        self.get(name).ok_or_else(|| errors::invalid(Some(name), &format!("{name} is missing")).into())
    }
}
