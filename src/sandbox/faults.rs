//! Faults: what goes wrong, for which requests, how often. Their text form is in [`super::script`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::limits::HintStyle;

/// Where a fault applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Chat, completions and embeddings.
    Inference,
    /// `POST /chat/completions`.
    Chat,
    /// `POST /completions`.
    Completions,
    /// `POST /embeddings`.
    Embeddings,
    /// `GET /models`.
    Models,
    /// The first step of an upload, `POST /files`, and `POST /files/upload`.
    Register,
    /// The bytes of an upload.
    Put,
    /// The last step of an upload.
    Preprocess,
    /// `GET` or `DELETE` of a file, and the list of files.
    Files,
    /// The content of a file.
    Content,
    /// `POST /batches`.
    Create,
    /// `GET /batches/{id}`.
    Batch,
    /// `GET /batches`.
    List,
    /// `POST /batches/{id}/cancel`.
    Cancel,
    /// A row of a batch.
    Row,
    /// Every HTTP request.
    Any,
}

impl Scope {
    /// Whether this is one of the batch routes, which have an error shape of their own.
    pub fn is_batches(self) -> bool {
        matches!(self, Self::Create | Self::Batch | Self::List | Self::Cancel)
    }

    /// Whether a fault of this scope concerns a request of `other`.
    pub fn covers(self, other: Self) -> bool {
        match self {
            Self::Any => other != Self::Row,
            Self::Inference => matches!(other, Self::Chat | Self::Completions | Self::Embeddings),
            _ => self == other,
        }
    }
}

/// Which requests are picked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum When {
    /// All.
    Always,
    /// Every n-th.
    Every(u64),
    /// The n-th alone.
    Nth(u64),
    /// With this probability, drawn from the seed and the request.
    Rate(f64),
    /// Those whose prompt (or, elsewhere, path) contains this text.
    Contains(String),
}

/// How often a picked request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Times {
    /// Each attempt is picked or not for itself.
    Each,
    /// The first n attempts fail, later ones pass.
    First(u32),
}

/// The body of a scripted error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// What is usual for the status and the route.
    Usual,
    /// `error` is a string, as the batch routes say it.
    Bare,
    /// `error.message` is a string.
    Text,
    /// `error.message` is an object, as engine errors passed through are.
    Object,
    /// `text/plain`, as the edge says it.
    Plain,
    /// An HTML page.
    Html,
    /// Nothing.
    Empty,
}

/// When the client is told to come back.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Hint {
    /// In which header.
    pub style: HintStyle,
    /// How long to wait.
    pub wait: Duration,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Kind {
    /// An error status.
    Status {
        /// HTTP status.
        code: u16,
        /// When to come back.
        hint: Option<Hint>,
        /// Body.
        shape: Shape,
        /// Bytes by which the message is blown up.
        padding: usize,
    },
    /// RST instead of an answer.
    Reset,
    /// FIN instead of an answer.
    Close,
    /// RST within the body.
    ResetLate,
    /// FIN within the body.
    Truncate,
    /// A body cut in half whose length is announced as the half.
    Short,
    /// No answer.
    Hang,
    /// Half an answer, then nothing.
    Stall,
    /// A byte at a time, so long apart.
    Drip(Duration),
    /// The answer, later.
    Delay(Duration),
    /// A 200 with an HTML page.
    Html,
    /// A 200 without a body.
    EmptyBody,
    /// A 200 with JSON of another shape.
    WrongShape,
    /// `choices: []`.
    EmptyChoices,
    /// `content: null`.
    NullContent,
    /// No `usage`.
    NoUsage,
    /// `Content-Encoding: gzip` over bytes that are not.
    BadGzip,
    /// A 200 with so many bytes of content.
    Huge(usize),
    /// A 401 that repeats the key.
    EchoKey,
    /// Create: no job, but a warning.
    NullJob,
    /// Batch row: no line.
    Missing,
    /// Batch row: the line twice.
    Duplicate,
    /// Batch row: two different lines.
    Conflict,
    /// Batch row: besides, a line for an unknown id.
    Foreign,
    /// Batch row: a line that is not JSON.
    Garble,
}

impl Kind {
    /// Whether the answer is generated (and billed) before this goes wrong, even without `after`.
    pub fn generates(&self) -> bool {
        matches!(
            self,
            Self::ResetLate
                | Self::Truncate
                | Self::Short
                | Self::Stall
                | Self::Drip(_)
                | Self::Delay(_)
                | Self::EmptyChoices
                | Self::NullContent
                | Self::NoUsage
                | Self::BadGzip
                | Self::Huge(_)
        )
    }

    /// Whether this can only happen to a row of a batch.
    pub fn row_only(&self) -> bool {
        matches!(self, Self::Missing | Self::Duplicate | Self::Conflict | Self::Foreign | Self::Garble)
    }
}

/// One scripted fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// Where.
    pub on: Scope,
    /// For which requests.
    pub when: When,
    /// What.
    pub kind: Kind,
    /// How often.
    pub times: Times,
    /// The work is done and kept before it goes wrong.
    pub after: bool,
}

impl Fault {
    /// A fault of this kind for every inference request.
    pub fn new(kind: Kind) -> Self {
        Self { on: Scope::Inference, when: When::Always, kind, times: Times::Each, after: false }
    }

    /// An error status with its usual body.
    pub fn status(code: u16) -> Self {
        Self::new(Kind::Status { code, hint: None, shape: Shape::Usual, padding: 0 })
    }
}
