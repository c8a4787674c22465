//! `--sandbox`: the built-in server inside this process.
//!
//! Its files and batches are kept in the state directory. Successive commands see the same ones, although each command
//! has a server and a port of its own. `LLBATCH_SANDBOX` scripts it ([`sandbox::SCRIPT_HELP`]). Settings that are
//! decided at the creation of a batch (times, its end, faults of rows) stay with the batch. Other settings hold for one
//! command, and counts (`nth`, `times`) begin at 0 with each command.

use crate::api::Dialect;
use crate::context::Ctx;
use crate::error::{Error, Result};
use crate::sandbox::{self, Sandbox, SandboxConfig, ServedDialect};
use crate::settings::{SANDBOX_ENV, Settings};

/// Learns from the script which form of files and batches the built-in server takes. An invalid script is refused later.
pub(super) fn learn_dialect(settings: &mut Settings) {
    let mut config = SandboxConfig::default();
    let script = settings.sandbox_script.as_deref().unwrap_or_default();
    if settings.sandbox && config.script(script).is_ok() && config.dialect == ServedDialect::Openai {
        settings.sandbox_dialect = Dialect::Openai;
    }
}

/// Starts the built-in server if `--sandbox` was given, and tells the user.
pub(super) fn start_if_asked(ctx: &Ctx) -> Result<Option<Sandbox>> {
    if !ctx.settings.sandbox {
        return Ok(None);
    }
    let state_dir = ctx.settings.state_dir()?.join("sandbox");
    let mut config = SandboxConfig { state_dir: Some(state_dir), ..SandboxConfig::default() };
    if let Some(script) = &ctx.settings.sandbox_script {
        config.script(script).map_err(|why| {
            Error::usage(format!("{SANDBOX_ENV}: {why}")).hint("`llbatch serve --help` lists what can be scripted")
        })?;
    }
    let handle = sandbox::start(config).map_err(|e| {
        use std::io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};
        let unwritable = matches!(e.kind(), PermissionDenied | ReadOnlyFilesystem | NotADirectory);
        let error = Error::io("the sandbox cannot be started", e);
        let hint =
            "it keeps its files in the state directory; choose another one with --state-dir or LLBATCH_STATE_DIR";
        if unwritable { error.hint(hint) } else { error }
    })?;
    ctx.ui.note("sandbox: answers are made up on this machine; nothing is sent or charged");
    Ok(Some(handle))
}
