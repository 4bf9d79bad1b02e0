//! A pseudo-terminal for a process: one end is its keyboard and screen, the other is ours.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::net::unix::pipe;

/// Rows and columns until somebody says what they see.
const FIRST_SIZE: (u16, u16) = (24, 80);

/// Our end of a pseudo-terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: OwnedFd,
}

impl Terminal {
    /// A terminal, and the end of it that a process gets as its three standard descriptors.
    ///
    /// # Errors
    /// When the system has no pseudo-terminal left.
    pub(crate) fn open() -> io::Result<(Self, OwnedFd)> {
        let pair = nix::pty::openpty(None, None)?;
        for fd in [&pair.master, &pair.slave] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
        let terminal = Self { master: pair.master };
        terminal.resize(FIRST_SIZE.1, FIRST_SIZE.0)?;
        Ok((terminal, pair.slave))
    }

    /// What appears on the screen; an error at the end, when no process has it open any more.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub(crate) fn screen(&self) -> io::Result<pipe::Receiver> {
        // To the runtime a pseudo-terminal is what a pipe is: a descriptor to wait for, read and write.
        pipe::Receiver::from_owned_fd_unchecked(self.master.as_fd().try_clone_to_owned()?)
    }

    /// The keyboard.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub(crate) fn keyboard(&self) -> io::Result<pipe::Sender> {
        pipe::Sender::from_owned_fd_unchecked(self.master.as_fd().try_clone_to_owned()?)
    }

    /// Says how large the screen is, in characters; the processes on it are told.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(&self.master, size)?)
    }
}
