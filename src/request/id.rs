//! A row's id: the field named by `--id`, else `custom_id`, else `id`, else `row-N`.

use std::borrow::Cow;

use super::problem::{Problem, listed, shorten};
use super::record::{Data, Record};
use crate::json::{self, Member, NotJson, Scanner};

/// The id that a row without one gets.
pub fn generated(row: u64) -> String {
    format!("row-{row}")
}

/// The id that `record` has, if it has one.
pub fn given<'a>(
    field: Option<&str>,
    record: &Record<'a>,
    members: &[Member<'a>],
) -> Result<Option<Cow<'a, str>>, Problem> {
    let (name, id) = match field {
        Some(name) => (name, Some(lookup(record, members, name)?.ok_or_else(|| missing(record, members, name))?)),
        None => match lookup(record, members, "custom_id")? {
            Some(id) => ("custom_id", Some(id)),
            None => ("id", lookup(record, members, "id")?),
        },
    };
    let Some(id) = id else { return Ok(None) };
    if id.is_empty() {
        return Err(bad(record, format!("the id in `{}` is empty", shorten(name))));
    }
    if id.chars().any(char::is_control) {
        return Err(bad(record, format!("the id in `{}` has control characters: {}", shorten(name), shorten(&id))));
    }
    Ok(Some(id))
}

/// The id that a line gives before it stops being JSON.
pub(super) fn salvaged(field: Option<&str>, line: &str) -> Option<String> {
    let names = field.map_or(["custom_id", "id"], |field| [field, field]);
    let mut found = [None, None];
    // It ends with an error where the JSON does.
    let _ = Scanner::new(line).members(|scanner, key| {
        let value = scanner.check()?;
        if let Some(at) = names.iter().position(|name| key.is(name)) {
            found[at] = Some(value);
        }
        Ok::<_, NotJson>(())
    });
    let id = match found.into_iter().flatten().next()? {
        text if text.starts_with('"') => json::string(text)?.into_owned(),
        number if json::is_number(number) => number.to_owned(),
        _ => return None,
    };
    Some(id).filter(|id| !id.is_empty() && !id.chars().any(char::is_control))
}

fn lookup<'a>(record: &Record<'a>, members: &[Member<'a>], name: &str) -> Result<Option<Cow<'a, str>>, Problem> {
    match record.data {
        Data::Json(_) | Data::Row(_) => {
            let Some(member) = json::find(members, name) else { return Ok(None) };
            let value = member.value;
            match value.as_bytes().first() {
                Some(b'n') => Ok(None),
                Some(b'-' | b'0'..=b'9') => Ok(Some(Cow::Borrowed(value))),
                Some(b'"') => json::string(value).map(Some).ok_or_else(|| {
                    bad(record, format!("the id in `{}` is not valid text: {}", shorten(name), shorten(value)))
                }),
                _ => {
                    let text =
                        format!("the id in `{}` is neither a string nor a number: {}", shorten(name), shorten(value));
                    Err(bad(record, text).column(member.start + 1))
                }
            }
        }
        Data::Line(text) => Ok((name == "line").then_some(Cow::Borrowed(text))),
        Data::Columns { names, values } => {
            Ok(names.iter().position(|n| n == name).and_then(|at| values.get(at)).map(Cow::Borrowed))
        }
    }
}

fn bad(record: &Record<'_>, text: String) -> Problem {
    Problem::new(record, "id", text).hint("give the row its own id, or none (its id is then row-N)")
}

fn missing(record: &Record<'_>, members: &[Member<'_>], name: &str) -> Problem {
    let has = match record.data {
        Data::Json(_) | Data::Row(_) => listed(members.iter().map(|member| &*member.key)),
        Data::Line(_) => "line".to_owned(),
        Data::Columns { names, .. } => listed(names.iter().map(String::as_str)),
    };
    Problem::new(
        record,
        "id_field",
        format!("--id names the field `{}`, which the row lacks; it has: {has}", shorten(name)),
    )
    .hint("name a field that every row has, or leave --id out")
}
