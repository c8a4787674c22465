//! The decision after a failed try: pure, from the failure and the earlier tries of the row.

use std::time::Duration;

use super::Stopped;
use super::upstreams::FailureExtent;
use crate::api::error::{Class, Failure, Fault};
use crate::api::limits::Limits;
use crate::api::retry;

/// A row is sent again this often although an earlier request may have been worked on and billed.
const AMBIGUOUS_RESENDS: u32 = 3;
/// After this many refusals (429, 503) of one row while others were answered, the row itself is the reason.
const ALONE: u32 = 3;
/// A wait longer than this names a quota of its own, and not the rate: while others are answered, it holds only this row.
const LONG_WAIT: Duration = Duration::from_mins(1);
/// After this many, the row fails: it has waited for minutes while others were answered.
const ALONE_FOR_GOOD: u32 = 12;
/// A key that was accepted before and is refused now is tried again after this.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// The failed tries of one row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tries {
    /// Failures that count against `--retries`.
    pub(super) failures: u32,
    /// Requests that may have been worked on.
    ambiguous: u32,
    /// Refusals while others were answered.
    alone: u32,
    /// Refusals that end the run (401, 402, 403, a connection that cannot be set up).
    unauthorized: u32,
    /// The number of answers to all rows at the last refusal.
    answers: Option<u64>,
    /// The number of answers to all rows at the last failed connection.
    unreached: Option<u64>,
}

/// The state of the run, as far as a decision depends on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct TryFacts {
    /// `--retries`
    pub(super) retries: u32,
    /// The number of answers to all rows.
    pub(super) answers: u64,
    /// Earlier runs of this job were answered.
    pub(super) answered_before: bool,
    /// Refusals for the key or for money meet every row, whatever it holds.
    pub(super) hopeless: bool,
    /// The part of the service that the failure concerns.
    pub(super) extent: FailureExtent,
    /// Another row was answered just now.
    pub(super) answering: bool,
    /// Jitter, uniform in 0..1.
    pub(super) chance: f64,
}

/// The next step after a failed try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// The row has failed.
    Fail,
    /// Send this row again after this wait.
    Resend(Duration),
    /// Send this row again after this wait, and no other row before it is answered or refused.
    SecondLook(Duration),
    /// Send this row again after this long wait; its model waits as well if that happens to several rows.
    Hold(Duration),
    /// Everyone waits for the limiter, this row too.
    HoldAll,
    /// No row will be answered: the run stops.
    StopRun(Stopped),
}

impl Tries {
    /// Counts a failed try. `headers` are those of the response.
    pub(super) fn count(&mut self, class: Class, headers: &Limits, facts: &TryFacts) {
        match class {
            Class::AboveRate if headers.parallel.is_some() => {}
            Class::AboveRate | Class::NoCapacity => {
                let others_answered = self.answers.is_some_and(|before| before < facts.answers);
                self.alone += u32::from(self.alone >= ALONE || others_answered);
                self.answers = Some(facts.answers);
            }
            // The server is the reason, and is left out.
            Class::NotSent if facts.extent == FailureExtent::OneUrl => {}
            Class::NotSent => {
                // While no row is answered, this row is not the reason.
                self.failures += u32::from(self.unreached.is_some_and(|before| before < facts.answers));
                self.unreached = Some(facts.answers);
            }
            Class::Ambiguous => {
                self.failures += 1;
                self.ambiguous += 1;
            }
            Class::JobFatal => self.unauthorized += 1,
            Class::RowFatal | Class::Spent => {}
        }
    }
}

/// The remedy for a failure of this extent.
pub(super) fn class_of(failure: &Failure, extent: FailureExtent) -> Class {
    match extent {
        // The other URLs need nothing from the user.
        FailureExtent::OneUrl if failure.setup().is_some() => Class::NotSent,
        // Another URL may have the model, or accept the key.
        FailureExtent::OneUrl if failure.model_unknown || failure.class() == Class::JobFatal => Class::NoCapacity,
        _ => failure.class(),
    }
}

/// Decides the next step after `failure`, which `tries` has counted. `headers` are those of the response.
pub(super) fn decide(failure: &Failure, headers: &Limits, tries: &Tries, facts: &TryFacts) -> Decision {
    let class = class_of(failure, facts.extent);
    match class {
        Class::AboveRate | Class::NoCapacity => match tries.alone {
            0..=ALONE_FOR_GOOD if facts.extent == FailureExtent::OneUrl => Decision::Resend(Duration::ZERO),
            _ if facts.answering && headers.parallel.is_none() && headers.wait.is_some_and(|wait| wait > LONG_WAIT) => {
                Decision::Hold(retry::delay(class, 1, headers.wait, facts.chance))
            }
            0..ALONE => Decision::HoldAll,
            ALONE..=ALONE_FOR_GOOD => {
                Decision::Resend(retry::delay(class, tries.alone - ALONE + 1, headers.wait, facts.chance))
            }
            _ => Decision::Fail,
        },
        Class::NotSent | Class::Ambiguous => {
            let forbidden = headers.should_retry == Some(false);
            if forbidden || tries.failures > facts.retries || tries.ambiguous > AMBIGUOUS_RESENDS {
                return Decision::Fail;
            }
            let hint = headers.wait.filter(|_| headers.should_retry == Some(true));
            Decision::Resend(retry::delay(class, tries.failures.max(1), hint, facts.chance))
        }
        Class::RowFatal | Class::Spent => Decision::Fail,
        Class::JobFatal if facts.answers > 0 || facts.answered_before => match failure.meant_status() {
            // A key that was accepted a moment ago: one server of several may be behind.
            Some(401) if tries.unauthorized <= 1 => {
                Decision::SecondLook(retry::delay(class, 1, Some(SECOND_LOOK), facts.chance))
            }
            // The same key is answered for other rows, so this one row or its model is the reason.
            _ if failure.may_concern_one_row() && !facts.hopeless => Decision::Fail,
            _ => Decision::StopRun(verdict(failure)),
        },
        Class::JobFatal => Decision::StopRun(verdict(failure)),
    }
}

/// The reason to stop after a failure that every row would meet.
fn verdict(failure: &Failure) -> Stopped {
    let message = failure.message.clone();
    match failure.setup() {
        Some(setup) => Stopped::Setup(format!("{message}; {}", setup.remedy())),
        None if failure.fault == Fault::Payment => Stopped::Payment(message),
        None => Stopped::Auth(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::error::Setup;
    use crate::api::limits::ParallelLimit;

    const FACTS: TryFacts = TryFacts {
        retries: 5,
        answers: 0,
        answered_before: false,
        hopeless: false,
        extent: FailureExtent::Service,
        answering: false,
        chance: 1.0,
    };
    const NO_HEADERS: Limits =
        Limits { wait: None, requests_per_second: None, tokens_per_second: None, should_retry: None, parallel: None };

    fn failure(fault: Fault) -> Failure {
        Failure::new(fault, "why".to_owned())
    }

    const fn tries(failures: u32, ambiguous: u32, alone: u32) -> Tries {
        Tries { failures, ambiguous, alone, unauthorized: 0, answers: None, unreached: None }
    }

    #[test]
    fn every_failure_leads_to_its_decision() {
        let resend = |ms| Decision::Resend(Duration::from_millis(ms));
        let stop = |reason: fn(String) -> Stopped| Decision::StopRun(reason("why".to_owned()));
        let retry = Limits { should_retry: Some(true), wait: Some(Duration::from_secs(10)), ..NO_HEADERS };
        let wait = Limits { should_retry: None, ..retry };
        let no_retry = Limits { should_retry: Some(false), ..NO_HEADERS };
        let cases = [
            // Never sent: only `--retries` limits it.
            (Fault::Connect, NO_HEADERS, tries(1, 0, 0), resend(250)),
            (Fault::Connect, NO_HEADERS, tries(5, 0, 0), resend(4000)),
            (Fault::Connect, NO_HEADERS, tries(6, 0, 0), Decision::Fail),
            (Fault::Connect, NO_HEADERS, tries(0, 0, 0), resend(250)),
            // Perhaps billed: fewer tries.
            (Fault::Server, NO_HEADERS, tries(3, 3, 0), resend(1000)),
            (Fault::Timeout, NO_HEADERS, tries(4, 4, 0), Decision::Fail),
            (Fault::BadResponse, no_retry, tries(1, 1, 0), Decision::Fail),
            (Fault::Broken, retry, tries(1, 1, 0), resend(11_000)),
            (Fault::Broken, wait, tries(1, 1, 0), resend(250)),
            // Refused: everyone waits, until the row is the reason.
            (Fault::RateLimited, NO_HEADERS, tries(0, 0, 0), Decision::HoldAll),
            (Fault::Overloaded, NO_HEADERS, tries(0, 0, 2), Decision::HoldAll),
            (Fault::RateLimited, NO_HEADERS, tries(0, 0, 3), resend(1000)),
            (Fault::Overloaded, wait, tries(0, 0, 4), resend(11_000)),
            (Fault::RateLimited, NO_HEADERS, tries(0, 0, 12), resend(60_000)),
            (Fault::RateLimited, NO_HEADERS, tries(0, 0, 13), Decision::Fail),
            (Fault::RateLimited, NO_HEADERS, tries(9, 9, 0), Decision::HoldAll),
            // Hopeless.
            (Fault::InvalidRequest, NO_HEADERS, tries(0, 0, 0), Decision::Fail),
            (Fault::ContextLength, retry, tries(0, 0, 0), Decision::Fail),
            (Fault::NotFound, NO_HEADERS, tries(0, 0, 0), Decision::Fail),
            (Fault::Auth, NO_HEADERS, tries(0, 0, 0), stop(Stopped::Auth)),
            (Fault::Payment, NO_HEADERS, tries(0, 0, 0), stop(Stopped::Payment)),
            (Fault::Local, NO_HEADERS, tries(0, 0, 0), stop(Stopped::Auth)),
            (
                Fault::Setup(Setup::NotTls),
                NO_HEADERS,
                tries(0, 0, 0),
                Decision::StopRun(Stopped::Setup(format!("why; {}", Setup::NotTls.remedy()))),
            ),
        ];
        for (fault, headers, tries, expected) in cases {
            assert_eq!(decide(&failure(fault), &headers, &tries, &FACTS), expected, "{fault:?} {headers:?} {tries:?}");
        }
    }

    #[test]
    fn refusal_for_the_key_or_money_is_one_rows_while_others_are_answered() {
        let refused = |fault, status| Failure { status: Some(status), ..failure(fault) };
        let decided = |failure: &Failure, facts| decide(failure, &NO_HEADERS, &Tries::default(), &facts);
        for (failure, alone) in [
            (refused(Fault::Auth, 403), Stopped::Auth as fn(String) -> Stopped),
            (refused(Fault::Payment, 402), Stopped::Payment),
            (refused(Fault::Payment, 429), Stopped::Payment),
        ] {
            let stop = Decision::StopRun(alone("why".to_owned()));
            assert_eq!(decided(&failure, FACTS), stop);
            for answered in [TryFacts { answers: 1, ..FACTS }, TryFacts { answered_before: true, ..FACTS }] {
                assert_eq!(decided(&failure, answered), Decision::Fail);
                assert_eq!(decided(&failure, TryFacts { hopeless: true, ..answered }), stop);
            }
        }
    }

    #[test]
    fn refused_key_is_asked_once_more_if_it_was_accepted_before() {
        let failure = Failure { status: Some(401), ..failure(Fault::Auth) };
        let stop = Decision::StopRun(Stopped::Auth("why".to_owned()));
        let answered = TryFacts { answers: 1, chance: 0.0, ..FACTS };
        let mut row = Tries::default();
        row.count(Class::JobFatal, &NO_HEADERS, &answered);
        assert_eq!(decide(&failure, &NO_HEADERS, &row, &FACTS), stop, "never accepted");
        assert!(matches!(decide(&failure, &NO_HEADERS, &row, &answered), Decision::SecondLook(_)));
        row.count(Class::JobFatal, &NO_HEADERS, &answered);
        assert_eq!(decide(&failure, &NO_HEADERS, &row, &answered), stop);
    }

    #[test]
    fn long_wait_holds_a_row_while_others_are_answered() {
        let day = Limits { wait: Some(Duration::from_hours(24)), ..NO_HEADERS };
        let minute = Limits { wait: Some(Duration::from_mins(1)), ..NO_HEADERS };
        let answering = TryFacts { answering: true, chance: 0.0, ..FACTS };
        let decided = |headers, facts| decide(&failure(Fault::RateLimited), &headers, &Tries::default(), &facts);
        assert_eq!(decided(day, answering), Decision::Hold(Duration::from_hours(24)));
        assert_eq!(decided(day, FACTS), Decision::HoldAll);
        assert_eq!(decided(minute, answering), Decision::HoldAll, "the end of a window");
        assert_eq!(decided(Limits { parallel: Some(ParallelLimit::Unnamed), ..day }, answering), Decision::HoldAll);
    }

    #[test]
    fn row_of_a_server_without_capacity_goes_to_another_at_once() {
        let elsewhere = TryFacts { extent: FailureExtent::OneUrl, answering: true, chance: 0.0, ..FACTS };
        let day = Limits { wait: Some(Duration::from_hours(24)), ..NO_HEADERS };
        for (alone, expected) in
            [(0, Decision::Resend(Duration::ZERO)), (12, Decision::Resend(Duration::ZERO)), (13, Decision::Fail)]
        {
            assert_eq!(decide(&failure(Fault::Overloaded), &NO_HEADERS, &tries(0, 0, alone), &elsewhere), expected);
        }
        assert_eq!(
            decide(&failure(Fault::Overloaded), &day, &tries(0, 0, 13), &elsewhere),
            Decision::Hold(Duration::from_hours(24))
        );
    }

    #[test]
    fn failure_of_one_url_of_several_ends_neither_its_row_nor_the_run() {
        let setup = failure(Fault::Setup(Setup::NotTls));
        let unknown = Failure { model_unknown: true, ..failure(Fault::NotFound) };
        let one = TryFacts { extent: FailureExtent::OneUrl, chance: 0.0, ..FACTS };
        let refused = Failure { status: Some(403), ..failure(Fault::Auth) };
        let unpaid = Failure { status: Some(402), ..failure(Fault::Payment) };
        for (failure, class) in [
            (setup, Class::NotSent),
            (unknown, Class::NoCapacity),
            (refused, Class::NoCapacity),
            (unpaid, Class::NoCapacity),
        ] {
            assert_eq!(class_of(&failure, FailureExtent::OneUrl), class);
            assert_eq!(class_of(&failure, FailureExtent::Service), failure.class());
            let decided = |facts| decide(&failure, &NO_HEADERS, &Tries::default(), &facts);
            assert_eq!(decided(one), Decision::Resend(Duration::ZERO), "{failure:?}");
            assert!(matches!(decided(FACTS), Decision::Fail | Decision::StopRun(_)), "{failure:?}");
        }
    }

    #[test]
    fn failed_connections_count_against_a_row_only_while_others_are_answered() {
        let mut row = Tries::default();
        let mut unreached = |answers| {
            row.count(Class::NotSent, &NO_HEADERS, &TryFacts { answers, ..FACTS });
            row.failures
        };
        assert_eq!([0, 0, 0, 7, 7, 8].map(&mut unreached), [0, 0, 0, 1, 1, 2]);
        row.count(Class::Ambiguous, &NO_HEADERS, &FACTS);
        assert_eq!((row.failures, row.ambiguous), (3, 1));
    }

    #[test]
    fn refusals_count_against_a_row_only_while_others_are_answered() {
        let mut row = Tries::default();
        let mut refuse = |answers| {
            row.count(Class::AboveRate, &NO_HEADERS, &TryFacts { answers, ..FACTS });
            row.alone
        };
        assert_eq!([5, 5, 6, 6, 7, 8].map(&mut refuse), [0, 0, 1, 1, 2, 3]);
        assert_eq!(refuse(8), 4, "from then on every refusal counts");
    }
}
