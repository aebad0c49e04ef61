//! What a node accepts connections on: a TCP port, or a socket in its file system for what runs on this machine.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Something that connections arrive at.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpListener),
    /// Callers have no address; the rights of the file say who may connect, tokens what they may do.
    Local(UnixListener),
}

/// A connection before anything was said.
#[derive(Debug)]
pub(crate) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Local(UnixStream),
}

impl Socket {
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, peer)| Accepted::Tcp(stream, peer)),
            Self::Local(listener) => listener.accept().await.map(|(stream, _)| Accepted::Local(stream)),
        }
    }
}

impl From<TcpListener> for Socket {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixListener> for Socket {
    fn from(listener: UnixListener) -> Self {
        Self::Local(listener)
    }
}
