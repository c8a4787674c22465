//! `--shard I/N` and `--shard auto[/N]`.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::input::Shard;
use crate::settings::TaskPlace;
use crate::ui::Ui;

/// The value of `--shard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardArg {
    /// This one.
    Known(Shard),
    /// The one that a scheduler's variables name, of so many if the user says so.
    Auto(Option<u64>),
}

impl FromStr for ShardArg {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.strip_prefix("auto") {
            Some("") => Ok(Self::Auto(None)),
            Some(rest) => {
                let count = rest.strip_prefix('/').and_then(|count| count.parse().ok()).filter(|count| *count > 0);
                count.map(|count| Self::Auto(Some(count))).ok_or_else(|| "expected auto/N, such as auto/8".to_owned())
            }
            None => text.parse().map(Self::Known),
        }
    }
}

impl ShardArg {
    /// The shard, unless it is still to be read from the environment.
    pub const fn known(self) -> Option<Shard> {
        match self {
            Self::Known(shard) => Some(shard),
            Self::Auto(_) => None,
        }
    }

    /// Reads the shard of `auto` from the variables of a scheduler, and tells the user which it is.
    pub(super) fn resolve(self, env: &dyn Fn(&str) -> Option<String>, ui: &Ui) -> Result<Self> {
        let Self::Auto(count) = self else { return Ok(self) };
        let TaskPlace { index, count, source } = TaskPlace::find(count, env)?;
        let shard = Shard::new(index, count)
            .ok_or_else(|| Error::usage(format!("--shard auto: {source} name task {index} of {count}")))?;
        ui.note(&format!("--shard auto: {shard}, by {source}"));
        Ok(Self::Known(shard))
    }
}
