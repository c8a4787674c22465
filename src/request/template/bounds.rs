//! Bounds that the template engine does not set itself. Its fuel counts steps, but a single step could ask for more memory
//! than there is, with a number that comes from a row.

use std::io;

use minijinja::value::{Kwargs, Rest};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

/// Widest indentation, padding or batch of a list: more than any template needs.
const WIDEST: u64 = 10_000;

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
            sane(&args)?;
            filter.call(state, &args)
        });
    }
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
fn is_wide(text: &str) -> bool {
    let number = |digits: &str| digits.trim_start_matches('0').len() > 4;
    text.contains('*') || text.split(|c: char| !c.is_ascii_digit()).any(number)
}

fn too_wide() -> Error {
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
