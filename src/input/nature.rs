//! Inputs that are something else than text: named for what they are, with a way to convert them.

use std::path::Path;

use super::Format;
use crate::error::{Error, Exit, Result};

/// Refuses a file whose first bytes are those of a workbook, an archive or another binary format.
///
/// # Errors
/// 65 with the command that converts it.
pub fn refuse(file: &str, head: &[u8]) -> Result<()> {
    let book = "if it is an Excel workbook, save it as CSV (UTF-8); otherwise unpack it first: unzip";
    let (what, hint) = match head {
        [b'P', b'K', 3, 4, ..] => ("an Excel workbook or another zip archive", book.to_owned()),
        [0xd0, 0xcf, 0x11, 0xe0, ..] => {
            ("an old Excel workbook (.xls)", "save it as CSV (UTF-8) in Excel or LibreOffice".to_owned())
        }
        [b'P', b'A', b'R', b'1', ..] => ("a Parquet file, which llbatch does not read yet", parquet(file)),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => {
            ("packed with bzip2, which llbatch does not read", format!("unpack it: bunzip2 -k '{file}'"))
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            ("packed with xz, which llbatch does not read", format!("unpack it: unxz -k '{file}'"))
        }
        _ => return Ok(()),
    };
    Err(Error::new(Exit::Data, format!("{file}: the file is {what}")).hint(hint))
}

/// The error of an input whose name tells that it cannot be read: an address, or an ending of another format.
pub fn unread(shown: &str) -> Option<Error> {
    let piped = |command: &str| {
        let format = Format::of_path(Path::new(shown)).unwrap_or(Format::Jsonl);
        format!("pipe it: {command} | llbatch … - --input-format {format}")
    };
    if let Some((scheme, rest)) = shown.split_once("://") {
        let (what, hint) = match scheme.to_ascii_lowercase().as_str() {
            "s3" => ("an object in a bucket", piped(&format!("aws s3 cp '{shown}' -"))),
            "gs" => ("an object in a bucket", piped(&format!("gcloud storage cat '{shown}'"))),
            "az" => ("an object in Azure storage", "download it first, for example with azcopy copy".to_owned()),
            "hf" => ("a file on Hugging Face", "download it first: hf download".to_owned()),
            "http" | "https" => ("an address", piped(&format!("curl -fsSL '{shown}'"))),
            "file" => ("an address", format!("name its path: {rest}")),
            _ => return None,
        };
        let text = format!("{shown}: this is {what}, which llbatch does not read yet");
        return Some(Error::new(Exit::NoInput, text).hint(hint));
    }
    let ending = shown.rsplit_once('.')?.1.to_ascii_lowercase();
    let (what, hint) = match ending.as_str() {
        "parquet" => ("a Parquet file", parquet(shown)),
        "xlsx" | "xls" | "ods" => ("a workbook", "save it as CSV (UTF-8) and name that file".to_owned()),
        "bz2" | "xz" | "zip" => ("an archive", "unpack it first; llbatch reads .gz and .zst".to_owned()),
        _ => return None,
    };
    Some(Error::usage(format!("{shown}: this is {what}, which llbatch does not read yet")).hint(hint))
}

fn parquet(file: &str) -> String {
    format!("convert it: duckdb -c \"COPY (FROM '{file}') TO 'lines.jsonl' (FORMAT json)\"")
}
