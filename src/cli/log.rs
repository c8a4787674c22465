//! Diagnostics on stderr, and panics where each line is an object.

use tracing::{Level, Metadata};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use crate::ui::{LogLevel, LogWriter, Ui};

/// Starts diagnostics of this crate alone, because libraries may log headers.
pub(super) fn start_log(verbose: u8, ui: &Ui) {
    if ui.is_json_log() {
        let ui = ui.clone();
        std::panic::set_hook(Box::new(move |panic| {
            let at = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
            ui.panicked(&format!("panicked{at}: {}", panic.payload_as_str().unwrap_or("no message")));
        }));
    }
    let level = match verbose {
        0 => return,
        1 => Level::INFO,
        _ => Level::TRACE,
    };
    let plain = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(Levelled(ui.clone()))
        .with_ansi(false)
        .with_target(false);
    let targets = Targets::new().with_target("llbatch", level);
    // A second call in one process keeps the first subscriber.
    drop(if ui.is_json_log() {
        // Time and level are members of the object.
        tracing::subscriber::set_global_default(plain.with_level(false).without_time().finish().with(targets))
    } else {
        tracing::subscriber::set_global_default(plain.finish().with(targets))
    });
}

/// Writes each line of the log with its level.
struct Levelled(Ui);

impl<'a> MakeWriter<'a> for Levelled {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> LogWriter {
        self.0.log(LogLevel::Info)
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> LogWriter {
        self.0.log(match *meta.level() {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warn,
            Level::INFO => LogLevel::Info,
            _ => LogLevel::Debug,
        })
    }
}
