//! A project file as it is written. Whether its parts fit together is decided in `check.rs`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_saphyr::{Error, Spanned};

use super::Flaw;
use crate::suggest;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) images: BTreeMap<String, Spanned<Words>>,
    pub(super) commands: Vec<Entry>,
}

/// One of its commands.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) command: Option<Spanned<Words>>,
    #[serde(default)]
    pub(super) image: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) port: Option<Spanned<PortText>>,
    #[serde(default)]
    pub(super) replicas: Option<Spanned<u16>>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, Scalar>,
    #[serde(default)]
    pub(super) cwd: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) depends_on: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) service: Option<Spanned<Scalar>>,
    #[serde(default)]
    pub(super) ready: Option<Spanned<Scalar>>,
}

/// How a command's Service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Service {
    /// By a virtual IP.
    ClusterIP,
    /// By a port of every node besides, and of this machine.
    NodePort,
    /// By an address of the lab's pool besides, and one of this machine.
    LoadBalancer,
    /// By the pods' own addresses.
    Headless,
}

/// Program and arguments: a list, or a text that is split as a shell would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words(pub(super) Vec<String>);

/// A port, or `SERVICE:COMMAND`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PortText(pub(super) String);

/// A text that may look like a number or a switch: `1`, `yes`, `web`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar(pub(super) String);

/// Reads the text.
///
/// # Errors
/// The first place that is no YAML, or holds something that a project does not have.
pub(super) fn parse(text: &str) -> Result<File, Flaw> {
    // `y`, `no` and `on` are words here, as in a shell; the program `yes` is none the less one.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| flaw(error.without_snippet()))
}

fn flaw(error: &Error) -> Flaw {
    let line = error.location().map_or(1, |location| location.line());
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let flaw = Flaw::at(line, format!("there is no field {field:?} here"));
            flaw.hint(match suggest::closest(field, expected.iter().copied()) {
                Some(close) => format!("did you mean {close}?"),
                None => format!("there are {}", expected.join(", ")),
            })
        }
        Error::SerdeMissingField { field: "commands", .. } => Flaw::at(line, "the project has no commands")
            .hint("write commands: and below it - name: web, command: python3 -m http.server 8080"),
        Error::SerdeMissingField { field, .. } => Flaw::at(line, format!("the field {field} is missing")),
        other => Flaw::at(
            line,
            other.render_with_options(serde_saphyr::render_options!(snippets: serde_saphyr::SnippetMode::Off)),
        ),
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command: a text, or a list of the program and its arguments")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Words, E> {
                let words = shlex::split(text).filter(|words| !words.is_empty());
                words.map(Words).ok_or_else(|| E::custom(format!("{text:?} is empty or has an open quote")))
            }

            fn visit_bool<E: de::Error>(self, word: bool) -> Result<Words, E> {
                // The programs `true` and `false`.
                Ok(Words(vec![word.to_string()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(Scalar(word)) = items.next_element()? {
                    words.push(word);
                }
                if words.is_empty() { Err(de::Error::custom("the command is empty")) } else { Ok(Words(words)) }
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for PortText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Scalar::deserialize(deserializer).map(|Scalar(text)| Self(text))
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As a text, whatever YAML would make of it: `no` and `1.10` are what they look like.
        String::deserialize(deserializer).map(Self)
    }
}
