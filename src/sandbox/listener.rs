//! The socket under a connection, with a lever by which a request's handler can break it.
//!
//! An HTTP library never resets a connection of its own will. Here every accepted socket is wrapped, and the handler
//! of a request gets a [`Conn`] by which the next write fails: with a reset (RST) or a plain close (FIN).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that may wait to be accepted. With the usual 128, a client that opens thousands at once loses some and
/// tries them again a second later.
const BACKLOG: u32 = 4096;

const HEALTHY: u8 = 0;
const CLOSE: u8 = 1;
const RESET: u8 = 2;

/// A handler's lever on its own connection.
#[derive(Clone, Debug, Default)]
pub struct Conn(Arc<AtomicU8>);

impl Conn {
    /// From now on nothing is written and the connection ends with a reset.
    pub fn reset(&self) {
        self.0.store(RESET, Ordering::Relaxed);
    }

    /// From now on nothing is written and the connection ends as if the server had closed it.
    pub fn close(&self) {
        self.0.store(CLOSE, Ordering::Relaxed);
    }

    /// Whether either was asked for.
    pub fn is_broken(&self) -> bool {
        self.0.load(Ordering::Relaxed) != HEALTHY
    }
}

impl Connected<IncomingStream<'_, Accept>> for Conn {
    fn connect_info(stream: IncomingStream<'_, Accept>) -> Self {
        stream.io().conn.clone()
    }
}

/// Accepts connections and wraps each in an [`Io`].
#[derive(Debug)]
pub struct Accept(TcpListener);

impl Accept {
    /// Listens on `address`; within a runtime.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG).map(Self)
    }
}

impl Listener for Accept {
    type Io = Io;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Io, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((stream, addr)) => {
                    // Answers are small and written once: waiting for more to send only costs latency. A socket that
                    // refuses the option still works.
                    let _ = stream.set_nodelay(true);
                    return (Io { stream, conn: Conn::default() }, addr);
                }
                // Out of descriptors or a connection that died in the queue: the next one may do.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A socket that fails to write once its [`Conn`] was told so.
#[derive(Debug)]
pub struct Io {
    stream: TcpStream,
    conn: Conn,
}

impl Io {
    fn broken(&self) -> Option<io::Error> {
        match self.conn.0.load(Ordering::Relaxed) {
            HEALTHY => None,
            RESET => Some(io::ErrorKind::ConnectionReset.into()),
            _ => Some(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if self.conn.0.load(Ordering::Relaxed) == RESET {
            // With a zero linger time the close that follows sends RST instead of FIN.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.broken() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut self.stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.broken() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.broken() {
            Some(error) => Poll::Ready(Err(error)),
            None => Pin::new(&mut self.stream).poll_shutdown(cx),
        }
    }
}
