//! What crosses the sockets between the main process, the helper and the agents: JSON, with descriptors beside it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{SandboxError, SpawnError};
use crate::spec::{Credentials, ExitStatus, MountSpace, NamespaceSpec, SocketKind, TunSpec};

/// main process → helper, first message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) lab: String,
    /// Directories of control groups to be removed at the end.
    pub(crate) groups: Vec<OsText>,
}

/// helper → main process, first message; `Up` comes with a pidfd of the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Launched {
    Up { own_user_namespace: bool },
    Failed(SandboxError),
}

/// main process → helper, answered by one [`Made`] each.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MakeNamespace {
    pub(crate) spec: NamespaceSpec,
}

/// helper → main process; `Agent` comes with the agent's socket and a pidfd of the agent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Made {
    Agent,
    Failed(SandboxError),
}

/// main process → agent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) body: RequestBody,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum RequestBody {
    OpenTun(TunSpec),
    ReflectPorts(Reflection),
    Sockets { kind: SocketKind, count: usize },
    Spawn(SpawnRequest),
    Signal { process: u64, signal: i32 },
    CountProcesses,
}

/// A range of ports, both ends included, of an own address that is to leave through an interface.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reflection {
    pub(crate) interface: String,
    pub(crate) address: IpAddr,
    pub(crate) first: u16,
    pub(crate) last: u16,
}

/// A `ProcessSpec` without its descriptors: those travel beside it, in the order stdin, stdout, stderr, as far as given, then those
/// by which the process enters its control group.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SpawnRequest {
    pub(crate) argv: Vec<OsText>,
    pub(crate) env: Vec<(OsText, OsText)>,
    pub(crate) cwd: Option<OsText>,
    pub(crate) user: Option<Credentials>,
    pub(crate) stdio: [bool; 3],
    pub(crate) mounts: MountSpace,
    pub(crate) terminal: bool,
}

/// agent → main process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Notice {
    /// First message: the namespace is set up, or why not.
    Up(Result<(), SandboxError>),
    /// To the request with this id.
    Answer { id: u64, answer: Answer },
    /// After the `Spawned` of the same process.
    Exited { process: u64, status: ExitStatus },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    /// As many descriptors come with it as were asked for.
    Descriptors,
    Spawned {
        process: u64,
        pid: i32,
        ran_as_requested: bool,
    },
    Processes(usize),
    NotSpawned(SpawnError),
    Failed(SandboxError),
}

pub(crate) fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    serde_json::to_vec(message).map_err(io::Error::other)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// An `OsString` as JSON: a string if it is UTF-8, else an array of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OsText(#[serde(with = "os_text")] pub(crate) OsString);

impl AsRef<OsStr> for OsText {
    fn as_ref(&self) -> &OsStr {
        &self.0
    }
}

/// Serialises paths and `OsString`s without losing bytes that are not UTF-8.
pub(crate) mod os_text {
    use std::ffi::{OsStr, OsString};
    use std::fmt;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};

    use serde::de::{SeqAccess, Visitor};
    use serde::{Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<T: AsRef<OsStr>, S: Serializer>(text: &T, serializer: S) -> Result<S::Ok, S::Error> {
        let text = text.as_ref();
        match text.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => text.as_bytes().serialize(serializer),
        }
    }

    pub(crate) fn deserialize<'de, T: From<OsString>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(TextVisitor).map(T::from)
    }

    struct TextVisitor;

    impl<'de> Visitor<'de> for TextVisitor {
        type Value = OsString;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a string or an array of bytes")
        }

        fn visit_str<E>(self, text: &str) -> Result<OsString, E> {
            Ok(OsString::from(text))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OsString, A::Error> {
            let mut bytes = Vec::new();
            while let Some(byte) = seq.next_element()? {
                bytes.push(byte);
            }
            Ok(OsString::from_vec(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn text_survives_whatever_its_bytes() {
        for text in
            [OsString::from("plain"), OsString::from("grün \u{1f600}\n"), OsString::from_vec(vec![0xff, 1, 0x80])]
        {
            let text = OsText(text);
            let read: OsText = decode(&encode(&text).unwrap()).unwrap();
            assert_eq!(read, text);
        }
    }
}
