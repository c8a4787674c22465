//! No key in clear: listeners that stand for another machine, on every way out.

use std::net::{IpAddr, TcpListener};

use super::tls::{pem, secure_answering};
use crate::support::{Home, KEY, Recorder, Server, prompts};

/// The key of a service in the config file.
const OWN: &str = "canary-own-key-77";

/// An address of this machine that is not loopback, if it has one. Nothing is sent.
fn address_of_this_machine() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// The commands that talk to a service.
const COMMANDS: [&[&str]; 6] = [
    &["run", "in.jsonl", "-o", "out.jsonl", "--retries", "0", "--fresh", "--give-up-after", "1s"],
    &["submit", "in.jsonl", "--wait", "--timeout", "1s", "--poll", "50ms", "-o", "out.jsonl"],
    &["models", "--refresh"],
    &["doctor", "--online"],
    &["status", "--remote"],
    &["fetch", "batch-1", "-o", "out.jsonl"],
];

/// Runs every command with both keys, by `--base-url`, by the environment, by the config file and by `--service`.
fn every_way(home: &Home, url: &str, more: &[(&str, &str)]) {
    home.write("in.jsonl", prompts(1..=1));
    home.config(format!("[services.box]\nbase_url = \"{url}\"\napi_key_env = \"OWN_KEY\"\n"));
    for args in COMMANDS {
        for (flags, variable) in [
            (&["--base-url", url][..], None),
            (&["--service", "box"], None),
            (&[], Some(("TOGETHER_BASE_URL", url))),
            (&[], Some(("LLBATCH_SERVICE", "box"))),
        ] {
            let mut command = home.command(&[args, flags].concat());
            command.env_remove("TOGETHER_BASE_URL").env("OWN_KEY", OWN).envs(more.iter().copied()).envs(variable);
            let out = home.finish(command);
            for key in [KEY, OWN] {
                assert!(!(out.stdout.contains(key) || out.stderr.contains(key)), "{args:?}: {}", out.stderr);
            }
        }
    }
}

#[test]
fn no_command_connects_to_another_machine_in_clear() {
    let Some(address) = address_of_this_machine() else { return };
    let Ok(listener) = TcpListener::bind((address, 0)) else { return };
    listener.set_nonblocking(true).unwrap();
    let home = Home::new();
    every_way(&home, &format!("http://{}/v1", listener.local_addr().unwrap()), &[]);
    // A proxy changes nothing: it would see the key as well.
    let proxy = Recorder::start();
    let proxied = format!("http://{}", proxy.address());
    every_way(
        &home,
        "http://llbatch.test/v1",
        &[("HTTP_PROXY", &proxied), ("http_proxy", &proxied), ("ALL_PROXY", &proxied)],
    );
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody came");
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn redirect_from_tls_to_plain_http_is_not_followed() {
    let Some(plain) = address_of_this_machine().and_then(Recorder::at) else { return };
    let near = Recorder::start();
    for target in [&plain, &near] {
        let location = format!("location: {}/elsewhere\r\nx-together-file-id: file-1\r\n", target.url);
        let service = secure_answering("good", move |_| ("307 Temporary Redirect", location.clone(), "{}".to_owned()));
        let ca = pem("ca");
        every_way(&Home::new(), &service.url, &[("SSL_CERT_FILE", ca.to_str().unwrap())]);
        assert!(service.requests().iter().any(|request| request.head.contains(OWN)), "the service was asked");
        assert_eq!(target.connections(), 0, "a redirect led a request out of TLS");
    }
}

#[test]
fn key_of_a_service_on_this_machine_goes_there_only() {
    let (server, proxy) = (Server::quick(&["--key", OWN]), Recorder::start());
    let proxied = format!("http://{}", proxy.address());
    for host in ["127.0.0.1", "localhost", "box.localhost", "0.0.0.0"] {
        let home = Home::new();
        every_way(&home, &server.url.replace("127.0.0.1", host), &[("HTTP_PROXY", &proxied), ("ALL_PROXY", &proxied)]);
    }
    assert!(server.bill() > 0, "the service was asked");
    assert_eq!(proxy.connections(), 0);
}
