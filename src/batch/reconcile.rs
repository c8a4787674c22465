//! Decides if a batch exists after a create request without a reply. The service has no idempotency key, so its list
//! must show it: by llbatch's label where a batch carries one, or else by its input file. A list that may be stale, incomplete or of another account must never mean "not created".

use std::time::Duration;

/// Entries of the service's list that concern one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedBatch {
    /// Its id.
    pub id: String,
    /// Its input file.
    pub input_file_id: Option<String>,
    /// Its creation time in RFC 3339.
    pub created_at: Option<String>,
    /// Its label names our batch. `None`: it carries no label.
    pub ours: Option<bool>,
}

/// Facts known when the driver reads the list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'a> {
    /// The list.
    pub listed: &'a [ListedBatch],
    /// The input file of our batch.
    pub file_id: &'a str,
    /// Batches of that file that belong to other jobs.
    pub others: &'a [String],
    /// Live batches that this account certainly has. A list without them is not reliable.
    pub witnesses: &'a [String],
    /// The list is complete.
    pub complete: bool,
    /// Time since the request may have been sent.
    pub since: Duration,
    /// Time after which the list shows a new batch.
    pub settle_after: Duration,
    /// The key belongs to the account that requested the batch.
    pub same_account: bool,
    /// Number of create requests so far.
    pub tries: u32,
}

/// The conclusion from the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CreationVerdict {
    /// The batch exists. If there are several, llbatch adopts the oldest and cancels the others.
    Adopt {
        /// The batch to adopt.
        id: String,
        /// Batches created by mistake.
        surplus: Vec<String>,
    },
    /// The batch does not exist. It may be requested once more.
    Create,
    /// The list is not conclusive yet.
    Wait(&'static str),
}

/// Factor of the waiting time for each further creation that the list does not show. If the list is wrong, this limits
/// the cost. If every request was lost before it arrived, the job still ends.
const LONGER: u32 = 6;

/// Returns the time after which the list shows a batch that was requested `tries` times.
pub(super) fn settled_after(settle_after: Duration, tries: u32) -> Duration {
    settle_after.saturating_mul(LONGER.saturating_pow(tries.saturating_sub(1)))
}

/// Waits between looks at the list while a creation is in doubt, in seconds.
const LOOKS: [u64; 7] = [1, 3, 6, 10, 20, 30, 60];
/// Shortest wait for a list that is about to become reliable.
const SOONEST: Duration = Duration::from_millis(200);

/// Returns the wait after look number `looked` + 1 at the list, which becomes reliable after `unsettled`. If it was
/// reliable already, another reason keeps the creation in doubt, and only time may help.
pub(super) fn next_look(looked: usize, unsettled: Duration) -> Duration {
    let wait = Duration::from_secs(LOOKS[looked.min(LOOKS.len() - 1)]);
    if unsettled.is_zero() { wait } else { wait.min(unsettled.max(SOONEST)) }
}

/// Decides from the evidence.
pub fn decide(evidence: &Evidence<'_>) -> CreationVerdict {
    let mut found: Vec<&ListedBatch> = evidence
        .listed
        .iter()
        .filter(|batch| batch.ours.unwrap_or(batch.input_file_id.as_deref() == Some(evidence.file_id)))
        .filter(|batch| !evidence.others.contains(&batch.id))
        .collect();
    // Times are RFC 3339 in UTC, so their text sorts. A batch without a time comes last.
    found.sort_by(|a, b| {
        let key = |batch: &ListedBatch| (batch.created_at.is_none(), batch.created_at.clone(), batch.id.clone());
        key(a).cmp(&key(b))
    });
    let mut ids = found.into_iter().map(|batch| batch.id.clone());
    if let Some(id) = ids.next() {
        // There cannot be more surplus batches than requests. The rest belongs to another job of the same content, also
        // in doubt.
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

    fn listed(id: &str, file: &str, at: Option<&str>) -> ListedBatch {
        ListedBatch { id: id.into(), input_file_id: Some(file.into()), created_at: at.map(str::to_owned), ours: None }
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
    fn a_label_says_more_than_a_file() {
        let with = |id: &str, file: &str, ours| ListedBatch { ours, ..listed(id, file, None) };
        let list = [with("another", "f", Some(false)), with("ours", "g", Some(true)), with("plain", "h", None)];
        let evidence = Evidence {
            listed: &list,
            file_id: "f",
            others: &[],
            witnesses: &[],
            complete: true,
            since: Duration::from_hours(1),
            settle_after: Duration::ZERO,
            same_account: true,
            tries: 1,
        };
        let adopt = |id: &str| CreationVerdict::Adopt { id: id.into(), surplus: Vec::new() };
        assert_eq!(decide(&evidence), adopt("ours"));
        // A batch that failed and was put back is never taken for a new one.
        assert_eq!(decide(&Evidence { others: &["ours".to_owned()], ..evidence }), CreationVerdict::Create);
        assert_eq!(decide(&Evidence { file_id: "h", listed: &list[2..], ..evidence }), adopt("plain"));
    }

    #[test]
    fn looks_become_rarer_unless_certainty_is_near() {
        let seconds = |looked, unsettled| next_look(looked, Duration::from_millis(unsettled)).as_secs_f64();
        for (looked, unsettled, wait) in [
            (0, 600_000, 1.0),
            (2, 600_000, 6.0),
            (99, 600_000, 60.0),
            (4, 700, 0.7),
            (4, 1, 0.2),
            (0, 0, 1.0),
            (4, 0, 20.0),
        ] {
            assert!((seconds(looked, unsettled) - wait).abs() < 1e-9, "{looked}, {unsettled}");
        }
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
