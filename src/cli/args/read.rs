//! Flags about how inputs are read.

use clap::Args;

use crate::input::{Pick, ReadOptions, TextEncoding};

/// The reading of inputs.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// Format of the inputs [default: by the file ending; jsonl for standard input]
    #[arg(long, value_name = "FORMAT", value_parser = ["jsonl", "csv", "tsv", "lines", "parquet"])]
    input_format: Option<String>,
    /// Character between the fields of tables: one such as ; or |, or tab [default: recognised]
    #[arg(long, value_name = "CHAR", value_parser = delimiter)]
    delimiter: Option<u8>,
    /// Encoding of the inputs, such as utf-16le, windows-1252 or latin1 [default: utf-8]
    #[arg(long, value_name = "NAME")]
    encoding: Option<TextEncoding>,
    /// Use only the first N rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Use only N rows (of those of --limit), chosen at random; they keep their order and their row-N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    sample: Option<u64>,
    /// Seed of --sample: the same seed chooses the same rows [default: 0]
    #[arg(long, value_name = "SEED", requires = "sample")]
    sample_seed: Option<u64>,
}

impl ReadArgs {
    /// The reading of all shards.
    pub fn options(&self) -> ReadOptions {
        let Self { limit, sample, .. } = *self;
        ReadOptions {
            format: self.input_format.as_deref().and_then(|f| f.parse().ok()),
            delimiter: self.delimiter,
            encoding: self.encoding,
            pick: Pick { limit, sample, seed: self.sample_seed.unwrap_or(0), shard: None },
        }
    }
}

/// The value of `--delimiter`.
fn delimiter(text: &str) -> std::result::Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii_punctuation() && *byte != b'"' || matches!(byte, b'\t' | b' ') => Ok(*byte),
        _ => Err("expected one character such as , ; or |, or the word tab".to_owned()),
    }
}
