//! Tolerant reading of answers: fields may be missing, of another type, or spelled differently than documented.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Reply;
use super::chat::{page, unwrapped};
use super::error::{Failure, Fault, MAX_MESSAGE};
use crate::text::shortened;

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// Longest id that goes into a path. The service's ids are UUIDs and the like.
const LONGEST_ID: usize = 128;

/// A list from the service.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing<T> {
    /// The readable entries, in the service's order.
    pub entries: Vec<T>,
    /// The list has every entry. If not (an entry was unreadable, or there are more pages), a missing entry may exist.
    pub complete: bool,
}

impl<T> IntoIterator for Listing<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

/// Returns true if a text is a valid id, safe in a path.
pub fn is_id(text: &str) -> bool {
    text.len() <= LONGEST_ID
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Checks that `id` is safe in a path.
pub(super) fn checked<'a>(what: &str, id: &'a str) -> Result<&'a str, Failure> {
    if is_id(id) {
        return Ok(id);
    }
    let shown: String = id.chars().take(LONGEST_ID).collect();
    Err(Failure::new(Fault::InvalidRequest, format!("{shown:?} is not a valid {what} id, so it was not sent")))
}

/// Reads the object in an answer.
pub(super) fn object(reply: &Reply) -> Result<Object, Failure> {
    let text = success(reply)?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Failure::bad(reply.status, "JSON, but not the expected object")),
        Err(error) => Err(Failure::bad(reply.status, &format!("an answer that is not JSON: {error}"))),
    }
}

/// A page of a list.
pub(super) struct ListPage<T> {
    /// The readable entries.
    pub entries: Vec<T>,
    /// All entries were readable.
    pub readable: bool,
    /// The service has more of them.
    pub more: bool,
    /// The id from which the next page goes on.
    pub last_id: Option<String>,
}

/// Reads the list in an answer: an array, an object with `data`, or `null` for an empty one.
pub(super) fn page_of<T>(reply: &Reply, read: impl Fn(&Object) -> Option<T>) -> Result<ListPage<T>, Failure> {
    #[derive(Deserialize)]
    struct Page<'a> {
        // Required: an object without it must not pass for an empty list.
        #[serde(borrow)]
        data: &'a RawValue,
        #[serde(borrow, default)]
        has_more: Option<&'a RawValue>,
        #[serde(borrow, default)]
        last_id: Option<&'a RawValue>,
    }
    let body = success(reply)?;
    let mut text = body.trim();
    let bad = |error: serde_json::Error| Failure::bad(reply.status, &format!("not the expected list: {error}"));
    let (mut readable, mut more, mut last_id) = (true, false, None);
    if text.starts_with('{') {
        let page: Page<'_> = serde_json::from_str(text).map_err(bad)?;
        more = page.has_more.is_some_and(|more| more.get() == "true");
        last_id = page.last_id.and_then(|id| serde_json::from_str(id.get()).ok());
        text = page.data.get();
    }
    // Entries are read one by one, so that a bad one does not hide the others.
    let raw: Vec<&RawValue> = serde_json::from_str::<Option<_>>(text).map_err(bad)?.unwrap_or_default();
    let mut entries = Vec::with_capacity(raw.len());
    let mut last_of_all = None;
    for entry in raw {
        let object: Option<Object> = serde_json::from_str(entry.get()).ok();
        last_of_all = object.as_ref().and_then(|object| self::text(object, "id"));
        if let Some(entry) = object.as_ref().and_then(&read) {
            entries.push(entry);
        } else {
            readable = false;
            tracing::warn!("an entry of the service's list cannot be read: {}", shortened(entry.get(), MAX_MESSAGE));
        }
    }
    Ok(ListPage { entries, readable, more, last_id: last_id.or(last_of_all).filter(|id: &String| is_id(id)) })
}

#[cfg(test)]
fn list<T>(reply: &Reply, read: impl Fn(&Object) -> Option<T>) -> Result<Listing<T>, Failure> {
    page_of(reply, read).map(|page| Listing { complete: page.readable && !page.more, entries: page.entries })
}

/// The text of a 2xx that may be JSON, whatever it is wrapped in. A broken character spoils its own string only.
pub(super) fn success(reply: &Reply) -> Result<Cow<'_, str>, Failure> {
    if !(200..300).contains(&reply.status) {
        return Err(Failure::from_call(reply));
    }
    if page(reply).is_some() {
        return Err(Failure::bad(reply.status, "an HTML page instead of an answer"));
    }
    if reply.body.is_empty() {
        return Err(Failure::bad(reply.status, "an empty body instead of an answer"));
    }
    Ok(match String::from_utf8_lossy(&reply.body) {
        Cow::Borrowed(text) => unwrapped(text).into(),
        Cow::Owned(text) => unwrapped(&text).to_owned().into(),
    })
}

/// A text field; `None` if it is missing, null or empty.
pub(super) fn text(object: &Object, name: &str) -> Option<String> {
    match object.get(name)? {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A time field in RFC 3339, which some services write as seconds since 1970.
pub(super) fn time(object: &Object, name: &str) -> Option<String> {
    let spelled = text(object, name)?;
    match spelled.trim().parse::<f64>() {
        Ok(seconds) if seconds > 0.0 => jiff::Timestamp::from_second(seconds as i64).ok().map(|time| time.to_string()),
        Ok(_) => None,
        Err(_) => Some(spelled),
    }
}

/// A number field; it may be written as a text.
pub(super) fn number(object: &Object, name: &str) -> Option<f64> {
    match object.get(name)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number: &f64| number.is_finite())
}

/// A whole number of bytes.
pub(super) fn count(object: &Object, name: &str) -> Option<u64> {
    number(object, name).filter(|n| *n >= 0.0 && n.fract() == 0.0 && *n < 9e15).map(|n| n as u64)
}

/// A message for people, shortened: a text, an object's `message` at any depth, or else the JSON itself.
pub(super) fn words(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) if text.trim().is_empty() => None,
        Value::String(text) => Some(shortened(text, MAX_MESSAGE)),
        Value::Object(object) if object.is_empty() => None,
        Value::Object(object) => object
            .get("message")
            .and_then(words)
            .or_else(|| Some(shortened(&Value::Object(object.clone()).to_string(), MAX_MESSAGE))),
        other => Some(shortened(&other.to_string(), MAX_MESSAGE)),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::api::limits::Limits;

    fn reply(body: &str) -> Reply {
        let body = Bytes::copy_from_slice(body.as_bytes());
        Reply { status: 200, limits: Limits::default(), html: body.starts_with(b"<"), body }
    }

    #[test]
    fn an_id_cannot_change_the_path() {
        for good in ["file-1", "0", "6b9e0d5c-1234-4abc-8def-001122334455", "a.b_c"] {
            assert!(is_id(good), "{good}");
        }
        let long = "a".repeat(129);
        for bad in ["", "..", ".a", "-a", "a/b", "a?b", "a%2e", "a b", "a\r\nb", "é", "a#", long.as_str()] {
            assert!(!is_id(bad), "{bad}");
            assert!(checked("file", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_have_three_shapes_and_keep_the_readable_entries() {
        let cases: &[(&str, &[&str], bool)] = &[
            ("null", &[], true),
            (" [] ", &[], true),
            (r#"{"data": null}"#, &[], true),
            (r#"[{"id":"a"},{"id":"b"}]"#, &["a", "b"], true),
            (r#"{"object":"list","data":[{"id":"a"}],"has_more":false}"#, &["a"], true),
            (r#"{"data":[{"id":"a"}],"has_more":true}"#, &["a"], false),
            (r#"[{"id":"a"},7,{"id":null},null,"x",{"id":"b"}]"#, &["a", "b"], false),
        ];
        for (body, ids, complete) in cases {
            let listed = list(&reply(body), |o| text(o, "id")).unwrap();
            assert_eq!((listed.entries, listed.complete), (ids.iter().map(ToString::to_string).collect(), *complete));
        }
    }

    #[test]
    fn a_list_is_read_whatever_it_is_wrapped_in() {
        for (body, html) in
            [("\u{feff}[{\"id\":\"a\"}]", false), ("[{\"id\":\"a\"}]", true), (": ping\n\n[{\"id\":\"a\"}]", false)]
        {
            let listed = list(&Reply { html, status: 201, ..reply(body) }, |o| text(o, "id")).unwrap();
            assert_eq!((listed.entries, listed.complete), (vec!["a".to_owned()], true), "{body}");
        }
        let wrapped = Reply { html: true, ..reply("\u{feff}{\"id\":\"a\"}") };
        assert_eq!(text(&object(&wrapped).unwrap(), "id").as_deref(), Some("a"));
    }

    #[test]
    fn an_answer_without_a_list_is_never_an_empty_list() {
        for body in ["", "{}", r#"{"error":"x"}"#, r#"{"data":{}}"#, "7", "\"\"", "[{]", "<html>", r#"[{"id":"a"}"#] {
            let failure = list(&reply(body), |o| text(o, "id")).unwrap_err();
            assert_eq!(failure.fault, Fault::BadResponse, "{body}");
        }
    }

    #[test]
    fn a_broken_character_does_not_spoil_a_list() {
        let mut reply = reply("");
        reply.body = Bytes::from_static(b"[{\"id\":\"a\",\"x\":\"\xff\"}]");
        assert!(list(&reply, |o| text(o, "id")).unwrap().complete);
    }

    #[test]
    fn missing_null_and_empty_fields_are_unset() {
        let Value::Object(object) = json!({
            "null": null, "empty": "", "blank": " ", "text": "t", "number": 7, "float": 1.5, "digits": "12", "minus": -1,
        }) else {
            unreachable!()
        };
        for unset in ["none", "null", "empty", "blank"] {
            assert_eq!(text(&object, unset), None, "{unset}");
            assert_eq!(number(&object, unset), None, "{unset}");
        }
        assert_eq!((text(&object, "text"), text(&object, "number")), (Some("t".into()), Some("7".into())));
        assert_eq!((number(&object, "float"), number(&object, "digits")), (Some(1.5), Some(12.0)));
        assert_eq!(
            (count(&object, "digits"), count(&object, "float"), count(&object, "minus")),
            (Some(12), None, None)
        );
    }

    #[test]
    fn messages_are_found_at_any_depth() {
        let cases = [
            (json!(null), None),
            (json!(""), None),
            (json!({}), None),
            (json!("plain"), Some("plain")),
            (json!({"message": "inner", "code": 4}), Some("inner")),
            (json!({"message": {"message": "deep"}}), Some("deep")),
            (json!({"code": 4}), Some(r#"{"code":4}"#)),
            (json!([1]), Some("[1]")),
        ];
        for (value, expected) in cases {
            assert_eq!(words(&value).as_deref(), expected, "{value}");
        }
    }
}
