//! Images of a row: from fields that a flag names, and local files that its own messages name.

use std::borrow::Cow;
use std::ops::Range;
use std::path::PathBuf;

use super::body::Built;
use super::builder::RequestBuilder;
use super::params::{Endpoint, Params};
use super::problem::{Problem, listed, shorten};
use super::record::{Data, Record};
use crate::attached::{AttachedFile, Attachments, FileFault, FileFinder, FoundImage, directory_of, real_path};
use crate::error::{Error, Exit, Result};
use crate::json::{self, Member};

/// The most bytes of a file without `--max-file`.
const MAX_FILE: u64 = 10_000_000;

/// The code of the problem of an image.
const IMAGE: &str = "image";

/// Treatment of a file that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MissingFile {
    /// Its row is invalid.
    Refused,
    /// It counts as one at an address.
    Presumed,
}

/// The flags about images, checked.
#[derive(Debug)]
pub(super) struct ImageFlags {
    /// The fields that name images.
    pub fields: Vec<String>,
    /// The directory of the local files that messages may name.
    root: Option<PathBuf>,
    /// The directory of the command.
    work_dir: PathBuf,
    finder: FileFinder,
}

impl ImageFlags {
    /// `None`: the flags name no images.
    ///
    /// # Errors
    /// 2 for an endpoint without messages, 66 if the directory of local files cannot be read.
    pub fn new(params: &Params) -> Result<Option<Self>> {
        if params.images.is_empty() && params.local_files.is_none() {
            return Ok(None);
        }
        if params.endpoint != Endpoint::Chat {
            let flag = if params.images.is_empty() { "--local-files" } else { "--image" };
            let text = format!("{flag} needs messages, which --endpoint {} does not have", params.endpoint);
            return Err(Error::usage(text).hint("leave it out, or use --endpoint chat"));
        }
        let real = |dir: &PathBuf| {
            real_path(dir).map_err(|error| {
                Error::new(Exit::NoInput, format!("--local-files {}: cannot be read", dir.display())).because(error)
            })
        };
        Ok(Some(Self {
            fields: params.images.clone(),
            root: params.local_files.as_ref().map(real).transpose()?,
            work_dir: params.work_dir.clone().unwrap_or_default(),
            finder: FileFinder::new(params.max_file.unwrap_or(MAX_FILE)),
        }))
    }

    /// The same request with the images of its row.
    pub fn attach<'a>(
        &self,
        record: &Record<'a>,
        members: &[Member<'a>],
        built: Built<'a>,
        missing: MissingFile,
    ) -> Result<(Built<'a>, Attachments), Problem> {
        let dir = directory_of(record.file, &self.work_dir);
        let dir = dir.as_deref();
        let mut files = Vec::new();
        let mut built = built;
        if let Some(root) = self.root.as_deref().filter(|_| built.has_parts) {
            let of_row = |named: &str| self.finder.image_below(root, named, dir);
            match own_files(&built.body, &of_row) {
                Ok(None) => {}
                Ok(Some((body, own))) => (built.body, files) = (Cow::Owned(body), own),
                Err(_) if missing == MissingFile::Presumed => {}
                Err(fault) => return Err(problem(record, "`messages`", fault)),
            }
        }
        let mut images = Vec::new();
        for field in &self.fields {
            for named in named_images(record, members, field)? {
                match self.finder.images(&named, dir) {
                    Ok(found) => images.extend(found),
                    Err(_) if missing == MissingFile::Presumed => images.push(FoundImage::Address(named)),
                    Err(fault) => return Err(problem(record, &format!("`{}`", shorten(field)), fault)),
                }
            }
        }
        if !images.is_empty() {
            built.body = Cow::Owned(with_parts(record, &built.body, &images)?);
            built.has_parts = true;
            let local = |image| match image {
                FoundImage::File(file) => Some(file),
                FoundImage::Address(_) => None,
            };
            files = in_order(&built.body, files.into_iter().chain(images.into_iter().filter_map(local)).collect());
        }
        Ok((built, files.into()))
    }
}

impl RequestBuilder {
    /// The fields that name images.
    pub(super) fn image_fields(&self) -> impl Iterator<Item = &str> {
        self.images.iter().flat_map(|images| &images.fields).map(String::as_str)
    }
}

fn problem(record: &Record<'_>, field: &str, fault: FileFault) -> Problem {
    Problem::new(record, IMAGE, format!("{field}: {}", fault.message)).hint(fault.hint)
}

/// The files in the order in which their stand-ins follow each other: a message behind the one with the images may have files too.
fn in_order(body: &str, mut files: Vec<AttachedFile>) -> Vec<AttachedFile> {
    files.sort_by_cached_key(|file| body.find(&file.stand_in()));
    files
}

/// The images that a field names; none if it is empty.
fn named_images(record: &Record<'_>, members: &[Member<'_>], field: &str) -> Result<Vec<String>, Problem> {
    let cell = |text: &str| -> Vec<String> {
        let list = text.starts_with('[').then(|| serde_json::from_str::<Vec<String>>(text).ok()).flatten();
        let all = list.unwrap_or_else(|| vec![text.to_owned()]);
        all.into_iter().filter(|named| !named.trim().is_empty()).collect()
    };
    let has = |names: Vec<&str>| {
        let text =
            format!("--image names the field `{}`, which the row lacks; it has: {}", shorten(field), listed(names));
        Problem::new(record, IMAGE, text).hint("name a field that every row has; an empty one is no image")
    };
    match record.data {
        Data::Json(_) | Data::Row(_) => {
            let Some(member) = json::find(members, field) else {
                return Err(has(members.iter().map(|member| &*member.key).collect()));
            };
            match member.value.as_bytes().first() {
                Some(b'n') => Ok(Vec::new()),
                Some(b'"') => Ok(cell(&json::string(member.value).unwrap_or_default())),
                Some(b'[') if serde_json::from_str::<Vec<String>>(member.value).is_ok() => Ok(cell(member.value)),
                _ => {
                    let text = format!(
                        "`{}` must be a path, a URL or a list of them, not {}",
                        shorten(field),
                        shorten(member.value)
                    );
                    let problem = Problem::new(record, IMAGE, text).column(member.end - member.value.len() + 1);
                    Err(problem.hint("write it as \"cat.png\", or as [\"cat.png\", \"https://…\"]"))
                }
            }
        }
        Data::Columns { names, values } => {
            let found = names.iter().position(|name| name == field).and_then(|at| values.get(at));
            found.map(cell).ok_or_else(|| has(names.iter().map(String::as_str).collect()))
        }
        Data::Line(text) if field == "line" => Ok(cell(text)),
        Data::Line(_) => Err(has(vec!["line"])),
    }
}

/// The body with images behind the text of its last message of a user.
fn with_parts(record: &Record<'_>, body: &str, images: &[FoundImage]) -> Result<String, Problem> {
    let bad = |text: &str| Problem::new(record, IMAGE, text).hint("give the row a prompt, or a message of the user");
    let is_users = |message: &&str| json::string(value(message, "role")).is_some_and(|role| role == "user");
    let last = elements(value(body, Endpoint::Chat.subject())).into_iter().rfind(is_users);
    let content = value(last.ok_or_else(|| bad("no message of the user takes the images"))?, "content");
    let parts: Vec<String> = images.iter().map(part).collect();
    let parts = parts.join(",");
    let new = match content.as_bytes().first() {
        Some(b'"') => format!(r#"[{{"type":"text","text":{content}}},{parts}]"#),
        Some(b'[') => {
            let open = &content[..content.len() - 1];
            let comma = if open.trim_end().ends_with('[') { "" } else { "," };
            format!("{open}{comma}{parts}]")
        }
        _ => return Err(bad("the last message of the user has no `content` that takes the images")),
    };
    Ok(edited(body, &[(place(body, content), new)]))
}

fn part(image: &FoundImage) -> String {
    let url = match image {
        FoundImage::Address(address) => json::quote(address),
        FoundImage::File(file) => json::quote(&file.stand_in()),
    };
    format!(r#"{{"type":"image_url","image_url":{{"url":{url}}}}}"#)
}

/// The body with stand-ins for the local files that its messages name, and those files. `None`: there are none.
fn own_files(
    body: &str,
    find: &dyn Fn(&str) -> Result<Option<AttachedFile>, FileFault>,
) -> Result<Option<(String, Vec<AttachedFile>)>, FileFault> {
    let (mut files, mut edits) = (Vec::new(), Vec::new());
    for url in image_urls(body) {
        let Some(named) = json::string(url) else { continue };
        if let Some(file) = find(&named)? {
            edits.push((place(body, url), json::quote(&file.stand_in())));
            files.push(file);
        }
    }
    Ok((!files.is_empty()).then(|| (edited(body, &edits), files)))
}

/// The URLs of images in the messages of a body, as spelled.
fn image_urls(body: &str) -> Vec<&str> {
    let mut urls = Vec::new();
    for message in elements(value(body, Endpoint::Chat.subject())) {
        for part in elements(value(message, "content")) {
            let image = value(part, "image_url");
            let url = if image.starts_with('{') { value(image, "url") } else { image };
            urls.extend(Some(url).filter(|url| url.starts_with('"')));
        }
    }
    urls
}

/// The value of a member, as spelled; empty if there is none.
pub(super) fn value<'a>(object: &'a str, name: &str) -> &'a str {
    let members = if object.starts_with('{') { json::trusted_members(object) } else { Vec::new() };
    json::find(&members, name).map_or("", |member| member.value)
}

/// The elements of a list; none of anything else.
fn elements(list: &str) -> Vec<&str> {
    if list.starts_with('[') { json::trusted_elements(list) } else { Vec::new() }
}

/// The place of a part of `text`.
pub(super) fn place(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.len()
}

/// The text with new parts in these places, which follow each other.
pub(super) fn edited(text: &str, edits: &[(Range<usize>, String)]) -> String {
    let mut out = String::with_capacity(text.len() + edits.iter().map(|(_, new)| new.len()).sum::<usize>());
    let mut from = 0;
    for (place, new) in edits {
        out.extend([&text[from..place.start], new]);
        from = place.end;
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Result<String, Problem> {
        let params = Params { model: Some("m".to_owned()), images: vec!["photo".to_owned()], ..Params::default() };
        let record = Record { row: 1, number: 1, file: "a.jsonl", line: 1.into(), data: Data::Json(text) };
        RequestBuilder::new(&params).unwrap().request(&record).map(|request| request.body.into())
    }

    #[test]
    fn images_stand_behind_the_text_of_the_last_message_of_the_user() {
        let image = r#"{"type":"image_url","image_url":{"url":"https://x/\"y\".png"}}"#;
        let cell = r#""photo":"https://x/\"y\".png""#;
        for (row, expected) in [
            (
                format!(r#"{{"prompt":"a \"b\"",{cell}}}"#),
                format!(
                    r#"{{"model":"m","messages":[{{"role":"user","content":[{{"type":"text","text":"a \"b\""}},{image}]}}]}}"#
                ),
            ),
            (
                format!(
                    r#"{{ {cell} , "messages":[{{"role":"user","content":"1"}},{{"content" : "2", "role":"user"}},{{"role":"tool"}}]}}"#
                ),
                format!(
                    r#"{{ "messages":[{{"role":"user","content":"1"}},{{"content" : [{{"type":"text","text":"2"}},{image}], "role":"user"}},{{"role":"tool"}}],"model":"m"}}"#
                ),
            ),
            (
                format!(r#"{{"messages":[{{"role":"user","content":[ ]}}],{cell},"model":"n"}}"#),
                format!(r#"{{"messages":[{{"role":"user","content":[ {image}]}}],"model":"n"}}"#),
            ),
        ] {
            assert_eq!(body(&row).unwrap(), expected);
        }
        let none = r#"{"prompt":"a","photo":[""," "]}"#;
        assert_eq!(body(none).unwrap(), r#"{"model":"m","messages":[{"role":"user","content":"a"}]}"#);
        for (row, text) in [
            (r#"{"messages":[{"role":"system","content":"1"}],"photo":"https://x/y"}"#, "no message of the user"),
            (r#"{"messages":[{"role":"user"}],"photo":"https://x/y"}"#, "has no `content`"),
            (r#"{"prompt":"a"}"#, "the field `photo`, which the row lacks; it has: prompt"),
            (r#"{"prompt":"a","photo":7}"#, "`photo` must be a path"),
            (r#"{"prompt":"a","photo":["b",7]}"#, "`photo` must be a path"),
        ] {
            let problem = body(row).unwrap_err();
            assert!(problem.message.contains(text) && problem.hint.is_some(), "{row}: {problem}");
        }
    }
}
