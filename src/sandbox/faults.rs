//! Faults: the damage, the requests that it hits, and the number of times. Their text form is in [`super::script`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hint::Hint;
use super::injector::Subject;
use super::stream_shape::StreamShape;

/// The requests that a fault applies to. Serialized names stand in kept batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Every request that a model answers.
    Inference,
    Chat,
    Completions,
    Embeddings,
    Rerank,
    Images,
    Speech,
    /// Speech to text.
    Audio,
    /// Requests for a streamed answer.
    Stream,
    Models,
    /// The first step of an upload, `POST /files`, and `POST /files/upload`.
    Register,
    /// The bytes of an upload.
    Put,
    /// The last step of an upload.
    Preprocess,
    /// `GET` or `DELETE` of a file, and the list of files.
    Files,
    Content,
    Create,
    Batch,
    List,
    Cancel,
    /// A row of a batch.
    Row,
    /// Every HTTP request.
    Any,
}

impl Scope {
    /// Returns true if this is one of the batch routes, which have their own error shape.
    pub fn is_batches(self) -> bool {
        matches!(self, Self::Create | Self::Batch | Self::List | Self::Cancel)
    }

    /// Returns true if this is one of the inference routes.
    fn is_inference(self) -> bool {
        matches!(
            self,
            Self::Chat
                | Self::Completions
                | Self::Embeddings
                | Self::Rerank
                | Self::Images
                | Self::Speech
                | Self::Audio
        )
    }

    /// Returns true if the request has a prompt, which may hold a directive.
    pub fn has_prompt(self) -> bool {
        self.is_inference() || self == Self::Row
    }

    /// Returns true if a fault of this scope concerns a request.
    pub fn covers(self, subject: Subject<'_>) -> bool {
        match self {
            Self::Any => subject.scope != Self::Row,
            Self::Inference => subject.scope.is_inference(),
            Self::Stream => subject.streams,
            _ => self == subject.scope,
        }
    }
}

/// The choice of requests within the scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Trigger {
    Always,
    Every(u64),
    Nth(u64),
    /// With this probability, drawn from the seed and the request.
    Rate(f64),
    /// Those whose prompt (or, elsewhere, path) contains this text.
    Contains(String),
}

/// The number of times that a picked request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Times {
    /// Each attempt is picked or not for itself.
    Each,
    /// The first n attempts fail, later ones pass.
    First(u32),
}

/// The body of a scripted error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ErrorShape {
    /// The usual body for the status and the route.
    #[default]
    Usual,
    /// `error` is a string, as on the batch routes.
    Bare,
    /// `error.message` is a string.
    Text,
    /// `error.message` is an object, as in engine errors passed through.
    Object,
    /// `text/plain`, as from the edge.
    Plain,
    Html,
    Empty,
}

/// An error response that a script asks for.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ScriptedError {
    pub code: u16,
    pub hint: Option<Hint>,
    pub shape: ErrorShape,
    /// Bytes that are added to the message.
    pub padding: usize,
}

/// The damage of a fault. [`HELP`](super::script::HELP) describes each kind by its word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FaultKind {
    Status(ScriptedError),
    Reset,
    Close,
    ResetLate,
    Truncate,
    Short,
    Hang,
    Stall,
    /// With the pause between two bytes.
    Drip(Duration),
    Delay(Duration),
    Html,
    EmptyBody,
    WrongShape,
    EmptyChoices,
    NullContent,
    NoUsage,
    BadGzip,
    /// With the bytes of content.
    Huge(usize),
    EchoKey,
    NullJob,
    Missing,
    Duplicate,
    Conflict,
    Foreign,
    Garble,
    StreamError,
    NoFinish,
    NoDone,
    /// No damage: the stream comes in its shape.
    Shape,
}

impl FaultKind {
    /// Returns true if the server generates (and bills) the answer before the damage, even without `after`.
    fn generates(&self) -> bool {
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
                | Self::StreamError
                | Self::NoFinish
                | Self::NoDone
                | Self::Shape
        )
    }

    /// Returns true if only a stream can have this damage.
    pub fn is_for_streams(&self) -> bool {
        matches!(self, Self::StreamError | Self::NoFinish | Self::NoDone | Self::Shape)
    }

    /// Returns true if only a row of a batch can have this damage.
    pub fn is_for_rows(&self) -> bool {
        matches!(self, Self::Missing | Self::Duplicate | Self::Conflict | Self::Foreign | Self::Garble)
    }
}

/// One scripted fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScriptedFault {
    /// The requests that it applies to.
    pub on: Scope,
    /// The choice among them.
    pub when: Trigger,
    /// The damage.
    pub kind: FaultKind,
    /// The number of times that a picked request fails.
    pub times: Times,
    /// The server does and keeps the work before the damage.
    pub after: bool,
    /// The shape of the answer, if it is a stream.
    #[serde(default)]
    pub stream: StreamShape,
}

impl ScriptedFault {
    /// Returns true if the server does the work before the damage.
    pub fn works_first(&self) -> bool {
        self.after || self.kind.generates()
    }
}
