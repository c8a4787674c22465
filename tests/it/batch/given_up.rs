//! Batches that `cancel --abandon` gave up, and that the service works on all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::{ends, side_by_side, state};
use crate::support::{Canned, Fault, FaultServer, Home, Server, answered, prompts};

/// A job whose batch of three rows was given up. The service answered its rows.
struct GivenUp {
    home: Home,
    server: Server,
    front: FaultServer,
    /// The service says that the batch has ended.
    ended: Arc<AtomicBool>,
    id: String,
    batch: String,
}

impl GivenUp {
    fn new(faults: &[&str]) -> Self {
        let (home, server) = (Home::new(), Server::quick(faults));
        // The service never ends the batch.
        home.config("[submit]\ncancel_wait = \"200ms\"\n");
        let ended = Arc::new(AtomicBool::new(false));
        let says = Arc::clone(&ended);
        let front = FaultServer::before(&server.address(), move |asked| {
            let batch =
                asked.line.split_once("/v1/batches/").map(|(_, rest)| rest.trim_end_matches("/cancel").to_owned());
            let Some(id) = batch.filter(|_| !says.load(Ordering::SeqCst)) else { return Fault::None };
            let body = json!({"id": id, "status": "CANCELLING", "endpoint": "/v1/chat/completions"}).to_string();
            Fault::Instead(Canned { status: "200 OK".into(), headers: String::new(), body })
        });
        home.write("in.jsonl", prompts(1..=3));
        let id = home.at(&front.url, &["submit", "in.jsonl"]).code(0).stdout.trim_end().to_owned();
        let given_up = ["1 batch given up", "3 rows may have been billed", "looks once more"];
        home.at(&front.url, &["cancel", &id, "--abandon"]).code(0).says(&given_up);
        let batch = server.batches()[0]["id"].as_str().unwrap().to_owned();
        Self { home, server, front, ended, id, batch }
    }

    fn ask(&self, args: &[&str], code: i32) -> crate::support::Out {
        self.home.at(&self.front.url, args).code(code)
    }

    fn fetch(&self, name: &str, code: i32) {
        self.ask(&["fetch", name, "-o", "out.jsonl", "--summary", "s.json"], code);
    }

    fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    fn at_risk(&self) -> f64 {
        self.home.json("s.json")["cost"]["at_risk_usd"].as_f64().unwrap()
    }
}

#[test]
fn late_answers_are_taken_and_not_paid_again() {
    side_by_side(&["fetch", "retry", "batch id", "resume", "realtime"], |&how| {
        let job = GivenUp::new(&[]);
        job.fetch(&job.id, 3);
        assert_eq!(ends(&job.home), ["missing"; 3], "{how}: not ended yet");
        assert!(job.at_risk() > 0.0, "{how}");
        let listed = job.ask(&["status", &job.id, "--offline"], 0).stdout;
        assert!(listed.contains("$0.00, up to $0.0000"), "{listed}");
        job.end();
        match how {
            "retry" => {
                job.ask(&["retry", &job.id], 0).says(&["3 answers of 3 rows taken", "no rows to send again"]);
            }
            "realtime" => drop(job.ask(&["retry", &job.id, "--via", "realtime"], 0)),
            "resume" => drop(job.ask(&["submit", "in.jsonl", "--resume"], 0)),
            _ => {}
        }
        job.fetch(if how == "batch id" { &job.batch } else { &job.id }, 0);
        answered(&job.home.read("out.jsonl"), 1..=3);
        assert_eq!((job.server.batches().len(), job.server.bill(), job.server.paid_again()), (1, 3, 0), "{how}");
        assert!(job.home.json("s.json")["cost"]["usd"].as_f64().unwrap() > 0.0);
        assert!(job.at_risk() == 0.0, "{how}");
        // It is over: nobody asks about the batch any more.
        let asked = job.server.requests();
        job.fetch(&job.id, 0);
        assert_eq!(job.server.requests(), asked, "{how}");
        assert_eq!(state(&job.home, &job.id), "completed");
    });
}

#[test]
fn late_answers_replace_no_newer_outcome() {
    let job = GivenUp::new(&[]);
    job.ask(&["retry", &job.id, "--via", "realtime"], 0);
    job.end();
    job.fetch(&job.id, 0);
    answered(&job.home.read("out.jsonl"), 1..=3);
    assert_eq!(job.server.bill(), 6);
    assert!(job.at_risk() > 0.0, "the first answers stay at risk");
}

#[test]
fn failed_look_for_late_answers_changes_nothing() {
    side_by_side(&["status=500,on=content", "status=404,on=content", "status=410,on=content", "away"], |&fault| {
        let fails = format!("{fault},times=always");
        let args = ["--fault", fails.as_str()];
        let job = GivenUp::new(if fault == "away" { &[] } else { &args });
        job.end();
        let (home, server) = (&job.home, job.server);
        if fault == "away" {
            drop(server);
        }
        home.at(&job.front.url, &["fetch", &job.id, "-o", "out.jsonl", "--summary", "s.json"]).code(3);
        assert_eq!(ends(home), ["missing"; 3], "{fault}");
        assert!(home.json("s.json")["cost"]["at_risk_usd"].as_f64().unwrap() > 0.0, "{fault}");
    });
}
