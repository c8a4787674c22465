//! Estimates the tokens of a request, before the server counts them.
//!
//! [`estimate`] and [`bound`] only look at a body's length and are for pacing and reserves, on every row of a run.
//! [`Estimator`] is for prices: it cuts a text as Llama 3 does, and counts by the vocabulary that Llama 3's was built on
//! (cl100k, with some of o200k for the scripts that it splits too finely), scaled by script where that vocabulary is not
//! Llama's own. Its errors are measured in `tests/tokens/README.md`.

mod body;
mod file;
mod media;
mod pieces;
mod scripts;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::sync::LazyLock;

pub use media::Media;
use pieces::CharClasses;
use scripts::{Script, ScriptTally};
use vocabulary::Vocabulary;

/// Bytes a token in ordinary English prose and JSON, roughly. Only pacing depends on it.
const USUAL_BYTES: u64 = 4;
/// Fewest bytes a token in ordinary text of any script. It bounds the cost of an unanswered request.
const FEWEST_BYTES: u64 = 2;

/// A middling estimate of the tokens of a request body. `image`: the user's own figure for an image.
pub fn estimate(body: &str, media: &Media, image: Option<u64>) -> u64 {
    estimate_bytes(body.len() as u64 - media.bytes).saturating_add(media.usual_tokens(image))
}

/// An upper bound on the tokens of a request body, if all of its parts have one ([`Media::unbounded`]). `image`: the
/// user's own figure for an image.
pub fn bound(body: &str, media: &Media, image: Option<u64>) -> u64 {
    bound_bytes(body.len() as u64 - media.bytes).saturating_add(media.most_tokens(image))
}

/// An upper bound on the tokens of that many bytes of a request body.
pub const fn bound_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(FEWEST_BYTES)
}

/// A middling estimate of the tokens of a request body of that length.
pub const fn estimate_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(USUAL_BYTES)
}

/// Estimates the tokens of a text for the Llama 3 family.
#[derive(Debug)]
pub struct Estimator {
    classes: CharClasses,
    vocabulary: Vocabulary,
    /// The vocabulary is the bundled one, whose counts are weighted by script.
    weighed: bool,
}

impl Estimator {
    /// The shared estimator. Its tables (3 MB) are unpacked at the first use.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Estimator> = LazyLock::new(|| Estimator {
            classes: CharClasses::new(),
            vocabulary: Vocabulary::bundled(),
            weighed: true,
        });
        &SHARED
    }

    /// An estimator for the `tokenizer.json` of a model that cuts text as Llama 3 does. It is exact but for special tokens
    /// and the template.
    ///
    /// # Errors
    /// The reason why it can't be used, which follows the file's name.
    pub fn from_file(text: &str) -> Result<Self, String> {
        Ok(Self { classes: CharClasses::new(), vocabulary: file::vocabulary(text)?, weighed: false })
    }

    /// The tokens of a text.
    pub fn text(&self, text: &str) -> u64 {
        self.tally(text).tokens()
    }

    /// The prompt tokens of a request: of its texts, its tools and schema, and, for a `chat`, of the template around them.
    ///
    /// Takes any body. Without messages or a prompt it is counted as JSON text.
    pub fn request(&self, body: &str, chat: bool) -> u64 {
        body::count(self, body, chat)
    }

    fn tally(&self, text: &str) -> ScriptTally {
        let mut tally = ScriptTally::default();
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
