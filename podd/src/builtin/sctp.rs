//! SCTP sockets of the one-to-one kind, which are used as those of TCP. Nobody who does not ask for one gets the kernel's module loaded.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, listen, socket,
};

/// Connects within a time, which is also how long each later answer may take.
///
/// # Errors
/// When the kernel does not speak SCTP, or nobody answers.
pub fn sctp_connect(address: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::from(open(address)?);
    stream.set_read_timeout(Some(patience))?;
    // This is also how long it waits for a connection.
    stream.set_write_timeout(Some(patience))?;
    match connect(stream.as_raw_fd(), &SockaddrStorage::from(address)) {
        Err(nix::Error::EINPROGRESS) => Err(io::ErrorKind::TimedOut.into()),
        other => Ok(other.map(|()| stream)?),
    }
}

/// Accepts connections at an address.
pub(super) fn sctp_listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(TcpListener::from(socket))
}

fn open(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    Ok(socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp)?)
}
