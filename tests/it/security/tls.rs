//! Certificates: an unverified server is sent nothing.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::{Home, KEY, Out, Recorded, Recorder, Server, codes, prompts};

/// A file beside this one; `tls/make.sh` makes them.
pub fn pem(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/security/tls")).join(format!("{name}.pem"))
}

/// A recorder behind TLS with that certificate.
pub fn secure(certificate: &str) -> Recorder {
    secure_answering(certificate, |_| ("200 OK", String::new(), Recorder::chat("\"ok\"")))
}

/// The same with other answers.
pub fn secure_answering(
    certificate: &str,
    reply: impl Fn(&Recorded) -> (&'static str, String, String) + Send + Sync + 'static,
) -> Recorder {
    let chain = CertificateDer::pem_file_iter(pem(certificate)).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(pem(certificate)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let wrap = move |stream: TcpStream| {
        let connection = ServerConnection::new(Arc::clone(&config)).ok()?;
        Some(StreamOwned::new(connection, stream))
    };
    Recorder::over("https", wrap, reply)
}

fn run(home: &Home, url: &str, trusted: &str) -> Out {
    home.write("in.jsonl", prompts(1..=1));
    let mut command = home.run_command(url, &["in.jsonl", "-o", "out.jsonl", "--retries", "0", "-vv"]);
    command.env("SSL_CERT_FILE", trusted);
    home.finish(command)
}

#[test]
fn ssl_cert_file_names_a_private_authority() {
    let (home, server) = (Home::new(), secure("good"));
    for url in [server.url.clone(), server.url.replace("127.0.0.1", "localhost")] {
        run(&home, &url, pem("ca").to_str().unwrap()).code(0);
        assert_eq!(codes(&home.read("out.jsonl"))[0].1, "ok");
    }
    assert!(server.requests()[0].head.contains(KEY), "the key goes to who has proved itself");
}

#[test]
fn self_signed_certificate_works_unless_it_is_an_authority_s() {
    let (home, server) = (Home::new(), secure("self-signed"));
    run(&home, &server.url, pem("self-signed").to_str().unwrap()).code(0);
    // The usual `openssl req -x509` makes the certificate of an authority, which no server may show as its own.
    let (home, server) = (Home::new(), secure("own-authority"));
    let out = run(&home, &server.url, pem("own-authority").to_str().unwrap()).code(1);
    let words = out.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("-addext basicConstraints=critical,CA:FALSE"), "{words}");
    assert!(!words.contains("CaUsedAsEndEntity"), "{words}");
    assert_eq!((server.connections(), server.bytes()), (1, 0));
}

#[test]
fn unverified_server_is_sent_nothing() {
    let cases = [
        ("expired", "expired", "have the server's certificate renewed"),
        ("other-host", "not valid for name", "use a base URL with a host name"),
        ("self-signed", "UnknownIssuer", "set SSL_CERT_FILE"),
    ];
    for (certificate, why, remedy) in cases {
        let (home, server) = (Home::new(), secure(certificate));
        let out = run(&home, &server.url, pem("ca").to_str().unwrap()).code(1);
        let words = out.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(why) && words.contains(remedy), "{certificate}:\n{words}");
        assert_eq!((server.connections(), server.bytes()), (1, 0), "{certificate}: bytes of a request arrived");
    }
    // The right certificate of an authority that is not trusted.
    let (home, server) = (Home::new(), secure("good"));
    run(&home, &server.url, pem("self-signed").to_str().unwrap()).code(1);
    assert_eq!((server.connections(), server.bytes()), (1, 0));
}

#[test]
fn batch_commands_verify_certificates_too() {
    for certificate in ["expired", "other-host", "self-signed"] {
        let (home, server) = (Home::new(), secure(certificate));
        home.write("in.jsonl", prompts(1..=1));
        let rescue = ["submit", "in.jsonl", "-o", "out.jsonl", "--deadline", "1h", "--rescue"];
        for args in [&["submit", "in.jsonl"][..], &rescue, &["doctor", "--online"]] {
            let mut command = home.command_at(&server.url, args);
            command.env("SSL_CERT_FILE", pem("ca"));
            home.finish(command).code(1).says(&["certificate", "then run the same command again"]);
        }
        assert_eq!((server.connections(), server.bytes()), (3, 0), "{certificate}: bytes of a request arrived");
    }
}

#[test]
fn server_without_tls_behind_https_stops_the_run() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=2));
    let url = server.url.replace("http://", "https://");
    for args in [&["run", "in.jsonl", "-o", "out.jsonl"][..], &["submit", "in.jsonl"]] {
        let mut command = home.command_at(&url, args);
        command.env("SSL_CERT_FILE", pem("ca"));
        home.finish(command).code(1).says(&["https:// needs a port that speaks TLS"]);
    }
}

#[test]
fn missing_certificate_file_is_reported() {
    let (home, server) = (Home::new(), secure("good"));
    home.write("in.jsonl", prompts(1..=1));
    std::fs::create_dir(home.path("certs")).unwrap();
    std::fs::copy(pem("ca"), home.path("certs/ca.pem")).unwrap();
    for args in [&["run", "in.jsonl", "-o", "out.jsonl"][..], &["doctor"]] {
        let mut command = home.command_at(&server.url, args);
        command.env("SSL_CERT_FILE", "/nonexistent.pem").env("SSL_CERT_DIR", home.path("certs"));
        let out = home.finish(command);
        assert!(out.stderr.contains("SSL_CERT_FILE names /nonexistent.pem, which is missing"), "{}", out.stderr);
    }
}

#[test]
fn without_authorities_nothing_is_sent_and_the_sandbox_works() {
    let (home, server) = (Home::new(), secure("good"));
    run(&home, &server.url, "/nonexistent").code(2).says(&["certificates", "SSL_CERT_FILE"]);
    assert_eq!(server.connections(), 0);
    let mut command = home.command(&["run", "in.jsonl", "--sandbox", "-o", "out.jsonl"]);
    command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
    home.finish(command).code(0);
}

#[test]
fn no_setting_turns_certificate_checks_off() {
    let help = Home::new().llbatch(&["run", "--help"]).code(0).stdout.to_ascii_lowercase();
    assert!(!help.contains("insecure") && !help.contains("no-verify"), "{help}");
}

#[test]
fn unverified_server_among_several_is_sent_nothing() {
    let (home, good, bad) = (Home::new(), secure("good"), secure("self-signed"));
    let urls = [&good.url, &bad.url];
    home.config(format!("[services.pool]\nbase_url = {urls:?}\napi_key_env = \"TOGETHER_API_KEY\"\n"));
    home.write("in.jsonl", prompts(1..=8));
    let mut run = home.command(&["run", "in.jsonl", "--service", "pool", "-o", "out.jsonl"]);
    run.env("SSL_CERT_FILE", pem("ca"));
    home.finish(run).code(0);
    assert_eq!(codes(&home.read("out.jsonl")).iter().filter(|(_, code)| code == "ok").count(), 8);
    assert_eq!((good.requests().len(), bad.requests().len()), (8, 0));
}
