//! The service's list of models, with their prices and context lengths.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Client;
use super::error::{Failure, Fault};
use super::fields::success;

/// Time for the list, which is small.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A model as the service lists it.
#[derive(Debug, Clone, PartialEq)]
pub struct ServedModel {
    /// Its name.
    pub id: String,
    /// Tokens of prompt and answer together.
    pub context: Option<u64>,
    /// USD per million tokens (input, output), with the service's rounding noise.
    pub price: Option<(f64, f64)>,
    /// USD per million cached tokens of the prompt.
    pub cached: Option<f64>,
}

#[derive(Deserialize)]
struct ModelListing {
    id: String,
    #[serde(default)]
    context_length: Option<f64>,
    #[serde(default)]
    pricing: Option<Pricing>,
}

#[derive(Deserialize)]
struct Pricing {
    #[serde(default)]
    input: Option<f64>,
    #[serde(default)]
    output: Option<f64>,
    #[serde(default)]
    cached_input: Option<f64>,
}

#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(borrow, default)]
    data: Option<Vec<&'a RawValue>>,
    /// Beside `data`, some servers describe the same models here in another form.
    #[serde(borrow, default)]
    models: Option<Vec<&'a RawValue>>,
}

impl Client {
    /// Lists the service's models.
    pub async fn models(&self) -> Result<Vec<ServedModel>, Failure> {
        let reply = self.get("/models", TIMEOUT).await?;
        read(success(&reply)?.as_bytes())
            .ok_or_else(|| Failure::new(Fault::BadResponse, "the list of models cannot be read".to_owned()))
    }
}

/// Reads an array, or an object around one. Unreadable entries are left out.
fn read(body: &[u8]) -> Option<Vec<ServedModel>> {
    let raw: Vec<&RawValue> = serde_json::from_slice(body).ok().or_else(|| {
        let wrapped = serde_json::from_slice::<Wrapped<'_>>(body).ok()?;
        wrapped.data.or(wrapped.models)
    })?;
    let entries = raw.into_iter().filter_map(|raw| serde_json::from_str::<ModelListing>(raw.get()).ok());
    Some(
        entries
            .map(|entry| ServedModel {
                id: entry.id,
                context: entry.context_length.filter(|n| n.is_finite() && *n >= 1.0).map(|n| n as u64),
                cached: entry.pricing.as_ref().and_then(|pricing| pricing.cached_input),
                price: entry.pricing.and_then(|p| p.input.zip(p.output)),
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_of_the_model_list_is_read() {
        let entry = r#"{"id":"a/b","type":"chat","created":0,"context_length":131072,"pricing":{"input":1.0399999999999998,"output":0.5,"cached_input":0.26,"hourly":0}}"#;
        let bare = format!("[{entry},{{\"id\":\"c\",\"pricing\":null}},{{\"nonsense\":1}},7]");
        let data = format!("\"object\":\"list\",\"data\":{bare}");
        let texts = [
            bare.clone(),
            format!("{{{data}}}"),
            format!("{{\"models\":{bare}}}"),
            // llama.cpp's server
            format!("{{\"models\":[{{\"name\":\"c\",\"model\":\"c\"}}],{data}}}"),
        ];
        for text in texts {
            let models = read(text.as_bytes()).unwrap();
            assert_eq!(models.len(), 2);
            assert_eq!((models[0].context, models[0].price), (Some(131_072), Some((1.039_999_999_999_999_8, 0.5))));
            assert_eq!((models[0].cached, models[1].cached), (Some(0.26), None));
            assert_eq!((models[1].context, models[1].price), (None, None));
        }
        assert_eq!(read(b"{\"error\":1}"), None);
        assert_eq!(read(b"[]"), Some(Vec::new()));
    }
}
