//! A JSON schema that answers are held against.

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;
use serde_json::value::RawValue;

use super::BrokenRule;
use crate::error::{Error, Result};

/// Steps of one search for a pattern. More than this is a pattern that explodes, and the answer counts as invalid.
const PATTERN_STEPS: usize = 100_000;

/// A compiled JSON schema.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
    text: String,
    name: Option<String>,
}

impl Schema {
    /// Compiles a schema, or the one inside the wrapper that APIs take (`{"name": …, "schema": {…}}`, also as the whole
    /// `response_format`). Nothing outside of the text is looked up. `format` is an annotation in every draft.
    ///
    /// # Errors
    /// A usage error if it is invalid or refers to another document.
    pub fn new(text: &str) -> Result<Self> {
        let usage = |what: String| Error::usage(format!("--json-schema: {what}"));
        let value: Value = serde_json::from_str(text).map_err(|error| {
            usage("the file is not JSON".to_owned()).because(error).hint("the file must hold one JSON Schema")
        })?;
        let schema = unwrapped(&value).ok_or_else(|| {
            usage("the wrapper around the schema has no `schema`, or one that is no JSON object".to_owned())
                .hint("pass the schema itself, or {\"name\": \"answer\", \"schema\": {…}}")
        })?;
        if !(schema.is_object() || schema.is_boolean()) {
            return Err(usage("a schema is a JSON object, or true or false".to_owned()));
        }
        let draft = Draft::Draft202012.detect(schema);
        if draft == Draft::Unknown {
            return Err(usage("its `$schema` is unknown".to_owned())
                .hint("leave `$schema` out, or write \"$schema\": \"https://json-schema.org/draft/2020-12/schema\""));
        }
        let options = jsonschema::options()
            .with_draft(draft)
            .should_validate_formats(false)
            .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(PATTERN_STEPS));
        let validator = options.offline().build(schema).map_err(|error| match error.kind() {
            ValidationErrorKind::Referencing(reference) if reference.to_string().ends_with("does not exist") => {
                usage(format!("a `$ref` of the schema leads nowhere: {reference}"))
                    .hint("define it in `$defs` of the schema, and refer to `#/$defs/NAME`")
            }
            ValidationErrorKind::Referencing(reference) => {
                usage(format!("the schema refers to something outside of itself: {reference}"))
                    .hint("copy the definition into `$defs` of the schema, and refer to `#/$defs/NAME`")
            }
            _ => usage(format!("the schema is invalid at {:?}: {error}", error.instance_path().as_str())).hint(MORE),
        })?;
        Ok(Self { validator, text: schema.to_string(), name: name_in(&value, schema) })
    }

    /// The schema as compact JSON, without its wrapper.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name that its wrapper gives it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The top-level properties that the schema `text` describes, in its order.
    pub fn properties(text: &str) -> Vec<String> {
        let Ok(whole) = serde_json::from_str::<Value>(text) else { return Vec::new() };
        let mut schema = &whole;
        for _ in 0..MOST_REFERENCES {
            if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
                return properties.keys().cloned().collect();
            }
            let Some(reference) = schema.get("$ref").and_then(Value::as_str) else { break };
            let Some(target) = reference.strip_prefix('#').and_then(|pointer| whole.pointer(pointer)) else { break };
            schema = target;
        }
        Vec::new()
    }

    /// The rule that `text` breaks. Its words may name keys of the text, never its values. `None`: it passes.
    pub fn broken_by(&self, text: &str) -> Option<BrokenRule> {
        let broken = |rule: &str, why| Some(BrokenRule { name: format!("--json-schema: {rule}"), why });
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => return broken("JSON", unreadable(text, &error)),
        };
        if self.validator.is_valid(&value) {
            return None;
        }
        let error = self.validator.iter_errors(&value).next()?;
        let (rule, at) = (error.schema_path().as_str(), error.instance_path().as_str());
        let place = if at.is_empty() { String::new() } else { format!(" at {at}") };
        broken(rule, format!("the answer breaks the schema{place}: {} (rule {rule})", error.masked()))
    }
}

/// Says why an answer cannot be read as JSON. `error` may be about a bound of llbatch.
fn unreadable(text: &str, error: &serde_json::Error) -> String {
    // This reads numbers of any size, and any depth.
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => format!("the answer is JSON that llbatch cannot check: {error}"),
        Err(_) if text.trim().is_empty() => "the answer is empty".to_owned(),
        Err(error) if error.is_eof() => "the answer is JSON that is cut off".to_owned(),
        Err(error) => format!("the answer is not JSON (line {}, column {})", error.line(), error.column()),
    }
}

/// References that are followed from the root of a schema to its properties.
const MOST_REFERENCES: usize = 8;

const MORE: &str = "https://json-schema.org/draft/2020-12 describes schemas";

/// Members of a wrapper around a schema.
const WRAPPER: [&str; 4] = ["name", "description", "strict", "schema"];

/// The name beside the schema in the wrappers of APIs, if it is one that services take.
fn name_in(value: &Value, schema: &Value) -> Option<String> {
    if std::ptr::eq(value, schema) {
        return None;
    }
    let value = value.get("response_format").unwrap_or(value);
    let name = value.get("json_schema").unwrap_or(value).get("name")?.as_str()?;
    (1..=64).contains(&name.len()).then(|| name.to_owned())
}

/// The schema inside the wrappers of APIs. `None`: a wrapper has none.
fn unwrapped(value: &Value) -> Option<&Value> {
    let value = value.get("response_format").unwrap_or(value);
    // Neither is a type of JSON values.
    let format = value.get("type").is_some_and(|kind| kind == "json_schema" || kind == "json_object");
    let alone = value.as_object().is_some_and(|members| members.len() == 1);
    let inner = value.get("json_schema").filter(|_| format || alone);
    let holder = inner.unwrap_or(value);
    let named = holder.get("name").is_some_and(Value::is_string) || holder.get("strict").is_some_and(Value::is_boolean);
    let bare = holder.as_object().is_some_and(|members| members.keys().all(|key| WRAPPER.contains(&&**key)));
    if format || inner.is_some() || (holder.get("schema").is_some() && (named || bare)) {
        return holder.get("schema").filter(|schema| schema.is_object() || schema.is_boolean());
    }
    Some(value)
}
