//! A walk over JSON text in place. It passes over values and gives their spans.

use std::borrow::Cow;

use super::text::string;

/// A position in a JSON text.
///
/// There are two ways over a value. [`check`](Self::check) holds it against the grammar. [`skip`](Self::skip) is for text
/// that was checked before: it only looks for quotes and brackets, which is faster where strings are full of escapes.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Strings are searched for control characters, which JSON forbids in them.
    controls: bool,
}

/// The text is not JSON from this byte on, 1-based.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotJson(pub usize);

/// The name of a member.
#[derive(Debug, Clone, Copy)]
pub struct MemberKey<'a> {
    /// Offset of the opening quote.
    pub start: usize,
    /// The name with its quotes and escapes.
    pub spelled: &'a str,
    /// The spelling contains escapes.
    escaped: bool,
}

impl<'a> MemberKey<'a> {
    /// The name, unescaped, or `None` if it holds a lone surrogate.
    pub fn name(self) -> Option<Cow<'a, str>> {
        if self.escaped { string(self.spelled) } else { Some(Cow::Borrowed(self.inner())) }
    }

    /// Returns true if this is `name`, which needs no escapes.
    pub fn is(self, name: &str) -> bool {
        if self.escaped { self.name().is_some_and(|own| own == name) } else { self.inner() == name }
    }

    fn inner(self) -> &'a str {
        &self.spelled[1..self.spelled.len() - 1]
    }
}

impl<'a> Scanner<'a> {
    /// A scanner at the beginning of a text of any kind.
    pub const fn new(text: &'a str) -> Self {
        Self { text, at: 0, controls: true }
    }

    /// A scanner that searches all of the text for control characters at once, which is faster for many strings.
    pub fn searched(text: &'a str) -> Self {
        Self { text, at: 0, controls: has_controls(text.as_bytes()) }
    }

    /// A scanner for text that is known to be JSON. On other text it stops early, and never panics.
    pub const fn trusting(text: &'a str) -> Self {
        Self { text, at: 0, controls: false }
    }

    /// The offset of what comes next.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// The first byte of what comes next.
    pub fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes over an object. `value` is called before each value, and passes over it.
    pub fn members<E: From<NotJson>>(
        &mut self,
        mut value: impl FnMut(&mut Self, MemberKey<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.blanks();
        self.expect(b'{')?;
        self.blanks();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let start = self.at;
            let escaped = self.string()?;
            let key = MemberKey { start, spelled: self.spelled(start), escaped };
            self.colon()?;
            value(self, key)?;
            self.blanks();
            if !self.take(b',') {
                return Ok(self.expect(b'}')?);
            }
            self.blanks();
        }
    }

    /// Passes over an array. `value` is called before each element, and passes over it.
    pub fn elements<E: From<NotJson>>(&mut self, mut value: impl FnMut(&mut Self) -> Result<(), E>) -> Result<(), E> {
        self.blanks();
        self.expect(b'[')?;
        self.blanks();
        if self.take(b']') {
            return Ok(());
        }
        loop {
            value(self)?;
            self.blanks();
            if !self.take(b',') {
                return Ok(self.expect(b']')?);
            }
            self.blanks();
        }
    }

    /// Checks that nothing but white space is left.
    pub fn end(&mut self) -> Result<(), NotJson> {
        self.blanks();
        if self.at == self.text.len() { Ok(()) } else { Err(self.here()) }
    }

    /// Passes over any value and checks its grammar. Returns it as spelled.
    pub fn check(&mut self) -> Result<&'a str, NotJson> {
        let start = self.at;
        let mut open = Brackets::default();
        'values: loop {
            match self.peek() {
                Some(b'"') => _ = self.string()?,
                Some(bracket @ (b'{' | b'[')) => {
                    self.at += 1;
                    self.blanks();
                    if !self.take(bracket + 2) {
                        let brace = bracket == b'{';
                        open.push(brace);
                        if brace {
                            self.string()?;
                            self.colon()?;
                        }
                        continue;
                    }
                }
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                _ => self.number()?,
            }
            // Behind a value: out of the brackets that end here, on to the next one.
            while let Some(brace) = open.innermost() {
                self.blanks();
                if self.take(b',') {
                    self.blanks();
                    if brace {
                        self.string()?;
                        self.colon()?;
                    }
                    continue 'values;
                }
                self.expect(if brace { b'}' } else { b']' })?;
                open.pop();
            }
            return Ok(self.spelled(start));
        }
    }

    /// Passes over a value that is known to be JSON. Returns it as spelled.
    pub fn skip(&mut self) -> Result<&'a str, NotJson> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => self.skip_string()?,
            Some(open @ (b'{' | b'[')) => self.skip_brackets(open)?,
            _ => {
                while self.peek().is_some_and(|byte| byte > b' ' && !matches!(byte, b',' | b'}' | b']')) {
                    self.at += 1;
                }
            }
        }
        if self.at == start { Err(self.here()) } else { Ok(self.spelled(start)) }
    }

    /// The text from `start` to here.
    pub fn spelled(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    /// Everything from `start` on.
    pub fn rest(&self, start: usize) -> &'a str {
        &self.text[start..]
    }

    const fn here(&self) -> NotJson {
        NotJson(self.at + 1)
    }

    /// Passes over white space.
    pub fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let here = self.peek() == Some(byte);
        self.at += usize::from(here);
        here
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.take(byte) { Ok(()) } else { Err(self.here()) }
    }

    fn colon(&mut self) -> Result<(), NotJson> {
        self.blanks();
        self.expect(b':')?;
        self.blanks();
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), NotJson> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.here());
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), NotJson> {
        self.take(b'-');
        // No digit follows a leading zero: the caller finds it where a comma or a bracket should be.
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
        Ok(())
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.here()) }
    }

    /// Passes over the string that starts here, and returns whether it has escapes. One without an end is invalid from its
    /// beginning.
    fn string(&mut self) -> Result<bool, NotJson> {
        let start = self.at;
        self.expect(b'"')?;
        let mut escaped = false;
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let plain = quote_or_escape(rest).ok_or(NotJson(start + 1))?;
            if self.controls && has_controls(&rest[..plain]) {
                let before = rest.iter().take_while(|byte| **byte >= b' ').count();
                return Err(NotJson(self.at + before + 1));
            }
            self.at += plain;
            if self.take(b'"') {
                return Ok(escaped);
            }
            escaped = true;
            self.escapes()?;
        }
    }

    /// Passes over the escapes here: text in another script is one after the other.
    fn escapes(&mut self) -> Result<(), NotJson> {
        let bytes = self.text.as_bytes();
        let mut at = self.at;
        while bytes.get(at) == Some(&b'\\') {
            at += match bytes.get(at + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                Some(b'u') if bytes.get(at + 2..at + 6).is_some_and(all_hex) => 6,
                _ => return Err(NotJson(at + 1)),
            };
        }
        self.at = at;
        Ok(())
    }

    /// Passes over the array or object here. In valid text brackets nest, so those of one kind are enough to count.
    fn skip_brackets(&mut self, open: u8) -> Result<(), NotJson> {
        let close = open + 2;
        let mut depth = 0_usize;
        loop {
            // Between strings there is little, so that calling a search would take longer.
            match self.peek() {
                None => return Err(self.here()),
                Some(b'"') => {
                    self.skip_string()?;
                    continue;
                }
                Some(byte) if byte == open => depth += 1,
                Some(byte) if byte == close => depth -= 1,
                Some(_) => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// Passes over a string, or a byte of anything else, of text that is known to be JSON.
    pub(super) fn token(&mut self) {
        if self.peek() != Some(b'"') {
            self.at += 1;
        } else if self.skip_string().is_err() {
            self.at = self.text.len();
        }
    }

    /// Passes over the string whose quote is here.
    fn skip_string(&mut self) -> Result<(), NotJson> {
        let bytes = self.text.as_bytes();
        let start = self.at + 1;
        let mut at = start;
        loop {
            // For quotes only: text may be escapes all over (`\n`, `\u0434`), and none but `\"` matters.
            at += memchr::memchr(b'"', bytes.get(at..).unwrap_or_default()).ok_or(NotJson(start))? + 1;
            let before = &bytes[start..at - 1];
            // The quote is text behind an odd number of backslashes.
            if before.last() != Some(&b'\\') || before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0
            {
                self.at = at;
                return Ok(());
            }
        }
    }
}

/// The first quote or backslash. Most strings are short, and a search costs several times as much to start as this to end.
fn quote_or_escape(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    // The lowest bit that is set is the highest of the first zero byte.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let mut at = 0;
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk).filter(|_| at < 32) {
        let word = u64::from_le_bytes(*eight);
        let found = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    memchr::memchr2(b'"', b'\\', &bytes[at..]).map(|found| at + found)
}

/// Returns true if there is a control character. It reads all bytes, as that is faster than to stop early.
fn has_controls(bytes: &[u8]) -> bool {
    bytes.iter().copied().fold(u8::MAX, u8::min) < b' '
}

/// The brackets that are open, however many.
struct Brackets {
    /// The innermost bracket is the lowest bit, 1 for a brace. A 1 stands above the outermost.
    bits: u64,
    /// Full words of those further out.
    outer: Vec<u64>,
}

impl Default for Brackets {
    fn default() -> Self {
        Self { bits: 1, outer: Vec::new() }
    }
}

impl Brackets {
    /// Returns true if the innermost open bracket is a brace, or `None` if none is open.
    const fn innermost(&self) -> Option<bool> {
        if self.bits > 1 { Some(self.bits & 1 == 1) } else { None }
    }

    fn push(&mut self, brace: bool) {
        if self.bits.leading_zeros() == 0 {
            self.outer.push(std::mem::replace(&mut self.bits, 1));
        }
        self.bits = self.bits << 1 | u64::from(brace);
    }

    fn pop(&mut self) {
        self.bits >>= 1;
        if self.bits == 1 {
            self.bits = self.outer.pop().unwrap_or(1);
        }
    }
}

/// True for each byte that is a hexadecimal digit.
const HEX: [bool; 256] = {
    let mut hex = [false; 256];
    let mut byte = 0_u8;
    while byte < u8::MAX {
        hex[byte as usize] = byte.is_ascii_hexdigit();
        byte += 1;
    }
    hex
};

fn all_hex(digits: &[u8]) -> bool {
    digits.iter().fold(true, |all, digit| all & HEX[usize::from(*digit)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn first_quote_or_escape_is_found_wherever_it_is(bytes in prop::collection::vec(prop_oneof![8 => any::<u8>(), 1 => Just(b'"'), 1 => Just(b'\\')], 0..80)) {
            let expected = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\'));
            prop_assert_eq!(quote_or_escape(&bytes), expected);
        }
    }
}
