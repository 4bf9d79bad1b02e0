//! The words of the store: keys, records, transactions and events. No behaviour beyond construction.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::backend::BackendError;

/// Ends each text of a [`Head`]. No name of the API has it.
const END: char = '\0';

/// A point in the history of the whole store; the API shows it as `resourceVersion`.
///
/// Revisions only grow, across restarts too, and are never zero, because clients read `"0"` as "any".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a record is called. Ordered by resource, namespace, name, which is the order of lists.
///
/// None of the three parts may contain a NUL; API names never do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `pods`, `replicasets.apps`, or an internal one such as `+clusterips`.
    pub resource: Arc<str>,
    /// Empty for what is cluster-scoped.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
}

impl Key {
    /// A key of its three parts.
    pub fn new(resource: impl Into<Arc<str>>, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { resource: resource.into(), namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.resource, self.name)
        } else {
            write!(f, "{}/{}/{}", self.resource, self.namespace, self.name)
        }
    }
}

/// What selectors ask of an object, read once when it is written. Every record has one, so it is one text: a list of small ones takes
/// far more room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The uid, each label's key and value, each field's path and value; a NUL after each.
    texts: Box<str>,
    labels: usize,
}

impl Head {
    /// A head of `metadata.uid`, `metadata.labels`, and the selectable fields by their path, such as `spec.nodeName`.
    ///
    /// A field whose value has a NUL in it is left out: it is nothing to select by.
    pub fn new<'a>(
        uid: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        fields: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        let mut texts = String::new();
        let mut push = |text: &str| {
            texts.extend(text.chars().filter(|&c| c != END));
            texts.push(END);
        };
        push(uid);
        let mut count = 0;
        for (key, value) in labels {
            push(key);
            push(value);
            count += 1;
        }
        for (path, value) in fields.into_iter().filter(|(_, value)| !value.is_empty() && !value.contains(END)) {
            push(path);
            push(&value);
        }
        Self { texts: texts.into(), labels: count }
    }

    /// `metadata.uid`; empty if it has none.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.texts.split(END).next().unwrap_or_default()
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.pairs().take(self.labels).find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// The value of a selectable field; none is the same as an empty one.
    #[must_use]
    pub fn field(&self, path: &str) -> Option<&str> {
        self.pairs().skip(self.labels).find(|(known, _)| *known == path).map(|(_, value)| value)
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut texts = self.texts.split(END).skip(1);
        std::iter::from_fn(move || Some((texts.next()?, texts.next()?)))
    }
}

/// One object as it was at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is called.
    pub key: Key,
    /// The revision that wrote this state.
    pub revision: Revision,
    /// What was read out of `value` when it was written.
    pub head: Head,
    /// The encoded object.
    pub value: Bytes,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It did not exist before.
    Added,
    /// It existed before.
    Modified,
    /// It is gone; the event's record is its last state, stamped with the revision of the deletion.
    Deleted,
}

/// One change of one object, as watchers see it.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The state after the change; for a deletion the last state.
    pub record: Arc<Record>,
    /// The state before the change: selectors need it to tell who leaves and who arrives.
    pub previous: Option<Arc<Record>>,
}

impl Event {
    /// Bytes of the objects it keeps.
    pub(crate) fn bytes(&self) -> usize {
        self.record.value.len() + self.previous.as_ref().map_or(0, |previous| previous.value.len())
    }
}

/// Makes the bytes of an object once the transaction's revision is known.
///
/// Called on the committer's thread: it must not block.
pub type Encode = Box<dyn FnOnce(Revision) -> Bytes + Send>;

/// What must hold for a transaction to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// No record has this key.
    Absent(Key),
    /// The record with this key was last written at this revision.
    At(Key, Revision),
}

impl Expectation {
    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key) | Self::At(key, _) => key,
        }
    }

    /// Whether it holds when the newest record of its key is `current`.
    #[must_use]
    pub fn holds(&self, current: Option<Revision>) -> bool {
        match self {
            Self::Absent(_) => current.is_none(),
            Self::At(_, revision) => current == Some(*revision),
        }
    }
}

/// One step of a transaction.
pub enum Op {
    /// Create or replace.
    Put {
        /// What to write.
        key: Key,
        /// What selectors ask of it, if the writer knows; otherwise it is read from the bytes.
        head: Option<Head>,
        /// Makes the object's bytes.
        encode: Encode,
    },
    /// Remove; a conflict when there is nothing to remove.
    Delete {
        /// What to remove.
        key: Key,
        /// As for [`Op::Put`].
        head: Option<Head>,
        /// Makes the bytes of the last state, for the event.
        encode: Encode,
    },
}

impl Op {
    /// Create or replace `key` with what `encode` makes.
    pub fn put(key: Key, encode: impl FnOnce(Revision) -> Bytes + Send + 'static) -> Self {
        Self::Put { key, head: None, encode: Box::new(encode) }
    }

    /// Remove `key`; `encode` makes the last state for the event.
    pub fn delete(key: Key, encode: impl FnOnce(Revision) -> Bytes + Send + 'static) -> Self {
        Self::Delete { key, head: None, encode: Box::new(encode) }
    }

    /// Spares the committer, of which there is one, reading the head out of the bytes.
    #[must_use]
    pub fn with_head(mut self, known: Head) -> Self {
        let (Self::Put { head, .. } | Self::Delete { head, .. }) = &mut self;
        *head = Some(known);
        self
    }

    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, .. } => write!(f, "put {key}"),
            Self::Delete { key, .. } => write!(f, "delete {key}"),
        }
    }
}

/// All of it or nothing, at one revision. Whether it changes anything at all is the caller's business.
#[derive(Debug, Default)]
pub struct Txn {
    /// What must hold.
    pub expect: Vec<Expectation>,
    /// What to do, at most [`Txn::MAX_OPS`], each key once.
    pub ops: Vec<Op>,
}

impl Txn {
    /// Most steps in one transaction: a quarter of the shortest watch history, so that no single write can
    /// push a prompt watcher out of it.
    pub const MAX_OPS: usize = 1024;
    /// Most bytes of one encoded object. Request bodies end at 3 MiB; the rest is room for what is added to them.
    pub const MAX_VALUE: usize = 8 << 20;
}

/// Why a transaction did not happen. Unless it says [`CommitError::Closed`] or [`CommitError::Backend`], it surely did not.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// Someone else was there first.
    #[error("{0} is not as the transaction expected it")]
    Conflict(Key),
    /// A key occurs twice.
    #[error("{0} occurs more than once in one transaction")]
    Repeated(Key),
    /// A part of the key contains a NUL.
    #[error("a key may not contain NUL")]
    BadKey(Key),
    /// More than [`Txn::MAX_OPS`] steps.
    #[error("{0} steps in one transaction, at most {max} are possible", max = Txn::MAX_OPS)]
    TooManyOps(usize),
    /// An encoded object is larger than [`Txn::MAX_VALUE`].
    #[error("{key} takes {bytes} bytes, at most {max} are possible", max = Txn::MAX_VALUE)]
    TooLarge {
        /// The object.
        key: Key,
        /// Its encoded size.
        bytes: usize,
    },
    /// The caller's `encode` panicked.
    #[error("{0} could not be encoded")]
    Encode(Key),
    /// The write could not be made durable; nothing of it is visible. Should the machine stop before the next
    /// successful write, it may still turn out to have happened.
    #[error("the write could not be made durable")]
    Backend(#[source] Arc<BackendError>),
    /// The store was closed before or while this was waiting.
    #[error("the store is closed")]
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_answers_what_it_was_made_of() {
        let labels = [("app", "web"), ("empty", ""), ("spec.nodeName", "a label")];
        let fields = [("spec.nodeName", "n1"), ("status.phase", ""), ("type", "a\0b"), ("reason", "x")];
        let head = Head::new("u-1", labels, fields.map(|(path, value)| (path, value.to_owned())));
        assert_eq!(head.uid(), "u-1");
        let labels = ["app", "empty", "spec.nodeName", "web", "reason", ""].map(|key| head.label(key));
        assert_eq!(labels, [Some("web"), Some(""), Some("a label"), None, None, None]);
        let fields = ["spec.nodeName", "status.phase", "type", "reason", "app", "n1"].map(|path| head.field(path));
        assert_eq!(fields, [Some("n1"), None, None, Some("x"), None, None]);
        let empty = Head::default();
        assert_eq!((empty.uid(), empty.label(""), empty.field("")), ("", None, None));
        let bare = Head::new("", [], []);
        assert_eq!((bare.uid(), bare.label(""), bare.field("")), ("", None, None));
    }
}
