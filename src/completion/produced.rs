//! Records the files of an answer in its stored body, as a last member that llbatch adds.

use crate::json;

/// The name of the member, and the colon behind it.
const MEMBER: &str = "\"llbatch_files\":";

/// An answer that is kept, in its two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptAnswer<'a> {
    /// The body as the service sent it, without the bytes of files. `None`: the answer was nothing but a file.
    pub body: Option<(&'a str, &'a str)>,
    /// The list of its files, as JSON.
    pub files: &'a str,
}

/// Puts the list of files into a body, which is an object. `None`: the answer was nothing but a file.
pub fn with_files(body: Option<&str>, files: &str) -> String {
    let members = body.map_or("", |body| body.trim_end().strip_suffix('}').unwrap_or(body).trim_end());
    let (open, comma) = match members {
        "" => ("{", ""),
        members if members.ends_with('{') => (members, ""),
        members => (members, ","),
    };
    format!("{open}{comma}{MEMBER}{files}}}")
}

/// Takes the list of files out of a body. `None`: it has none.
pub fn kept_answer(body: &str) -> Option<KeptAnswer<'_>> {
    let start = body.rfind(MEMBER)?;
    let files = body[start + MEMBER.len()..].strip_suffix('}')?;
    if !files.starts_with('[') || !json::is_valid(files) {
        return None;
    }
    let before = &body[..start];
    let body = match before {
        "{" => None,
        members => Some((members.strip_suffix(',').unwrap_or(members), "}")),
    };
    Some(KeptAnswer { body, files })
}

/// The paths of the files in a list of them: one, or a JSON list of several, as spelled.
pub fn paths(files: &str) -> Option<String> {
    let entries = json::trusted_elements(files);
    let path = |entry: &&str| json::find(&json::trusted_members(entry), "path").map(|path| path.value.to_owned());
    let paths: Vec<String> = entries.iter().filter(|entry| entry.starts_with('{')).filter_map(path).collect();
    match &paths[..] {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(format!("[{}]", several.join(","))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_in_and_come_out_again() {
        let files = r#"[{"path":"out/a.png","bytes":3}]"#;
        for body in [r#"{"id":"x","data":[{"b64_json":null}]}"#, "{}", r#"{ "a" : 1 }"#] {
            let kept = with_files(Some(body), files);
            assert!(json::is_valid(&kept), "{kept}");
            let answer = kept_answer(&kept).unwrap();
            let (start, end) = answer.body.unwrap_or(("{", "}"));
            assert_eq!(json::compact(&format!("{start}{end}")).unwrap(), json::compact(body).unwrap());
            assert_eq!(answer.files, files);
        }
        let alone = with_files(None, files);
        assert_eq!(kept_answer(&alone), Some(KeptAnswer { body: None, files }));
        for other in ["{}", r#"{"llbatch_files":7}"#, r#"{"llbatch_files":[}"#, r#"{"llbatch_files":[],"x":1}"#] {
            assert_eq!(kept_answer(other), None, "{other}");
        }
    }

    #[test]
    fn one_path_stands_alone_and_several_are_a_list() {
        assert_eq!(paths(r#"[{"path":"a b.png","bytes":1}]"#).as_deref(), Some(r#""a b.png""#));
        assert_eq!(paths(r#"[{"path":"a"},{"bytes":1,"path":"b"}]"#).as_deref(), Some(r#"["a","b"]"#));
        assert_eq!(paths("[]"), None);
    }
}
