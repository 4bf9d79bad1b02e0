//! The stream that feeds the page (server-sent events): first what is there, then every change, and new connections in
//! samples.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::Page;
use super::flow::{self, FlowEvent};
use crate::live::{self, Change};

/// How often the page is told what has come together.
const BEAT: Duration = Duration::from_millis(50);

/// Connections told in one beat; of the others only the number is.
const FLOWS_PER_BEAT: usize = 12;

/// Changes told in one beat; the others wait for the next.
const CHANGES_PER_BEAT: usize = 2000;

/// Events waiting for the browser; then the feed waits.
const BACKLOG: usize = 16;

/// Connections waiting for the next beat. Further ones are counted by the lab as not told.
const FLOW_BACKLOG: usize = 1024;

/// `GET /dashboard/feed`.
pub(super) async fn feed(State(page): State<Arc<Page>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (event_tx, mut events) = mpsc::channel(BACKLOG);
    tokio::spawn(tell(page, event_tx));
    let stream = futures::stream::poll_fn(move |context| events.poll_recv(context)).map_ok_event();
    Sse::new(stream).keep_alive(KeepAlive::default())
}

/// Turns events into a stream that never fails.
trait MapOkEvent: Stream<Item = Event> + Sized {
    fn map_ok_event(self) -> impl Stream<Item = Result<Event, Infallible>> {
        futures::StreamExt::map(self, Ok)
    }
}

impl<S: Stream<Item = Event>> MapOkEvent for S {}

/// Tells one browser, until it goes away.
async fn tell(page: Arc<Page>, event_tx: mpsc::Sender<Event>) {
    let begin = json!({"name": page.home.name});
    if event_tx.send(event("begin", &begin)).await.is_err() {
        return;
    }
    let mut changes = live::follow(&page.api.kube());
    let (flow_tx, mut flows) = mpsc::channel(FLOW_BACKLOG);
    let tracing = tokio::spawn(flow::follow(page.api.clone(), flow_tx));
    let mut beat = tokio::time::interval_at(Instant::now(), BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = event_tx.closed() => break,
        }
        let (mut changed, mut seen) = (Vec::new(), Vec::new());
        while changed.len() < CHANGES_PER_BEAT
            && let Ok(change) = changes.try_recv()
        {
            changed.push(told(change));
        }
        while let Ok(flow) = flows.try_recv() {
            seen.push(flow);
        }
        let batches = [
            (!changed.is_empty()).then(|| event("changes", &Value::Array(changed))),
            (!seen.is_empty()).then(|| event("flows", &sample(&seen))),
        ];
        for batch in batches.into_iter().flatten() {
            if event_tx.send(batch).await.is_err() {
                tracing.abort();
                return;
            }
        }
    }
    tracing.abort();
}

fn event(name: &str, data: &Value) -> Event {
    Event::default().event(name).data(data.to_string())
}

/// A change as the page reads it: one object with `op`, `kind`, `key` and the record's fields.
fn told(change: Change) -> Value {
    match change {
        Change::Put(key, record) => {
            let mut told = json!({"op": "put", "kind": record.kind(), "key": key});
            if let (Some(fields), Value::Object(own)) = (told.as_object_mut(), json!(record)) {
                fields.extend(own);
            }
            told
        }
        Change::Delete(kind, key) => json!({"op": "delete", "kind": kind, "key": key}),
    }
}

/// An even sample, with what was refused or dropped first: those are why somebody looks.
fn sample(seen: &[FlowEvent]) -> Value {
    let (troubled, well): (Vec<&FlowEvent>, Vec<&FlowEvent>) = seen.iter().partition(|flow| flow.is_trouble());
    let room = FLOWS_PER_BEAT;
    let chosen = every(&troubled, room / 2);
    let rest = every(&well, room - chosen.len());
    let chosen: Vec<&FlowEvent> = chosen.into_iter().chain(rest).collect();
    json!({"skipped": seen.len() - chosen.len(), "flows": chosen})
}

/// At most so many, spread evenly.
fn every<'a>(all: &[&'a FlowEvent], most: usize) -> Vec<&'a FlowEvent> {
    let step = all.len().div_ceil(most.max(1)).max(1);
    all.iter().step_by(step).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::records::NodeRecord;
    use crate::live::{Kind, Record};

    #[test]
    fn a_change_is_one_flat_object() {
        let node = NodeRecord { addresses: vec!["10.95.0.11".into()], zone: None, ready: true };
        let told_of = told(Change::Put("node-1".into(), Record::Node(node)));
        assert_eq!(
            told_of,
            json!({"op": "put", "kind": "node", "key": "node-1", "addresses": ["10.95.0.11"], "zone": null, "ready": true})
        );
        let gone = told(Change::Delete(Kind::Pod, "n/p".into()));
        assert_eq!(gone, json!({"op": "delete", "kind": "pod", "key": "n/p"}));
    }

    #[test]
    fn a_sample_is_bounded_tells_how_many_it_left_out_and_prefers_trouble() {
        let flow = |outcome: &str| FlowEvent { outcome: outcome.into(), ..FlowEvent::default() };
        let seen: Vec<FlowEvent> = (0..100).map(|n| flow(if n == 99 { "refuse" } else { "forward" })).collect();
        let sample = sample(&seen);
        let flows = sample["flows"].as_array().expect("a list");
        assert!(flows.len() <= FLOWS_PER_BEAT && flows.len() > FLOWS_PER_BEAT / 2, "{}", flows.len());
        assert_eq!(sample["skipped"], 100 - flows.len());
        assert_eq!(flows[0]["outcome"], "refuse");
    }
}
