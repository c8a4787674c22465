//! A create whose reply never came: was a batch made? The service takes no idempotency key, so its list must tell, and a list
//! that may be stale, cut short or somebody else's must never read as "not created".

use std::time::Duration;

/// What the service's list says about one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedBatches {
    /// Its id.
    pub id: String,
    /// The file that it was made from.
    pub input_file_id: Option<String>,
    /// RFC 3339.
    pub created_at: Option<String>,
}

/// What is known when the list is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The list.
    pub listed: &'a [ListedBatches],
    /// The file that our batch would be made from.
    pub file_id: &'a str,
    /// Batches of that file that are not ours.
    pub others: &'a [String],
    /// Live batches that this account has for certain: a list without them is not to be believed.
    pub witnesses: &'a [String],
    /// The list is whole.
    pub complete: bool,
    /// Since the request may have been sent.
    pub since: Duration,
    /// After so long a batch that was made stands in the list.
    pub settle_after: Duration,
    /// The key is that of the account which asked for the batch.
    pub same_account: bool,
    /// How often its creation was begun.
    pub tries: u32,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreationVerdict {
    /// It was made: this is it. More than one: the oldest, and the others are to be cancelled.
    Adopt {
        /// Ours from now on.
        id: String,
        /// Made by mistake.
        surplus: Vec<String>,
    },
    /// It was not made; it may be asked for once more.
    Create,
    /// The list cannot tell yet.
    Wait(&'static str),
}

/// The list is given so many times longer with every further creation of which it shows nothing: if it is wrong, little is
/// paid for that, and if each was cut short before it was sent, the job comes to an end all the same.
const LONGER: u32 = 6;

/// After so long a batch that was asked for that often stands in the service's list.
pub fn settled_after(settle_after: Duration, tries: u32) -> Duration {
    settle_after.saturating_mul(LONGER.saturating_pow(tries.saturating_sub(1)))
}

/// Reads the evidence.
pub fn decide(evidence: &Evidence<'_>) -> CreationVerdict {
    let mut found: Vec<&ListedBatches> = evidence
        .listed
        .iter()
        .filter(|batch| batch.input_file_id.as_deref() == Some(evidence.file_id))
        .filter(|batch| !evidence.others.contains(&batch.id))
        .collect();
    // Times are RFC 3339 in UTC, so their text sorts; one without a time comes last.
    found.sort_by(|a, b| {
        let key = |batch: &ListedBatches| (batch.created_at.is_none(), batch.created_at.clone(), batch.id.clone());
        key(a).cmp(&key(b))
    });
    let mut ids = found.into_iter().map(|batch| batch.id.clone());
    if let Some(id) = ids.next() {
        // No more can be surplus than was asked for: the rest is another job's, of the same content and also in doubt.
        let most = evidence.tries.saturating_sub(1) as usize;
        return CreationVerdict::Adopt { id, surplus: ids.take(most).collect() };
    }
    if !evidence.complete {
        return CreationVerdict::Wait("the service's list cannot be read as a whole");
    }
    if !evidence.same_account {
        return CreationVerdict::Wait("the batch was requested with the key of another account");
    }
    if evidence.witnesses.iter().any(|id| !evidence.listed.iter().any(|batch| batch.id == *id)) {
        return CreationVerdict::Wait("the service's list lacks batches that are known to exist");
    }
    if evidence.since < settled_after(evidence.settle_after, evidence.tries) {
        return CreationVerdict::Wait(if evidence.tries > 1 {
            "llbatch asked for it more than once, so the service's list gets more time"
        } else {
            "a new batch may be missing from the service's list for a while"
        });
    }
    CreationVerdict::Create
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(id: &str, file: &str, at: Option<&str>) -> ListedBatches {
        ListedBatches { id: id.into(), input_file_id: Some(file.into()), created_at: at.map(str::to_owned) }
    }

    #[test]
    fn only_a_list_that_can_be_believed_says_that_nothing_was_made() {
        let list = [listed("a", "f1", None), listed("w", "f9", None)];
        let others = ["a".to_owned()];
        let witness = ["w".to_owned()];
        let gone = ["gone".to_owned()];
        let base = Evidence {
            listed: &list,
            file_id: "f2",
            others: &[],
            witnesses: &witness,
            complete: true,
            since: Duration::from_mins(10),
            settle_after: Duration::from_mins(10),
            same_account: true,
            tries: 1,
        };
        assert_eq!(decide(&base), CreationVerdict::Create);
        assert_eq!(decide(&Evidence { witnesses: &[], ..base }), CreationVerdict::Create);
        assert!(matches!(decide(&Evidence { witnesses: &gone, ..base }), CreationVerdict::Wait(_)));
        assert!(
            matches!(decide(&Evidence { listed: &[], ..base }), CreationVerdict::Wait(_)),
            "an empty list lacks the witness"
        );
        assert!(matches!(decide(&Evidence { since: Duration::from_secs(599), ..base }), CreationVerdict::Wait(_)));
        assert!(matches!(decide(&Evidence { same_account: false, ..base }), CreationVerdict::Wait(_)));
        let again = Evidence { tries: 2, since: Duration::from_mins(59), ..base };
        assert!(matches!(decide(&again), CreationVerdict::Wait(_)), "twice: the list is given an hour");
        assert_eq!(decide(&Evidence { since: Duration::from_hours(1), ..again }), CreationVerdict::Create);
        assert!(matches!(
            decide(&Evidence { tries: 200, since: Duration::from_hours(9999), ..base }),
            CreationVerdict::Wait(_)
        ));
        assert!(matches!(decide(&Evidence { complete: false, ..base }), CreationVerdict::Wait(_)));
        // Found is found, whatever else is wrong.
        let adopt = |id: &str| CreationVerdict::Adopt { id: id.into(), surplus: Vec::new() };
        let doubtful =
            Evidence { file_id: "f1", since: Duration::ZERO, same_account: false, complete: false, tries: 2, ..base };
        assert_eq!(decide(&doubtful), adopt("a"));
        assert!(
            matches!(decide(&Evidence { others: &others, ..doubtful }), CreationVerdict::Wait(_)),
            "that one is not ours"
        );
    }

    #[test]
    fn of_two_the_oldest_is_ours() {
        let list = [
            listed("none", "f", None),
            listed("late", "f", Some("2026-11-23T10:00:01.000001Z")),
            listed("early", "f", Some("2026-11-23T10:00:00.9Z")),
        ];
        let evidence = Evidence {
            listed: &list,
            file_id: "f",
            others: &[],
            witnesses: &[],
            complete: true,
            since: Duration::ZERO,
            settle_after: Duration::ZERO,
            same_account: true,
            tries: 3,
        };
        let adopt = |surplus: &[&str]| CreationVerdict::Adopt {
            id: "early".into(),
            surplus: surplus.iter().map(|id| (*id).to_owned()).collect(),
        };
        assert_eq!(decide(&evidence), adopt(&["late", "none"]));
        assert_eq!(decide(&Evidence { tries: 2, ..evidence }), adopt(&["late"]));
        assert_eq!(decide(&Evidence { tries: 1, ..evidence }), adopt(&[]), "it was asked for once");
    }
}
