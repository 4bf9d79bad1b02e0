//! Writes Events for the user: in order, repeated ones counted instead of repeated, and never holding a pod up.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

/// Events that wait to be written. Beyond it new ones are dropped: an Event is a courtesy.
const QUEUE: usize = 1024;
/// Different Events remembered for counting. Beyond it the oldest is forgotten and would be written anew.
const REMEMBERED: usize = 2048;

/// What an Event says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    about: String,
    field_path: Option<String>,
    warning: bool,
    reason: String,
    message: String,
}

/// Where Events are dropped off.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    /// workers → poster. Full: the Event is dropped with a log line.
    record_tx: mpsc::Sender<(Record, ObjectReference)>,
}

impl Recorder {
    /// Starts the poster; it ends when the handle is dropped.
    pub(crate) fn start(client: Client) -> (Self, AbortOnDropHandle<()>) {
        let (record_tx, record_rx) = mpsc::channel(QUEUE);
        let poster = tokio::spawn(post(client, record_rx));
        (Self { record_tx }, AbortOnDropHandle::new(poster))
    }

    /// Writes an Event about `object` (its `field_path` says which container) in the object's namespace.
    pub(crate) fn record(&self, object: ObjectReference, warning: bool, reason: &str, message: impl Into<String>) {
        let record = Record {
            about: object.uid.clone().or_else(|| object.name.clone()).unwrap_or_default(),
            field_path: object.field_path.clone(),
            warning,
            reason: reason.to_owned(),
            message: message.into(),
        };
        if let Err(error) = self.record_tx.try_send((record, object)) {
            let (record, _) = error.into_inner();
            warn!(reason = record.reason, message = record.message, "too many events, one is not written");
        }
    }
}

/// A written Event.
struct Written {
    namespace: String,
    name: String,
    count: i32,
}

async fn post(client: Client, mut record_rx: mpsc::Receiver<(Record, ObjectReference)>) {
    let mut written: BTreeMap<Record, Written> = BTreeMap::new();
    let mut order: VecDeque<Record> = VecDeque::new();
    let mut serial: u64 = 0;
    while let Some((record, object)) = record_rx.recv().await {
        if let Some(known) = written.get_mut(&record) {
            known.count = known.count.saturating_add(1);
            if count_up(&client, known).await {
                continue;
            }
            // It has expired or was deleted: write it again.
            written.remove(&record);
            order.retain(|other| *other != record);
        }
        serial += 1;
        let Some(event) = create(&client, &record, object, serial).await else { continue };
        if order.len() >= REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            written.remove(&oldest);
        }
        order.push_back(record.clone());
        written.insert(record, event);
    }
}

async fn count_up(client: &Client, known: &Written) -> bool {
    let events: Api<Event> = Api::namespaced(client.clone(), &known.namespace);
    let patch = json!({"count": known.count, "lastTimestamp": seconds(Timestamp::now())});
    events.patch(&known.name, &PatchParams::default(), &Patch::Merge(patch)).await.is_ok()
}

async fn create(client: &Client, record: &Record, object: ObjectReference, serial: u64) -> Option<Written> {
    let namespace = object.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let now = Timestamp::now();
    let about = object.name.as_deref().unwrap_or_default();
    let name = format!("{about}.{:x}{serial:04x}", now.as_nanosecond());
    let event = json!({
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": object,
        "type": if record.warning { "Warning" } else { "Normal" },
        "reason": record.reason,
        "message": record.message,
        "count": 1,
        "firstTimestamp": seconds(now),
        "lastTimestamp": seconds(now),
        "source": {"component": "kubelet"},
        "reportingComponent": "kubelet",
        "reportingInstance": "",
    });
    let event: Event = match serde_json::from_value(event) {
        Ok(event) => event,
        Err(error) => {
            warn!(%error, "an event cannot be built");
            return None;
        }
    };
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    match events.create(&PostParams::default(), &event).await {
        Ok(_) => Some(Written { namespace, name, count: 1 }),
        Err(error) => {
            // The namespace may be terminating.
            debug!(%error, reason = record.reason, "an event cannot be written");
            None
        }
    }
}

/// Times of the API have whole seconds.
fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
