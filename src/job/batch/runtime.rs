//! The network thread's runtime.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use tokio::runtime::Runtime;

use crate::error::{Error, Exit, Result};

thread_local! {
    static RUNTIME: RefCell<Weak<Runtime>> = const { RefCell::new(Weak::new()) };
}

/// Returns the runtime, which lives while a caller holds it. There is only one: the client's idle connections belong to
/// the runtime that opened them, and would stall under another one.
///
/// # Errors
/// 1 if the system cannot start a runtime.
pub fn runtime() -> Result<Rc<Runtime>> {
    RUNTIME.with_borrow_mut(|shared| {
        if let Some(runtime) = shared.upgrade() {
            return Ok(runtime);
        }
        let made = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::new(Exit::Failure, "the network cannot be set up").because(e))?;
        let runtime = Rc::new(made);
        *shared = Rc::downgrade(&runtime);
        Ok(runtime)
    })
}
