//! Events (core/v1) that tell the user what a controller did or could not do.
//!
//! Writing them never delays a controller: they go through a bounded channel to one task, which counts up an Event it
//! has written before instead of writing another.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::is_status;

/// Events waiting to be written. When full, the newest is dropped: it is a message, not a fact anything depends on.
const CHANNEL: usize = 1024;

/// Events remembered for counting up; the oldest is forgotten first and would then be written anew.
const REMEMBERED: usize = 1024;

/// The sending side; cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder {
    // Recorder → writer task
    note_tx: mpsc::Sender<Note>,
    component: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    uid: String,
    type_: &'static str,
    reason: &'static str,
    message: String,
}

struct Note {
    object: Box<ObjectReference>,
    subject: Subject,
    component: &'static str,
    at: Timestamp,
}

impl Recorder {
    /// The recorder of one component.
    pub(crate) fn named(&self, component: &'static str) -> Self {
        Self { note_tx: self.note_tx.clone(), component }
    }

    /// Something went as it should.
    pub(crate) fn normal<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &'static str, message: String) {
        self.send(object.object_ref(&()), "Normal", reason, message);
    }

    /// Something the user may have to mend.
    pub(crate) fn warning<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &'static str, message: String) {
        self.send(object.object_ref(&()), "Warning", reason, message);
    }

    fn send(&self, object: ObjectReference, type_: &'static str, reason: &'static str, message: String) {
        let uid = object.uid.clone().unwrap_or_default();
        let subject = Subject { uid, type_, reason, message };
        let note = Note { object: Box::new(object), subject, component: self.component, at: Timestamp::now() };
        if self.note_tx.try_send(note).is_err() {
            tracing::debug!(reason, "event dropped: too many are waiting");
        }
    }
}

/// A recorder and the task that writes what it records; run it until `shutdown`.
pub(crate) fn recorder(client: Client) -> (Recorder, Writer) {
    let (note_tx, note_rx) = mpsc::channel(CHANNEL);
    let writer = Writer { client, note_rx, written: HashMap::new(), order: VecDeque::new() };
    (Recorder { note_tx, component: "minisvc" }, writer)
}

/// The writing side of [`recorder`].
pub(crate) struct Writer {
    client: Client,
    note_rx: mpsc::Receiver<Note>,
    written: HashMap<Arc<Subject>, Written>,
    order: VecDeque<Arc<Subject>>,
}

struct Written {
    name: String,
    count: i32,
}

impl Writer {
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let note = tokio::select! {
                () = shutdown.cancelled() => return,
                note = self.note_rx.recv() => note,
            };
            let Some(note) = note else { return };
            if let Err(error) = self.write(note).await {
                // Usually a namespace that is being deleted.
                tracing::debug!(%error, "event not written");
            }
        }
    }

    async fn write(&mut self, note: Note) -> kube::Result<()> {
        // Events about cluster-scoped objects live in `default`, where kubectl looks for them.
        let namespace = note.object.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if let Some(written) = self.written.get_mut(&note.subject) {
            written.count = written.count.saturating_add(1);
            let patch = serde_json::json!({"count": written.count, "lastTimestamp": Time(note.at)});
            match api.patch(&written.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Err(error) if is_status(&error, 404) => {}
                other => return other.map(|_| ()),
            }
        }
        let created = api.create(&PostParams::default(), &event(&note, namespace)).await?;
        self.remember(note.subject, created.metadata.name.unwrap_or_default());
        Ok(())
    }

    fn remember(&mut self, subject: Subject, name: String) {
        let subject = Arc::new(subject);
        if self.written.insert(subject.clone(), Written { name, count: 1 }).is_none() {
            self.order.push_back(subject);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.written.remove(&oldest);
            }
        }
    }
}

fn event(note: &Note, namespace: String) -> Event {
    let involved = note.object.name.clone().unwrap_or_default();
    // Unique without asking: nobody else has this object, this nanosecond and these random bits.
    let name = format!("{involved}.{:x}{:04x}", note.at.as_nanosecond(), rand::random::<u16>());
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
        involved_object: (*note.object).clone(),
        type_: Some(note.subject.type_.to_owned()),
        reason: Some(note.subject.reason.to_owned()),
        message: Some(note.subject.message.clone()),
        count: Some(1),
        first_timestamp: Some(Time(note.at)),
        last_timestamp: Some(Time(note.at)),
        source: Some(EventSource { component: Some(note.component.to_owned()), host: None }),
        reporting_component: Some(note.component.to_owned()),
        reporting_instance: Some(String::new()),
        ..Event::default()
    }
}
