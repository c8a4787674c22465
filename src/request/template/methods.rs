//! Additions to the template engine: filters of Jinja, and methods of Python's texts, lists and mappings.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::{filters, pycompat};

use super::bounds;

/// The known methods, for the hint after an unknown one.
pub(super) const AVAILABLE: &str = "common filters: trim, truncate(100), replace('a', 'b'), upper, join(', '), length, \
     tojson, default(''); also text[:100], and Python's methods such as text.strip(), text.split(','), user.get('name')";

/// The methods by the kind of value that has them.
const METHODS: [(&str, &[&str]); 3] = [
    (
        "a text",
        &[
            "capitalize",
            "count",
            "endswith",
            "find",
            "format",
            "isalnum",
            "isalpha",
            "isascii",
            "isdigit",
            "islower",
            "isnumeric",
            "isspace",
            "isupper",
            "join",
            "lower",
            "lstrip",
            "replace",
            "rfind",
            "rstrip",
            "split",
            "splitlines",
            "startswith",
            "strip",
            "title",
            "upper",
        ],
    ),
    ("an object", &["get", "items", "keys", "values"]),
    ("a list", &["count"]),
];

/// Adds them.
pub(super) fn add(engine: &mut Environment<'_>) {
    engine.add_filter("pluralize", filters::pluralize);
    engine.add_filter("filesizeformat", filters::filesizeformat);
    engine.add_filter("striptags", filters::striptags);
    engine.add_filter("truncate", |text: &str, args: Rest<Value>| truncate(text, &args));
    engine.add_filter("wordcount", |text: &str| {
        text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count()
    });
    engine.set_unknown_method_callback(method);
}

/// Jinja's `truncate(length=255, killwords=false, end='...', leeway=5)`.
fn truncate(text: &str, args: &[Value]) -> Result<String, Error> {
    let named = args.last().and_then(|last| Kwargs::try_from(last.clone()).ok());
    let args = &args[..args.len() - usize::from(named.is_some())];
    let get = |at: usize, name: &str| args.get(at).cloned().or_else(|| named.as_ref()?.peek(name).ok());
    let number = |at, name, usual| get(at, name).map_or(Ok(usual), usize::try_from);
    let (length, leeway) = (number(0, "length", 255)?, number(3, "leeway", 5)?);
    let end = get(2, "end").map_or_else(|| "...".to_owned(), |end| end.to_string());
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text.to_owned());
    }
    let room = length.saturating_sub(end.chars().count());
    let cut = text.char_indices().nth(room).map_or(text, |(at, _)| &text[..at]);
    let whole_words = !get(1, "killwords").is_some_and(|value| value.is_true());
    let cut = if whole_words { cut.rsplit_once(' ').map_or(cut, |(words, _)| words) } else { cut };
    Ok(format!("{cut}{end}"))
}

/// Calls a method. One that other values have is a problem of the row; one that no value has is a fault of the template.
fn method(state: &State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    bounds::taken(state, std::slice::from_ref(value))?;
    match name {
        "replace" => bounds::grown(name, &[std::slice::from_ref(value), args].concat())?,
        "join" => bounds::grown(name, &[args, std::slice::from_ref(value)].concat())?,
        "format" if value.as_str().is_some_and(bounds::is_wide) => return Err(bounds::too_wide()),
        _ => {}
    }
    let unknown = |error: &Error| error.kind() == ErrorKind::UnknownMethod;
    pycompat::unknown_method_callback(state, value, name, args).map_err(|error| {
        let owner = METHODS.iter().find(|(_, methods)| methods.contains(&name));
        match owner.filter(|_| unknown(&error)) {
            Some((owner, _)) => {
                let found = if value.kind() == ValueKind::None { "null".to_owned() } else { value.kind().to_string() };
                Error::new(ErrorKind::InvalidOperation, format!(".{name}() needs {owner}, and this is: {found}"))
            }
            None => error,
        }
    })
}
