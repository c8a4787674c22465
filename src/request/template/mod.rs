//! `--prompt` and `--system`: Jinja templates over a record's fields. An unknown field is a problem, not an empty text.

mod bounds;
mod fields;
mod methods;
mod names;
mod operators;
mod source;

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};

use self::fields::{DEPTH, Missed, Names, Node, SharedTrace, Trace};
pub use self::names::{ROW, foreign, spelled};
use super::problem::{Problem, shorten, shorten_to};
use super::record::Record;
use crate::error::{Error, Result};
use crate::json;

/// Steps a template may take for one row: far above any sane prompt, and a fraction of a second.
const FUEL: u64 = 5_000_000;

/// Characters that a message shows of the engine's own.
const DETAIL: usize = 160;

/// The code of a problem that is the template's own, whatever the row: the command is wrong.
pub const TEMPLATE_FAULT: &str = "template_fault";

/// A parsed template.
#[derive(Debug)]
pub(super) struct Template {
    engine: Environment<'static>,
    flag: &'static str,
    source: String,
    /// Names that the template does not set itself.
    names: HashSet<String>,
    /// `row` is the whole record, even if the record has a field of that name.
    row: bool,
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
        methods::add(&mut engine);
        bounds::set(&mut engine);
        let bounded = source::bounded(source).map_err(|over| {
            Error::usage(format!("{flag}: line {}: {}", over.line, over.what))
                .hint("make the template simpler, or compute the text before, as a field of the rows")
        })?;
        if engine.add_template_owned(flag, bounded).is_err() {
            // The engine's words are about the template as the user wrote it.
            engine.add_template_owned(flag, source.to_owned()).map_err(|error| unparsed(flag, source, &error))?;
        }
        let names = engine.get_template(flag).map(|parsed| parsed.undeclared_variables(false)).unwrap_or_default();
        Ok(Self { engine, flag, source: source.to_owned(), names, row: source.contains("row[") })
    }

    /// Returns true if `source` has placeholders.
    pub fn is_one(source: &str) -> bool {
        ["{{", "{%", "{#"].iter().any(|mark| source.contains(mark))
    }

    /// Returns true if what the template makes depends on the record, which has these `fields`.
    pub(super) fn names_field(&self, fields: &[&str]) -> bool {
        names::any_field(&self.names, fields)
    }

    /// Returns true if the template uses this field by its name.
    pub fn uses(&self, field: &str) -> bool {
        self.names.contains(field)
    }

    /// The template as the user wrote it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Compares the template with the names of a record's fields.
    ///
    /// # Errors
    /// A usage error if it reads the name of a field as something else.
    pub(super) fn check_names(&self, fields: &[&str]) -> Result<()> {
        let Some(field) = names::misread(&self.source, fields, &self.engine) else { return Ok(()) };
        let (flag, shown) = (self.flag, shorten(field));
        Err(Error::usage(format!("{flag}: `{shown}` is the name of a field, but not one that {{{{ {shown} }}}} reads"))
            .hint(format!("write {{{{ {} }}}}", names::spelled(field))))
    }

    /// Fills the template with a record's fields.
    pub fn render(&self, record: &Record<'_>, members: &[json::Member<'_>]) -> Result<String, Problem> {
        let trace = SharedTrace::default();
        let context = Value::from_object(Names::new(record, members, self.row, Arc::clone(&trace)));
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
        rendered.map(|()| text.into_string()).map_err(|error| self.problem(record, &error, trace))
    }

    fn problem(&self, record: &Record<'_>, error: &minijinja::Error, trace: Trace) -> Problem {
        let (flag, line) = (self.flag, error.line().unwrap_or(1));
        let detail = || error.detail().unwrap_or_default();
        match (error.kind(), trace) {
            (ErrorKind::UndefinedError, Trace { missed: Some(missed), .. }) => missing(record, flag, &missed),
            // Arithmetic with a field that is missing.
            (ErrorKind::InvalidOperation, Trace { missed: Some(missed), .. }) if detail().contains("undefined") => {
                missing(record, flag, &missed)
            }
            (ErrorKind::BadSerialization, Trace { null, .. }) if detail() == NULL => null_printed(record, flag, null),
            (ErrorKind::OutOfFuel, _) => {
                Problem::new(record, "template", format!("{flag} takes too many steps for this row (line {line})"))
                    .hint("make its loops smaller")
            }
            (ErrorKind::WriteFailure, _) => {
                Problem::new(record, "template", format!("{flag} turns this row into more than 40 MB"))
                    .hint("shorten the template: no request can be that long")
            }
            (
                ErrorKind::UnknownFilter
                | ErrorKind::UnknownTest
                | ErrorKind::UnknownFunction
                | ErrorKind::UnknownMethod,
                _,
            ) => Problem::new(record, TEMPLATE_FAULT, format!("{flag}: line {line}: {}", shorten_to(detail(), DETAIL)))
                .hint(methods::AVAILABLE),
            (kind, _) => {
                let what = error.detail().map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}"));
                Problem::new(
                    record,
                    "template",
                    format!("{flag} fails at its line {line}: {}", shorten_to(&what, DETAIL)),
                )
                .hint("check the template against this row's fields")
            }
        }
    }
}

/// The error of a template that does not parse.
fn unparsed(flag: &str, source: &str, error: &minijinja::Error) -> Error {
    let line = error.line().unwrap_or(1);
    let text = source.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let error = Error::usage(format!("{flag}: line {line}: {what}: `{}`", shorten(text)));
    error.hint(names::respelled(text).map_or_else(
        || "write fields as {{ name }}, and a literal brace pair as {{ '{{' }}".to_owned(),
        |spelled| format!("write a field of that name as {{{{ {spelled} }}}}"),
    ))
}

fn missing(record: &Record<'_>, flag: &str, missed: &Missed) -> Problem {
    let name = shorten(&missed.name);
    let odd = missed.odd.as_ref().map_or_else(String::new, |odd| {
        format!("; a name that is no single word is written in brackets: {{{{ {} }}}}", shorten(odd))
    });
    let text = format!("{flag} names the field `{name}`, which the row lacks; {}", missed.has);
    Problem::new(record, "template_field", text)
        .hint(format!("correct the name, or write {{{{ {name} | default('') }}}} if it may be missing{odd}"))
}

fn null_printed(record: &Record<'_>, flag: &str, field: Option<Box<str>>) -> Problem {
    let field = field.map_or_else(|| "value".to_owned(), |field| shorten(&field));
    let text = format!("{flag} would send the word \"null\": `{field}` is null in this row");
    Problem::new(record, "template_null", text).hint(format!(
        "write {{{{ {field} or '' }}}} for an empty text, or {{{{ {field} | tojson }}}} to mean the word"
    ))
}

/// The detail of the error for a null that is printed.
const NULL: &str = "a null is printed";

/// Prints strings as they are and everything else as JSON. A null alone is an error: nobody means the word.
fn print(
    out: &mut minijinja::Output<'_>,
    state: &minijinja::State<'_, '_>,
    value: &Value,
) -> Result<(), minijinja::Error> {
    let node = || value.downcast_object_ref::<Node>().map_or(0, Node::bytes);
    bounds::printed(state, value.as_str().map_or_else(node, str::len))?;
    match value.kind() {
        ValueKind::Undefined => Err(minijinja::Error::from(ErrorKind::UndefinedError)),
        ValueKind::None => Err(minijinja::Error::new(ErrorKind::BadSerialization, NULL)),
        ValueKind::Bool => Ok(write!(out, "{}", value.is_true())?),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable if value.downcast_object_ref::<Node>().is_none() => {
            let text = bounds::json_text(value)?;
            bounds::printed(state, text.len())?;
            Ok(write!(out, "{text}")?)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Data;

    fn fill(source: &str, line: &str) -> Result<String, Problem> {
        let record = Record { row: 3, number: 3, file: "a.jsonl", line: 4.into(), data: Data::Json(line) };
        let template = Template::new("--prompt", source).unwrap();
        template.render(&record, &json::members(line).unwrap())
    }

    #[test]
    fn values_print_as_json_and_strings_as_they_are() {
        let line = r#"{"s":"<a> \"q\" \u00e9","i":7,"big":123456789012345678901234567890123456789012,"huge":1E400,"f":1.5,
            "b":true,"n":null,"o":{"z":1,"a":[1, {"k":"v"}]},"l":["x","y"]}"#;
        for (source, expected) in [
            ("{{ s }}\n", "<a> \"q\" é\n"),
            ("{{ i + 1 }} {{ f }} {{ b }} {{ n | tojson }}{{ n or '' }}", "8 1.5 true null"),
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
            ("{{ tags[3] }}", "`tags[3]`", "`tags` has 1 elements"),
            ("{% for x in nothing %}{% endfor %}", "`nothing`", "it has: title"),
        ] {
            let problem = fill(source, line).unwrap_err();
            assert_eq!((problem.code, problem.row, problem.line), ("template_field", Some(3), 4.into()));
            assert!(problem.message.contains(name) && problem.message.contains(has), "{}", problem.message);
        }
    }

    #[test]
    fn every_field_can_be_reached_by_its_name() {
        let line =
            r#"{"Review Text":"good","2023":4.1,"in":"i","größe":42,"本文":"内","u":{"first name":"Ann"},"n":null}"#;
        for (source, expected) in [
            (r#"{{ row["Review Text"] }} {{ row['2023'] }} {{ row["in"] }}"#, "good 4.1 i"),
            ("{{ größe }} {{ 本文 }} {{ row.größe }}", "42 内 42"),
            (r#"{{ u["first name"] }} {{ row.u["first name"] }}"#, "Ann Ann"),
            ("{{ row.missing | default('-') }}", "-"),
            ("{% for k, v in u.items() %}{{ k }}={{ v }}{% endfor %}", "first name=Ann"),
        ] {
            assert_eq!(fill(source, line).as_deref(), Ok(expected), "{source}");
        }
        let own = r#"{"row":7,"a b":1}"#;
        assert_eq!(fill("{{ row }}", r#"{"a":1,"b":[2]}"#).as_deref(), Ok(r#"{"a":1,"b":[2]}"#));
        assert_eq!(fill("{{ row }}", own).as_deref(), Ok("7"));
        assert_eq!(fill(r#"{{ row["a b"] }} {{ row["row"] }}"#, own).as_deref(), Ok("1 7"));
        for (source, name, hint) in [
            ("{{ product - id }}", "`id`", "{{ row[\"Review Text\"] }}"),
            ("{{ Review }}", "`Review`", "{{ row[\"Review Text\"] }}"),
            (r#"{{ u["last name"] }}"#, r#"`u["last name"]`"#, r#"{{ u["last name"] | default('') }}"#),
            (r#"{{ row["Reviews"] }}"#, "`Reviews`", "default('')"),
        ] {
            let problem = fill(source, line).unwrap_err();
            assert!(problem.code == "template_field" && problem.message.contains(name), "{source}: {problem}");
            assert!(problem.hint.as_ref().is_some_and(|text| text.contains(hint)), "{source}: {:?}", problem.hint);
        }
    }

    #[test]
    fn a_name_that_does_not_parse_is_shown_as_it_can_be_written() {
        for (source, hint) in [
            ("{{ Review Text }}", r#"{{ row["Review Text"] }}"#),
            ("a\n{{ not }}", r#"{{ row["not"] }}"#),
            ("{{ What is it? | trim }}", r#"{{ row["What is it?"] }}"#),
            ("{{ a", "{{ name }}"),
        ] {
            let error = Template::new("--prompt", source).expect_err(source);
            assert!(error.hint.as_ref().is_some_and(|text| text.contains(hint)), "{source}: {:?}", error.hint);
        }
    }

    #[test]
    fn methods_and_filters_of_jinja_and_python_work() {
        let line = r#"{"t":" a,b c ","u":{"k":1},"n":null,"i":7}"#;
        for (source, expected) in [
            ("{{ t.strip() }}|{{ t.split(',')[1] }}|{{ t.upper() }}", "a,b c|b c | A,B C "),
            ("{{ u.get('k') }}{{ u.get('x', 2) }}", "12"),
            ("{{ t | wordcount }} {{ t | truncate(2, true, '', 0) }}{{ '<b>x</b>' | striptags }}", "3  ax"),
            ("{{ 'one two three four' | truncate(12) }}", "one two..."),
            (
                "{{ 'one two three' | truncate(length=12) }} {{ 'äöü' | truncate(2, killwords=true, end='…', leeway=0) }}",
                "one two three ä…",
            ),
        ] {
            assert_eq!(fill(source, line).as_deref(), Ok(expected), "{source}");
        }
        for (source, code, words) in [
            ("{{ t | truncat(2) }}", TEMPLATE_FAULT, "filter truncat is unknown"),
            ("{{ t.stripp() }}", TEMPLATE_FAULT, "no method named stripp"),
            ("{{ t is blank }}", TEMPLATE_FAULT, "test blank is unknown"),
            ("{{ i.strip() }}", "template", ".strip() needs a text, and this is: number"),
            ("{{ n.strip() }}", "template", ".strip() needs a text, and this is: null"),
            ("{{ x.strip() }}", "template_field", "`x`"),
            ("Note: {{ n }}", "template_null", "`n` is null in this row"),
            ("Note: {{ u.get('x') }}", "template_null", "null"),
        ] {
            let problem = fill(source, line).expect_err(source);
            assert_eq!(problem.code, code, "{source}: {problem}");
            assert!(problem.message.contains(words) && problem.hint.is_some(), "{source}: {problem}");
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
            "{{ [1, 2, 3] * 10**9 }}",
            "{{ ([1, 2, 3] * 10**9) | join(',') }}",
            "{{ ([1] * 10**9) | list | length }}",
            "{% set ns = namespace(t=s) %}{% for i in range(40) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t | length }}",
            "{{ (s * 10000000) | replace('a', s * 100) }}",
            "{{ (s * 10000000).replace('a', s * 100) }}",
            "{{ (s * 10000000).join([1] * 1000000) }}",
            "{{ '{:99999999999}'.format(1) }}",
            "{{ ([1, 2, 3] * 10**9) ~ '' }}",
            "{{ [1, 2, 3] * 10**9 ~ '' }}",
            "{{ 10**9 * [s] ~ '' }}",
            "{{ (s * 10**6) | indent(10000) | length }}",
            "{{ ([1] * 10**6) | tojson(10000) | length }}",
            "{{ 5 in [1] * 10**12 }}",
            "{% if [1] * 10**10 == [1] * 10**10 %}x{% endif %}",
            "{% set t = s * 10**7 %}{{ (t ~ t ~ t ~ t ~ t ~ t) | length }}",
            "{% set t = s * 10**7 %}{{ (t + t + t + t + t + t) | length }}",
            "{% set t = s * 10**7 %}{{ [t, t, t, t, t, t] ~ '' }}",
            "{% set t = s * 10**7 %}{{ ([t] * 1000) | join | length }}",
            "{% set t = s * 10**7 %}{{ ([t] * 1000) | string | length }}",
            "{% set t = s * 10**7 %}{{ ([t] * 1000) | tojson | length }}",
            "{% set t %}{% for i in range(9999) %}{% for j in range(99) %}0123456789012345678901234567890123456789012345678901234567890123456789{% endfor %}{% endfor %}{% endset %}{{ t | length }}",
            "{% set t = s * 10**6 %}{% set u %}{% for i in range(9999) %}{{ t }}{% endfor %}{% endset %}{{ u | length }}",
            "{% set t = s * 10**7 %}{% for i in range(9999) %}{% set u = t ~ i %}{% endfor %}",
            "{% set t = s * 10**7 %}{% for i in range(9999) %}{% set u = t | upper %}{% endfor %}",
            "{% set t = s * 10**7 %}{% for i in range(9999) %}{% if t.upper() == i %}x{% endif %}{% endfor %}",
            "{% filter upper %}{% for i in range(9999) %}{{ s * 10000 }}{% endfor %}{% endfilter %}",
        ] {
            let problem = fill(source, line).expect_err(source);
            assert_eq!(problem.code, "template", "{source}: {problem}");
        }
        let chain = format!("{{{{ {}1 }}}}", "1+".repeat(60_000));
        assert_eq!(Template::new("--prompt", &chain).unwrap_err().exit.code(), 2);
        for (source, expected) in [
            ("{{ s | indent(2, true) }}", "  a\n  b"),
            ("{{ l | tojson(indent=1) }}", "[\n 1\n]"),
            ("{{ l | batch(2, n) | list }}", "[[1,99999999999999999]]"),
            ("{{ '%05d %s' | format(7, n) }}", "00007 99999999999999999"),
            ("{% for x in l -%}  a longer text {{ x + 1 }}  {%- endfor %}", "a longer text 2"),
            ("{% for x in l %}  {#- a note -#} a longer text{% endfor %}", "a longer text"),
            ("{% for x in l %}{% raw %}{{ x + 1 }} {% endraw %}{% endfor %}", "{{ x + 1 }} "),
            ("{{ l + l }} {{ s[:1] ~ (n - n + 1) }} {{ 2 * l }}", "[1,1] a1 [1,1]"),
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
