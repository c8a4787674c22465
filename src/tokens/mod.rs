//! How many tokens a request may be, before the server counts them.
//!
//! [`estimate`] and [`bound`] only look at a body's length and are for pacing and reserves, on every row of a run.
//! [`Estimator`] is for prices: it cuts a text as Llama 3 does, and counts by the vocabulary that Llama 3's was built on
//! (cl100k, with some of o200k for the scripts that it splits too finely), scaled by script where that vocabulary is not
//! Llama's own. How far off that is: `tests/tokens/README.md`.

mod body;
mod file;
mod pieces;
mod scripts;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::sync::LazyLock;

use pieces::Classes;
use scripts::{Script, Tally};
use vocabulary::Vocabulary;

/// Bytes a token in ordinary English prose and JSON, about; only pacing depends on it.
const USUAL_BYTES: u64 = 4;
/// Fewest bytes a token that ordinary text of any script comes to; bounds what an unanswered request may have cost.
const FEWEST_BYTES: u64 = 2;

/// A middling estimate of the tokens of a request body.
pub const fn estimate(body: &str) -> u64 {
    (body.len() as u64).div_ceil(USUAL_BYTES)
}

/// An upper bound on the tokens of a request body.
pub const fn bound(body: &str) -> u64 {
    (body.len() as u64).div_ceil(FEWEST_BYTES)
}

/// The same of so many bytes.
pub const fn estimate_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(USUAL_BYTES)
}

/// Estimates what a tokenizer of the Llama 3 family makes of a text.
#[derive(Debug)]
pub struct Estimator {
    classes: Classes,
    vocabulary: Vocabulary,
    /// Whether the vocabulary is ours, and stands for Llama's only by its weights.
    weighed: bool,
}

impl Estimator {
    /// The one there is; its tables (3 MB) are unpacked at the first use.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Estimator> =
            LazyLock::new(|| Estimator { classes: Classes::new(), vocabulary: Vocabulary::bundled(), weighed: true });
        &SHARED
    }

    /// One that counts by the `tokenizer.json` of a model that cuts text as Llama 3 does: exactly, but for its own
    /// special tokens and template.
    ///
    /// # Errors
    /// Why it can't be used, to be put behind the file's name.
    pub fn from_file(text: &str) -> Result<Self, String> {
        Ok(Self { classes: Classes::new(), vocabulary: file::vocabulary(text)?, weighed: false })
    }

    /// The tokens of a text.
    pub fn text(&self, text: &str) -> u64 {
        self.tally(text).tokens()
    }

    /// The prompt tokens of a request: of its texts, its tools and schema, and, for a `chat`, of the template around them.
    ///
    /// Takes any body, and counts what is no message or prompt as the JSON text that it is.
    pub fn request(&self, body: &str, chat: bool) -> u64 {
        body::count(self, body, chat)
    }

    fn tally(&self, text: &str) -> Tally {
        let mut tally = Tally::default();
        let mut at = 0;
        while at < text.len() {
            let piece = self.classes.piece(text.as_bytes(), at);
            let script = if self.weighed { piece.script } else { Script::Plain };
            let tokens = self.vocabulary.count(&text.as_bytes()[at..piece.end], script != Script::Plain);
            tally.add(script, piece.chars, tokens);
            at = piece.end;
        }
        tally
    }
}
