//! Holds stored answers against the rules of a command that goes on with their job.

use crate::completion::Completion;
use crate::context::Ctx;
use crate::error::Result;
use crate::outcome::{ErrorCode, Outcome, Usage};
use crate::rules::AnswerRules;
use crate::store::JobDb;
use crate::text;

/// The verdicts that new rules have changed.
#[derive(Debug, Default)]
struct ChangedVerdicts {
    passing: u64,
    failing: u64,
}

impl ChangedVerdicts {
    /// Holds an outcome with a body against the rules. Returns true if its verdict or its reason changes.
    fn judge(&mut self, outcome: &mut Outcome, rules: &AnswerRules) -> bool {
        // Other failures were no answers.
        let rejected =
            outcome.error.as_ref().is_some_and(|error| error.rule.is_some() || error.code == ErrorCode::InvalidAnswer);
        if !(outcome.ok() || rejected) {
            return false;
        }
        let body = outcome.body.as_deref().unwrap_or_default();
        match rules.violation(body) {
            Some(broken) if outcome.ok() => {
                self.failing += 1;
                outcome.reject(broken);
                true
            }
            Some(broken) => {
                let changed = outcome.error.as_ref() != Some(&broken);
                outcome.error = Some(broken);
                changed
            }
            None if outcome.ok() => false,
            None => {
                self.passing += 1;
                let billed = Completion::of(body).usage().map(Usage::from);
                outcome.accept(billed);
                true
            }
        }
    }
}

/// Judges the stored answers anew if the rules are not those that they were held against, and says what changes.
///
/// # Errors
/// 74 if an answer is damaged or cannot be written.
pub(super) fn judge_anew(db: &mut JobDb, rules: &AnswerRules, ctx: &Ctx) -> Result<()> {
    if db.judged_by()? == rules.fingerprint() {
        return Ok(());
    }
    let mut changed = ChangedVerdicts::default();
    db.judge_anew(rules.fingerprint(), &mut |outcome| changed.judge(outcome, rules))?;
    let ChangedVerdicts { passing, failing } = changed;
    if passing + failing > 0 {
        ctx.ui.note(&format!(
            "the rules for answers have changed: {} that passed {} now, {} that failed {}",
            text::plural(failing, "answer"),
            text::agree(failing, "fails", "fail"),
            text::plural(passing, "answer"),
            text::agree(passing, "passes", "pass"),
        ));
    }
    Ok(())
}
