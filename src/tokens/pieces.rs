//! Cuts a text into the pieces that are tokenized one by one. A piece is a word with the space before it, up to three
//! digits, a run of marks, or white space. Written by hand in place of the regular expression that cl100k and Llama 3
//! share.

use std::sync::OnceLock;

use super::scripts::Script;

/// The cut, as tokenizers' files have it.
pub(super) const REGEX: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Characters below U+10000 that are alphabetic for Unicode but not letters (`\p{L}`): combining marks and symbols. Gaps
/// hold nothing alphabetic.
#[rustfmt::skip]
const NO_LETTERS: [(u16, u16); 110] = [
    (0x345, 0x36f), (0x5b0, 0x5c9), (0x610, 0x61a), (0x64b, 0x65f), (0x670, 0x670), (0x6d6, 0x6e4), (0x6e7, 0x6ed),
    (0x711, 0x711), (0x730, 0x73f), (0x7a6, 0x7b0), (0x816, 0x817), (0x81b, 0x823), (0x825, 0x827), (0x829, 0x82c),
    (0x897, 0x897), (0x8d4, 0x903), (0x93a, 0x93b), (0x93e, 0x94f), (0x955, 0x957), (0x962, 0x963), (0x981, 0x983),
    (0x9be, 0x9cc), (0x9d7, 0x9d7), (0x9e2, 0x9e3), (0xa01, 0xa03), (0xa3e, 0xa51), (0xa70, 0xa71), (0xa75, 0xa83),
    (0xabe, 0xacc), (0xae2, 0xae3), (0xafa, 0xb03), (0xb3e, 0xb57), (0xb62, 0xb63), (0xb82, 0xb82), (0xbbe, 0xbcc),
    (0xbd7, 0xbd7), (0xc00, 0xc04), (0xc3e, 0xc56), (0xc62, 0xc63), (0xc81, 0xc83), (0xcbe, 0xcd6), (0xce2, 0xce3),
    (0xcf3, 0xd03), (0xd3e, 0xd4c), (0xd57, 0xd57), (0xd62, 0xd63), (0xd81, 0xd83), (0xdcf, 0xddf), (0xdf2, 0xdf3),
    (0xe31, 0xe31), (0xe34, 0xe3a), (0xe4d, 0xe4d), (0xeb1, 0xeb1), (0xeb4, 0xebc), (0xecd, 0xecd), (0xf71, 0xf83),
    (0xf8d, 0xfbc), (0x102b, 0x103e), (0x1056, 0x1059), (0x105e, 0x1060), (0x1062, 0x1064), (0x1067, 0x106d),
    (0x1071, 0x1074), (0x1082, 0x108d), (0x108f, 0x108f), (0x109a, 0x109d), (0x1712, 0x1713), (0x1732, 0x1733),
    (0x1752, 0x1753), (0x1772, 0x1773), (0x17b6, 0x17c8), (0x1885, 0x1886), (0x18a9, 0x18a9), (0x1920, 0x1938),
    (0x1a17, 0x1a1b), (0x1a55, 0x1a74), (0x1abf, 0x1b04), (0x1b35, 0x1b43), (0x1b80, 0x1b82), (0x1ba1, 0x1bad),
    (0x1be7, 0x1bf1), (0x1c24, 0x1c36), (0x1dd3, 0x1df4), (0x24b6, 0x24e9), (0x2de0, 0x2dff), (0xa674, 0xa67b),
    (0xa69e, 0xa69f), (0xa802, 0xa802), (0xa80b, 0xa80b), (0xa823, 0xa827), (0xa880, 0xa881), (0xa8b4, 0xa8c5),
    (0xa8ff, 0xa8ff), (0xa926, 0xa92a), (0xa947, 0xa952), (0xa980, 0xa983), (0xa9b4, 0xa9bf), (0xa9e5, 0xa9e5),
    (0xaa29, 0xaa36), (0xaa43, 0xaa43), (0xaa4c, 0xaa4d), (0xaa7b, 0xaa7d), (0xaab0, 0xaab0), (0xaab2, 0xaab4),
    (0xaab7, 0xaab8), (0xaabe, 0xaabe), (0xaaeb, 0xaaef), (0xaaf5, 0xaaf5), (0xabe3, 0xabea), (0xfb1e, 0xfb1e),
];

/// The class of a character, as the cut distinguishes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CharClass {
    Letter,
    Digit,
    Space,
    Newline,
    Mark,
}

/// A character as the cut sees it.
#[derive(Debug, Clone, Copy)]
struct CharFacts {
    class: CharClass,
    script: Script,
}

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its end, in bytes of the text.
    pub end: usize,
    /// The script it is counted under.
    pub script: Script,
    /// The number of its characters.
    pub chars: u64,
}

/// The class of every character.
#[derive(Debug)]
pub(super) struct CharClasses {
    ascii: [CharFacts; 128],
    /// Those below U+10000, by the upper byte of their code. A page is made when a text needs it: all take some milliseconds.
    pages: [OnceLock<Box<[CharFacts; 256]>>; 256],
}

impl CharClasses {
    pub fn new() -> Self {
        let ascii = std::array::from_fn(|code| CharFacts::of(code as u32));
        Self { ascii, pages: [const { OnceLock::new() }; 256] }
    }

    /// The piece that starts at `at`, which is inside `text` (UTF-8) and where a character starts.
    pub fn piece(&self, text: &[u8], at: usize) -> Piece {
        let mut cut = PieceCutter { classes: self, text, at, script: Script::Plain, chars: 0 };
        cut.one();
        Piece { end: cut.at, script: cut.script, chars: cut.chars }
    }

    fn seen(&self, text: &[u8], at: usize) -> Option<(CharFacts, usize)> {
        let byte = |offset: usize| u32::from(text.get(at + offset).copied().unwrap_or(0) & 0x3f);
        let lead = *text.get(at)?;
        let (code, width) = match lead {
            0..0x80 => return Some((self.ascii[usize::from(lead)], 1)),
            0x80..0xe0 => (u32::from(lead & 0x1f) << 6 | byte(1), 2),
            0xe0..0xf0 => (u32::from(lead & 0x0f) << 12 | byte(1) << 6 | byte(2), 3),
            _ => (u32::from(lead & 0x07) << 18 | byte(1) << 12 | byte(2) << 6 | byte(3), 4),
        };
        let seen = match self.pages.get(code as usize / 256) {
            Some(page) => page.get_or_init(|| CharFacts::page(code & !0xff))[code as usize % 256],
            None => CharFacts::of(code),
        };
        Some((seen, width))
    }
}

impl CharFacts {
    /// For invalid code points.
    const NOTHING: Self = Self { class: CharClass::Mark, script: Script::Plain };

    /// The facts of 256 characters from `first` on.
    fn page(first: u32) -> Box<[Self; 256]> {
        Box::new(std::array::from_fn(|offset| Self::of(first + offset as u32)))
    }

    fn of(code: u32) -> Self {
        char::from_u32(code).map_or(Self::NOTHING, Self::new)
    }

    fn new(c: char) -> Self {
        let no_letter = |c: char| {
            let behind = NO_LETTERS.partition_point(|(first, _)| u32::from(*first) <= u32::from(c));
            behind > 0 && u32::from(NO_LETTERS[behind - 1].1) >= u32::from(c)
        };
        let class = match c {
            '\r' | '\n' => CharClass::Newline,
            _ if c.is_whitespace() => CharClass::Space,
            _ if c.is_numeric() => CharClass::Digit,
            _ if c.is_alphabetic() && !no_letter(c) => CharClass::Letter,
            _ => CharClass::Mark,
        };
        Self { class, script: Script::of(c) }
    }
}

/// A piece while it grows.
struct PieceCutter<'a> {
    classes: &'a CharClasses,
    text: &'a [u8],
    at: usize,
    script: Script,
    chars: u64,
}

impl PieceCutter<'_> {
    fn next(&self) -> Option<(CharClass, Script, usize)> {
        self.classes.seen(self.text, self.at).map(|(seen, width)| (seen.class, seen.script, width))
    }

    fn take(&mut self, script: Script, width: usize) {
        self.at += width;
        self.chars += 1;
        self.script = self.script.max(script);
    }

    /// Takes characters while they are as asked, `most` at most.
    fn run(&mut self, most: usize, is: impl Fn(CharClass) -> bool) {
        for _ in 0..most {
            match self.next() {
                Some((class, script, width)) if is(class) => self.take(script, width),
                _ => return,
            }
        }
    }

    fn one(&mut self) {
        let Some((class, script, width)) = self.next() else { return };
        let following = self.classes.seen(self.text, self.at + width).map(|(seen, _)| seen.class);
        match class {
            CharClass::Letter => self.run(usize::MAX, |class| class == CharClass::Letter),
            CharClass::Digit => self.run(3, |class| class == CharClass::Digit),
            CharClass::Mark if self.contraction() => {}
            CharClass::Mark | CharClass::Space if following == Some(CharClass::Letter) => {
                self.take(script, width);
                self.run(usize::MAX, |class| class == CharClass::Letter);
            }
            CharClass::Mark => self.marks(),
            CharClass::Space if self.text[self.at] == b' ' && following == Some(CharClass::Mark) => {
                self.take(script, width);
                self.marks();
            }
            CharClass::Space | CharClass::Newline => self.space(),
        }
    }

    /// Takes `'s`, `'ll` and the like, if they are here.
    fn contraction(&mut self) -> bool {
        let Some([b'\'', rest @ ..]) = self.text.get(self.at..) else { return false };
        let letters = match rest {
            [b's' | b'S' | b't' | b'T' | b'm' | b'M' | b'd' | b'D', ..] => 1,
            [b'r' | b'R' | b'v' | b'V', b'e' | b'E', ..] | [b'l' | b'L', b'l' | b'L', ..] => 2,
            _ => return false,
        };
        self.at += 1 + letters;
        self.chars += 1 + letters as u64;
        true
    }

    fn marks(&mut self) {
        self.run(usize::MAX, |class| class == CharClass::Mark);
        self.run(usize::MAX, |class| class == CharClass::Newline);
    }

    /// Takes white space up to its last line break. Without one, the last space is left to the following piece.
    fn space(&mut self) {
        let (mut last, mut broken) = ((self.at, self.chars), None);
        loop {
            match self.next() {
                Some((class @ (CharClass::Space | CharClass::Newline), script, width)) => {
                    last = (self.at, self.chars);
                    self.take(script, width);
                    if class == CharClass::Newline {
                        broken = Some((self.at, self.chars));
                    }
                }
                following => {
                    if let Some(end) = broken {
                        (self.at, self.chars) = end;
                    } else if following.is_some() && last.1 > 0 {
                        (self.at, self.chars) = last;
                    }
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        let classes = CharClasses::new();
        let (mut at, mut pieces) = (0, Vec::new());
        while at < text.len() {
            let piece = classes.piece(text.as_bytes(), at);
            pieces.push(&text[at..piece.end]);
            assert_eq!(piece.chars, text[at..piece.end].chars().count() as u64, "{text:?}");
            at = piece.end;
        }
        pieces
    }

    #[test]
    fn cuts_as_the_regular_expression_does() {
        for (text, pieces) in [
            (
                "Hello, it's WE'LL 'sofa 12345 x\n\n  y \t z  ",
                &[
                    "Hello", ",", " it", "'s", " WE", "'LL", " '", "sofa", " ", "123", "45", " x", "\n\n", " ", " y",
                    " \t", " z", "  ",
                ][..],
            ),
            ("  \n \n\tfoo(bar);\r\n\r\n    baz", &["  \n \n", "\tfoo", "(bar", ");\r\n\r\n", "   ", " baz"]),
            ("naïve Ünïcode — “quoted”…", &["naïve", " Ünïcode", " —", " “", "quoted", "”…"]),
            ("สวัสดีครับ नमस्ते ٣٤٥ ½", &["สว", "ัสด", "ีคร", "ับ", " नमस", "्त", "े", " ", "٣٤٥", " ", "½"]),
            ("，经济。\u{3000}日本\u{20000}", &["，经济", "。", "\u{3000}日本\u{20000}"]),
            (" \n", &[" \n"]),
            ("a  ", &["a", "  "]),
            ("don'tx 're", &["don", "'t", "x", " '", "re"]),
        ] {
            assert_eq!(cut(text), pieces);
        }
    }

    #[test]
    fn a_language_with_letters_of_its_own_has_the_word() {
        let script = |text: &str| CharClasses::new().piece(text.as_bytes(), 0).script;
        assert_eq!(script(" привет"), Script::Cyrillic);
        assert_eq!(script(" київ"), Script::Ukrainian);
        assert_eq!(script("東京へ"), Script::Kana);
        assert_eq!(script(" straße"), Script::Plain);
        assert_eq!(script("שלום"), Script::Plain);
    }

    proptest! {
        #[test]
        fn pieces_are_the_text(text in "(\\PC|[ '\n\r\ta1]){0,40}") {
            prop_assert_eq!(cut(&text).concat(), text);
        }
    }
}
