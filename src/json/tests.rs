use proptest::prelude::*;

use super::*;

fn shown(members: &[Member<'_>]) -> Vec<String> {
    members.iter().map(|m| format!("{}={} {}..{}", m.key, m.value, m.start, m.end)).collect()
}

/// The members as `serde_json` finds them.
fn by_serde(text: &str) -> serde_json::Result<Vec<Member<'_>>> {
    struct Members<'a>(&'a str);
    impl<'a> Visitor<'a> for Members<'a> {
        type Value = Vec<Member<'a>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let base = self.0.as_ptr().addr();
            let mut members = Vec::new();
            while let Some((key, raw)) = map.next_entry::<&RawValue, &RawValue>()? {
                let (key, value) = (key.get(), raw.get());
                members.push(Member {
                    start: key.as_ptr().addr() - base,
                    end: value.as_ptr().addr() + value.len() - base,
                    key: string(key).unwrap_or(Cow::Borrowed(key)),
                    value,
                });
            }
            Ok(members)
        }
    }

    let mut parser = serde_json::Deserializer::from_str(text);
    let members = parser.deserialize_map(Members(text))?;
    parser.end()?;
    Ok(members)
}

/// Asserts that `text` is taken if `serde_json` takes it, and refused in its words otherwise. Returns whether it was taken.
fn agrees(text: &str) -> bool {
    let theirs = by_serde(text);
    let nested = match (nested(text, "body"), &theirs) {
        (Ok(nested), Ok(_)) => nested,
        (Err(ours), Err(theirs)) => {
            assert_eq!(ours.to_string(), theirs.to_string(), "{text}");
            return false;
        }
        (ours, theirs) => panic!("{text}: {ours:?} is not {theirs:?}"),
    };
    let theirs = theirs.unwrap();
    assert_eq!(shown(&nested.members), shown(&theirs), "{text}");
    assert_eq!(shown(&trusted_members(text)), shown(&theirs), "{text}");
    let body = find(&theirs, "body").map(|body| body.value).filter(|body| body.starts_with('{'));
    assert_eq!(nested.inner.map(|all| shown(&all)), body.map(|body| shown(&trusted_members(body))), "{text}");
    true
}

const VALID: &[&str] = &[
    "{}",
    " { } ",
    "{\t}\r\n",
    "{\"a\":\n1}",
    r#"{"a":1}"#,
    r#"{"body": {"x" : 1, "y":[{}]}, "body":{ "model" : "m" } , "z": {"body":{}}}"#,
    r#"{"body": {"x": 1}, "b\u006fdy": []}"#,
    r#"{"a":[],"b":{},"c":[{"d":[0,-1.5e+7,2E3,true,false,null]}],"\u0061\n":"\ud800 \"\\\/"}"#,
    r#"{"a" : "ünï, 日本" ,  "b": [ 1 , { "c" : {} } ] } "#,
    r#"{"custom_id": "x", "body": {"messages": [{"role": "user", "content": "a long text, \n, and more of it, \u00e9"}]}}"#,
];

#[test]
fn numbers_that_json_lacks_become_null() {
    let odd = r#"{"a \\" NaN":NaN,"b":[-Infinity,Infinity,"NaN\\\\"],"c":NaN}"#.replace("\\\\", "\\");
    let even = odd.replace(":NaN", ":null").replace("-Infinity,Infinity", "null,null");
    assert_eq!(super::without_nan(&odd).as_deref(), Some(&*even));
    assert_eq!(super::without_nan(r#"{"a":"NaN"}"#), None);
}

#[test]
fn whole_numbers_are_read_in_every_spelling() {
    for (text, number) in [
        ("0", Some(0)),
        ("100", Some(100)),
        ("100.0", Some(100)),
        ("1e2", Some(100)),
        ("1.1E+1", Some(11)),
        ("-0.0", Some(0)),
        ("99999999999999999999", Some(u64::MAX)),
        ("1e400", Some(u64::MAX)),
        ("1.5", None),
        ("-1", None),
        ("\"100\"", None),
        ("NaN", None),
        ("inf", None),
        ("1_0", None),
        ("+1", None),
        ("", None),
        ("null", None),
    ] {
        assert_eq!(super::whole(text), number, "{text}");
    }
}

#[test]
fn valid_objects_are_taken_apart() {
    for text in VALID {
        assert!(agrees(text), "{text}");
    }
}

#[test]
fn anything_else_is_refused() {
    for text in [
        "",
        "{",
        "}",
        "[]",
        "1",
        "{}x",
        "{,}",
        r#"{"a"}"#,
        r#"{"a" 1}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{"a":01}"#,
        r#"{"a":-}"#,
        r#"{"a":1.}"#,
        r#"{"a":1e}"#,
        r#"{"a":.5}"#,
        r#"{"a":+1}"#,
        r#"{"a":tru}"#,
        r#"{"a":truex}"#,
        r#"{"a":[1}"#,
        r#"{"a":{"b":1]}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":{"b"}}"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\u12g4"}"#,
        r#"{"a":"\u12"#,
        "{\"a\":\"\u{1f}\"}",
        "{\"a\u{1}\":\t1}",
        "{\"a\":\"",
        "{\"a\":\"\\",
        "{a:1}",
        r#"{"a":1 "b":2}"#,
        r#"{"a":[1 2]}"#,
        r#"{"a":NaN}"#,
        "{\"a\":\u{a0}1}",
        "\u{feff}{}",
    ] {
        assert!(!agrees(text), "{text}");
    }
}

#[test]
fn members_have_their_spans() {
    let text = r#" { "a" : 1E400 , "b\u0041":{"x":[1,"}"]},"\ud800": "\ud800" } "#;
    let members = members(text).unwrap();
    let shown: Vec<_> = members.iter().map(|m| (&*m.key, m.value, &text[m.start..m.end])).collect();
    assert_eq!(shown[0], ("a", "1E400", r#""a" : 1E400"#));
    assert_eq!(shown[1], ("bA", r#"{"x":[1,"}"]}"#, r#""b\u0041":{"x":[1,"}"]}"#));
    assert_eq!(shown[2], (r#""\ud800""#, r#""\ud800""#, r#""\ud800": "\ud800""#));
}

#[test]
fn depth_does_not_matter() {
    for deep in [62, 63, 64, 65, 126, 127, 128, 100_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"b\":", "}]")] {
            let (opened, closed) = (open.repeat(deep), close.repeat(deep));
            assert!(agrees(&format!(r#"{{"a":{opened}1{closed}}}"#)), "{deep} {open}");
            assert!(!agrees(&format!(r#"{{"a":{opened}1{}}}"#, &closed[1..])), "{deep} {open}");
        }
    }
}

#[test]
fn a_scanner_says_where_text_stops_being_json() {
    let walk = |text: &str| {
        let mut scanner = Scanner::new(text);
        scanner.members(|scanner, _| scanner.check().map(drop)).and_then(|()| scanner.end())
    };
    for (text, column) in [
        ("x", 1),
        ("{\"a\":1", 7),
        ("{\"a\":1} {", 9),
        ("{\"a", 2),
        ("{\"a\0\":1}", 4),
        ("{\"a\" 1}", 6),
        ("{\"a\":1,}", 8),
        ("{\"a\":[1,]}", 9),
        ("{\"a\":\"\u{1}\"}", 7),
    ] {
        assert_eq!(walk(text), Err(NotJson(column)), "{text:?}");
    }
}

/// Any JSON, spaced at random.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("-1.5E400".to_owned()),
        Just("true".to_owned()),
        r#""([a-z,:é{}\[\]]|\\\\|\\"|\\ud800){0,6}""#.prop_map(|text| text),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let key = r#"([a-c{]|\\"|\\u0041){0,3}"#;
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..5), "[ \t]?")
                .prop_map(|(all, gap)| format!("[{gap}{}{gap}]", all.join(&format!("{gap},")))),
            (prop::collection::vec((key, inner), 0..5), "[ \t]?").prop_map(|(all, gap)| {
                let all: Vec<String> =
                    all.iter().map(|(key, value)| format!("{gap}\"{key}\"{gap}:{gap}{value}{gap}")).collect();
                format!("{{{}}}", all.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn the_scanner_sees_what_serde_sees(value in any_json()) {
        let object = format!("{{\"a\": {value} , \"body\":[{value}]}}");
        prop_assert!(agrees(&object));
        agrees(&value);
        let list = format!("[{value}, {value}]");
        let raw: Vec<&RawValue> = serde_json::from_str(&list).unwrap();
        prop_assert_eq!(trusted_elements(&list), raw.iter().map(|raw| raw.get()).collect::<Vec<_>>());
    }

    #[test]
    fn edited_objects_are_judged_as_serde_does(
        at in 0_usize..130,
        cut in 0_usize..3,
        into in r#"([\[\]{}":,\\ \n\ta01.e+-]|"body":|\\u){0,2}"#,
    ) {
        for text in VALID {
            let edited: String = text.chars().take(at).chain(into.chars()).chain(text.chars().skip(at + cut)).collect();
            agrees(&edited);
        }
    }

    #[test]
    fn soup_is_judged_as_serde_does(text in "\\{?[{}\\[\\]\":, 1a\\\\\u{1}-]{0,12}\\}?") {
        agrees(&text);
    }

    #[test]
    fn the_trusting_walk_survives_nonsense(text in "[\\[\\]{}\":,\\\\a1 é]{0,30}") {
        trusted_members(&text);
        trusted_elements(&text);
    }
}
