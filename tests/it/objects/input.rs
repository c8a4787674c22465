//! Inputs at URLs: pinned versions, errors, redirects, and secrets that stay secret.

use std::process::Command;

use crate::support::{Home, ObjectServer, Out, Server, answered, prompts, until};

/// The run of `llbatch run ARGS`, with this store as S3 and Hugging Face.
fn command(home: &Home, server: &Server, store: &ObjectServer, args: &[&str]) -> Command {
    let mut command = store.s3(home.run_command(&server.url, args));
    command.env("HF_ENDPOINT", &store.url).env("HF_TOKEN", "canary-hf-token");
    command
}

fn run(home: &Home, server: &Server, store: &ObjectServer, args: &[&str]) -> Out {
    home.finish(command(home, server, store, args))
}

fn packed(text: &str) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut writer, text.as_bytes()).unwrap();
    writer.finish().unwrap()
}

#[test]
fn rows_of_objects_are_answered_from_every_kind_of_url() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    store.put("/bucket/a/in.jsonl", prompts(1..=3));
    store.put("/bucket/a/in.jsonl.gz", packed(&prompts(1..=3)));
    store.put("/web/in.jsonl", prompts(1..=3));
    store.put("/datasets/own/set/resolve/main/d/in.jsonl", prompts(1..=3));
    // Hugging Face names the commit, and all reads are of that one.
    store.put("/datasets/own/set/resolve/c0ffee/d/in.jsonl", prompts(1..=3));
    store.state().headers = "x-repo-commit: c0ffee\r\n".to_owned();
    let web = format!("{}/web/in.jsonl?version=2", store.url);
    for url in ["s3://bucket/a/in.jsonl", "s3://bucket/a/in.jsonl.gz", &web, "hf://datasets/own/set/d/in.jsonl"] {
        answered(&run(&home, &server, &store, &[url, "--fresh"]).code(0).stdout, 1..=3);
        let mut check = store.s3(home.command(&["check", url]));
        check.env("HF_ENDPOINT", &store.url);
        home.finish(check).code(0);
    }
    let heads = store.state().heads.join("");
    assert!(heads.matches("/resolve/c0ffee/").count() >= 2, "{heads}");
    store.put("/bucket/empty.jsonl", "");
    run(&home, &server, &store, &["s3://bucket/empty.jsonl"]).code(65);
}

#[test]
fn objects_below_a_prefix_are_one_input_in_the_order_of_their_keys() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    for (n, name) in [(1, "a.jsonl"), (2, "b/c.jsonl"), (3, "d.jsonl")] {
        store.put(&format!("/bucket/in/{name}"), prompts(n..=n));
    }
    store.put("/bucket/in/_SUCCESS", "");
    store.put("/bucket/other.jsonl", prompts(9..=9));
    answered(&run(&home, &server, &store, &["s3://bucket/in/"]).code(0).stdout, 1..=3);
    answered(&run(&home, &server, &store, &["s3://bucket/in/**/*.jsonl", "--fresh"]).code(0).stdout, 1..=3);
    answered(&run(&home, &server, &store, &["s3://bucket/in/[a-c].jsonl"]).code(0).stdout, 1..=1);
    run(&home, &server, &store, &["s3://bucket/none/"]).code(66).says(&["s3://bucket/none/: there is no such object"]);
}

#[test]
fn bodies_that_are_cut_off_are_read_again_from_the_same_version() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    store.put("/bucket/in.jsonl", prompts(1..=40));
    store.put("/web/in.jsonl", prompts(1..=40));
    for url in ["s3://bucket/in.jsonl", &format!("{}/web/in.jsonl", store.url)] {
        store.state().cuts = 3;
        answered(&run(&home, &server, &store, &[url, "--fresh"]).code(0).stdout, 1..=40);
        assert_eq!(store.state().cuts, 0);
    }
}

#[test]
fn object_that_changes_while_it_is_read_stops_the_command_and_mixes_nothing() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    let url = format!("{}/web/in.jsonl", store.url);
    for (path, url) in [("/bucket/in.jsonl", "s3://bucket/in.jsonl"), ("/web/in.jsonl", &*url)] {
        store.put(path, prompts(1..=20));
        // The check has read it by then; the run reads it again.
        store.state().swap = Some((path.to_owned(), prompts(21..=40).into_bytes(), 3));
        let out = run(&home, &server, &store, &[url, "-o", "out.jsonl", "--fresh"]).code(1);
        drop(out.says(&["changed while llbatch read it"]));
        assert!(!home.exists("out.jsonl"));
        // The next run is one of the new object, and of nothing else.
        run(&home, &server, &store, &[url, "-o", "new.jsonl"]).code(0);
        answered(&home.read("new.jsonl"), 21..=40);
    }
}

#[test]
fn resume_after_a_kill_reads_the_pinned_version_and_sends_only_the_rest() {
    let (home, store) = (Home::new(), ObjectServer::start());
    let server = Server::start(&["--latency", "60ms"]);
    store.put("/bucket/in.jsonl", prompts(1..=60));
    let args = ["s3://bucket/in.jsonl", "-o", "out.jsonl", "--concurrency", "2"];
    let running = home.start(command(&home, &server, &store, &args));
    until("some answers", || server.requests() > 20);
    assert_eq!(running.kill(), None);
    let out = run(&home, &server, &store, &args).code(0).says(&["resuming job"]);
    assert!(!out.stderr.contains("the input has changed"), "{}", out.stderr);
    answered(&home.read("out.jsonl"), 1..=60);
    assert!(server.requests() <= 64, "{}", server.requests());
}

#[test]
fn server_that_gives_the_whole_only_is_read_once() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    store.put("/web/in.jsonl", prompts(1..=10));
    store.state().whole_only = true;
    let url = format!("{}/web/in.jsonl", store.url);
    answered(&run(&home, &server, &store, &[&url]).code(0).stdout, 1..=10);
    let reads = store.state().heads.len();
    assert_eq!(reads, 2, "one look, one copy");
    assert_eq!(
        std::fs::read_dir(home.state().join("jobs"))
            .unwrap()
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with("input-"))
            .count(),
        0
    );
}

#[test]
fn each_refusal_has_its_exit_code_and_names_the_place() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    let web = format!("{}/web/none.jsonl", store.url);
    let worded = "s3://bucket/credentials-eval/169.254.169.254/in.jsonl";
    for url in ["s3://bucket/none.jsonl", worded, &web, "hf://datasets/own/set/none.jsonl"] {
        for (status, exit, words) in
            [(None, 66, "no such object"), (Some(403), 66, "refuses"), (Some(503), 75, "cannot be reached")]
        {
            store.state().status = status;
            let out = run(&home, &server, &store, &[url]).code(exit);
            assert!(out.stderr.contains(words) && out.stderr.contains(url), "{}", out.stderr);
            assert!(!out.stderr.contains("canary"), "{}", out.stderr);
        }
    }
    let mut nowhere = command(&home, &server, &store, &["s3://bucket/in.jsonl"]);
    nowhere.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    home.finish(nowhere).code(75).says(&["s3://bucket/in.jsonl: the server cannot be reached now", "AWS_ENDPOINT_URL"]);
    let mut clear = command(&home, &server, &store, &["s3://bucket/in.jsonl"]);
    clear.env("AWS_ENDPOINT_URL", "http://10.1.2.3:9000");
    home.finish(clear).code(2).says(&["over plain http"]);
    let mut without = home.run_command(&server.url, &["s3://bucket/in.jsonl"]);
    without.env("AWS_ENDPOINT_URL", &store.url).env("AWS_EC2_METADATA_DISABLED", "true");
    home.finish(without).code(66).says(&["no credentials", "AWS_PROFILE"]);
    run(&home, &server, &store, &["http://example.com/in.jsonl"]).code(2).says(&["not encrypted"]);
}

#[test]
fn tokens_and_signatures_go_to_their_host_only_and_are_kept_nowhere() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let (store, storage) = (ObjectServer::start(), ObjectServer::start());
    storage.put("/cdn/x", prompts(1..=2));
    let path = "/datasets/own/set/resolve/v%2F1/in.jsonl";
    store.state().redirects.insert(path.to_owned(), format!("{}/cdn/x?X-Amz-Signature=canary-1", storage.url));
    answered(&run(&home, &server, &store, &["hf://datasets/own/set@v%2F1/in.jsonl"]).code(0).stdout, 1..=2);
    let (asked, followed) = (store.state().heads.join(""), storage.state().heads.join(""));
    assert!(
        asked.contains("canary-hf-token") && !followed.to_ascii_lowercase().contains("authorization"),
        "{followed}"
    );
    storage.put("/web/in.jsonl", prompts(1..=2));
    let signed = format!("{}/web/in.jsonl?X-Amz-Credential=a&X-Amz-Signature=canary-2", storage.url);
    let first = run(&home, &server, &store, &[&signed, "-o", "out.jsonl", "--summary", "sum.json", "-vv"]).code(0);
    drop(first.says(&["→ out.jsonl, sum.json"]));
    let shown = run(&home, &server, &store, &[&signed, "-o", "out.jsonl", "--resume", "--retry-all"]);
    assert!(!shown.stderr.contains("canary"), "{}", shown.stderr);
    home.llbatch(&["status", "--json"]).code(0);
    assert!(home.files_with("canary-2").is_empty(), "{:?}", home.files_with("canary-2"));
    assert!(home.files_with("canary-hf").is_empty() && home.files_with("canary-1").is_empty());
    // A redirect may not leave the encrypted way: here, from this machine to another one.
    store.state().redirects.insert("/web/far.jsonl".to_owned(), "http://10.1.2.3/in.jsonl".to_owned());
    let far = format!("{}/web/far.jsonl", store.url);
    run(&home, &server, &store, &[&far]).code(66).says(&["a redirect to plain http"]);
}

#[test]
fn profile_of_aws_gives_keys_region_and_endpoint() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    store.put("/bucket/in.jsonl", prompts(1..=2));
    std::fs::create_dir(home.path("home/.aws")).unwrap();
    home.write("home/.aws/credentials", "[work]\naws_access_key_id = profile-key\naws_secret_access_key = canary-s\n");
    let config = format!(
        "[profile work]\nregion = eu-central-1\nendpoint_url = {}\n[profile sso]\nsso_session = x\n",
        store.url
    );
    home.write("home/.aws/config", config);
    let run = |profile: &str| {
        let mut command = home.run_command(&server.url, &["s3://bucket/in.jsonl"]);
        command.env("AWS_PROFILE", profile);
        home.finish(command)
    };
    answered(&run("work").code(0).stdout, 1..=2);
    let head = store.state().heads.join("");
    assert!(head.contains("profile-key/") && head.contains("/eu-central-1/s3/"), "{head}");
    run("none").code(2).says(&["AWS_PROFILE: there is no profile `none`"]);
    run("sso").code(2).says(&["sso_session", "export-credentials"]);
}
