//! Funds: money drawn from the budgets that several processes share.

use std::sync::Mutex;

use tokio::sync::Notify;

use crate::price::Nanos;

/// Money drawn from the budgets shared with other processes. The engine asks for more, and the consumer draws it.
#[derive(Debug, Default)]
pub(super) struct Funds {
    state: Mutex<FundState>,
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct FundState {
    amount: Nanos,
    /// The engine has asked for more, and has no answer yet.
    asked: bool,
    /// At that time no request was in flight that could have released money.
    idle: bool,
    /// The budget that has no more.
    refused: Option<String>,
}

/// The engine's request for more money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// At least this much more.
    pub least: Nanos,
    /// The money spent, if no request is in flight that could release money. The drawn rest has been given up.
    pub idle: Option<Nanos>,
}

/// The next step toward more money.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Draw {
    /// Ask for more.
    Ask(Need),
    /// Wait for an answer, or for the requests in flight.
    Wait,
    /// There is no more of this budget.
    Stop(String),
}

impl Funds {
    /// The money drawn so far.
    pub(super) fn drawn(&self) -> Nanos {
        self.state.lock().map_or(Nanos::ZERO, |state| state.amount)
    }

    /// Decides the next step when `least` more is needed. `idle` is the money spent, if no request is in flight that could
    /// release money. Then the drawn rest is useless here, and goes back for others.
    pub(super) fn request(&self, least: Nanos, idle: Option<Nanos>) -> Draw {
        let Ok(mut state) = self.state.lock() else { return Draw::Stop(String::new()) };
        if state.asked {
            return Draw::Wait;
        }
        if state.refused.is_some() {
            if state.idle {
                return Draw::Stop(state.refused.take().unwrap_or_default());
            }
            if idle.is_none() {
                return Draw::Wait;
            }
        }
        (state.asked, state.idle, state.refused) = (true, idle.is_some(), None);
        let Some(spent) = idle else { return Draw::Ask(Need { least, idle }) };
        let rest = state.amount - spent;
        state.amount = spent;
        Draw::Ask(Need { least: least + rest, idle })
    }

    /// Takes the consumer's answer: the money drawn so far, or the budget that has no more.
    pub(super) fn answer(&self, answer: Result<Nanos, String>) {
        if let Ok(mut state) = self.state.lock() {
            state.asked = false;
            match answer {
                Ok(amount) => (state.amount, state.refused) = (amount, None),
                Err(budget) => state.refused = Some(budget),
            }
        }
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_stops_only_when_no_money_can_be_released() {
        let funds = Funds::default();
        let short = |idle| funds.request(Nanos(9), idle);
        let busy = Draw::Ask(Need { least: Nanos(9), idle: None });
        assert_eq!(short(None), busy);
        assert_eq!(short(None), Draw::Wait, "one question at a time");
        funds.answer(Ok(Nanos(5)));
        assert_eq!(funds.drawn(), Nanos(5));
        assert_eq!(short(None), busy);
        funds.answer(Err("today".to_owned()));
        assert_eq!(short(None), Draw::Wait, "for the requests in flight");
        let idle = Some(Nanos(3));
        assert_eq!(short(idle), Draw::Ask(Need { least: Nanos(11), idle }), "once more at the end");
        assert_eq!(funds.drawn(), Nanos(3), "others may need the rest");
        assert_eq!(short(idle), Draw::Wait);
        funds.answer(Err("today".to_owned()));
        assert_eq!(short(idle), Draw::Stop("today".to_owned()));
    }
}
