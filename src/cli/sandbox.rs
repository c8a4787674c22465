//! `--sandbox`: the built-in server inside this process.
//!
//! Its files and batches live under the state directory, so that commands typed one after the other see the same ones,
//! although each has a server, and a port, of its own. `LLBATCH_SANDBOX` scripts it ([`sandbox::SCRIPT_HELP`]); what is
//! decided when a batch is created (times, its end, faults of rows) stays with the batch, everything else holds for the
//! command that it was set for, and counts (`nth`, `times`) begin anew with each command.

use crate::context::Ctx;
use crate::error::{Error, Result};
use crate::sandbox::{self, Sandbox, SandboxConfig};
use crate::settings::SANDBOX_ENV;

/// Starts the built-in server if `--sandbox` was given, and says so.
pub(super) fn start_if_asked(ctx: &Ctx) -> Result<Option<Sandbox>> {
    if !ctx.settings.sandbox {
        return Ok(None);
    }
    let mut config =
        SandboxConfig { state_dir: Some(ctx.settings.state_dir.value.join("sandbox")), ..SandboxConfig::default() };
    if let Some(script) = &ctx.settings.sandbox_script {
        config.script(script).map_err(|why| {
            Error::usage(format!("{SANDBOX_ENV}: {why}")).hint("`llbatch serve --help` lists what can be scripted")
        })?;
    }
    let handle = sandbox::start(config).map_err(|e| Error::io("the sandbox cannot be started", e))?;
    ctx.ui.note(
        "sandbox: the built-in server answers; nothing leaves this machine and nothing is charged (prices \
                 show what it would cost)",
    );
    Ok(Some(handle))
}
