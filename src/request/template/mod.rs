//! `--prompt` and `--system`: Jinja templates over a record's fields. An unknown field is a problem, not an empty text.

mod bounds;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Enumerator, Object, ObjectRepr, Value, ValueKind};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};

use super::problem::{Problem, listed, shorten};
use super::record::{Data, Record};
use crate::error::{Error, Result};
use crate::json;

/// Steps a template may take for one row: far above any sane prompt, and a fraction of a second.
const FUEL: u64 = 5_000_000;

/// Deepest value that a template may touch: the engine walks values by recursion.
const DEPTH: usize = 128;

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    engine: Environment<'static>,
    flag: &'static str,
}

impl Template {
    /// Parses `source`, given by `flag`.
    ///
    /// # Errors
    /// A usage error with line and text if it does not parse.
    pub fn new(flag: &'static str, source: &str) -> Result<Self> {
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_keep_trailing_newline(true);
        engine.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        engine.set_fuel(Some(FUEL));
        engine.set_formatter(print);
        bounds::set(&mut engine);
        engine.add_template_owned(flag, source.to_owned()).map_err(|error| {
            let line = error.line().unwrap_or(1);
            let text = source.lines().nth(line.saturating_sub(1)).unwrap_or_default();
            let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
            Error::usage(format!("{flag}: line {line}: {what}: `{}`", shorten(text)))
                .hint("write fields as {{ name }}, and a literal brace pair as {{ '{{' }}")
        })?;
        Ok(Self { engine, flag })
    }

    /// Returns true if `source` has placeholders.
    pub fn is_one(source: &str) -> bool {
        ["{{", "{%", "{#"].iter().any(|mark| source.contains(mark))
    }

    /// Fills the template with a record's fields.
    pub fn render(&self, record: &Record<'_>, members: &[json::Member<'_>]) -> Result<String, Problem> {
        let trace = Arc::new(Mutex::new(Trace::default()));
        let context = match record.data {
            Data::Json(_) => Value::from_object(RecordFields {
                fields: members.iter().map(|m| (m.key.as_ref().into(), FieldValue::Json(m.value.into()))).collect(),
                trace: Arc::clone(&trace),
            }),
            Data::Line(text) => Value::from_object(RecordFields {
                fields: vec![("line".into(), FieldValue::Text(text.into()))],
                trace: Arc::clone(&trace),
            }),
            Data::Columns { names, values } => Value::from_object(RecordFields {
                fields: names
                    .iter()
                    .map(|n| n.as_str().into())
                    .zip(values.iter().map(|v| FieldValue::Text(v.into())))
                    .collect(),
                trace: Arc::clone(&trace),
            }),
        };
        let mut text = bounds::BoundedText::default();
        let rendered =
            self.engine.get_template(self.flag).and_then(|t| t.render_captured_to(context, &mut text).map(drop));
        let trace = std::mem::take(&mut *trace.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(name) = trace.too_deep {
            let text =
                format!("the field `{}` is nested deeper than {DEPTH} levels, too deep for a template", shorten(&name));
            return Err(
                Problem::new(record, "too_deep", text).hint("leave that field out of the template, or flatten it")
            );
        }
        rendered.map(|()| text.into_string()).map_err(|error| self.problem(record, &error, trace.missed))
    }

    fn problem(&self, record: &Record<'_>, error: &minijinja::Error, missed: Option<Missed>) -> Problem {
        let (flag, line) = (self.flag, error.line().unwrap_or(1));
        match (error.kind(), missed) {
            (ErrorKind::UndefinedError, Some(missed)) => {
                let text =
                    format!("{flag} names the field `{}`, which the row lacks; {}", shorten(&missed.name), missed.has);
                Problem::new(record, "template_field", text).hint(format!(
                    "correct the name, or write {{{{ {} | default('') }}}} if it may be missing",
                    shorten(&missed.name)
                ))
            }
            (ErrorKind::OutOfFuel, _) => {
                Problem::new(record, "template", format!("{flag} takes too many steps for this row (line {line})"))
                    .hint("make its loops smaller")
            }
            (ErrorKind::WriteFailure, _) => {
                Problem::new(record, "template", format!("{flag} turns this row into more than 40 MB"))
                    .hint("shorten the template: no request can be that long")
            }
            (kind, _) => {
                let what = error.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}"));
                Problem::new(record, "template", format!("{flag} fails at its line {line}: {}", shorten(&what)))
                    .hint("check the template against this row's fields")
            }
        }
    }
}

/// Prints strings as they are and everything else as JSON.
fn print(
    out: &mut minijinja::Output<'_>,
    state: &minijinja::State<'_, '_>,
    value: &Value,
) -> Result<(), minijinja::Error> {
    match value.kind() {
        ValueKind::Undefined => Err(minijinja::Error::from(ErrorKind::UndefinedError)),
        ValueKind::Bool | ValueKind::None => Ok(write!(out, "{}", json_text(value)?)?),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable if value.downcast_object_ref::<Node>().is_none() => {
            Ok(write!(out, "{}", json_text(value)?)?)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

fn json_text(value: &Value) -> Result<String, minijinja::Error> {
    serde_json::to_string(value)
        .map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, "not printable as JSON").with_source(error))
}

/// Events while a template ran, for the message if it fails.
#[derive(Debug, Default)]
struct Trace {
    missed: Option<Missed>,
    too_deep: Option<String>,
}

/// The last name that the template asked for and the record lacks.
#[derive(Debug)]
struct Missed {
    name: String,
    has: String,
}

type SharedTrace = Arc<Mutex<Trace>>;

fn note(trace: &SharedTrace, write: impl FnOnce(&mut Trace)) {
    write(&mut trace.lock().unwrap_or_else(PoisonError::into_inner));
}

/// A field's content, read only if the template asks for it.
#[derive(Debug)]
enum FieldValue {
    Text(Box<str>),
    Json(Box<str>),
}

/// A record, as the names that a template sees.
#[derive(Debug)]
struct RecordFields {
    fields: Vec<(Box<str>, FieldValue)>,
    trace: SharedTrace,
}

impl Object for RecordFields {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match self.fields.iter().rev().find(|(name, _)| **name == *key) {
            Some((_, FieldValue::Text(text))) => Some(Value::from(&**text)),
            Some((name, FieldValue::Json(text))) if json::depth(text) > DEPTH => {
                note(&self.trace, |trace| trace.too_deep = Some(name.to_string()));
                None
            }
            Some((name, FieldValue::Json(text))) => Some(value(text, name, &self.trace)),
            None => {
                let has = format!("it has: {}", listed(self.fields.iter().map(|(name, _)| &**name)));
                note(&self.trace, |trace| trace.missed = Some(Missed { name: key.to_owned(), has }));
                None
            }
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.fields.iter().map(|(name, _)| Value::from(&**name)).collect())
    }
}

/// A JSON value for the template. Arrays and objects stay text until a part of them is asked for.
fn value(text: &str, path: &str, trace: &SharedTrace) -> Value {
    match text.as_bytes().first() {
        Some(b'{') => {
            let members = json::trusted_members(text);
            let parts = members.iter().map(|m| (m.key.as_ref().into(), m.value.into())).collect();
            let node = Node { text: text.into(), object: true, parts, path: path.into(), trace: Arc::clone(trace) };
            Value::from_object(node)
        }
        Some(b'[') => {
            let parts =
                json::trusted_elements(text).into_iter().map(|element| (Box::default(), element.into())).collect();
            let node = Node { text: text.into(), object: false, parts, path: path.into(), trace: Arc::clone(trace) };
            Value::from_object(node)
        }
        Some(b'"') => json::string(text).map_or_else(|| Value::from(text), Value::from),
        Some(b't') => Value::from(true),
        Some(b'f') => Value::from(false),
        Some(b'n') => Value::from(()),
        // A number that no machine type holds keeps its digits and prints as it is.
        _ => match (text.parse::<i128>(), text.parse::<f64>()) {
            (Ok(whole), _) => i64::try_from(whole).map_or_else(|_| Value::from(whole), Value::from),
            (_, Ok(float)) if float.is_finite() && text.contains(['.', 'e', 'E']) => Value::from(float),
            _ => Value::from(text),
        },
    }
}

/// A JSON array or object, which prints as it was spelled.
struct Node {
    text: Box<str>,
    object: bool,
    parts: Vec<(Box<str>, Box<str>)>,
    path: Box<str>,
    trace: SharedTrace,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Object for Node {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        if self.object { ObjectRepr::Map } else { ObjectRepr::Seq }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let found = if self.object {
            let name = key.as_str()?;
            self.parts.iter().rev().find(|(known, _)| **known == *name)
        } else {
            key.as_usize().and_then(|index| self.parts.get(index))
        };
        let path = format!("{}.{key}", self.path);
        if found.is_none() {
            let has = if self.object {
                format!("`{}` has: {}", shorten(&self.path), listed(self.parts.iter().map(|(name, _)| &**name)))
            } else {
                format!("`{}` has {} elements", shorten(&self.path), self.parts.len())
            };
            note(&self.trace, |trace| trace.missed = Some(Missed { name: path.clone(), has }));
        }
        found.map(|(_, text)| value(text, &path, &self.trace))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        if self.object {
            Enumerator::Values(self.parts.iter().map(|(name, _)| Value::from(&**name)).collect())
        } else {
            Enumerator::Seq(self.parts.len())
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(source: &str, line: &str) -> Result<String, Problem> {
        let record = Record { row: 3, file: "a.jsonl", line: 4, data: Data::Json(line) };
        let template = Template::new("--prompt", source).unwrap();
        template.render(&record, &json::members(line).unwrap())
    }

    #[test]
    fn values_print_as_json_and_strings_as_they_are() {
        let line = r#"{"s":"<a> \"q\" \u00e9","i":7,"big":123456789012345678901234567890123456789012,"huge":1E400,"f":1.5,
            "b":true,"n":null,"o":{"z":1,"a":[1, {"k":"v"}]},"l":["x","y"]}"#;
        for (source, expected) in [
            ("{{ s }}\n", "<a> \"q\" é\n"),
            ("{{ i + 1 }} {{ f }} {{ b }} {{ n }}", "8 1.5 true null"),
            ("{{ big }} {{ huge }}", "123456789012345678901234567890123456789012 1E400"),
            ("{{ o }}", r#"{"z":1,"a":[1, {"k":"v"}]}"#),
            ("{{ o.a[1].k }} {{ o['z'] }}", "v 1"),
            ("{% for x in l %}{{ loop.index }}{{ x }} {% endfor %}{{ l | length }} {{ l | join('-') }}", "1x 2y 2 x-y"),
            ("{{ o.a | tojson }}", r#"[1,{"k":"v"}]"#),
            ("{{ [1, 'a', true] }}", r#"[1,"a",true]"#),
            ("{% for k in o %}{{ k }}{% endfor %}", "za"),
            ("{{ missing | default('-') }}{% if missing is defined %}x{% endif %}", "-"),
            ("{{ s | upper | trim }}", "<A> \"Q\" É"),
        ] {
            assert_eq!(fill(source, line).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn an_unknown_field_lists_the_known_ones() {
        let line = r#"{"title":"t","user":{"name":"n"},"tags":[1]}"#;
        for (source, name, has) in [
            ("{{ titel }}", "`titel`", "it has: title, user, tags"),
            ("{{ user.nam }}", "`user.nam`", "`user` has: name"),
            ("{{ tags[3] }}", "`tags.3`", "`tags` has 1 elements"),
            ("{% for x in nothing %}{% endfor %}", "`nothing`", "it has: title"),
        ] {
            let problem = fill(source, line).unwrap_err();
            assert_eq!((problem.code, problem.row, problem.line), ("template_field", Some(3), 4));
            assert!(problem.message.contains(name) && problem.message.contains(has), "{}", problem.message);
        }
    }

    #[test]
    fn a_template_that_does_not_parse_is_a_usage_error() {
        for (source, line) in [("{{ a", "line 1"), ("ok\n{% if %}", "line 2"), ("{{ x | nofilter( }}", "line 1")] {
            let error = Template::new("--prompt", source).unwrap_err();
            assert_eq!(error.exit.code(), 2);
            assert!(error.message.starts_with("--prompt: ") && error.message.contains(line), "{}", error.message);
        }
    }

    #[test]
    fn one_step_cannot_take_all_memory() {
        let line = r#"{"s":"a\nb","n":99999999999999999,"l":[1]}"#;
        for source in [
            "{{ s | indent(n) }}",
            "{{ s | indent(width=n) }}",
            "{{ l | tojson(indent=n) }}",
            "{{ l | tojson(n) }}",
            "{{ l | batch(n) | list }}",
            "{{ l | slice(n) | list }}",
            "{{ '%99999999999d' | format(1) }}",
            "{{ '%*d' | format(n, 1) }}",
            "{% for i in range(2000) %}{{ s * 50000 }}{% endfor %}",
        ] {
            let problem = fill(source, line).expect_err(source);
            assert_eq!(problem.code, "template", "{source}: {problem}");
        }
        for (source, expected) in [
            ("{{ s | indent(2, true) }}", "  a\n  b"),
            ("{{ l | tojson(indent=1) }}", "[\n 1\n]"),
            ("{{ l | batch(2, n) | list }}", "[[1,99999999999999999]]"),
            ("{{ '%05d %s' | format(7, n) }}", "00007 99999999999999999"),
        ] {
            assert_eq!(fill(source, line).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn endless_and_bottomless_rows_are_problems() {
        let deep = format!(r#"{{"a":{}1{},"b":1}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(fill("{{ a }}", &deep).unwrap_err().code, "too_deep");
        assert_eq!(fill("{{ b }}", &deep).as_deref(), Ok("1"));
        let source = "{% for a in range(10000) %}{% for b in range(10000) %}{{ b }}{% endfor %}{% endfor %}";
        assert_eq!(fill(source, "{}").unwrap_err().code, "template");
        assert_eq!(fill("{{ a + 1 }}", r#"{"a":"x"}"#).unwrap_err().code, "template");
    }
}
