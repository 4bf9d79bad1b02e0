//! Lists in pages: every page of one list shows the same moment.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minisvc_store::{Record, Revision};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;

/// Moments that are kept for lists under way. The records in them are shared with the store, so one costs little until
/// its objects change. When there are more, the oldest list has to begin anew.
const LIMIT: usize = 32;
/// How long a list may take from one page to the next.
const LIFE: Duration = Duration::from_secs(5 * 60);

/// Where a list goes on: opaque to clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    /// The moment that the list shows; None for whatever is present.
    #[serde(rename = "rv")]
    pub(crate) revision: Option<u64>,
    /// Namespace and name of the last object that was shown.
    pub(crate) after: (String, String),
}

impl Token {
    /// As it is sent.
    pub(crate) fn encode(&self) -> String {
        // A number and two strings always have a JSON form.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads what a client sends back.
    ///
    /// # Errors
    /// 400 for what was never given out.
    pub(crate) fn decode(text: &str) -> Result<Self, ApiError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let token = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        token.ok_or_else(|| ApiError::bad_request("invalid continue token"))
    }

    /// The token with which the rest of the list can be read as it is now.
    pub(crate) fn without_moment(self) -> Self {
        Self { revision: None, ..self }
    }
}

/// What a page says of the pages after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct More {
    /// The token of the next one.
    pub(crate) token: Option<String>,
    /// Objects on those; not told when a selector decides.
    pub(crate) remaining: Option<usize>,
}

/// All records of a list at one moment, sorted by namespace and name.
pub(crate) type Records = Arc<[Arc<Record>]>;

/// Moments for lists under way.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    kept: Mutex<VecDeque<Snapshot>>,
}

#[derive(Debug)]
struct Snapshot {
    storage: String,
    namespace: Option<String>,
    revision: Revision,
    records: Records,
    used: Instant,
}

impl Snapshots {
    /// Keeps a moment, if it is not kept already.
    pub(crate) fn keep(
        &self,
        storage: &str,
        namespace: Option<&str>,
        revision: Revision,
        records: &Records,
        now: Instant,
    ) {
        if self.find(storage, namespace, revision, now).is_some() {
            return;
        }
        let mut kept = self.lock();
        if kept.len() >= LIMIT {
            kept.pop_front();
        }
        kept.push_back(Snapshot {
            storage: storage.to_owned(),
            namespace: namespace.map(str::to_owned),
            revision,
            records: Arc::clone(records),
            used: now,
        });
    }

    /// The records at that moment, if it is still kept.
    pub(crate) fn find(
        &self,
        storage: &str,
        namespace: Option<&str>,
        revision: Revision,
        now: Instant,
    ) -> Option<Records> {
        let mut kept = self.lock();
        kept.retain(|snapshot| now.saturating_duration_since(snapshot.used) < LIFE);
        let found = kept.iter_mut().find(|snapshot| {
            snapshot.revision == revision && snapshot.storage == storage && snapshot.namespace.as_deref() == namespace
        })?;
        found.used = now;
        Some(Arc::clone(&found.records))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Snapshot>> {
        // Whole between any two statements.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The records after an object, whether it still exists or not.
pub(crate) fn after<'a>(records: &'a [Arc<Record>], (namespace, name): &(String, String)) -> &'a [Arc<Record>] {
    let shown = records.partition_point(|r| (&*r.key.namespace, &*r.key.name) <= (namespace.as_str(), name.as_str()));
    records.get(shown..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn a_token_comes_back_as_it_was_and_others_are_refused() {
        let token = Token { revision: Some(7), after: ("default".to_owned(), "web".to_owned()) };
        assert_eq!(Token::decode(&token.encode()), Ok(token.clone()));
        let fresh = token.without_moment();
        assert_eq!(Token::decode(&fresh.encode()).map(|token| token.revision), Ok(None));
        for wrong in ["abc", "", "e30", "bnVsbA", "%%%"] {
            assert_eq!(Token::decode(wrong), Err(ApiError::bad_request("invalid continue token")), "{wrong}");
        }
    }

    //
    #[test]
    fn moments_are_kept_for_a_while_and_only_so_many() {
        let (snapshots, now) = (Snapshots::default(), Instant::now());
        let none: Records = Arc::new([]);
        snapshots.keep("pods", None, Revision(1), &none, now);
        assert!(snapshots.find("pods", None, Revision(1), now).is_some());
        assert!(snapshots.find("pods", Some("default"), Revision(1), now).is_none());
        assert!(snapshots.find("services", None, Revision(1), now).is_none());
        assert!(snapshots.find("pods", None, Revision(1), now + LIFE).is_none(), "it is old");
        for revision in 0..=u64::try_from(LIMIT).expect("small") {
            snapshots.keep("pods", None, Revision(revision), &none, now);
        }
        assert!(snapshots.find("pods", None, Revision(0), now).is_none(), "the oldest makes room");
        assert!(snapshots.find("pods", None, Revision(1), now).is_some());
    }
}
