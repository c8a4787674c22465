//! Batches as `OpenAI` shows them: the object, and the list in pages.

use serde_json::{Value, json};
use url::form_urlencoded;

use super::batch::{BatchRecord, ServedStatus};

/// Entries of a page if the client names no number.
const USUAL_PAGE: usize = 20;

impl BatchRecord {
    /// The batch as `OpenAI` shows it.
    pub(super) fn shown_openai(&self, now: u64) -> Value {
        let status = self.status(now);
        let failure = self.failure.as_ref().filter(|_| status == ServedStatus::Failed);
        let errors = failure.map(|message| {
            let code = if self.failed_line.is_some() { "invalid_line" } else { "invalid_request" };
            let code = message.split_once(": ").map_or(code, |(word, _)| if word.contains(' ') { code } else { word });
            json!({"object": "list", "data": [
                {"code": code, "message": message, "param": null, "line": self.failed_line},
            ]})
        });
        let result = self.result.as_ref();
        let [completed, failed] = result.map_or_else(|| [self.answered(now), 0], |result| result.lines);
        let mut shown = json!({
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": self.status_openai(now),
            "created_at": self.created_ms / 1000,
            "expires_at": self.created_ms / 1000 + 24 * 3600,
            "request_counts": {"total": self.rows, "completed": completed, "failed": failed},
        });
        let seconds = |ms: u64| Value::from(ms / 1000);
        let ended = |wanted: ServedStatus| self.ended(now).filter(|_| status == wanted).map(seconds);
        let ran = now >= self.run_begins() && self.failure.is_none();
        let writes = matches!(status, ServedStatus::InProgress | ServedStatus::Completed);
        let finalizes = ran && writes && now >= self.finalizing_begins();
        for (name, value) in [
            ("errors", errors),
            ("output_file_id", result.and_then(|result| result.output_file_id.clone()).map(Value::from)),
            ("error_file_id", result.and_then(|result| result.error_file_id.clone()).map(Value::from)),
            ("in_progress_at", ran.then(|| seconds(self.run_begins()))),
            ("finalizing_at", finalizes.then(|| seconds(self.finalizing_begins()))),
            ("completed_at", ended(ServedStatus::Completed)),
            ("failed_at", ended(ServedStatus::Failed)),
            ("expired_at", ended(ServedStatus::Expired)),
            ("cancelling_at", self.cancelled_ms.map(seconds)),
            ("cancelled_at", ended(ServedStatus::Cancelled)),
            ("metadata", Some(self.metadata.clone()).filter(|metadata| !metadata.is_null())),
        ] {
            if let Some(value) = value.or_else(|| self.unset.value()) {
                shown[name] = value;
            }
        }
        shown
    }

    /// The rows that are answered at `now`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "few rows"
    )]
    fn answered(&self, now: u64) -> u64 {
        (self.rows as f64 * self.done(now)) as u64
    }

    /// The beginning of the last tenth of the run, in which the results are written.
    const fn finalizing_begins(&self) -> u64 {
        self.run_begins() + self.phases[1] / 10 * 9
    }

    /// The word for the state.
    fn status_openai(&self, now: u64) -> &'static str {
        match self.status(now) {
            ServedStatus::Validating => "validating",
            ServedStatus::InProgress if now >= self.finalizing_begins() => "finalizing",
            ServedStatus::InProgress => "in_progress",
            ServedStatus::Canceling => "cancelling",
            ServedStatus::Completed => "completed",
            ServedStatus::Failed => "failed",
            ServedStatus::Expired => "expired",
            ServedStatus::Cancelled => "cancelled",
        }
    }
}

/// The page of `all` that a query asks for by `after` and `limit`, with at most `most` entries. The error is a sentence.
pub fn page(all: &[Value], query: &str, most: usize) -> Result<Value, String> {
    let (mut first, mut limit) = (0, USUAL_PAGE);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "after" => {
                let known = all.iter().position(|object| object["id"] == *value);
                first = known.ok_or_else(|| format!("There is no object {value} to go on after"))? + 1;
            }
            "limit" => {
                let given = value.parse().ok().filter(|limit| (1..=100).contains(limit));
                limit = given.ok_or_else(|| format!("limit must be a whole number from 1 to 100, not {value}"))?;
            }
            _ => {}
        }
    }
    let rest = all.get(first..).unwrap_or_default();
    let data = &rest[..rest.len().min(limit).min(most)];
    let id = |object: Option<&Value>| object.map_or(Value::Null, |object| object["id"].clone());
    Ok(json!({
        "object": "list",
        "data": data,
        "first_id": id(data.first()),
        "last_id": id(data.last()),
        "has_more": data.len() < rest.len(),
    }))
}

/// The reason why these words on a batch are refused, if they are.
pub fn invalid_metadata(metadata: &Value) -> Option<&'static str> {
    let Value::Object(pairs) = metadata else {
        return (!metadata.is_null()).then_some("metadata must be an object");
    };
    if pairs.len() > 16 {
        return Some("metadata has more than 16 pairs");
    }
    let fits = |(key, value): (&String, &Value)| {
        key.chars().count() <= 64 && value.as_str().is_some_and(|text| text.chars().count() <= 512)
    };
    (!pairs.iter().all(fits))
        .then_some("metadata has a key above 64 or a value above 512 characters, or one that is no string")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_a_gap() {
        let all: Vec<Value> = (0..5).map(|n| json!({"id": format!("b{n}")})).collect();
        let mut seen = Vec::new();
        let mut query = "limit=2".to_owned();
        loop {
            let page = page(&all, &query, 100).unwrap();
            seen.extend(page["data"].as_array().unwrap().clone());
            if page["has_more"] == false {
                break;
            }
            query = format!("limit=2&after={}", page["last_id"].as_str().unwrap());
        }
        assert_eq!(seen, all);
        assert_eq!(page(&all, "", 3).unwrap()["data"].as_array().unwrap().len(), 3);
        assert_eq!(page(&[], "", 3).unwrap()["has_more"], false);
        assert!(page(&all, "after=x", 3).is_err() && page(&all, "limit=0", 3).is_err());
    }
}
