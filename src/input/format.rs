//! The formats an input may have.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::objects::{ObjectUrl, is_url};

/// The rule by which an input's bytes are cut into records.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON object a line.
    Jsonl,
    /// Comma-separated with a header.
    Csv,
    /// Tab-separated with a header.
    Tsv,
    /// Plain text: each line is the field `line`.
    Lines,
    /// Columns of typed values.
    Parquet,
}

impl Format {
    const ALL: [Self; 5] = [Self::Jsonl, Self::Csv, Self::Tsv, Self::Lines, Self::Parquet];

    /// The flag's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Lines => "lines",
            Self::Parquet => "parquet",
        }
    }

    /// The format that the ending of a file or URL names. A `.gz` or `.zst` behind it does not count.
    pub fn of_path(path: &Path) -> Option<Self> {
        if is_url(path) {
            // A query may follow the name.
            return Self::of_name(ObjectUrl::parse(path).ok()?.name());
        }
        Self::of_name(path)
    }

    fn of_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().to_lowercase();
        let name = [".gz", ".zst"].iter().find_map(|packed| name.strip_suffix(packed)).unwrap_or(&name);
        match name.rsplit_once('.')?.1 {
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "txt" => Some(Self::Lines),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| format!("unknown format {text:?}: expected jsonl, csv, tsv, lines or parquet"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_tell_the_format() {
        for (path, format) in [
            ("a.jsonl", Some(Format::Jsonl)),
            ("dir.csv/a.NDJSON.gz", Some(Format::Jsonl)),
            ("a.b.csv.zst", Some(Format::Csv)),
            ("a.tsv", Some(Format::Tsv)),
            ("https://h/a.csv?x=1.txt", Some(Format::Csv)),
            ("a.txt", Some(Format::Lines)),
            ("a.gz", None),
            ("a", None),
            ("csv", None),
            ("a.PARQUET", Some(Format::Parquet)),
        ] {
            assert_eq!(Format::of_path(Path::new(path)), format, "{path}");
        }
        assert_eq!("tsv".parse(), Ok(Format::Tsv));
        assert!("xml".parse::<Format>().is_err());
    }
}
