//! The socket under a connection, which the handler of a request can break.
//!
//! An HTTP library never resets a connection by itself. This module wraps every accepted socket. The handler of a
//! request gets a [`Conn`] that makes the next write fail, with a reset (RST) or a plain close (FIN).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that may wait to be accepted. With the usual 128, a client that opens thousands at once loses some and
/// tries them again a second later.
const BACKLOG: u32 = 4096;

const HEALTHY: u8 = 0;
const CLOSE: u8 = 1;
const RESET: u8 = 2;

/// A handler's control of its own connection.
#[derive(Clone, Debug, Default)]
pub struct Conn(Arc<AtomicU8>);

impl Conn {
    /// Ends the connection with a reset instead of the next write.
    pub fn reset(&self) {
        self.0.store(RESET, Ordering::Relaxed);
    }

    /// Closes the connection instead of the next write.
    pub fn close(&self) {
        self.0.store(CLOSE, Ordering::Relaxed);
    }

    /// The status as the client sees it: 0 on a broken connection.
    pub fn shown_status(&self, response: &Response) -> u16 {
        if self.0.load(Ordering::Relaxed) == HEALTHY { response.status().as_u16() } else { 0 }
    }
}

impl Connected<IncomingStream<'_, Accept>> for Conn {
    fn connect_info(stream: IncomingStream<'_, Accept>) -> Self {
        stream.io().conn.clone()
    }
}

/// Accepts connections and wraps each in a [`BreakableStream`].
#[derive(Debug)]
pub struct Accept(TcpListener);

impl Accept {
    /// Listens on `address`. Needs a runtime.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG).map(Self)
    }
}

impl Listener for Accept {
    type Io = BreakableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BreakableStream, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((stream, addr)) => {
                    // Answers are small and written once: waiting for more to send only costs latency. A socket that
                    // refuses the option still works.
                    let _ = stream.set_nodelay(true);
                    return (BreakableStream { stream, conn: Conn::default() }, addr);
                }
                // Out of descriptors, or the connection died in the queue: the next one may work.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A socket whose writes fail once its [`Conn`] is broken.
#[derive(Debug)]
pub struct BreakableStream {
    stream: TcpStream,
    conn: Conn,
}

impl BreakableStream {
    /// The stream, unless it is broken.
    fn healthy(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        match self.conn.0.load(Ordering::Relaxed) {
            HEALTHY => Ok(Pin::new(&mut self.stream)),
            RESET => Err(io::ErrorKind::ConnectionReset.into()),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for BreakableStream {
    fn drop(&mut self) {
        if self.conn.0.load(Ordering::Relaxed) == RESET {
            // With a zero linger time the close that follows sends RST instead of FIN.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for BreakableStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for BreakableStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.healthy()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.healthy()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.healthy()?.poll_shutdown(cx)
    }
}
