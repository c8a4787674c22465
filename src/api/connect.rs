//! Classifies failed connections: those that may succeed later, and those that the user has to fix.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::header::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use super::error::{Failure, Fault, chain};
use super::proxy::{ProxyAddress, proxy_of};

/// Time to ask a proxy for the status of its refusal.
const ASK_PROXY: Duration = Duration::from_secs(10);

/// The part of the setup that prevents every connection. Waiting does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// No trusted authority vouches for the server's certificate.
    Untrusted,
    /// The server's certificate is that of an authority, so it vouches for itself.
    OwnAuthority,
    /// The server's certificate is for another host.
    OtherHost,
    /// The server's certificate has expired or is not valid yet.
    Dates,
    /// The server does not speak TLS on this port.
    NotTls,
    /// The proxy wants a user and a password.
    ProxyLogin,
    /// The proxy refuses the connection.
    ProxyRefusal,
}

impl Setup {
    /// The remedy, as an instruction.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Untrusted => {
                "if you trust the server, set SSL_CERT_FILE to a PEM file with the certificate of its authority"
            }
            Self::OwnAuthority => {
                "make the server's certificate anew, with `-addext basicConstraints=critical,CA:FALSE` if by `openssl req -x509`, \
                 and set SSL_CERT_FILE to it"
            }
            Self::OtherHost => "use a base URL with a host name that the certificate covers",
            Self::Dates => "have the server's certificate renewed, and check the clock of this machine",
            Self::NotTls => "check the host and port of the base URL: https:// needs a port that speaks TLS",
            Self::ProxyLogin => "put a valid user and password into HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT",
            Self::ProxyRefusal => {
                "have the proxy allow this host, or name the host in NO_PROXY if it can be reached without the proxy"
            }
        }
    }
}

/// Reads the error of a connection that was not made.
pub(super) async fn failure(error: &(dyn StdError + 'static), url: Option<&Url>) -> Failure {
    let proxy = url.and_then(proxy_of);
    let (fault, why) = match setup_of(error) {
        // The library's words for it are the names of its types.
        Some(setup @ Setup::OwnAuthority) => {
            (Fault::Setup(setup), "invalid peer certificate: it is that of an authority, not of a server".to_owned())
        }
        Some(setup) => (Fault::Setup(setup), chain(error)),
        None => match refusal(error, proxy.as_ref(), url).await {
            Some(status) => (of_proxy(status), format!("the proxy answered HTTP {status}")),
            None => (Fault::Connect, chain(error)),
        },
    };
    let host = url.and_then(Url::host_str).unwrap_or("the service");
    let port = url.and_then(Url::port).map(|port| format!(":{port}")).unwrap_or_default();
    let by = proxy.map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
    Failure::new(fault, format!("cannot connect to {host}{port}{by}: {why}"))
}

/// Finds an error of TLS among the causes that only the user can mend.
fn setup_of(error: &(dyn StdError + 'static)) -> Option<Setup> {
    let mut next: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(cause) = next {
        // An I/O error leaves out the error that it wraps when it is asked for its source.
        let wrapped = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let wrapped = wrapped.map(|inner| -> &(dyn StdError + 'static) { inner });
        if let Some(tls) = wrapped.unwrap_or(cause).downcast_ref::<rustls::Error>() {
            return of_tls(tls);
        }
        next = wrapped.or_else(|| cause.source());
    }
    None
}

fn of_tls(error: &rustls::Error) -> Option<Setup> {
    use rustls::{CertificateError as Bad, Error};
    Some(match error {
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => Setup::OtherHost,
        Error::InvalidCertificate(
            Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. },
        ) => Setup::Dates,
        Error::InvalidCertificate(bad) if format!("{bad:?}").contains("CaUsedAsEndEntity") => Setup::OwnAuthority,
        Error::InvalidCertificate(_) => Setup::Untrusted,
        Error::InvalidMessage(_) => Setup::NotTls,
        _ => return None,
    })
}

/// A proxy may fail for a while (5xx), or be too busy. Any other status is its decision.
const fn of_proxy(status: u16) -> Fault {
    match status {
        407 => Fault::Setup(Setup::ProxyLogin),
        408 | 429 => Fault::Connect,
        300..=499 => Fault::Setup(Setup::ProxyRefusal),
        _ => Fault::Connect,
    }
}

/// Asks a proxy that refused for its status, which the error lacks.
async fn refusal(error: &(dyn StdError + 'static), proxy: Option<&ProxyAddress>, url: Option<&Url>) -> Option<u16> {
    let why = chain(error);
    if why.contains("proxy authorization required") {
        return Some(407);
    }
    let (proxy, url) = (proxy.filter(|_| why.contains("tunnel error: unsuccessful"))?, url?);
    tokio::time::timeout(ASK_PROXY, ask(proxy, url)).await.ok()?
}

/// Sends one CONNECT, and reads the first line of the answer. A proxy that is spoken to with TLS is not asked.
async fn ask(proxy: &ProxyAddress, url: &Url) -> Option<u16> {
    let target = format!("{}:{}", url.host_str()?, url.port_or_known_default()?);
    let login = proxy.login.as_ref().map(HeaderValue::to_str).transpose().ok()?;
    let login = login.map(|login| format!("Proxy-Authorization: {login}\r\n")).unwrap_or_default();
    let mut stream = TcpStream::connect(proxy.plain_address()?).await.ok()?;
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n");
    stream.write_all(head.as_bytes()).await.ok()?;
    // `HTTP/1.1 403`
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.ok()?;
    std::str::from_utf8(&line[9..]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_may_fail_for_a_while_or_refuse_for_good() {
        let statuses = [407, 403, 405, 302, 408, 429, 502, 503];
        let found = statuses.map(|status| match of_proxy(status) {
            Fault::Setup(setup) => Some(setup),
            _ => None,
        });
        let refusal = Some(Setup::ProxyRefusal);
        assert_eq!(found, [Some(Setup::ProxyLogin), refusal, refusal, refusal, None, None, None, None]);
    }
}
