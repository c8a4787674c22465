//! A small instance of a simple JSON schema: the text of an answer that must follow it.

use serde_json::{Map, Value, json};

/// The depth of an instance: a schema may refer to itself.
const DEPTH: usize = 12;

/// An instance of `schema`; free strings get `text`.
pub fn instance(schema: &Value, text: &str) -> Value {
    build(schema, schema, text, DEPTH)
}

fn build(schema: &Value, root: &Value, text: &str, depth: usize) -> Value {
    let Some(depth) = depth.checked_sub(1) else { return Value::Null };
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let found = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return found.map_or(Value::Null, |found| build(found, root, text, depth));
    }
    for fixed in ["const", "default"] {
        if let Some(value) = schema.get(fixed) {
            return value.clone();
        }
    }
    if let Some(first) = schema.get("enum").and_then(|values| values.get(0)) {
        return first.clone();
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema.get(choice).and_then(|options| options.get(0)) {
            return build(first, root, text, depth);
        }
    }
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str).unwrap_or("null"),
        _ if schema.get("properties").is_some() => "object",
        _ => "string",
    };
    match kind {
        "object" => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let members = properties.into_iter().flatten();
            Value::Object(members.map(|(k, v)| (k.clone(), build(v, root, text, depth))).collect::<Map<_, _>>())
        }
        "array" => {
            let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1).min(100);
            let item = schema.get("items").map_or(Value::Null, |items| build(items, root, text, depth));
            Value::Array((0..least).map(|_| item.clone()).collect())
        }
        "integer" | "number" => schema.get("minimum").or_else(|| schema.get("maximum")).cloned().unwrap_or(json!(1)),
        "boolean" => json!(true),
        "null" => Value::Null,
        _ => {
            let most = schema.get("maxLength").and_then(Value::as_u64).unwrap_or(u64::MAX);
            json!(text.chars().take(usize::try_from(most).unwrap_or(usize::MAX)).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_fits_its_schema() {
        let cases = [
            (
                json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}),
                json!({"a": 1, "b": "text"}),
            ),
            (json!({"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 2}), json!(["x", "x"])),
            (json!({"type": ["number", "null"], "minimum": 5}), json!(5)),
            (json!({"type": "string", "maxLength": 2}), json!("te")),
            (json!({"$ref": "#/$defs/p", "$defs": {"p": {"type": "boolean"}}}), json!(true)),
            (json!({"anyOf": [{"type": "null"}, {"type": "string"}]}), Value::Null),
        ];
        for (schema, expected) in cases {
            assert_eq!(instance(&schema, "text"), expected, "{schema}");
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        assert!(instance(&schema, "x").is_object());
    }
}
