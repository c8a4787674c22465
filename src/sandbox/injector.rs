//! The choice of the fault for a request.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::dice::Dice;
use super::faults::{Scope, ScriptedFault, Times, Trigger};
use super::lock::lock;

/// The facts of a request that faults are matched against.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub scope: Scope,
    /// A number that is the same for each attempt of one request.
    pub key: u64,
    /// The prompt, or the path elsewhere.
    pub text: &'a str,
    /// The answer is to be streamed.
    pub streams: bool,
}

/// The scripted faults with their memory.
#[derive(Debug)]
pub struct Injector {
    rules: Vec<Rule>,
    /// Attempts at prompts that carry their own directive, by prompt.
    directives: Mutex<HashMap<u64, u32>>,
}

#[derive(Debug)]
struct Rule {
    fault: ScriptedFault,
    seed: u64,
    arrivals: AtomicU64,
    attempts: Mutex<HashMap<u64, Attempts>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Attempts {
    made: u32,
    picked: bool,
}

impl Rule {
    fn strikes(&self, subject: Subject<'_>) -> bool {
        if !self.fault.on.covers(subject) {
            return false;
        }
        if let Trigger::Contains(text) = &self.fault.when
            && !subject.text.contains(text.as_str())
        {
            return false;
        }
        match self.fault.times {
            Times::Each => self.pick(subject.key, self.count_if_drawn(subject.key)),
            Times::First(times) => {
                let mut attempts = lock(&self.attempts);
                let entry = attempts.entry(subject.key).or_default();
                if entry.made == 0 {
                    entry.picked = self.pick(subject.key, 0);
                }
                entry.made = entry.made.saturating_add(1);
                entry.picked && entry.made <= times
            }
        }
    }

    /// The number of earlier attempts, counted only where each attempt draws anew.
    fn count_if_drawn(&self, key: u64) -> u32 {
        if !matches!(self.fault.when, Trigger::Rate(_)) {
            return 0;
        }
        let mut attempts = lock(&self.attempts);
        let entry = attempts.entry(key).or_default();
        entry.made += 1;
        entry.made - 1
    }

    fn pick(&self, key: u64, attempt: u32) -> bool {
        let arrival = || self.arrivals.fetch_add(1, Ordering::Relaxed) + 1;
        match self.fault.when {
            Trigger::Always | Trigger::Contains(_) => true,
            Trigger::Every(n) => arrival().is_multiple_of(n),
            Trigger::Nth(n) => arrival() == n,
            Trigger::Rate(rate) => {
                let mut dice = Dice(self.seed ^ key.rotate_left(17) ^ u64::from(attempt).wrapping_mul(0x9e37_79b9));
                dice.roll();
                dice.unit() < rate
            }
        }
    }
}

impl Injector {
    /// The faults in order of precedence.
    pub fn new(faults: &[ScriptedFault], seed: u64) -> Self {
        let rule = |(i, fault): (usize, &ScriptedFault)| Rule {
            fault: fault.clone(),
            // Each rule draws for itself.
            seed: seed.wrapping_add((i as u64) << 32),
            arrivals: AtomicU64::new(0),
            attempts: Mutex::default(),
        };
        Self { rules: faults.iter().enumerate().map(rule).collect(), directives: Mutex::default() }
    }

    /// The first fault that strikes. The error is that of an invalid directive.
    pub fn pick(&self, subject: Subject<'_>) -> Result<Option<ScriptedFault>, String> {
        if subject.scope.has_prompt()
            && let Some(fault) = directive(subject.text)?
            && (subject.scope == Scope::Row || !fault.kind.is_for_rows())
            && (subject.streams || !fault.kind.is_for_streams())
            && self.is_directed(&fault, subject.key)
        {
            return Ok(Some(fault));
        }
        let rule = self.rules.iter().find(|rule| rule.strikes(subject));
        Ok(rule.map(|rule| rule.fault.clone()))
    }

    fn is_directed(&self, fault: &ScriptedFault, key: u64) -> bool {
        match fault.times {
            Times::Each => true,
            Times::First(times) => {
                let mut made = lock(&self.directives);
                let entry = made.entry(key).or_default();
                *entry = entry.saturating_add(1);
                *entry <= times
            }
        }
    }
}

/// The fault that a prompt asks for itself.
fn directive(prompt: &str) -> Result<Option<ScriptedFault>, String> {
    const OPEN: &str = "[[sandbox:";
    let Some((_, rest)) = prompt.split_once(OPEN) else { return Ok(None) };
    let (text, _) = rest.split_once("]]").ok_or_else(|| format!("{OPEN} without ]]"))?;
    text.parse().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fault, the requests as they come (key and text), and for each of them whether the fault strikes.
    type Picks<'a> = (&'a str, &'a [(u64, &'a str)], &'a [bool]);

    fn struck(spec: &str, attempts: &[(u64, &str)]) -> Vec<bool> {
        let injector = Injector::new(&[spec.parse().unwrap()], 7);
        let pick = |(key, text): &(u64, &str)| {
            injector.pick(Subject { scope: Scope::Chat, key: *key, text, streams: false }).unwrap().is_some()
        };
        attempts.iter().map(pick).collect()
    }

    #[test]
    fn faults_strike_by_count_text_and_attempt() {
        let one = [(1, "a"), (1, "a"), (1, "a"), (1, "a")];
        let cases: &[Picks<'_>] = &[
            ("reset", &[(1, "a"), (2, "b")], &[true, true]),
            ("reset,every=2", &one, &[false, true, false, true]),
            ("reset,nth=2", &one, &[false, true, false, false]),
            ("reset,times=2", &one, &[true, true, false, false]),
            ("reset,contains=b", &[(1, "a"), (2, "abc")], &[false, true]),
            // With `times` the count is over requests, and a picked one goes on failing.
            (
                "reset,every=2,times=2",
                &[(1, "a"), (2, "b"), (2, "b"), (2, "b"), (1, "a")],
                &[false, true, true, false, false],
            ),
            ("reset,on=models", &[(1, "a")], &[false]),
        ];
        for (spec, attempts, expected) in cases {
            assert_eq!(struck(spec, attempts), *expected, "{spec}");
        }
    }

    #[test]
    fn a_rate_is_met_and_repeats_with_the_seed() {
        let requests: Vec<_> = (0..10_000).map(|i| (i * 7919, "x")).collect();
        let first = struck("reset,rate=0.2", &requests);
        let hits = first.iter().filter(|hit| **hit).count();
        assert!((1900..2100).contains(&hits), "{hits}");
        assert_eq!(first, struck("reset,rate=0.2", &requests));
        // A request that failed once does not fail for ever, unless the script says so.
        let again: Vec<_> = std::iter::repeat_n((5, "x"), 50).collect();
        let hits = struck("reset,rate=0.5", &again).iter().filter(|hit| **hit).count();
        assert!((10..40).contains(&hits), "{hits}");
        let always = struck("reset,rate=0.5,times=always", &again);
        assert!(always.iter().all(|hit| *hit == always[0]));
    }

    #[test]
    fn a_prompt_holds_its_own_directive() {
        let text = "hello [[sandbox:status=503,times=1]] there";
        let injector = Injector::new(&[], 0);
        let subject = Subject { scope: Scope::Chat, key: 1, text, streams: false };
        assert_eq!(injector.pick(subject).unwrap().unwrap(), "status=503,times=1".parse().unwrap());
        assert!(injector.pick(subject).unwrap().is_none());
        assert!(injector.pick(Subject { text: "[[sandbox:nonsense]]", ..subject }).is_err());
        assert!(injector.pick(Subject { scope: Scope::List, ..subject }).unwrap().is_none());
        // Faults for rows of a batch hit nothing else.
        let missing = Subject { text: "[[sandbox:missing]]", ..subject };
        assert!(injector.pick(missing).unwrap().is_none());
        assert!(injector.pick(Subject { scope: Scope::Row, ..missing }).unwrap().is_some());
        // So do faults for streams.
        let cut = Subject { text: "[[sandbox:no-done]]", ..subject };
        assert!(injector.pick(cut).unwrap().is_none());
        assert!(injector.pick(Subject { streams: true, ..cut }).unwrap().is_some());
    }
}
