//! Flags with which a command tells others how it goes and ends, and the tags of its job.

use std::path::PathBuf;

use clap::Args;

use crate::atomic_file::local;
use crate::error::{Error, Result};
use crate::store::Tags;
use crate::telling::TellAsk;

/// Flags with which a command tells others how it goes and ends.
#[derive(Debug, Args)]
pub struct TellArgs {
    /// Keep the job's figures in FILE.prom for Prometheus: replaced every 15 s and at the end
    #[arg(long, value_name = "FILE.prom", help_heading = "Telling others")]
    metrics: Option<PathBuf>,
}

impl TellArgs {
    /// Returns whether a flag was given.
    pub const fn is_given(&self) -> bool {
        self.metrics.is_some()
    }

    /// Checks the flags.
    ///
    /// # Errors
    /// 2 for a file that a collector would not read.
    pub fn resolve(&self) -> Result<TellAsk> {
        if let Some(path) = &self.metrics {
            local(path)?;
            if path.extension().is_none_or(|ending| ending != "prom") {
                return Err(Error::usage(format!("--metrics {}: the name must end in .prom", path.display()))
                    .hint("node_exporter's textfile collector reads no other files"));
            }
        }
        Ok(TellAsk { metrics: self.metrics.clone() })
    }
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
