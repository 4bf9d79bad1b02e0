//! Keeps the API informed, and has the last word about the pod there.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::{Done, Worker};
use crate::pod::publish::{Outcome, delete, patch_status};
use crate::pod::status::{View, agree, render};

/// Pause after the API did not take a status.
const PUBLISH_PAUSE: Duration = Duration::from_secs(1);
/// How long what somebody else says of the pod stands before its node says again how it is, so that two who disagree do not
/// chase each other.
const CONTRADICT_PAUSE: Duration = Duration::from_secs(1);

impl Worker {
    /// Sends the status if it has changed, one at a time; then the deletion that was asked for (P-030, P-052).
    pub(super) fn publish(&mut self) {
        if self.gone || self.publishing || !std::mem::take(&mut self.stale) {
            return;
        }
        let host = &self.node.config.addresses;
        let view = View { pod: &self.pod, last: &self.shown, host, now: jiff::Timestamp::now() };
        let status = render(&self.state, &view);
        self.shown = status.clone();
        if self.published.as_ref() != Some(&status) {
            self.publishing = true;
            let (client, pod) = (self.shared.client.clone(), Arc::clone(&self.pod));
            let before = self.published.clone().unwrap_or_default();
            return self.spawn(async move {
                let outcome = patch_status(&client, &pod, &before, &status).await;
                if outcome == Outcome::Failed {
                    tokio::time::sleep(PUBLISH_PAUSE).await;
                }
                Done::Published(Box::new(status), outcome)
            });
        }
        if std::mem::take(&mut self.delete_wanted) {
            let (client, pod) = (self.shared.client.clone(), Arc::clone(&self.pod));
            self.spawn(async move {
                let outcome = delete(&client, &pod).await;
                if outcome == Outcome::Failed {
                    tokio::time::sleep(PUBLISH_PAUSE).await;
                }
                Done::DeleteAnswered(outcome)
            });
        }
    }

    /// Looks later whether what the API says now still is not what was published: it may only not have come round yet.
    pub(super) fn compare_later(&mut self) {
        if self.is_contradicted() {
            self.contradict_at.get_or_insert_with(|| Instant::now() + CONTRADICT_PAUSE);
        }
    }

    /// Whether the API says something else of the pod than its node has said last. It may only not have come round yet.
    fn is_contradicted(&self) -> bool {
        let said = self.pod.status.as_ref();
        !said.zip(self.published.as_ref()).is_some_and(|(said, published)| agree(said, published))
    }

    /// Somebody has written over the node's words, as the node controller does when it takes the node for lost (P-118):
    /// they are sent again.
    pub(super) fn contradict(&mut self) {
        self.contradict_at = None;
        if self.is_contradicted() {
            debug!("somebody has written over the status; it is sent again");
            self.published = Some(self.pod.status.clone().unwrap_or_default());
            self.stale = true;
        }
    }
}
