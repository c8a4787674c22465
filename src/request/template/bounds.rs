//! Bounds that the template engine does not set itself. Its fuel counts steps, but a single step could ask for more memory
//! than there is, with a number that comes from a row.

use std::io;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

/// Widest indentation, padding or batch of a list: more than any template needs.
const WIDEST: u64 = 10_000;

/// Most elements of a list that a filter may take at once.
const ELEMENTS: usize = 1_000_000;

/// Most text that a template may make of one row: as much as the longest context there is, ten million tokens, can hold.
const LONGEST: usize = 40_000_000;

/// Sets the bounds.
pub(super) fn set(engine: &mut Environment<'_>) {
    for (name, filter) in [
        ("batch", Value::from_function(filters::batch)),
        ("indent", Value::from_function(filters::indent)),
        ("slice", Value::from_function(filters::slice)),
        ("tojson", Value::from_function(filters::tojson)),
    ] {
        engine.add_filter(name, move |state: &State<'_, '_>, args: Rest<Value>| {
            args.iter().try_for_each(short)?;
            sane(&args)?;
            filter.call(state, &args)
        });
    }
    for (name, filter) in [
        ("chain", Value::from_function(filters::chain)),
        ("groupby", Value::from_function(filters::groupby)),
        ("last", Value::from_function(filters::last)),
        ("list", Value::from_function(filters::list)),
        ("map", Value::from_function(filters::map)),
        ("max", Value::from_function(filters::max)),
        ("min", Value::from_function(filters::min)),
        ("reject", Value::from_function(filters::reject)),
        ("rejectattr", Value::from_function(filters::rejectattr)),
        ("pprint", Value::from_function(filters::pprint)),
        ("reverse", Value::from_function(filters::reverse)),
        ("select", Value::from_function(filters::select)),
        ("selectattr", Value::from_function(filters::selectattr)),
        ("sort", Value::from_function(filters::sort)),
        ("string", Value::from_function(filters::string)),
        ("sum", Value::from_function(filters::sum)),
        ("unique", Value::from_function(filters::unique)),
        ("zip", Value::from_function(filters::zip)),
    ] {
        engine.add_filter(name, move |state: &State<'_, '_>, args: Rest<Value>| {
            args.iter().try_for_each(short)?;
            filter.call(state, &args)
        });
    }
    for (name, filter) in
        [("join", Value::from_function(filters::join)), ("replace", Value::from_function(filters::replace))]
    {
        engine.add_filter(name, move |state: &State<'_, '_>, args: Rest<Value>| {
            args.iter().try_for_each(short)?;
            grown(name, &args)?;
            filter.call(state, &args)
        });
    }
    engine.add_filter("bounded", |value: Value| short(&value).map(|()| value));
    engine.add_filter("format", |state: &State<'_, '_>, text: Value, args: Rest<Value>| {
        if text.as_str().is_some_and(is_wide) {
            return Err(too_wide());
        }
        filters::format(state, &text, args)
    });
}

/// Checks the width among a filter's arguments: the second, or one by name.
fn sane(args: &[Value]) -> Result<(), Error> {
    let named = args.last().and_then(|last| Kwargs::try_from(last.clone()).ok());
    let named = named.iter().flat_map(|named| ["width", "indent", "count"].into_iter().map(|name| named.peek(name)));
    let mut widths = args.get(1).cloned().into_iter().chain(named.filter_map(Result::ok));
    let wide = |width: Value| width.is_number() && u64::try_from(width).is_ok_and(|width| width > WIDEST);
    if widths.any(wide) { Err(too_wide()) } else { Ok(()) }
}

/// Returns true if a format pads to more than [`WIDEST`], or to the width of an argument.
pub(super) fn is_wide(text: &str) -> bool {
    let number = |digits: &str| digits.trim_start_matches('0').len() > 4;
    text.contains('*') || text.split(|c: char| !c.is_ascii_digit()).any(number)
}

/// Checks the size of a value that a filter takes or a `set` tag stores.
fn short(value: &Value) -> Result<(), Error> {
    let long = match value.as_str() {
        Some(text) => text.len() > LONGEST,
        None => {
            matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) && value.len().is_some_and(|n| n > ELEMENTS)
        }
    };
    if long { Err(too_long()) } else { Ok(()) }
}

/// Checks the length of a text that `join` or `replace` would make of its arguments.
pub(super) fn grown(name: &str, args: &[Value]) -> Result<(), Error> {
    let text = |at: usize| args.get(at).and_then(Value::as_str).unwrap_or_default();
    let (times, piece) = match name {
        "replace" if text(1).is_empty() => (text(0).len() + 1, text(2)),
        "replace" => (text(0).matches(text(1)).count(), text(2)),
        _ => (args.first().and_then(Value::len).unwrap_or(0), text(1)),
    };
    if times.saturating_mul(piece.len()) > LONGEST { Err(too_long()) } else { Ok(()) }
}

fn too_long() -> Error {
    Error::new(ErrorKind::InvalidOperation, "a text or list that is too long")
}

/// A list or an object as JSON.
pub(super) fn json_text(value: &Value) -> Result<String, Error> {
    let mut text = BoundedText::default();
    serde_json::to_writer(&mut text, value).map_err(|error| {
        let (kind, what) = if error.is_io() {
            (ErrorKind::WriteFailure, "too long")
        } else {
            (ErrorKind::BadSerialization, "not printable as JSON")
        };
        Error::new(kind, what).with_source(error)
    })?;
    Ok(text.into_string())
}

pub(super) fn too_wide() -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("a width of more than {WIDEST}"))
}

/// A text that takes no more than [`LONGEST`].
#[derive(Debug, Default)]
pub(super) struct BoundedText(Vec<u8>);

impl BoundedText {
    pub(super) fn into_string(self) -> String {
        // The engine writes valid text.
        String::from_utf8(self.0).unwrap_or_default()
    }
}

impl io::Write for BoundedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
