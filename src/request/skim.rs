//! A line of JSON taken apart in one fast pass, if it is surely valid; everything else is left to `serde_json`, which also
//! says what is wrong. It sees a batch line's body in passing, which would be walked again otherwise; both together took a
//! sixth off the CPU time of `check`.

use std::borrow::Cow;

use super::json::{Member, string};

/// Brackets that may be open at a time: one bit each.
const DEEPEST: u32 = u64::BITS;

/// The members of the object `text`, and those of its last member `inside`, if that is an object. `None`: it may be
/// invalid, or is not of the plain kind that this pass knows.
pub fn members<'a>(text: &'a str, inside: &str) -> Option<(Vec<Member<'a>>, Option<Vec<Member<'a>>>)> {
    // Control characters are not allowed in strings and rare elsewhere. To look for them all at once takes no time.
    if text.bytes().fold(u8::MAX, u8::min) < b' ' {
        return None;
    }
    let mut skim = Skim { text, bytes: text.as_bytes(), at: 0 };
    let mut within = None;
    skim.space();
    let members = skim.object(0, &mut |skim, key| {
        if key == inside {
            within = None;
            if skim.peek() == Some(b'{') {
                within = Some(skim.object(skim.at, &mut |skim, _| skim.value())?);
                return Some(());
            }
        }
        skim.value()
    })?;
    skim.space();
    (skim.at == text.len()).then_some((members, within))
}

/// Whether a byte is a hexadecimal digit.
const HEX: [bool; 256] = {
    let mut hex = [false; 256];
    let mut byte = 0_u8;
    while byte < u8::MAX {
        hex[byte as usize] = byte.is_ascii_hexdigit();
        byte += 1;
    }
    hex
};

/// A cursor in what may be JSON.
struct Skim<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Skim<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let here = self.peek() == Some(byte);
        self.at += usize::from(here);
        here
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.take(byte).then_some(())
    }

    fn colon(&mut self) -> Option<()> {
        self.space();
        self.expect(b':')?;
        self.space();
        Some(())
    }

    /// The members of the object that starts here, their offsets counted from `base`. `value` steps behind the value of a
    /// key.
    fn object(&mut self, base: usize, value: &mut dyn FnMut(&mut Self, &str) -> Option<()>) -> Option<Vec<Member<'a>>> {
        let mut members = Vec::with_capacity(8);
        self.expect(b'{')?;
        self.space();
        if self.take(b'}') {
            return Some(members);
        }
        loop {
            let start = self.at;
            self.string()?;
            let key = self.text.get(start..self.at)?;
            let key = string(key).unwrap_or(Cow::Borrowed(key));
            self.colon()?;
            let from = self.at;
            value(self, &key)?;
            let value = self.text.get(from..self.at)?;
            members.push(Member { key, value, start: start - base, end: self.at - base });
            self.space();
            if !self.take(b',') {
                self.expect(b'}')?;
                return Some(members);
            }
            self.space();
        }
    }

    /// Steps behind the value that starts here.
    fn value(&mut self) -> Option<()> {
        // Whether each open bracket is a brace; the innermost is the lowest bit.
        let (mut braces, mut depth) = (0_u64, 0_u32);
        loop {
            match self.peek()? {
                b'"' => self.string()?,
                open @ (b'{' | b'[') => {
                    self.at += 1;
                    self.space();
                    if !self.take(open + 2) {
                        if depth == DEEPEST {
                            return None;
                        }
                        depth += 1;
                        braces = braces << 1 | u64::from(open == b'{');
                        if open == b'{' {
                            self.string()?;
                            self.colon()?;
                        }
                        continue;
                    }
                }
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            // Behind a value: out of the brackets that end here, on to the next one.
            loop {
                if depth == 0 {
                    return Some(());
                }
                self.space();
                let brace = braces & 1 == 1;
                if self.take(b',') {
                    self.space();
                    if brace {
                        self.string()?;
                        self.colon()?;
                    }
                    break;
                }
                self.expect(if brace { b'}' } else { b']' })?;
                braces >>= 1;
                depth -= 1;
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.bytes.get(self.at..)?.starts_with(word).then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        self.take(b'-');
        // No other digit comes behind a leading zero: what follows a number is told by whoever called.
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    /// Steps behind the string that starts here.
    fn string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            self.at += memchr::memchr2(b'"', b'\\', self.bytes.get(self.at..)?)?;
            if self.take(b'"') {
                return Some(());
            }
            self.escapes()?;
        }
    }

    /// Steps behind the escapes here: text in another script is one after the other.
    fn escapes(&mut self) -> Option<()> {
        while self.peek() == Some(b'\\') {
            self.at += match self.bytes.get(self.at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                b'u' => {
                    let digits: &[u8; 4] = self.bytes.get(self.at + 2..)?.first_chunk()?;
                    if !digits.iter().fold(true, |all, digit| all & HEX[usize::from(*digit)]) {
                        return None;
                    }
                    6
                }
                _ => return None,
            };
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{json, walk};
    use super::*;

    fn members(text: &str) -> Option<(Vec<Member<'_>>, Option<Vec<Member<'_>>>)> {
        super::members(text, "body")
    }

    fn shown(members: &[Member<'_>]) -> Vec<String> {
        members.iter().map(|m| format!("{}={} {}..{}", m.key, m.value, m.start, m.end)).collect()
    }

    /// What is taken here is what `serde_json` takes.
    fn agrees(text: &str) -> bool {
        let Some((members, inner)) = members(text) else { return false };
        let theirs = json::parsed(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(shown(&members), shown(&theirs), "{text}");
        let body = json::find(&theirs, "body").map(|body| body.value).filter(|body| body.starts_with('{'));
        assert_eq!(inner.map(|all| shown(&all)), body.map(|body| shown(&walk::members(body))), "{text}");
        true
    }

    const PLAIN: &[&str] = &[
        "{}",
        " { } ",
        r#"{"a":1}"#,
        r#"{"body": {"x" : 1, "y":[{}]}, "body":{ "model" : "m" } , "z": {"body":{}}}"#,
        r#"{"body": {"x": 1}, "b\u006fdy": []}"#,
        r#"{"a":[],"b":{},"c":[{"d":[0,-1.5e+7,2E3,true,false,null]}],"\u0061\n":"\ud800 \"\\\/"}"#,
        r#"{"a" : "ünï, 日本" ,  "b": [ 1 , { "c" : {} } ] } "#,
        r#"{"custom_id": "x", "body": {"messages": [{"role": "user", "content": "a long text, \n, and more of it, \u00e9"}]}}"#,
    ];

    #[test]
    fn plain_lines_are_taken() {
        for text in PLAIN {
            assert!(agrees(text), "{text}");
        }
    }

    #[test]
    fn nothing_else_is() {
        for text in [
            "",
            "{",
            "}",
            "[]",
            "1",
            "{}x",
            "{,}",
            r#"{"a"}"#,
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
            "{\"a\":\"",
            "{\"a\":\"\\",
            "{a:1}",
            r#"{"a":1 "b":2}"#,
            r#"{"a":[1 2]}"#,
            r#"{"a":NaN}"#,
            "{\"a\":\u{a0}1}",
            "\u{feff}{}",
        ] {
            assert!(members(text).is_none(), "{text}");
            assert!(json::members(text).is_err(), "{text}");
        }
        // Valid, but nothing for this pass.
        for text in ["{\t}", "{}\r", "{\"a\":\n1}"] {
            assert!(members(text).is_none() && json::members(text).is_ok(), "{text}");
        }
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(65), "]".repeat(65));
        assert!(members(&deep).is_none() && json::members(&deep).is_ok());
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(64), "]".repeat(64));
        assert!(agrees(&deep));
    }

    proptest! {
        #[test]
        fn what_is_taken_is_valid(at in 0_usize..130, cut in 0_usize..3, into in r#"([\[\]{}":,\\ \na01.e+-]|"body":|\\u){0,2}"#) {
            for text in PLAIN {
                let edited: String = text.chars().take(at).chain(into.chars()).chain(text.chars().skip(at + cut)).collect();
                agrees(&edited);
            }
        }

        #[test]
        fn what_is_valid_is_taken(text in r#"\{"a":("([ -!#-\[\]-~é]|\\n|\\u00e9){0,50}"|-?(0|[1-9][0-9]?)(\.5)?(e\+1)?|\[1, ?\{"b": ?null\}\])\}"#) {
            prop_assert!(agrees(&text));
        }
    }
}
