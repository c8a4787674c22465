//! Digests of JSON values: equal for equal values, however they are written.
//!
//! The order of an object's members, white space and escapes in strings do not count. The spelling of a number does, so
//! that `1` and `1.0` differ. Each array and object is replaced by its digest where it ends, so no text is copied twice
//! and depth does not matter.

use std::borrow::Cow;

use super::{Scanner, text};

/// The digest of a value.
type Digest = [u8; blake3::OUT_LEN];

/// An array or an object whose end has not come yet.
struct OpenValue<'a> {
    /// Of an object: the members so far. Of an array: the elements, without names.
    members: Vec<(Cow<'a, str>, Digest)>,
    /// Of an object: the name whose value comes next.
    name: Option<Cow<'a, str>>,
    object: bool,
}

impl OpenValue<'_> {
    /// The digest of the whole value, which is put together in `bytes`. Members of equal names keep their order.
    fn close(mut self, bytes: &mut Vec<u8>) -> Digest {
        bytes.clear();
        bytes.push(if self.object { b'{' } else { b'[' });
        self.members.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, value) in &self.members {
            if self.object {
                bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
                bytes.extend_from_slice(name.as_bytes());
            }
            bytes.extend_from_slice(value);
        }
        blake3::hash(bytes).into()
    }
}

/// The digest of a text that is known to be JSON. Other text has some digest too.
pub fn digest(json: &str) -> Digest {
    let mut scanner = Scanner::trusting(json);
    let mut open: Vec<OpenValue<'_>> = Vec::new();
    // What is hashed at once. A hasher that takes parts costs as much to set up as a short text to hash.
    let mut bytes = Vec::new();
    loop {
        scanner.blanks();
        let start = scanner.at();
        let value = match scanner.peek() {
            None => return leaf(b'?', json, &mut bytes),
            Some(b',' | b':') => {
                scanner.token();
                continue;
            }
            Some(bracket @ (b'{' | b'[')) => {
                scanner.token();
                open.push(OpenValue { members: Vec::new(), name: None, object: bracket == b'{' });
                continue;
            }
            Some(b'}' | b']') => {
                scanner.token();
                let Some(ended) = open.pop() else { return leaf(b'?', json, &mut bytes) };
                ended.close(&mut bytes)
            }
            Some(b'"') => {
                scanner.token();
                let spelled = scanner.spelled(start);
                if let Some(OpenValue { name: name @ None, object: true, .. }) = open.last_mut() {
                    *name = Some(text::string(spelled).unwrap_or(Cow::Borrowed(spelled)));
                    continue;
                }
                // A lone surrogate has no text, so its spelling counts.
                match text::string(spelled) {
                    Some(text) => leaf(b'"', &text, &mut bytes),
                    None => leaf(b'?', spelled, &mut bytes),
                }
            }
            Some(_) => match scanner.skip() {
                Ok(spelled) => leaf(b'0', spelled, &mut bytes),
                Err(_) => return leaf(b'?', json, &mut bytes),
            },
        };
        match open.last_mut() {
            Some(outer) => outer.members.push((outer.name.take().unwrap_or_default(), value)),
            None => return value,
        }
    }
}

/// A hash that values with equal digests share, and few others: of all names, texts, numbers and words in a value, in any
/// order. It takes a twentieth of the instructions of a digest. `json` is known to be JSON.
pub fn sketch(json: &str) -> u64 {
    let mut scanner = Scanner::trusting(json);
    let (mut sum, mut respelled) = (0_u64, Vec::new());
    loop {
        scanner.blanks();
        let start = scanner.at();
        let part = match scanner.peek() {
            Some(b'"') => {
                scanner.token();
                let spelled = scanner.spelled(start).as_bytes();
                // Text that is no JSON may lack the second quote.
                let inside = spelled.get(1..spelled.len() - 1).unwrap_or_default();
                if may_be_shorter(inside) {
                    let len = respell(inside, &mut respelled);
                    hash(&respelled[..len])
                } else {
                    hash(inside)
                }
            }
            Some(b',' | b':' | b'{' | b'}' | b'[' | b']') => {
                scanner.token();
                continue;
            }
            _ => match scanner.skip() {
                Ok(spelled) => hash(spelled.as_bytes()),
                Err(_) => return sum,
            },
        };
        sum = sum.wrapping_add(part);
    }
}

/// A hash of bytes, which is made sixteen at a time. Whoever makes texts of equal hashes makes their rows slower to
/// compare, and nothing else.
pub fn hash(text: &[u8]) -> u64 {
    /// The digits of pi.
    const PI: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];
    let folded = |one: u64, other: u64| {
        let product = u128::from(one) * u128::from(other);
        product as u64 ^ (product >> 64) as u64
    };
    let halves = |pair: &[u8; 16]| {
        let both = u128::from_le_bytes(*pair);
        (both as u64, (both >> 64) as u64)
    };
    let (pairs, rest) = text.as_chunks::<16>();
    let hash = pairs
        .iter()
        .map(halves)
        .fold(PI[0] ^ text.len() as u64, |hash, (one, other)| folded(hash ^ one, PI[1] ^ other));
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    let (one, other) = halves(&last);
    folded(folded(hash ^ one, PI[1] ^ other), PI[0])
}

/// Tests whether the inside of a JSON string may have an escape that it does not need: `\/`, or `\u0041`. All bytes are read,
/// as a processor compares many at once.
fn may_be_shorter(inside: &[u8]) -> bool {
    let next = inside.get(1..).unwrap_or_default();
    let escape = |(a, b): (&u8, &u8)| u8::from(*a == b'\\') & (u8::from(*b == b'u') | u8::from(*b == b'/'));
    inside.iter().zip(next).map(escape).fold(0, |found, one| found | one) != 0
}

/// Writes the inside of a JSON string in its shortest spelling, and returns the length of that. Equal texts become equal bytes:
/// quotes, backslashes and five control characters stay escapes of two bytes, everything else becomes its bytes. A half
/// surrogate, which no text has, becomes some bytes too.
fn respell(inside: &[u8], out: &mut Vec<u8>) -> usize {
    // No spelling is shorter than the shortest.
    out.resize(out.len().max(inside.len()), 0);
    let mut text = Respelled { bytes: out, len: 0 };
    let mut from = 0;
    while let Some(next) = memchr::memchr(b'\\', inside.get(from..).unwrap_or_default()) {
        let mut at = from + next;
        text.put(&inside[from..at]);
        // Text in another script is one escape after the other.
        while let Some(escape @ [b'\\', kind]) = inside.get(at..at + 2) {
            at += 2;
            match kind {
                b'u' => at += text.put_unit(inside, at),
                b'/' => text.put(b"/"),
                _ => text.put(escape),
            }
        }
        let ended = at == from + next;
        from = at;
        if ended {
            break;
        }
    }
    text.put(inside.get(from..).unwrap_or_default());
    text.len
}

/// A text in its shortest spelling, as it grows.
struct Respelled<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl Respelled<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(bytes);
            self.len = end;
        }
    }

    /// Writes the character whose code has its digits at `at`, and returns how many bytes these took.
    fn put_unit(&mut self, inside: &[u8], at: usize) -> usize {
        let Some(high) = unit(inside, at) else { return 0 };
        let pair = (0xd800..0xdc00).contains(&high) && inside.get(at + 4..at + 6) == Some(b"\\u");
        let low = if pair { unit(inside, at + 6).filter(|low| (0xdc00..0xe000).contains(low)) } else { None };
        let (code, taken) = low.map_or((high, 4), |low| (0x1_0000 + ((high - 0xd800) << 10 | (low - 0xdc00)), 10));
        let tail = |shift: u32| 0x80 | (code >> shift & 0x3f) as u8;
        match code {
            0x08 => self.put(b"\\b"),
            0x09 => self.put(b"\\t"),
            0x0a => self.put(b"\\n"),
            0x0c => self.put(b"\\f"),
            0x0d => self.put(b"\\r"),
            0x22 => self.put(b"\\\""),
            0x5c => self.put(b"\\\\"),
            0..0x80 => self.put(&[code as u8]),
            0x80..0x800 => self.put(&[0xc0 | (code >> 6) as u8, tail(0)]),
            0x800..0x1_0000 => self.put(&[0xe0 | (code >> 12) as u8, tail(6), tail(0)]),
            _ => self.put(&[0xf0 | (code >> 18) as u8, tail(12), tail(6), tail(0)]),
        }
        taken
    }
}

/// The number that four hexadecimal digits spell. Other bytes spell some number too.
fn unit(inside: &[u8], at: usize) -> Option<u32> {
    let digits = u32::from_be_bytes(*inside.get(at..)?.first_chunk()?);
    // A letter has a bit that no digit has, and stands for nine more than its lowest four bits.
    let values = (digits & 0x0f0f_0f0f) + 9 * (digits >> 6 & 0x0101_0101);
    let pairs = (values | values >> 4) & 0x00ff_00ff;
    Some((pairs | pairs >> 8) & 0xffff)
}

/// The digest of a string's text, or of a number or a word as spelled.
fn leaf(kind: u8, text: &str, bytes: &mut Vec<u8>) -> Digest {
    bytes.clear();
    bytes.push(kind);
    bytes.extend_from_slice(text.as_bytes());
    blake3::hash(bytes).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn spelling_does_not_count_and_everything_else_does() {
        let equal = [
            (r#"{"a":1,"b":[true,null,"x"]}"#, "{ \"b\" : [ true ,null,\n\"x\"],\t\"a\":1 }"),
            (r#"{"caf\u00e9":"\u0061\/\n"}"#, "{\"café\":\"a/\\n\"}"),
            (r#"[{"x":{"b":1,"a":2}},[]]"#, r#"[{"x":{"a":2,"b":1}},[ ]]"#),
            (r#"{"a":1,"a":2}"#, r#"{ "a":1, "a":2 }"#),
        ];
        for (one, other) in equal {
            assert_eq!(digest(one), digest(other), "{one} {other}");
            assert_eq!(sketch(one), sketch(other), "{one} {other}");
        }
        let different = [
            "1",
            "1.0",
            "1e0",
            "\"1\"",
            "[]",
            "{}",
            "[1]",
            "[[1]]",
            "[1,1]",
            "null",
            "\"null\"",
            "\"\"",
            "[\"a\",\"b\"]",
            "[\"ab\"]",
            "[\"b\",\"a\"]",
            "{\"a\":\"b\"}",
            "{\"b\":\"a\"}",
            "{\"a\":{}}",
            "{\"a\":[]}",
            "{\"a\":1,\"a\":2}",
            "{\"a\":2,\"a\":1}",
            "{\"a\":1}",
            "{\"a\":2}",
            "{\"A\":1}",
            "\"\\ud800\"",
            "\"\\ud801\"",
            "\"\\\\ud800\"",
            "\"a\"",
            "\"a \"",
            "[\"[\"]",
            "\"[]\"",
            "[1,[2]]",
            "[[1],2]",
            "true",
            "false",
        ];
        for (at, one) in different.iter().enumerate() {
            for other in &different[..at] {
                assert_ne!(digest(one), digest(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn other_texts_and_numbers_have_other_sketches() {
        let texts = [
            "[]",
            "[1]",
            "[2]",
            "[\"a\"]",
            "[\"b\"]",
            "{\"a\":1}",
            "{\"a\":2}",
            "{\"b\":1}",
            "[\"a\",\"a\"]",
            "[true]",
        ];
        for (at, one) in texts.iter().enumerate() {
            for other in &texts[..at] {
                assert_ne!(sketch(one), sketch(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn escapes_become_the_shortest_spelling() {
        for (spelled, shortest) in [
            (r"\n", r"\n"),
            (r"a\nb", r"a\nb"),
            (r"\u0041\u000A\u0022\u005c\/", r#"A\n\"\\/"#),
            (r"\u0008\u0009\u000c\u000d", r"\b\t\f\r"),
            (r"\u00e9\u4e16x\ud83d\ude00", "é世x😀"),
            (r#"\\u0041\/\b\f\r\t\""#, r#"\\u0041/\b\f\r\t\""#),
            (r"é\u00E9é", "ééé"),
            (r"x\\", r"x\\"),
            (r"\\\\x", r"\\\\x"),
        ] {
            let mut out = vec![1];
            let len = respell(spelled.as_bytes(), &mut out);
            out.truncate(len);
            assert_eq!(std::str::from_utf8(&out).unwrap(), shortest);
            let quoted = |text: &str| serde_json::from_str::<String>(&format!("\"{text}\"")).unwrap();
            assert_eq!(quoted(spelled), quoted(shortest));
            assert!(spelled == shortest || may_be_shorter(spelled.as_bytes()));
        }
    }

    #[test]
    fn depth_takes_no_stack() {
        let deep = |inner: &str| format!("{}{inner}{}", "{\"b\":[".repeat(200_000), "],\"a\":0}".repeat(200_000));
        assert_ne!(digest(&deep("1")), digest(&deep("2")));
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a\"\\\\é\n]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec(("[ab\"é]{0,2}", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The same value with the members of every object in reverse.
    fn reversed(value: &Value) -> Value {
        match value {
            Value::Array(values) => values.iter().map(reversed).collect(),
            Value::Object(members) => {
                Value::Object(members.iter().rev().map(|(name, value)| (name.clone(), reversed(value))).collect())
            }
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn equal_values_have_equal_digests(one in json(), other in json()) {
            let (text, other_text) = (one.to_string(), other.to_string());
            prop_assert_eq!(digest(&text), digest(&serde_json::to_string_pretty(&reversed(&one)).unwrap()));
            prop_assert_eq!(one == other, digest(&text) == digest(&other_text));
            prop_assert_eq!(sketch(&text), sketch(&serde_json::to_string_pretty(&reversed(&one)).unwrap()));
        }

        #[test]
        fn escaped_texts_have_the_sketch_of_plain_ones(text in "(\\PC|[a\\\\\"\n]){0,20}", every in 1..4_usize) {
            let unit = |unit: &u16| format!("\\u{unit:04X}");
            let spell = |(at, c): (usize, char)| match c {
                c if at % every == 0 => c.encode_utf16(&mut [0; 2]).iter().map(unit).collect(),
                c => {
                    let quoted = serde_json::to_string(&c).unwrap();
                    quoted[1..quoted.len() - 1].to_owned()
                }
            };
            let escaped = format!("\"{}\"", text.chars().enumerate().map(spell).collect::<String>());
            prop_assert_eq!(sketch(&escaped), sketch(&serde_json::to_string(&text).unwrap()), "{}", escaped);
        }

        #[test]
        fn nonsense_is_survived(text in "[\\[\\]{}\":,\\\\a1 \né]{0,30}") {
            digest(&text);
            sketch(&text);
        }
    }
}
