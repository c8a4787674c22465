//! The network thread's runtime.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use tokio::runtime::Runtime;

use crate::error::{Error, Exit, Result};

thread_local! {
    static RUNTIME: RefCell<Weak<Runtime>> = const { RefCell::new(Weak::new()) };
}

/// The runtime, for as long as somebody holds it. There is one: a connection that the client keeps is driven by the runtime
/// that it was made on, and would stand still while another one runs.
///
/// # Errors
/// 1 if the system refuses.
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
