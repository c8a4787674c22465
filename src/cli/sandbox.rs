//! `--sandbox`: the built-in server inside this process.

use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::sandbox::{self, Config, Handle};

/// Starts the built-in server if `--sandbox` was given, and says so.
pub(super) fn start_if_asked(ctx: &Ctx) -> Result<Option<Handle>> {
    if !ctx.settings.sandbox {
        return Ok(None);
    }
    let handle = sandbox::start(Config::default())
        .map_err(|e| Error::new(Exit::Failure, "the sandbox cannot be started on 127.0.0.1").because(e))?;
    ctx.ui.note("sandbox: the built-in server answers; nothing leaves this machine and nothing is paid (prices below are what it would cost)");
    Ok(Some(handle))
}
