//! Errors of Parquet files, in words for people.

use std::cell::Cell;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use parquet::errors::ParquetError;

use crate::error::{Error, Exit};

/// The hint for a file that the system cannot read.
const CHECK: &str = "check the file and its disk";

/// The error of bytes that the system cannot read.
pub(super) fn unreadable(shown: &str, error: io::Error) -> Error {
    Error::new(Exit::NoInput, format!("{shown}: cannot read the input")).hint(CHECK).because(error)
}

/// The error of a file that is no Parquet file, or a kind of one that is not read.
pub(super) fn refused(shown: &str, what: &str, hint: impl Into<String>) -> Error {
    Error::new(Exit::Data, format!("{shown}: {what}")).hint(hint)
}

/// The error of data that cannot be decoded; `place`: where, such as ` near row 7`. An error of the source itself comes as it
/// is. Encrypted columns look damaged where the footer is plain.
pub(super) fn damaged(shown: &str, place: &str, error: ParquetError) -> Error {
    let error = match error {
        ParquetError::External(inner) => match inner.downcast::<Error>() {
            Ok(own) => return *own,
            Err(inner) => match inner.downcast::<io::Error>() {
                Ok(io) => return of_io(shown, place, *io),
                Err(inner) => ParquetError::External(inner),
            },
        },
        other => other,
    };
    let hint = "copy or download the file again; llbatch does not read files with encrypted columns";
    refused(shown, &format!("the Parquet data is damaged{place}"), hint).because(error)
}

/// An error of the source, if the library wrapped one; else damage, such as a page that does not unpack.
fn of_io(shown: &str, place: &str, error: io::Error) -> Error {
    let is_ours = error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Error>);
    match error.into_inner() {
        Some(inner) if is_ours => match inner.downcast::<Error>() {
            Ok(own) => *own,
            Err(inner) => damaged(shown, place, ParquetError::General(inner.to_string())),
        },
        Some(inner) => damaged(shown, place, ParquetError::General(inner.to_string())),
        None => damaged(shown, place, ParquetError::General("a page cannot be unpacked".to_owned())),
    }
}

thread_local! {
    /// True while this thread is in the decoder, whose panics are told as damage.
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a part of the decoder, which panics on some damaged files. A panic is damage, and prints nothing.
pub(super) fn decode<T>(part: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !DECODING.get() {
                usual(info);
            }
        }));
    });
    DECODING.set(true);
    let decoded = panic::catch_unwind(AssertUnwindSafe(part));
    DECODING.set(false);
    decoded.unwrap_or_else(|_| Err(ParquetError::General("its values contradict each other".to_owned())))
}
