//! The place of the state directory, and the kind of file system that it is used as.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use crate::text::one_line;

/// `--state-mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateMode {
    /// By the file system that holds the directory.
    #[default]
    Auto,
    /// One machine uses the directory.
    Local,
    /// Several machines see the directory, and one at a time uses it.
    Network,
}

impl FromStr for StateMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "local" => Ok(Self::Local),
            "network" => Ok(Self::Network),
            _ => Err(format!("`{}` is not auto, local or network", one_line(text))),
        }
    }
}

impl fmt::Display for StateMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Local => "local",
            Self::Network => "network",
        })
    }
}

/// The state directory, and its mode.
#[derive(Debug, Clone, Copy)]
pub struct StatePlace<'a> {
    /// Its path.
    pub dir: &'a Path,
    /// Its mode.
    pub mode: StateMode,
}

impl<'a> From<&'a Path> for StatePlace<'a> {
    fn from(dir: &'a Path) -> Self {
        Self { dir, mode: StateMode::Auto }
    }
}

impl<'a> From<&'a PathBuf> for StatePlace<'a> {
    fn from(dir: &'a PathBuf) -> Self {
        dir.as_path().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_spelled_as_they_are_read() {
        for mode in [StateMode::Auto, StateMode::Local, StateMode::Network] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("nfs".parse::<StateMode>().unwrap_err().contains("auto, local or network"));
    }
}
