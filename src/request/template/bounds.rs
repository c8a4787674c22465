//! Bounds that the template engine does not set itself. Its fuel counts steps, but a single step could ask for more memory
//! than there is, with a number that comes from a row.

use std::fmt::{self, Write as _};
use std::io;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::{Kwargs, Object, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Expression, State, UndefinedBehavior, Value, context, filters};

/// Widest indentation, padding or batch of a list: more than any template needs.
const WIDEST: u64 = 10_000;

/// Most elements of a list that a filter may take at once.
const ELEMENTS: usize = 1_000_000;

/// Most text that a template may make of one row: as much as the longest context there is, ten million tokens, can hold.
const LONGEST: usize = 40_000_000;

/// Most text that a template may print for one row, what it prints into variables included.
const PRINTED: usize = 64 << 20;

/// Most text that filters and operators may work on for one row. This bounds the time.
const WORKED: usize = 10 * LONGEST;

/// The text that a template has worked on for one row.
#[derive(Debug, Default)]
struct TemplateWork {
    printed: AtomicUsize,
    worked: AtomicUsize,
}

impl Object for TemplateWork {}

/// The engine of the plain operators.
static OPERATORS: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine
});

fn work(
    state: &State<'_, '_>,
    counter: fn(&TemplateWork) -> &AtomicUsize,
    bytes: usize,
    most: usize,
) -> Result<(), Error> {
    let work = state.get_or_set_temp_object("work", TemplateWork::default);
    let before = counter(&work).fetch_add(bytes, Ordering::Relaxed);
    if before.saturating_add(bytes) > most { Err(too_long()) } else { Ok(()) }
}

/// Counts text that is printed, whether it is the row's prompt or a variable.
pub(super) fn printed(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    work(state, |work| &work.printed, bytes, PRINTED)
}

/// Checks the arguments of a filter or an operator, and counts them.
pub(super) fn taken(state: &State<'_, '_>, args: &[Value]) -> Result<(), Error> {
    args.iter().try_for_each(short)?;
    let bytes = args.iter().map(|value| value.as_str().map_or(0, str::len)).sum();
    work(state, |work| &work.worked, bytes, WORKED)
}

/// A plain operator between `a` and `b`.
type PlainOperator = LazyLock<Option<Expression<'static, 'static>>>;
static PLUS: PlainOperator = LazyLock::new(|| OPERATORS.compile_expression("a + b").ok());
static TIMES: PlainOperator = LazyLock::new(|| OPERATORS.compile_expression("a * b").ok());

fn plain(operator: &PlainOperator, a: &Value, b: &Value) -> Result<Value, Error> {
    operator.as_ref().ok_or_else(|| Error::from(ErrorKind::InvalidOperation))?.eval(context! { a, b })
}

/// The operators as filters, for what [`super::operators`] makes of a template.
fn add_operators(engine: &mut Environment<'_>) {
    engine.add_filter("_weighed", |state: &State<'_, '_>, bytes: usize| printed(state, bytes).map(|()| ""));
    engine.add_filter("_concat", |state: &State<'_, '_>, a: Value, b: Value| {
        if a.is_undefined() || b.is_undefined() {
            return Err(ErrorKind::UndefinedError.into());
        }
        taken(state, &[a.clone(), b.clone()])?;
        let mut text = BoundedText::default();
        write!(text, "{a}{b}").map_err(|_| too_long())?;
        Ok(Value::from(text.into_string()))
    });
    engine.add_filter("_plus", |state: &State<'_, '_>, a: Value, b: Value| {
        taken(state, &[a.clone(), b.clone()])?;
        if size(&a).saturating_add(size(&b)) > largest(&a) {
            return Err(too_long());
        }
        plain(&PLUS, &a, &b)
    });
    engine.add_filter("_times", |state: &State<'_, '_>, a: Value, b: Value| {
        taken(state, &[a.clone(), b.clone()])?;
        let (many, times) = if a.is_number() { (&b, &a) } else { (&a, &b) };
        let times = usize::try_from(times.clone()).unwrap_or(0);
        if size(many).saturating_mul(times) > largest(many) {
            return Err(too_long());
        }
        plain(&TIMES, &a, &b)
    });
}

/// The length of a text or a list; 0 for anything else.
fn size(value: &Value) -> usize {
    match value.kind() {
        ValueKind::String | ValueKind::Seq | ValueKind::Iterable => value.len().unwrap_or(0),
        _ => 0,
    }
}

fn largest(value: &Value) -> usize {
    if value.kind() == ValueKind::String { LONGEST } else { ELEMENTS }
}

/// The engine's filters whose result is bounded by what they take.
fn add_plain_filters(engine: &mut Environment<'_>) {
    for (name, filter) in [
        ("capitalize", Value::from_function(filters::capitalize)),
        ("chain", Value::from_function(filters::chain)),
        ("groupby", Value::from_function(filters::groupby)),
        ("last", Value::from_function(filters::last)),
        ("length", Value::from_function(filters::length)),
        ("lines", Value::from_function(filters::lines)),
        ("list", Value::from_function(filters::list)),
        ("lower", Value::from_function(filters::lower)),
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
        ("split", Value::from_function(filters::split)),
        ("sum", Value::from_function(filters::sum)),
        ("title", Value::from_function(filters::title)),
        ("trim", Value::from_function(filters::trim)),
        ("unique", Value::from_function(filters::unique)),
        ("upper", Value::from_function(filters::upper)),
        ("zip", Value::from_function(filters::zip)),
    ] {
        engine.add_filter(name, move |state: &State<'_, '_>, args: Rest<Value>| {
            taken(state, &args)?;
            filter.call(state, &args)
        });
    }
}

/// Sets the bounds.
pub(super) fn set(engine: &mut Environment<'_>) {
    add_operators(engine);
    for (name, filter) in [
        ("batch", Value::from_function(filters::batch)),
        ("indent", Value::from_function(filters::indent)),
        ("slice", Value::from_function(filters::slice)),
        ("tojson", Value::from_function(filters::tojson)),
    ] {
        engine.add_filter(name, move |state: &State<'_, '_>, args: Rest<Value>| {
            taken(state, &args)?;
            widened(name, &args, width(&args)?)?;
            filter.call(state, &args)
        });
    }
    add_plain_filters(engine);
    for (name, filter) in
        [("join", Value::from_function(filters::join)), ("replace", Value::from_function(filters::replace))]
    {
        engine.add_filter(name, move |state: &State<'_, '_>, args: Rest<Value>| {
            taken(state, &args)?;
            grown(name, &args)?;
            filter.call(state, &args)
        });
    }
    engine.add_filter("string", |state: &State<'_, '_>, value: Value| {
        taken(state, std::slice::from_ref(&value))?;
        let mut text = BoundedText::default();
        write!(text, "{value}").map_err(|_| too_long())?;
        Ok::<_, Error>(text.into_string())
    });
    engine.add_filter("bounded", |value: Value| short(&value).map(|()| value));
    engine.add_filter("format", |state: &State<'_, '_>, text: Value, args: Rest<Value>| {
        if text.as_str().is_some_and(is_wide) {
            return Err(too_wide());
        }
        filters::format(state, &text, args)
    });
}

/// The width among a filter's arguments, which is the second, or one by name.
fn width(args: &[Value]) -> Result<usize, Error> {
    let named = args.last().and_then(|last| Kwargs::try_from(last.clone()).ok());
    let named = named.iter().flat_map(|named| ["width", "indent", "count"].into_iter().map(|name| named.peek(name)));
    let widths = args.get(1).cloned().into_iter().chain(named.filter_map(Result::ok));
    let width = widths.filter_map(|width| u64::try_from(width).ok()).max().unwrap_or(0);
    if width > WIDEST { Err(too_wide()) } else { Ok(usize::try_from(width).unwrap_or(0)) }
}

/// Checks the length of what a filter makes with this width.
fn widened(name: &str, args: &[Value], width: usize) -> Result<(), Error> {
    let bytes = match (name, args.first()) {
        ("indent", Some(text)) => text.as_str().map_or(0, |text| text.matches('\n').count()).saturating_mul(width),
        // A text in JSON has a line for each few bytes at most, and is rarely deeper than this.
        ("tojson", Some(value)) => json_text(value)?.len().saturating_mul(width.max(4) / 4),
        _ => 0,
    };
    if bytes > LONGEST { Err(too_long()) } else { Ok(()) }
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
        _ => {
            let parts = args.first().and_then(|list| list.try_iter().ok()).into_iter().flatten();
            let bytes = parts.map(|part| part.as_str().map_or(0, str::len)).fold(0_usize, usize::saturating_add);
            if bytes > LONGEST {
                return Err(too_long());
            }
            (args.first().and_then(Value::len).unwrap_or(0), text(1))
        }
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

impl fmt::Write for BoundedText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        io::Write::write_all(self, text.as_bytes()).map_err(|_| fmt::Error)
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
