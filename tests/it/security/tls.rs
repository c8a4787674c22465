//! Certificates: an unverified server is sent nothing.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::{Home, KEY, Out, Recorder, codes, prompts, until};

/// A file beside this one; `tls/make.sh` makes them.
pub fn pem(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/security/tls")).join(format!("{name}.pem"))
}

/// A recorder behind TLS with that certificate.
pub fn secure(certificate: &str) -> Recorder {
    let chain = CertificateDer::pem_file_iter(pem(certificate)).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(pem(certificate)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let wrap = move |stream: TcpStream| {
        let connection = ServerConnection::new(Arc::clone(&config)).ok()?;
        Some(StreamOwned::new(connection, stream))
    };
    Recorder::over("https", wrap, |_| ("200 OK", String::new(), Recorder::chat("\"ok\"")))
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
fn unverified_server_is_sent_nothing() {
    let cases = [("expired", "expired"), ("other-host", "not valid for name"), ("self-signed", "UnknownIssuer")];
    for (certificate, why) in cases {
        let (home, server) = (Home::new(), secure(certificate));
        let out = run(&home, &server.url, pem("ca").to_str().unwrap()).code(3);
        assert!(out.stderr.contains(why), "{certificate}:\n{}", out.stderr);
        assert_eq!(codes(&home.read("out.jsonl"))[0].1, "network", "{certificate}");
        assert_eq!((server.connections(), server.bytes()), (1, 0), "{certificate}: bytes of a request arrived");
    }
    // The right certificate of an authority that is not trusted.
    let (home, server) = (Home::new(), secure("good"));
    run(&home, &server.url, pem("self-signed").to_str().unwrap()).code(3);
    assert_eq!((server.connections(), server.bytes()), (1, 0));
}

#[test]
fn batch_commands_verify_certificates_too() {
    for certificate in ["expired", "other-host", "self-signed"] {
        let (home, server) = (Home::new(), secure(certificate));
        home.write("in.jsonl", prompts(1..=1));
        let mut command = home.command_at(&server.url, &["submit", "in.jsonl"]);
        command.env("SSL_CERT_FILE", pem("ca"));
        let running = home.start(command);
        // It tries for minutes: the certificate may be mended. A second try means that the first has come to its end.
        until("a second try", || server.connections() >= 2 || server.bytes() > 0);
        drop(running);
        assert_eq!(server.bytes(), 0, "{certificate}: bytes of a request arrived");
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
