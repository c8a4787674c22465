//! A body as the fields of a form, for endpoints that take a recording with it.

use super::Endpoint;
use crate::json;

/// A field of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormField {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The fields of the form that says the same as `body`. The model comes first: Together reads it before the file (its "Create
/// audio transcription", read 2026-11). The recording is left out if it is `uploaded` behind the fields; otherwise its address
/// is the last field. A list becomes several fields, as in the official SDKs.
pub fn form_fields(body: &str, uploaded: bool) -> Vec<FormField> {
    let members = json::trusted_members(body);
    let file = Endpoint::Transcriptions.subject();
    let (mut first, mut last) = (Vec::new(), Vec::new());
    let mut others = Vec::new();
    for member in &members {
        let fields = match &*member.key {
            name if name == file && uploaded => continue,
            name if name == file => &mut last,
            "model" => &mut first,
            _ => &mut others,
        };
        match member.value.as_bytes().first() {
            Some(b'n') => {}
            Some(b'[') => {
                let name = format!("{}[]", member.key);
                let items = json::trusted_elements(member.value).into_iter();
                fields.extend(items.map(|item| FormField { name: name.clone(), text: text(item) }));
            }
            _ => fields.push(FormField { name: member.key.clone().into_owned(), text: text(member.value) }),
        }
    }
    first.append(&mut others);
    first.append(&mut last);
    first
}

/// A value as a field has it: a text without its quotes, anything else as it is spelled.
fn text(value: &str) -> String {
    json::string(value).map_or_else(|| value.to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str, uploaded: bool) -> Vec<String> {
        form_fields(body, uploaded).into_iter().map(|field| format!("{}={}", field.name, field.text)).collect()
    }

    #[test]
    fn model_comes_first_and_the_recording_last() {
        let body = r#"{"file":"https://x/a.mp3","language":"de","diarize":true,"prompt":"a \"b\"","temperature":0.20,
            "timestamp_granularities":["word","segment"],"extra":{"a":1},"none":null,"model":"m"}"#;
        let expected = [
            "model=m",
            "language=de",
            "diarize=true",
            "prompt=a \"b\"",
            "temperature=0.20",
            "timestamp_granularities[]=word",
            "timestamp_granularities[]=segment",
            r#"extra={"a":1}"#,
        ];
        assert_eq!(fields(body, true), expected);
        let url = [&expected[..], &["file=https://x/a.mp3"]].concat();
        assert_eq!(fields(body, false), url);
    }
}
