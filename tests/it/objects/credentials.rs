//! Credentials of stores: whence they come, whom they reach, and no message that shows them.

use crate::support::{Home, ObjectServer, Recorder, Server, answered, prompts};

const INPUT: &str = "s3://bucket/in.jsonl";

#[test]
fn role_of_a_pod_is_taken_although_a_profile_names_single_sign_on() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    store.put("/bucket/in.jsonl", prompts(1..=2));
    let role = r#"{"AccessKeyId":"pod-key","SecretAccessKey":"canary-s","Token":"canary-t","Expiration":"2099-01-01T00:00:00Z"}"#;
    store.put("/v1/credentials", role);
    std::fs::create_dir(home.path("home/.aws")).unwrap();
    home.write("home/.aws/config", "[default]\nsso_session = x\n");
    home.write("token", "canary-pod-token");
    let mut command = home.run_command(&server.url, &[INPUT]);
    command.env("AWS_ENDPOINT_URL", &store.url).env("AWS_REGION", "us-east-1");
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1/credentials", store.url));
    command.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", home.path("token"));
    answered(&home.finish(command).code(0).stdout, 1..=2);
    let heads = store.state().heads.join("");
    assert!(heads.contains("authorization: canary-pod-token") && heads.contains("Credential=pod-key/"), "{heads}");
    assert!(home.files_with("canary-s").is_empty() && home.files_with("canary-t").is_empty());
}

#[test]
fn credentials_of_a_machine_pass_no_proxy() {
    let (home, server, proxy) = (Home::new(), Server::quick(&[]), Recorder::start());
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let mut command = home.run_command(&server.url, &[INPUT]);
        command.env(variable, format!("http://{}", proxy.address())).env("AWS_REGION", "us-east-1");
        // Of an address that answers nowhere but in a container of AWS.
        command.env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/canary-role");
        home.finish(command).code(66).says(&["s3://bucket/in.jsonl: there are no credentials"]);
        assert_eq!(proxy.connections(), 0, "{variable}");
    }
}

#[test]
fn objects_go_to_no_metadata_service() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    home.write("in.jsonl", prompts(1..=2));
    for (endpoint, words) in [
        ("http://metadata:9000", "over plain http"),
        ("http://169.254.169.254", "it is no store"),
        ("http://metadata.google.internal:9000", "it is no store"),
    ] {
        let mut command = store.s3(home.run_command(&server.url, &["in.jsonl", "-o", "s3://bucket/r.jsonl"]));
        command.env("AWS_ENDPOINT_URL", endpoint);
        home.finish(command).code(2).says(&["s3://bucket/r.jsonl: ", words]);
    }
    assert_eq!(server.requests(), 0);
}

#[test]
fn secrets_in_invalid_urls_are_shown_and_kept_nowhere() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    for url in [
        "s3://canary-1:canary-2@bucket/in.jsonl",
        "s3://canary-1:canary-2/x@bucket/in.jsonl",
        "gs://canary-1:canary-2/in.jsonl",
        "hf://datasets/own/set/in.csv?token=canary-3",
        "hf://canary-3@datasets/own/set/in.csv",
    ] {
        for args in [&[url][..], &["in.jsonl", "-o", url], &["in.jsonl", "--summary", url]] {
            home.write("in.jsonl", prompts(1..=1));
            let out = home.finish(store.s3(home.run_command(&server.url, args))).code(2);
            assert!(!out.stderr.contains("canary"), "{}", out.stderr);
        }
    }
    assert!(home.files_with("canary-").is_empty(), "{:?}", home.files_with("canary-"));
}
