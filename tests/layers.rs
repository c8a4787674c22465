//! The floor plan, held: which module may use which, and who alone may touch clap, reqwest, rusqlite and the streams.
//!
//! A name counts wherever it stands in code as `crate::name`, in unit tests too. Comments and texts do not count.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The modules that compute and do nothing else.
const CORE: &[&str] =
    &["completion", "json", "outcome", "pack", "price", "request", "row_set", "summary", "text", "tokens"];

/// Rooms that stand below all others: every room but these two may use them.
const GROUND: &[&str] = &["error", "text", "json", "completion", "pack", "batch_status"];
const ALONE: &[&str] = &["api", "sandbox"];

/// Reads the room table of the crate's documentation: each room, and the rooms that it may use beside itself.
fn table() -> BTreeMap<String, Vec<String>> {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let lib = std::fs::read_to_string(lib).unwrap();
    let rows: Vec<(String, String)> = lib.lines().filter_map(|line| line.strip_prefix("//! | [`")).map(row).collect();
    assert!(rows.len() > 20, "the table was not found");
    let all: Vec<String> = rows.iter().map(|(room, _)| room.clone()).collect();
    let allowed = |(room, may): (String, String)| {
        let mut uses: Vec<String> = match may.strip_prefix("everything") {
            Some(but) => {
                let but: Vec<&str> = but.trim_start_matches(" but ").split(" and ").collect();
                all.iter().filter(|name| !but.contains(&name.as_str())).cloned().collect()
            }
            None if may == "–" || may == "nothing of ours" => Vec::new(),
            None => may.split(", ").map(|name| name.trim_matches('`').to_owned()).collect(),
        };
        if let Some(unknown) = uses.iter().find(|name| !all.contains(name)) {
            panic!("`{room}` may use `{unknown}`, which has no row of its own");
        }
        if !ALONE.contains(&room.as_str()) {
            uses.extend(GROUND.iter().map(|name| (*name).to_owned()));
        }
        (room, uses)
    };
    rows.into_iter().map(allowed).collect()
}

/// A row of the table: the room, and what it may use.
fn row(text: &str) -> (String, String) {
    let (room, rest) = text.split_once("`]").unwrap();
    let may = rest.trim().trim_end_matches('|').rsplit('|').next().unwrap();
    (room.to_owned(), may.trim().to_owned())
}

/// Crates that one module alone may name, or the modules of its rows.
const OWNERS: &[(&str, &str)] = &[
    ("clap", "cli"),
    ("clap_complete", "cli"),
    ("clap_mangen", "cli"),
    ("reqwest", "api"),
    ("reqwest", "objects"),
    ("object_store", "objects"),
    ("rusqlite", "store"),
    ("axum", "sandbox"),
    ("indicatif", "ui"),
];

/// A source file, its comments and texts blanked out.
struct Source {
    /// Below `src/`.
    name: String,
    module: String,
    code: String,
}

impl Source {
    fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    fn place(&self, at: usize) -> String {
        format!("src/{}:{}", self.name, self.line(at))
    }

    /// Every place where `path` stands as a whole path (`crate::`, `std::fs`), and what follows it.
    fn places<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        let whole = move |at: &usize| !self.code[..*at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c));
        self.code.match_indices(path).map(|(at, _)| at).filter(whole).map(move |at| (at, &self.code[at + path.len()..]))
    }

    /// The modules named after `crate::`, with their places; `use crate::{a, b::c}` names two.
    fn uses(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (at, rest) in self.places("crate::") {
            let names = match rest.strip_prefix('{') {
                Some(list) => first_names(list),
                None => vec![word(rest)],
            };
            found.extend(names.into_iter().map(|name| (name, self.place(at))));
        }
        found
    }

    /// Returns true for a file of unit tests.
    fn is_test(&self) -> bool {
        self.name.ends_with("tests.rs") || self.name.contains("/tests/") || self.code.starts_with("#![cfg(test)]")
    }

    /// The structs, enums and traits that the code defines before its unit tests, with their places.
    fn types(&self) -> Vec<(String, String)> {
        let end = self.code.find("#[cfg(test)]\nmod tests {").unwrap_or(self.code.len());
        let found = ["struct ", "enum ", "trait "].into_iter().flat_map(|keyword| self.places(keyword));
        found.filter(|(at, _)| *at < end).map(|(at, rest)| (word(rest), self.place(at))).collect()
    }

    /// Returns the place where the code names the crate, by a path or a plain `use`.
    fn names(&self, package: &str) -> Option<String> {
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let path = format!("{package}::");
        let by_use = [format!("use {package}"), format!("extern crate {package}")];
        let direct = self.places(&path).map(|(at, _)| at).next();
        let used = by_use.iter().find_map(|text| self.places(text).find(|(_, rest)| ends(rest)).map(|(at, _)| at));
        direct.or(used).map(|at| self.place(at))
    }
}

fn word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first name of every entry of a `{…}` list, nested lists skipped.
fn first_names(list: &str) -> Vec<String> {
    let (mut depth, mut names, mut fresh) = (0, Vec::new(), true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && !c.is_whitespace() => {
                names.push(word(&list[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

/// `text` with the inside of comments, strings and character literals blanked; line breaks stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let raw = rest.strip_prefix('r').map(|r| r.len() - r.trim_start_matches('#').len());
        let before = out.chars().next_back();
        let end = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) =
            raw.filter(|n| rest[1 + n..].starts_with('"') && !before.is_some_and(|c| c.is_alphanumeric() || c == '_'))
        {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = hashes + 2;
            rest[open..].find(&close).map_or(rest.len(), |end| open + end + close.len())
        } else if rest.starts_with('"') {
            quoted(rest, '"')
        } else if rest.starts_with('\'') && is_char(rest) {
            quoted(rest, '\'')
        } else {
            let c = rest.chars().next().map_or(1, char::len_utf8);
            out.push_str(&rest[..c]);
            at += c;
            continue;
        };
        out.extend(rest[..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        at += end;
    }
    out
}

/// The end of the literal that begins `rest`.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// A character literal, not a lifetime.
fn is_char(rest: &str) -> bool {
    rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'')
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut left: Vec<PathBuf> = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            let module = name.split('/').next().unwrap().trim_end_matches(".rs").to_owned();
            found.push(Source { name, module, code: blank(&std::fs::read_to_string(&path).unwrap()) });
        }
    }
    assert!(found.len() > 20, "the sources were not found");
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// `main`, `lib` and `door` are the entrance; everything else has its line in the table.
fn rooms() -> impl Iterator<Item = Source> {
    sources().into_iter().filter(|source| !["main", "lib", "door"].contains(&source.module.as_str()))
}

fn none(broken: &[String]) {
    assert!(broken.is_empty(), "{} places:\n  {}", broken.len(), broken.join("\n  "));
}

#[test]
fn modules_use_what_the_table_allows() {
    let table = table();
    let mut broken = Vec::new();
    for source in rooms() {
        let Some(allowed) = table.get(&source.module) else {
            broken.push(format!("src/{}: `{}` is not in the table", source.name, source.module));
            continue;
        };
        for (name, place) in source.uses() {
            if name != source.module && !allowed.contains(&name) {
                broken.push(format!("{place}: `{}` may not use `{name}`", source.module));
            }
        }
    }
    none(&broken);
}

#[test]
fn no_two_rooms_use_each_other() {
    let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in rooms() {
        let uses = source.uses().into_iter().map(|(name, _)| name).filter(|name| *name != source.module);
        edges.entry(source.module.clone()).or_default().extend(uses);
    }
    // Takes away a room that uses nothing that is left, until nothing is left.
    while let Some(free) =
        edges.iter().find(|(_, uses)| !uses.iter().any(|name| edges.contains_key(name))).map(|(name, _)| name.clone())
    {
        edges.remove(&free);
    }
    assert!(edges.is_empty(), "these use each other in a circle: {:?}", edges.keys());
}

#[test]
fn the_core_computes_and_does_nothing_else() {
    let mut broken = Vec::new();
    for source in rooms().filter(|source| CORE.contains(&source.module.as_str())) {
        // Tests of the plan read files, as its users do.
        let tests = source.name.ends_with("tests.rs");
        let files = ["fs_err", "tempfile"].iter().filter(|_| !tests);
        for name in ["tokio", "tokio_util", "reqwest", "clap"].iter().chain(files) {
            broken.extend(source.names(name).map(|place| format!("{place}: {name} in `{}`", source.module)));
        }
        if !tests {
            let files = source.places("std::fs").map(|(at, _)| source.place(at));
            broken.extend(files.map(|place| format!("{place}: files in `{}`", source.module)));
        }
    }
    none(&broken);
}

#[test]
fn each_foreign_thing_has_one_owner() {
    let mut broken = Vec::new();
    for source in sources() {
        let others = |package: &str| !OWNERS.iter().any(|(other, owner)| *other == package && *owner == source.module);
        for (package, owner) in OWNERS.iter().filter(|(package, _)| others(package)) {
            broken.extend(source.names(package).map(|place| format!("{place}: {package} belongs to `{owner}`")));
        }
    }
    none(&broken);
}

#[test]
fn a_type_has_a_name_of_its_own() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for (name, place) in source.types() {
            places.entry(name).or_default().push(place);
        }
    }
    assert!(places.len() > 200, "the types were not found");
    let shared = places.iter().filter(|(_, places)| places.len() > 1);
    none(&shared.map(|(name, places)| format!("`{name}`: {}", places.join(", "))).collect::<Vec<_>>());
}

#[test]
fn nobody_prints_and_nobody_exits() {
    let mut broken = Vec::new();
    for source in sources() {
        for name in ["print!", "println!", "eprint!", "eprintln!", "dbg!", "process::exit", "std::process::exit"] {
            // The one place that may: it ends the process, and hands that down for a second signal.
            if source.name == "main.rs" && name.ends_with("exit") {
                continue;
            }
            broken.extend(source.places(name).map(|(at, _)| format!("{}: {name}", source.place(at))));
        }
    }
    none(&broken);
}

#[test]
fn nothing_is_unsafe_no_program_is_started_and_certificates_are_checked() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    let lints = manifest.split("[lints.rust]").nth(1).unwrap().split("\n[").next().unwrap();
    assert!(
        lints.contains("unsafe_code = \"forbid\""),
        "the compiler must hold it: forbid cannot be lifted in the code"
    );
    let mut broken = Vec::new();
    for source in sources() {
        // `danger` is how reqwest and rustls call their ways around certificates; a program's arguments are seen by all. The
        // command of `--on-done` is the user's own.
        let starters = ["process::Command", "Command::new"].into_iter().filter(|_| source.name != "telling/on_done.rs");
        for name in starters.chain(["danger"]) {
            broken.extend(source.code.match_indices(name).map(|(at, _)| format!("{}: {name}", source.place(at))));
        }
    }
    none(&broken);
}

#[test]
fn types_are_found_outside_of_tests_and_comments() {
    let code =
        "pub struct A<'a>;\n// enum B\nenum C {}\nlet s = \"trait D\";\n#[cfg(test)]\nmod tests {\n    struct E;\n}";
    let source = Source { name: "x.rs".to_owned(), module: "x".to_owned(), code: blank(code) };
    let names: Vec<_> = source.types().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["A", "C"]);
}

#[test]
fn the_reader_of_sources_reads_them_right() {
    let code = blank(
        "use crate::a; // crate::b\nlet s = \"crate::c \\\" x\"; /* crate::d */ r#\"crate::e \"x\" \"#; '\"'; &'a crate::f::g",
    );
    let source = Source { name: "x.rs".to_owned(), module: "x".to_owned(), code };
    let names: Vec<_> = source.uses().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "f"]);
    let list = Source {
        name: "y.rs".to_owned(),
        module: "y".to_owned(),
        code: "use crate::{a::{self, B}, c, d::E};\nmy_crate::no; use clap;".to_owned(),
    };
    let names: Vec<_> = list.uses().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "c", "d"]);
    assert_eq!(list.names("clap"), Some("src/y.rs:2".to_owned()));
    assert_eq!(list.names("cla"), None);
}
