//! The figures of jobs in the text format of Prometheus.

use std::fmt::Write;

use crate::price::Nanos;
use crate::summary::Totals;

/// The figures of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobMetrics {
    /// The job's id. Empty: the command ended before it had a job.
    pub job: String,
    /// Rows by their fate; `None` without a job.
    rows: Option<RowMetrics>,
    /// Tokens and money of each model.
    models: Vec<ModelMetrics>,
    /// Requests that were sent one by one.
    requests: Option<RequestMetrics>,
    /// Requests in flight. `None`: not known here.
    in_flight: Option<u64>,
    /// The end of the last command on the job.
    end: Option<EndMetrics>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RowMetrics {
    succeeded: u64,
    failed: u64,
    pending: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ModelMetrics {
    model: String,
    prompt: u64,
    completion: u64,
    /// The known part of what was paid; `None`: nothing is known.
    usd: Option<Nanos>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RequestMetrics {
    answered: u64,
    rate_limited: u64,
    failed: u64,
}

/// The end of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndMetrics {
    /// Milliseconds since 1970.
    pub at: i64,
    /// Its exit code.
    pub exit: u8,
}

impl JobMetrics {
    /// The figures of a job with these totals.
    pub fn of(job: &str, totals: &Totals) -> Self {
        let (succeeded, failed) = (totals.succeeded(), totals.failed());
        let (http, answered) = (totals.http(), totals.answered_requests());
        let model = |(model, _, usage, usd): (&str, u64, crate::outcome::Usage, Option<Nanos>)| ModelMetrics {
            model: model.to_owned(),
            prompt: usage.prompt,
            completion: usage.completion,
            usd,
        };
        Self {
            job: job.to_owned(),
            rows: Some(RowMetrics { succeeded, failed, pending: totals.rows().saturating_sub(succeeded + failed) }),
            models: totals.by_model().map(model).collect(),
            requests: Some(RequestMetrics {
                answered,
                rate_limited: http.rate_limited,
                failed: http.sent.saturating_sub(http.rate_limited + answered),
            }),
            in_flight: None,
            end: None,
        }
    }

    /// The same figures, with so many requests in flight.
    #[must_use]
    pub fn in_flight(self, requests: u64) -> Self {
        Self { in_flight: Some(requests), ..self }
    }

    /// The same figures, after the end of the command.
    #[must_use]
    pub fn ended(self, end: EndMetrics) -> Self {
        Self { in_flight: Some(0).filter(|_| self.rows.is_some()), end: Some(end), ..self }
    }

    /// The figures of a command that ended before it had a job.
    pub(super) const fn without_job() -> Self {
        Self { job: String::new(), rows: None, models: Vec::new(), requests: None, in_flight: None, end: None }
    }
}

/// One metric: its name without the prefix, its type, its help, and its samples of one job.
type Family = (&'static str, &'static str, &'static str, fn(&JobMetrics, &mut Samples<'_>));

const FAMILIES: &[Family] = &[
    ("rows", "gauge", "Rows of the job by state.", |job, samples| {
        let Some(RowMetrics { succeeded, failed, pending }) = job.rows else { return };
        for (state, rows) in [("succeeded", succeeded), ("failed", failed), ("pending", pending)] {
            samples.add(&[("state", state)], rows);
        }
    }),
    (
        "tokens_total",
        "counter",
        "Tokens as the service counted them, those of discarded answers included.",
        |job, samples| {
            for model in &job.models {
                for (kind, tokens) in [("prompt", model.prompt), ("completion", model.completion)] {
                    samples.add(&[("model", &model.model), ("kind", kind)], tokens);
                }
            }
        },
    ),
    ("cost_usd_total", "counter", "Known part of the cost in USD.", |job, samples| {
        for model in &job.models {
            if let Some(usd) = model.usd {
                samples.add(&[("model", &model.model)], usd);
            }
        }
    }),
    ("requests_total", "counter", "Requests that were sent one by one, by outcome.", |job, samples| {
        let Some(RequestMetrics { answered, rate_limited, failed }) = job.requests else { return };
        for (outcome, requests) in [("answered", answered), ("rate_limited", rate_limited), ("failed", failed)] {
            samples.add(&[("outcome", outcome)], requests);
        }
    }),
    ("in_flight", "gauge", "Requests in flight.", |job, samples| {
        job.in_flight.into_iter().for_each(|requests| samples.add(&[], requests));
    }),
    ("job_end_timestamp_seconds", "gauge", "Time when the last command on the job ended.", |job, samples| {
        job.end.into_iter().for_each(|end| samples.add(&[], end.at as f64 / 1000.0));
    }),
    ("job_exit_code", "gauge", "Exit code of the last command on the job.", |job, samples| {
        job.end.into_iter().for_each(|end| samples.add(&[], end.exit));
    }),
];

/// The samples of one metric.
struct Samples<'a> {
    name: &'static str,
    job: &'a str,
    text: &'a mut String,
}

impl Samples<'_> {
    fn add(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        // An empty label is one that is missing.
        let job = Some(("job", self.job)).filter(|(_, job)| !job.is_empty());
        let labels: Vec<String> =
            job.iter().chain(labels).map(|(label, text)| format!("{label}=\"{}\"", escaped(text))).collect();
        // Writing to a string cannot fail.
        let _ = match labels.join(",") {
            none if none.is_empty() => writeln!(self.text, "llbatch_{} {value}", self.name),
            labels => writeln!(self.text, "llbatch_{}{{{labels}}} {value}", self.name),
        };
    }
}

/// Writes the figures of these jobs. A metric without samples is left out.
pub fn prometheus(jobs: &[&JobMetrics]) -> String {
    let mut text = String::new();
    for (name, kind, help, samples_of) in FAMILIES {
        let mut samples = String::new();
        for job in jobs {
            samples_of(job, &mut Samples { name, job: &job.job, text: &mut samples });
        }
        if !samples.is_empty() {
            let _ = write!(text, "# HELP llbatch_{name} {help}\n# TYPE llbatch_{name} {kind}\n{samples}");
        }
    }
    text
}

/// Escapes the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models_cannot_end_their_label() {
        let model = ModelMetrics { model: "a\"b\\c\nd".to_owned(), prompt: 1, completion: 2, usd: Some(Nanos(2_500)) };
        let job = JobMetrics {
            models: vec![model],
            end: Some(EndMetrics { at: 1_764_510_000_250, exit: 3 }),
            ..JobMetrics::without_job()
        };
        let text = prometheus(&[&job]);
        assert!(text.contains(r#"llbatch_tokens_total{model="a\"b\\c\nd",kind="prompt"} 1"#), "{text}");
        assert!(text.contains("} 0.0000025\n"), "{text}");
        assert!(text.contains("llbatch_job_end_timestamp_seconds 1764510000.25\n"), "{text}");
        assert!(text.contains("# TYPE llbatch_job_exit_code gauge\nllbatch_job_exit_code 3\n"), "{text}");
        assert!(!text.contains("llbatch_rows") && !text.contains("in_flight"), "{text}");
    }
}
