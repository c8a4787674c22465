//! Flags with which a command tells others how it goes and ends, and the tags of its job.

use std::path::PathBuf;

use clap::Args;

use crate::api::ReceiverUrl;
use crate::atomic_file::local;
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::store::Tags;
use crate::telling::{TellAsk, Webhook};

/// Flags with which a command tells others how it goes and ends.
#[derive(Debug, Args)]
pub struct TellArgs {
    /// Keep the job's figures in FILE.prom for Prometheus: replaced every 15 s and at the end
    #[arg(long, value_name = "FILE.prom", help_heading = "Telling others")]
    metrics: Option<PathBuf>,
    /// Run CMD with `sh -c` when the command ends, interrupted too, for 60 s at most. It finds LLBATCH_JOB, LLBATCH_STATE,
    /// LLBATCH_EXIT and LLBATCH_SUMMARY (a file) in its environment
    #[arg(long, value_name = "CMD", help_heading = "Telling others")]
    on_done: Option<String>,
    // No doc comment: rustdoc takes a table of the config file for a link.
    #[arg(
        long,
        value_name = "URL",
        help_heading = "Telling others",
        help = "POST the summary to URL when the command ends, interrupted too; signed with [notify] secret_file of the config file"
    )]
    notify: Option<String>,
}

impl TellArgs {
    /// Returns whether a flag was given.
    pub const fn is_given(&self) -> bool {
        self.metrics.is_some() || self.on_done.is_some() || self.notify.is_some()
    }

    /// Checks the flags.
    ///
    /// # Errors
    /// 2 for a file that a collector would not read, for a URL that would not be told, and for an invalid secret.
    pub fn resolve(&self, settings: &Settings) -> Result<TellAsk> {
        if let Some(path) = &self.metrics {
            local(path)?;
            if path.extension().is_none_or(|ending| ending != "prom") {
                return Err(Error::usage(format!("--metrics {}: the name must end in .prom", path.display()))
                    .hint("node_exporter's textfile collector reads no other files"));
            }
        }
        if self.on_done.as_ref().is_some_and(|command| command.trim().is_empty()) {
            return Err(Error::usage("--on-done: the command is empty")
                .hint("for example --on-done 'cat \"$LLBATCH_SUMMARY\"'"));
        }
        let notice = self.notify.as_deref().map(|url| notice_to(url, settings)).transpose()?;
        Ok(TellAsk { metrics: self.metrics.clone(), on_done: self.on_done.clone(), notice })
    }
}

/// Checks the receiver of a notice. No error repeats its URL, which may hold a secret.
fn notice_to(url: &str, settings: &Settings) -> Result<Webhook> {
    let url = ReceiverUrl::parse(url)
        .map_err(|why| Error::usage(format!("--notify: {why}")).hint("pass an https URL, or http to this machine"))?;
    if url.is_secure() {
        settings.check_proxy()?;
    }
    Ok(Webhook { url, secret: settings.notify_secret()? })
}

/// Tags of a job.
#[derive(Debug, Args)]
pub struct TagArgs {
    /// Tag of the job, for `status --cost --by tag`; repeatable, each K once
    #[arg(long = "tag", value_name = "K=V")]
    tags: Vec<String>,
}

impl TagArgs {
    /// Splits the tags.
    ///
    /// # Errors
    /// 2 for a tag without `=` or a name, and for a name that is given twice.
    pub fn resolve(&self) -> Result<Tags> {
        let mut tags = Tags::new();
        for tag in &self.tags {
            let Some((name, value)) = tag.split_once('=').filter(|(name, _)| !name.trim().is_empty()) else {
                return Err(Error::usage(format!("--tag {tag}: expected K=V")).hint("for example --tag team=search"));
            };
            if tags.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(Error::usage(format!("--tag {tag}: {name} is given twice")).hint("a job has each tag once"));
            }
        }
        Ok(tags)
    }
}
