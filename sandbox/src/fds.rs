//! Sockets that carry messages and file descriptors: Unix sockets of the kind `SOCK_SEQPACKET`.
//!
//! A message is at most [`MESSAGE_LIMIT`] bytes. Short ones travel in the packet; long ones in a memory file that travels as a
//! descriptor, because a packet cannot exceed the socket's buffer, which an ordinary user cannot raise.
#![expect(unsafe_code, reason = "descriptors that arrive in a control message are plain numbers, ours from then on")]

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind,
    connect, getsockopt, listen, recvmsg, sendmsg, socket, socketpair, sockopt,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The longest message, in bytes.
pub const MESSAGE_LIMIT: usize = 1 << 20;

/// The longest message that travels inside the packet, small against the default socket buffer of 208 KiB.
const INLINE_LIMIT: usize = 32 << 10;
/// The most descriptors that come with one message.
const DESCRIPTOR_LIMIT: usize = 16;

const INLINE: u8 = 0;
const IN_MEMORY_FILE: u8 = 1;

/// A message as received.
pub(crate) type Message = (Vec<u8>, Vec<OwnedFd>);

/// One end of a connection that carries messages and file descriptors, for use with tokio.
///
/// Messages keep their boundaries and their order. All methods are safe to cancel: a message is sent or received whole, or not.
#[derive(Debug)]
pub struct FdSocket {
    inner: AsyncFd<OwnedFd>,
}

impl FdSocket {
    /// Two connected ends; the second is for another process.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = pair()?;
        Ok((Self::from_fd(ours)?, theirs))
    }

    /// Takes over a connected `SOCK_SEQPACKET` socket.
    ///
    /// # Errors
    /// As for [`FdSocket::pair`].
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { inner: watch_fd(fd)? })
    }

    /// Connects to an [`FdListener`].
    ///
    /// # Errors
    /// Nobody listens there, or it is not allowed.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let fd = seqpacket()?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        Self::from_fd(fd)
    }

    /// Sends one message; waits while the other side's buffer is full.
    ///
    /// # Errors
    /// `InvalidInput` if the message is longer than [`MESSAGE_LIMIT`], `BrokenPipe` if the other end is closed.
    pub async fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let frame = Frame::new(bytes)?;
        self.inner.async_io(Interest::WRITABLE, |fd| frame.send(fd.as_fd(), fds)).await
    }

    /// Sends one message if that is possible at once.
    ///
    /// # Errors
    /// `WouldBlock` if it is not; otherwise as for [`FdSocket::send`].
    pub fn try_send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        Frame::new(bytes)?.send(self.inner.get_ref().as_fd(), fds)
    }

    /// The next message and the descriptors that came with it; `None` when the other end is closed.
    ///
    /// # Errors
    /// `InvalidData` if the packet is not one of ours.
    pub async fn recv(&self) -> io::Result<Option<Message>> {
        self.inner.async_io(Interest::READABLE, |fd| recv(fd.as_fd())).await
    }

    /// Who made the other end, as this process sees it.
    ///
    /// # Errors
    /// The socket is not connected.
    pub fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        PeerCredentials::of(self.inner.get_ref())
    }
}

/// Listens at a path for [`FdSocket`]s.
#[derive(Debug)]
pub struct FdListener {
    inner: AsyncFd<OwnedFd>,
}

impl FdListener {
    /// Creates the socket file, which must not exist yet. The file's directory decides who may connect.
    ///
    /// # Errors
    /// The path exists, is longer than 107 bytes, or its directory is not writable.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let fd = seqpacket()?;
        bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        listen(&fd, Backlog::new(64)?)?;
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { inner: watch_fd(fd)? })
    }

    /// The next connection.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub async fn accept(&self) -> io::Result<FdSocket> {
        let fd =
            self.inner.async_io(Interest::READABLE, |fd| Ok(accept4(fd.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?)).await?;
        // SAFETY: accept4 returned it just now, so it is open and nobody else owns it.
        FdSocket::from_fd(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Who is at the other end of a Unix socket, at the time it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Process id; 0 if it is not visible from here.
    pub pid: i32,
}

impl PeerCredentials {
    /// Of the other end of any connected Unix socket.
    ///
    /// # Errors
    /// It is not a connected Unix socket.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let peer = getsockopt(socket, sockopt::PeerCredentials)?;
        Ok(Self { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() })
    }
}

/// Lets tokio wait for a descriptor: the safe way to an [`AsyncFd`], which any owned descriptor deserves.
///
/// # Errors
/// The kernel cannot wait for this kind of descriptor, such as a plain file. Without a tokio runtime it panics.
pub fn watch_fd(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` returns the same open descriptor until it is dropped, which the `AsyncFd` does after deregistering.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Two connected blocking ends, closed on exec.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Sends one message; blocks as the socket does.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let frame = Frame::new(bytes)?;
    loop {
        match frame.send(socket, fds) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Receives one message; `None` at the end.
pub(crate) fn recv(socket: BorrowedFd<'_>) -> io::Result<Option<Message>> {
    // One byte more than the longest, so that a longer one is noticed as truncated.
    let mut packet = vec![0; 1 + INLINE_LIMIT];
    let mut control = nix::cmsg_space!([RawFd; DESCRIPTOR_LIMIT + 1]);
    let mut slices = [IoSliceMut::new(&mut packet)];
    let received = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => {}
            // The other end was closed with messages of ours unread: nothing more will come.
            Err(Errno::ECONNRESET) => return Ok(None),
            result => break result?,
        }
    };
    let mut fds = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            // SAFETY: the kernel opened these for us while receiving, and each number occurs here only.
            fds.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    let length = received.bytes;
    if received.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(invalid("a message was cut off"));
    }
    match packet[..length].split_first() {
        None => Ok(None),
        Some((&INLINE, bytes)) => Ok(Some((bytes.to_vec(), fds))),
        Some((&IN_MEMORY_FILE, [])) if !fds.is_empty() => {
            let file = File::from(fds.remove(0));
            Ok(Some((read_memory_file(&file)?, fds)))
        }
        Some(_) => Err(invalid("not a message of ours")),
    }
}

fn read_memory_file(file: &File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if length > MESSAGE_LIMIT {
        return Err(invalid("a message is too long"));
    }
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn seqpacket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?)
}

/// A message in the form in which it travels.
enum Frame<'a> {
    Inline(&'a [u8]),
    MemoryFile(File),
}

impl<'a> Frame<'a> {
    fn new(bytes: &'a [u8]) -> io::Result<Self> {
        if bytes.len() > MESSAGE_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"));
        }
        if bytes.len() <= INLINE_LIMIT {
            return Ok(Self::Inline(bytes));
        }
        let mut file = File::from(memfd_create("minisvc-message", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(bytes)?;
        Ok(Self::MemoryFile(file))
    }

    fn send(&self, socket: BorrowedFd<'_>, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if fds.len() > DESCRIPTOR_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
        }
        let mut numbers: Vec<RawFd> = Vec::with_capacity(fds.len() + 1);
        let (tag, body): ([u8; 1], &[u8]) = match self {
            Self::Inline(bytes) => ([INLINE], bytes),
            Self::MemoryFile(file) => {
                numbers.push(file.as_raw_fd());
                ([IN_MEMORY_FILE], &[])
            }
        };
        numbers.extend(fds.iter().map(AsRawFd::as_raw_fd));
        let rights = [ControlMessage::ScmRights(&numbers)];
        let control = if numbers.is_empty() { &[][..] } else { &rights[..] };
        let slices = [IoSlice::new(&tag), IoSlice::new(body)];
        sendmsg::<()>(socket.as_raw_fd(), &slices, control, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn short_and_long_messages_arrive_whole_with_their_descriptors() {
        let (near, far) = FdSocket::pair().unwrap();
        let far = FdSocket::from_fd(far).unwrap();
        for length in [0, 1, INLINE_LIMIT, INLINE_LIMIT + 1, MESSAGE_LIMIT] {
            let message = vec![7; length];
            let file = tempfile::tempfile().unwrap();
            near.send(&message, &[file.as_fd(), file.as_fd()]).await.unwrap();
            let (bytes, fds) = far.recv().await.unwrap().unwrap();
            assert_eq!((bytes.len(), fds.len()), (length, 2));
            assert_eq!(bytes, message);
        }
        let refused = near.send(&vec![0; MESSAGE_LIMIT + 1], &[]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        drop(near);
        assert!(far.recv().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_listener_tells_who_connects() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let listener = FdListener::bind(&path).unwrap();
        let client = FdSocket::connect(&path).unwrap();
        let server = listener.accept().await.unwrap();
        let peer = server.peer_credentials().unwrap();
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(peer.pid, nix::unistd::getpid().as_raw());
        client.send(b"hello", &[]).await.unwrap();
        assert_eq!(server.recv().await.unwrap().unwrap().0, b"hello");
        assert!(FdListener::bind(&path).is_err(), "a second listener at the same path");
    }
}
