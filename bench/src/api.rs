//! As much of HTTP as is needed to ask the lab's API over its Unix socket, without a library's own delays.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::Failure;

/// One connection that is kept.
pub(crate) struct Api {
    stream: BufReader<UnixStream>,
}

impl Api {
    /// Connects to the API.
    pub(crate) fn connect(socket: &Path) -> Result<Self, Failure> {
        Ok(Self { stream: BufReader::new(UnixStream::connect(socket)?) })
    }

    /// Sends a request and returns the answer; it must be a success.
    pub(crate) fn ask(&mut self, method: &str, path: &str, kind: &str, body: &str) -> Result<Value, Failure> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: lab\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (status, length) = self.head()?;
        let mut answer = vec![0; length.ok_or("an answer without length")?];
        self.stream.read_exact(&mut answer)?;
        if (200..300).contains(&status) {
            Ok(serde_json::from_slice(&answer)?)
        } else {
            Err(format!("{method} {path}: {status} {}", String::from_utf8_lossy(&answer)).into())
        }
    }

    /// Reads an answer to its end without looking at it; how many bytes its body has.
    pub(crate) fn read(mut self, path: &str) -> Result<usize, Failure> {
        // HTTP/1.0, so that the body comes without chunks in it.
        self.stream.get_mut().write_all(format!("GET {path} HTTP/1.0\r\nHost: lab\r\n\r\n").as_bytes())?;
        let (status, _) = self.head()?;
        let mut body = Vec::new();
        self.stream.read_to_end(&mut body)?;
        if status == 200 { Ok(body.len()) } else { Err(format!("{path}: {status}").into()) }
    }

    /// Turns the connection into a watch and calls `event` for each line, until it answers `false`.
    pub(crate) fn watch(mut self, path: &str, mut event: impl FnMut(&Value) -> bool) -> Result<(), Failure> {
        // HTTP/1.0, so that the events come without chunks around them.
        self.stream.get_mut().write_all(format!("GET {path} HTTP/1.0\r\nHost: lab\r\n\r\n").as_bytes())?;
        let (status, _) = self.head()?;
        if status != 200 {
            return Err(format!("{path}: {status}").into());
        }
        for line in self.stream.lines() {
            if !event(&serde_json::from_str(&line?)?) {
                break;
            }
        }
        Ok(())
    }

    /// Status code and length of the body.
    fn head(&mut self) -> Result<(u16, Option<usize>), Failure> {
        let mut status = None;
        let mut length = None;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let line = line.trim_end();
            if line.is_empty() {
                return Ok((status.ok_or("no status line")?, length));
            }
            if status.is_none() {
                status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
            } else if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok();
            }
        }
    }
}
