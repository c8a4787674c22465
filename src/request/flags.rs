//! The members that the parameter flags add to bodies.

use std::borrow::Cow;

use super::body::{DefaultMember, is_answer_bound};
use super::params::{Endpoint, Params};
use super::problem::shorten;
use crate::error::{Error, Result};
use crate::json;

/// The members that the flags add, each checked.
///
/// # Errors
/// A usage error that names the flag.
pub(super) fn defaults(params: &Params) -> Result<Vec<DefaultMember>> {
    let mut defaults = Vec::new();
    if let Some(model) = &params.model {
        defaults.push(DefaultMember::new("-m", "model", &json::quote(model)));
    }
    if let Some(bound) = params.max_tokens {
        if bound == 0 {
            return Err(Error::usage("--max-tokens must be at least 1"));
        }
        defaults.push(DefaultMember::new("--max-tokens", "max_tokens", &bound.to_string()));
    }
    for (flag, name, value) in
        [("--temperature", "temperature", &params.temperature), ("--top-p", "top_p", &params.top_p)]
    {
        if let Some(value) = value {
            if !json::is_number(value) {
                return Err(Error::usage(format!("{flag} must be a number, not {:?}", shorten(value))));
            }
            defaults.push(DefaultMember::new(flag, name, value));
        }
    }
    if let Some(seed) = params.seed {
        defaults.push(DefaultMember::new("--seed", "seed", &seed.to_string()));
    }
    if !params.stop.is_empty() {
        let texts: Vec<String> = params.stop.iter().map(|text| json::quote(text)).collect();
        defaults.push(DefaultMember::new("--stop", "stop", &format!("[{}]", texts.join(","))));
    }
    defaults.extend(response_format(params)?);
    for (name, value) in &params.set {
        let member = set("--set", name, value)?;
        if defaults.iter().any(|other| member.names(&other.names[0])) {
            return Err(twice(name));
        }
        defaults.push(member);
    }
    for (name, value) in &params.overrides {
        let member = set("--override", name, value)?.forced();
        // The model may come from the config file.
        defaults.retain(|other| name != "model" || other.forced || other.names[0] != "model");
        if defaults.iter().any(|other| member.names(&other.names[0])) {
            return Err(twice(name));
        }
        defaults.push(member);
    }
    Ok(defaults)
}

/// The `response_format` that the flags about answers ask for.
///
/// # Errors
/// A usage error for a schema that is none, or where no text is answered.
fn response_format(params: &Params) -> Result<Option<DefaultMember>> {
    if let Some(schema) = &params.json_schema {
        let schema = json::compact(schema)
            .map_err(|error| Error::usage("--json-schema: the file is not JSON").because(error))?;
        if !params.endpoint.has_max_tokens() || !schema.starts_with(['{', 't', 'f']) {
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
        let name = json::quote(params.schema_name.as_deref().unwrap_or("output"));
        let value = format!(r#"{{"type":"json_schema","json_schema":{{"name":{name},"schema":{schema}}}}}"#);
        return Ok(Some(DefaultMember::new("--json-schema", "response_format", &value)));
    }
    if !params.choices.is_empty() && !params.endpoint.gives_texts() {
        return Err(without_texts("--choices", params.endpoint));
    }
    if params.complete && !params.endpoint.has_max_tokens() {
        return Err(without_texts("--complete", params.endpoint));
    }
    if !params.choices.is_empty() && params.endpoint.is_audio() {
        return Err(Error::usage(format!("--choices: answers of --endpoint {} are transcripts", params.endpoint))
            .hint("leave --choices out"));
    }
    let asks = !params.choices.is_empty() && params.asks_choices;
    Ok(asks.then(|| DefaultMember::new("--choices", "response_format", &choice_format(&params.choices))))
}

/// The `response_format` that leaves a model only these texts. Together documents the form `regex` with a `pattern`.
fn choice_format(choices: &[String]) -> String {
    let texts: Vec<String> = choices.iter().map(|text| escaped(text)).collect();
    format!(r#"{{"type":"regex","pattern":{}}}"#, json::quote(&format!("({})", texts.join("|"))))
}

/// The pattern that matches only this text.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

fn twice(name: &str) -> Error {
    Error::usage(format!("`{name}` is set twice")).hint("set it once: with its flag, with --set, or with --override")
}

/// The member of a `--set` or `--override`.
fn set(flag: &str, name: &str, value: &str) -> Result<DefaultMember> {
    let instead = match name {
        "" => Some("write it as KEY=JSON"),
        "messages" | "prompt" | "input" => Some("the rows of the input set it; see --prompt and --system"),
        "stream" | "stream_options" => Some("`llbatch run --stream` asks for streams; results come whole in any case"),
        "model" if flag == "--set" => Some("use -m MODEL, or --override model=MODEL to replace what rows say"),
        "system" => Some("use --system; a row's own system message stays"),
        "custom_id" | "id" | "body" => Some("it is a field of the input, not a parameter"),
        _ => None,
    };
    if let Some(instead) = instead {
        return Err(Error::usage(format!("{flag} cannot set {name:?}")).hint(instead));
    }
    let member = |value: &str| DefaultMember::new(&format!("{flag} {name}"), name.to_owned(), value);
    if name == "model" {
        return Ok(member(&json::quote(&model_name(flag, value)?)));
    }
    let value = json::compact(value).map_err(|error| {
        Error::usage(format!("{flag} {name}: {:?} is not JSON", shorten(value)))
            .hint(format!("a text needs quotes of its own: {flag} '{name}=\"…\"'"))
            .because(error)
    })?;
    let bounds = is_answer_bound(name);
    if bounds && (value == "0" || !value.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(Error::usage(format!(
            "{flag} {name}={value}: the value must be a positive whole number, set once"
        )));
    }
    Ok(member(&value))
}

/// The model that `--override` sets.
///
/// # Errors
/// A usage error if it is no name.
pub(super) fn overriding_model(params: &Params) -> Result<Option<String>> {
    let given = params.overrides.iter().rev().find(|(name, _)| name == "model");
    given.map_or(Ok(None), |(_, value)| model_name("--override", value).map(Some))
}

/// The names of `--row-params`, each checked.
///
/// # Errors
/// A usage error for the name of a field that is no parameter.
pub fn row_params(params: &Params) -> Result<Option<Vec<String>>> {
    const FIELDS: [&str; 9] =
        ["messages", "prompt", "input", "file", "body", "id", "custom_id", "stream", "stream_options"];
    let names = params.row_params.clone();
    if let Some(name) = names.iter().flatten().find(|name| name.is_empty() || FIELDS.contains(&name.as_str())) {
        return Err(Error::usage(format!("--row-params: {name:?} is not a parameter of a request"))
            .hint("name parameters such as --row-params=model,max_tokens, or leave the names out to use all"));
    }
    Ok(names)
}

/// The name of a model: it needs no quotes of its own, because it is always a text.
fn model_name(flag: &str, value: &str) -> Result<String> {
    let model = if value.starts_with('"') { json::string(value) } else { Some(value.into()) };
    model.filter(|model| !model.trim().is_empty()).map(Cow::into_owned).ok_or_else(|| {
        Error::usage(format!("{flag} model: {:?} is not the name of a model", shorten(value)))
            .hint("write it as --override model=provider/name")
    })
}

/// The error of a flag about the text of an answer, for answers that have none.
fn without_texts(flag: &str, endpoint: Endpoint) -> Error {
    Error::usage(format!("{flag} needs answers of a language model, which --endpoint {endpoint} does not give"))
        .hint(format!("leave {flag} out"))
}
