//! A state directory that has lost or damaged files: nothing is paid for twice, and what is left is found again.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Home, Server, answered, prompts};

fn job_file(home: &Home, id: &str) -> PathBuf {
    home.state().join(format!("jobs/{id}.db"))
}

/// Removes a database with its side files, or empties it.
fn lose(path: &std::path::Path, how: &str) {
    for ending in ["-wal", "-shm"] {
        drop(std::fs::remove_file(format!("{}{ending}", path.display())));
    }
    if how == "empty" {
        std::fs::write(path, "").unwrap();
    } else {
        std::fs::remove_file(path).unwrap();
    }
}

fn submit(home: &Home, server: &Server) -> String {
    home.at(&server.url, &["submit", "in.jsonl"]).code(0).stdout.trim_end().to_owned()
}

fn jobs(home: &Home) -> Vec<Value> {
    let out = home.llbatch(&["status", "--offline", "--json"]).code(0);
    serde_json::from_str::<Value>(&out.stdout).unwrap()["jobs"].as_array().unwrap().clone()
}

#[test]
fn batch_job_without_its_database_is_never_submitted_again() {
    for how in ["missing", "empty"] {
        let (home, server) = (Home::new(), Server::quick(&[]));
        home.write("in.jsonl", prompts(1..=6));
        let id = submit(&home, &server);
        lose(&job_file(&home, &id), how);
        let words = [how, "`llbatch status --remote`", "`llbatch fetch BATCH-ID -o FILE`"];
        for command in [&["submit", "in.jsonl"][..], &["wait", &id], &["fetch", &id], &["retry", &id], &["report", &id]]
        {
            home.at(&server.url, command).code(74).says(&words);
        }
        home.at(&server.url, &["status", &id]).code(74).says(&words);
        home.at(&server.url, &["status"]).code(0).says(&words);
        let doctor = home.at(&server.url, &["doctor"]).code(0).says(&words);
        assert!(doctor.stdout.contains("1 of 1 job cannot be read"), "{}", doctor.stdout);
        assert_eq!(server.batches().len(), 1, "{how}");
        assert_eq!(std::fs::metadata(job_file(&home, &id)).map_or(0, |meta| meta.len()), 0, "stays {how}");
        // The hint holds: the answers are there.
        let batch = server.batches()[0]["id"].as_str().unwrap().to_owned();
        home.at(&server.url, &["fetch", &batch, "--wait", "--poll", "50ms", "-o", "out.jsonl"]).code(0);
        answered(&home.read("out.jsonl"), 1..=6);
        assert_eq!((server.batches().len(), server.paid_again()), (1, 0));
        home.llbatch(&["clean", &id]).code(75).says(&["--force"]);
        home.llbatch(&["clean", &id, "--force"]).code(0);
        assert_eq!(home.llbatch(&["clean", &id]).code(0).stderr, format!("{id}: already removed\n"));
    }
}

#[test]
fn interrupted_run_without_its_database_pays_nothing_again() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "30ms"]));
    home.write("in.jsonl", prompts(1..=60));
    let args = ["in.jsonl", "-o", "out.jsonl", "--concurrency", "2"];
    let run = home.spawn(&server, &args);
    server.until_billed(10);
    run.kill();
    let id = jobs(&home)[0]["job"].as_str().unwrap().to_owned();
    lose(&job_file(&home, &id), "missing");
    let bill = server.bill();
    home.run(&server, &args).code(74).says(&["missing", "llbatch clean"]);
    assert_eq!(server.bill(), bill);
}

#[test]
fn lost_index_is_made_anew_and_nothing_is_paid_again() {
    for how in ["missing", "empty", "moved away"] {
        let (home, server) = (Home::new(), Server::quick(&[]));
        home.write("in.jsonl", prompts(1..=6));
        let id = submit(&home, &server);
        home.write("other.jsonl", prompts(11..=12));
        home.run(&server, &["other.jsonl", "-o", "other.out.jsonl"]).code(0);
        let before = jobs(&home);
        let ledger = home.state().join("ledger.db");
        if how == "moved away" {
            lose(&ledger, "missing");
            std::fs::write(&ledger, "this is no database, however long it may be").unwrap();
            let words = ["each job is also in a file of its own", "Move the index away"];
            home.at(&server.url, &["submit", "in.jsonl"]).code(74).says(&words);
            lose(&ledger, "missing");
        } else {
            lose(&ledger, how);
        }
        let again = home.at(&server.url, &["submit", "in.jsonl"]).code(0);
        let said = again.says(&["the index of jobs had lost", &id, "already has this content"]);
        assert_eq!(said.stdout.trim_end(), id, "{how}");
        assert_eq!((jobs(&home), server.batches().len()), (before, 1), "{how}");
        home.at(&server.url, &["fetch", &id, "--wait", "--poll", "50ms", "-o", "out.jsonl"]).code(0);
        answered(&home.read("out.jsonl"), 1..=6);
        assert_eq!(server.paid_again(), 0, "{how}");
    }
}

#[test]
fn lost_index_is_named_by_status_and_doctor() {
    for command in ["status", "doctor"] {
        let (home, server) = (Home::new(), Server::quick(&[]));
        home.write("in.jsonl", prompts(1..=2));
        let id = submit(&home, &server);
        lose(&home.state().join("ledger.db"), "missing");
        home.at(&server.url, &[command]).code(0).says(&["the index of jobs had lost", &id]);
        assert!(!home.at(&server.url, &[command]).code(0).stderr.contains("had lost"), "said once");
    }
}

/// A lock file of `name` held by a process that is not llbatch: `clean` looks at the job only under its lock.
#[test]
fn clean_looks_at_a_job_again_under_its_lock() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=400,on=row,contains=question 2"]));
    home.write("in.jsonl", prompts(1..=2));
    let id = submit(&home, &server);
    home.at(&server.url, &["fetch", &id, "--wait", "--poll", "50ms", "-o", "out.jsonl"]).code(3);
    let lock = std::fs::File::options().write(true).open(home.state().join(format!("locks/{id}.lock"))).unwrap();
    lock.lock().unwrap();
    let clean = home.start(home.command_at(&server.url, &["clean", &id]));
    // The state that a `retry` leaves when it ends at this instant.
    let db = rusqlite::Connection::open(job_file(&home, &id)).unwrap();
    let sql = "INSERT INTO batch (number, data) SELECT 2, json_set(data, '$.number', 2, '$.step', 'submitted') FROM batch WHERE number = 1";
    assert_eq!(db.execute(sql, []).unwrap(), 1);
    drop(db);
    drop(lock);
    clean.wait().code(75).says(&["its batches have not ended"]);
    assert!(job_file(&home, &id).exists());
}

/// Flips one bit in the middle of a file, or cuts it, or removes it.
fn harm(path: &std::path::Path, how: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    match how {
        "flipped" => bytes[middle] ^= 1,
        "cut" => bytes.truncate(middle),
        _ => return std::fs::remove_file(path).unwrap(),
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn damaged_answers_of_a_batch_are_downloaded_again() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=400,on=row,contains=question 2"]));
    home.write("in.jsonl", prompts(1..=6));
    let id = submit(&home, &server);
    home.at(&server.url, &["fetch", &id, "--wait", "--poll", "50ms", "-o", "out.jsonl"]).code(3);
    for side in ["output", "errors"] {
        let path = home.state().join(format!("jobs/{id}/batch-1.{side}.jsonl"));
        let whole = std::fs::read(&path).unwrap();
        for how in ["flipped", "cut", "removed"] {
            harm(&path, how);
            let again = home.at(&server.url, &["fetch", &id, "-o", "again.jsonl"]).code(3);
            again.says(&["the kept answers are damaged; downloading them again"]);
            assert_eq!(home.read("again.jsonl"), home.read("out.jsonl"), "{side} {how}");
            assert_eq!(std::fs::read(&path).unwrap(), whole, "{side} {how}");
        }
    }
    // The service no longer has them.
    for file in server.ask("/v1/files")["data"].as_array().unwrap() {
        let path = format!("/v1/files/{}", file["id"].as_str().unwrap());
        crate::support::request(&server.address(), "DELETE", &path, "authorization: Bearer any\r\n", "");
    }
    harm(&home.state().join(format!("jobs/{id}/batch-1.output.jsonl")), "flipped");
    let gone = home.at(&server.url, &["fetch", &id, "-o", "gone.jsonl"]);
    gone.code(74).says(&["batch-1.output.jsonl", "the service has no such file any more"]);
    assert!(!home.exists("gone.jsonl"));
}

#[test]
fn damaged_answer_in_a_database_is_named_and_not_written() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=12));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl"]).code(0);
    let id = jobs(&home)[0]["job"].as_str().unwrap().to_owned();
    for column in ["at", "id", "completion", "latency_ms", "fp"] {
        let db = rusqlite::Connection::open(job_file(&home, &id)).unwrap();
        let value: rusqlite::types::Value =
            db.query_row(&format!("SELECT {column} FROM outcome WHERE row = 4"), [], |row| row.get(0)).unwrap();
        let flipped = match &value {
            rusqlite::types::Value::Integer(n) => (n ^ 1).into(),
            rusqlite::types::Value::Blob(bytes) => {
                let mut bytes = bytes.clone();
                bytes[3] ^= 16;
                bytes.into()
            }
            rusqlite::types::Value::Text(text) => text.replacen(['o', '4'], "n", 1).into(),
            other => panic!("{other:?}"),
        };
        let put = |value: &rusqlite::types::Value| {
            assert_eq!(db.execute(&format!("UPDATE outcome SET {column} = ?1 WHERE row = 4"), [value]).unwrap(), 1);
        };
        put(&flipped);
        home.at(&server.url, &["fetch", &id, "-o", "again.jsonl"]).code(74).says(&["outcome of row 4 is damaged"]);
        assert!(!home.exists("again.jsonl"), "{column}");
        put(&value);
    }
    home.at(&server.url, &["fetch", &id, "-o", "again.jsonl"]).code(0);
    assert_eq!(home.read("again.jsonl"), home.read("out.jsonl"));
}

#[test]
fn damaged_kept_answer_is_named_and_sent_again_when_asked() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=12));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl"]).code(0);
    let job = jobs(&home)[0].clone();
    let id = job["job"].as_str().unwrap().to_owned();
    let log = home.state().join(format!("jobs/{id}/answers.jsonl"));
    let whole = std::fs::read_to_string(&log).unwrap();
    assert_eq!(whole.lines().count(), 12);
    harm(&log, "flipped");
    for command in [&["fetch", &id, "-o", "again.jsonl"][..], &["report", &id]] {
        home.at(&server.url, command).code(74).says(&["the kept answer of row", &format!("`--resume={id}`")]);
    }
    assert!(!home.exists("again.jsonl"));
    let resume = format!("--resume={id}");
    let again = home.run(&server, &[&resume, "-o", "again.jsonl", "--summary", "s.json"]).code(0);
    again.says(&["1 kept answer is damaged or missing; paid once, and sent again: ", "11 answered before, 1 to go"]);
    answered(&home.read("again.jsonl"), 1..=12);
    // Both answers to the row are in the cost.
    let cost = |job: &Value| job["cost"]["usd"].as_f64().unwrap();
    let summary: Value = serde_json::from_str(&home.read("s.json")).unwrap();
    assert!(cost(&summary) > cost(&job) && server.paid_again() == 1, "{summary}");
    // What is whole stays, however much is gone.
    harm(&log, "cut");
    home.run(&server, &[&resume, "-o", "cut.jsonl"]).code(0).says(&["kept answers are damaged or missing"]);
    answered(&home.read("cut.jsonl"), 1..=12);
    assert!((2..12).contains(&server.paid_again()), "{}", server.paid_again());
}

#[test]
fn damaged_answer_of_a_small_run_is_named_and_sent_again_when_asked() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=6));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl"]).code(0);
    let id = jobs(&home)[0]["job"].as_str().unwrap().to_owned();
    let db = rusqlite::Connection::open(job_file(&home, &id)).unwrap();
    assert_eq!(
        db.execute("UPDATE outcome SET body = replace(body, 'assistant', 'assisted') WHERE row = 4", []).unwrap(),
        1
    );
    drop(db);
    let resume = format!("--resume={id}");
    for command in [&["fetch", &id, "-o", "again.jsonl"][..], &["report", &id]] {
        home.at(&server.url, command).code(74).says(&["the kept answer of row 4 is damaged", &resume]);
    }
    let again = home.run(&server, &[&resume, "-o", "again.jsonl"]).code(0);
    again.says(&["1 kept answer is damaged or missing; paid once, and sent again: ", "5 answered before, 1 to go"]);
    answered(&home.read("again.jsonl"), 1..=6);
    assert_eq!(server.paid_again(), 1);
}

#[test]
fn many_lost_answers_are_paid_again_only_if_the_job_is_named() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=30));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl"]).code(0);
    let id = jobs(&home)[0]["job"].as_str().unwrap().to_owned();
    harm(&home.state().join(format!("jobs/{id}/answers.jsonl")), "removed");
    let refused = home.run(&server, &["in.jsonl", "-o", "again.jsonl", "--resume"]).code(74);
    refused.says(&["30 kept answers are damaged or missing", "backup", &format!("`--resume={id}`")]);
    assert_eq!(server.paid_again(), 0);
    home.run(&server, &["in.jsonl", "-o", "again.jsonl", &format!("--resume={id}")]).code(0);
    answered(&home.read("again.jsonl"), 1..=30);
    assert_eq!(server.paid_again(), 30);
}

#[test]
fn database_that_is_cut_short_is_named_with_the_ways_on() {
    for cut in [40, 4096] {
        let (home, server) = (Home::new(), Server::quick(&[]));
        home.write("in.jsonl", prompts(1..=60));
        let id = submit(&home, &server);
        let path = job_file(&home, &id);
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() - cut).unwrap();
        for command in [&["fetch", &id][..], &["report", &id]] {
            let words = ["the file is cut short", "backup", "`llbatch status --remote`", "--force"];
            home.at(&server.url, command).code(74).says(&words);
        }
    }
}

#[test]
fn damaged_copy_of_the_input_is_never_sent() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=500,on=row,contains=question 2"]));
    home.write("in.jsonl", prompts(1..=6));
    let id = submit(&home, &server);
    home.at(&server.url, &["fetch", &id, "--wait", "--poll", "50ms", "-o", "out.jsonl"]).code(3);
    harm(&home.state().join(format!("jobs/{id}/input-1")), "flipped");
    home.at(&server.url, &["retry", &id]).code(74).says(&["input-1: the copy of the input is damaged"]);
    assert_eq!(server.batches().len(), 1);

    let home = Home::new();
    let args = ["-", "-o", "out.jsonl", "--max-cost", "0.0000001"];
    home.run_with_stdin(&server.url, &args, prompts(1..=6).as_bytes()).code(5);
    let id = jobs(&home)[0]["job"].as_str().unwrap().to_owned();
    harm(&home.state().join(format!("jobs/{id}.input")), "flipped");
    let bill = server.bill();
    home.run(&server, &[&format!("--resume={id}")]).code(74).says(&["the copy of the input is damaged"]);
    assert_eq!(server.bill(), bill);
}

#[test]
fn two_commands_adopt_a_batch_once() {
    let (first, second, server) = (Home::new(), Home::new(), Server::quick(&[]));
    first.write("in.jsonl", prompts(1..=6));
    submit(&first, &server);
    let batch = server.batches()[0]["id"].as_str().unwrap().to_owned();
    let fetch = |out: &str| {
        let args = ["fetch", &batch, "--wait", "--wait-lock", "--poll", "50ms", "-o", out];
        second.start(second.command_at(&server.url, &args))
    };
    for running in [fetch("a.jsonl"), fetch("b.jsonl")] {
        running.wait().code(0);
    }
    answered(&second.read("a.jsonl"), 1..=6);
    assert_eq!((second.read("b.jsonl"), jobs(&second).len()), (second.read("a.jsonl"), 1));
}

#[test]
fn spending_of_a_lost_index_still_counts() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=10));
    home.write("other.jsonl", prompts(11..=20));
    // Ten rows cost $0.0000156.
    home.write("c.toml", "[budget]\nper_day = 0.00002\n");
    let run = |args: &[&str]| home.run(&server, &[args, &["--config", "c.toml"]].concat());
    run(&["in.jsonl", "-o", "out.jsonl"]).code(0);
    lose(&home.state().join("ledger.db"), "missing");
    run(&["other.jsonl", "-o", "other.out.jsonl"]).code(5).says(&["the index of jobs had lost", "budget"]);
    assert!(server.bill() < 15, "{}", server.bill());
}
