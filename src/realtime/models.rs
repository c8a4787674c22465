//! Models that the service does not know: what of the job asks for them need not be sent.

use std::sync::Arc;

use super::Engine;

/// Rows of one model that are refused as "no such model", with no answer in between, before the rest is not sent.
pub(super) const MODEL_REFUSALS: u32 = 5;

#[derive(Debug, Default)]
pub(super) struct ModelState {
    answered: bool,
    refusals: u32,
    words: String,
}

impl Engine {
    pub(super) fn served(&self, model: &Arc<str>) {
        // Nearly always the model of the row before; names are shared, so that looking it up can be spared.
        if self.last_served.borrow().as_ref().is_some_and(|last| Arc::ptr_eq(last, model)) {
            return;
        }
        *self.last_served.borrow_mut() = Some(Arc::clone(model));
        let mut models = self.models.borrow_mut();
        if let Some(state) = models.get_mut(model) {
            state.answered = true;
        } else {
            models.insert(Arc::clone(model), ModelState { answered: true, ..Default::default() });
        }
    }

    pub(super) fn refused_model(&self, model: &Arc<str>, words: &str) {
        self.any_refused.set(true);
        let mut models = self.models.borrow_mut();
        let state = models.entry(Arc::clone(model)).or_default();
        state.refusals += 1;
        words.clone_into(&mut state.words);
    }

    /// The service's words if it has refused this model again and again: no row of it will ever be answered.
    pub(super) fn unserved(&self, model: &Arc<str>) -> Option<String> {
        if !self.any_refused.get() {
            return None;
        }
        let models = self.models.borrow();
        let state = models.get(model)?;
        (!state.answered && state.refusals >= MODEL_REFUSALS).then(|| state.words.clone())
    }
}
