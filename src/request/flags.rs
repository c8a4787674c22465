//! The members that the parameter flags add to bodies.

use super::body::DefaultMember;
use super::params::{Endpoint, Params};
use super::problem::shorten;
use crate::error::{Error, Result};
use crate::json;

/// The members that the flags add, each checked.
///
/// # Errors
/// A usage error that names the flag.
pub fn defaults(params: &Params) -> Result<Vec<DefaultMember>> {
    let mut defaults = Vec::new();
    if let Some(model) = &params.model {
        defaults.push(DefaultMember::new("model", &json::quote(model)));
    }
    if let Some(bound) = params.max_tokens {
        if bound == 0 {
            return Err(Error::usage("--max-tokens must be at least 1"));
        }
        defaults.push(DefaultMember::new("max_tokens", &bound.to_string()));
    }
    for (flag, name, value) in
        [("--temperature", "temperature", &params.temperature), ("--top-p", "top_p", &params.top_p)]
    {
        if let Some(value) = value {
            if !json::is_number(value) {
                return Err(Error::usage(format!("{flag} must be a number, not {:?}", shorten(value))));
            }
            defaults.push(DefaultMember::new(name, value));
        }
    }
    if let Some(seed) = params.seed {
        defaults.push(DefaultMember::new("seed", &seed.to_string()));
    }
    if !params.stop.is_empty() {
        let texts: Vec<String> = params.stop.iter().map(|text| json::quote(text)).collect();
        defaults.push(DefaultMember::new("stop", &format!("[{}]", texts.join(","))));
    }
    if let Some(schema) = &params.json_schema {
        let schema = json::compact(schema)
            .map_err(|error| Error::usage("--json-schema: the file is not JSON").because(error))?;
        let no_text = params.endpoint == Endpoint::Embeddings || params.endpoint.is_audio();
        if no_text || !schema.starts_with(['{', 't', 'f']) {
            return Err(Error::usage(if schema.starts_with('{') {
                format!(
                    "--json-schema needs answers of a language model, which --endpoint {} does not give",
                    params.endpoint
                )
            } else {
                format!("--json-schema: a schema is a JSON object, not {}", shorten(&schema))
            }));
        }
        // The nested shape with a name is what Together documents (same source as the list of parameters).
        let value = format!(r#"{{"type":"json_schema","json_schema":{{"name":"output","schema":{schema}}}}}"#);
        defaults.push(DefaultMember::new("response_format", &value));
    }
    for (name, value) in &params.set {
        defaults.push(set(params, name, value, &defaults)?);
    }
    Ok(defaults)
}

fn set(params: &Params, name: &str, value: &str, defaults: &[DefaultMember]) -> Result<DefaultMember> {
    let instead = match name {
        "" => Some("write --set KEY=JSON"),
        "messages" | "prompt" | "input" => Some("the rows of the input set it; see --prompt and --system"),
        "stream" | "stream_options" => Some("llbatch never streams answers"),
        "model" => Some("use -m MODEL"),
        "custom_id" | "id" | "body" => Some("it is a field of the input, not a parameter"),
        _ => None,
    };
    if let Some(instead) = instead {
        return Err(Error::usage(format!("--set cannot set {name:?}")).hint(instead));
    }
    let value = json::compact(value).map_err(|error| {
        Error::usage(format!("--set {name}: {:?} is not JSON", shorten(value)))
            .hint(format!("a text needs quotes of its own: --set '{name}=\"…\"'"))
            .because(error)
    })?;
    let default = DefaultMember::new(name.to_owned(), &value);
    if defaults.iter().any(|other| other.names[0] == name) {
        return Err(Error::usage(format!("`{name}` is set twice")).hint("set it once, with its flag or with --set"));
    }
    if name.starts_with("max_") && matches!(name, "max_tokens" | "max_completion_tokens") {
        let bad = value == "0" || !value.bytes().all(|byte| byte.is_ascii_digit());
        if bad || params.max_tokens.is_some() {
            return Err(Error::usage(format!(
                "--set {name}={value}: the value must be a positive whole number, set once"
            )));
        }
    }
    Ok(default)
}
