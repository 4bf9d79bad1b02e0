//! Watches: what there is, then what happens, one JSON line per event.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _, stream};
use http::header;
use hyper_util::rt::TokioIo;
use minisvc_store::{Event, EventKind, Record, Revision, Watch, WatchClosed};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, interval_at, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::Call;
use super::objects::{Selection, reach, select};
use crate::error::ApiError;
use crate::negotiate::Form;
use crate::render::Renderer;
use crate::request_info::ListOptions;
use crate::server::Server;
use crate::upgrade;

/// Watches without a `timeoutSeconds` end at random between these, so that they do not all come back at once.
const LIFE: std::ops::Range<u64> = 30 * 60..60 * 60;
/// How often a bookmark is sent, and how long before the end the last one.
const BOOKMARK_PERIOD: Duration = Duration::from_secs(60);
const LAST_BOOKMARK: Duration = Duration::from_secs(2);
/// How often a client at a WebSocket is asked whether it is there.
const PING_PERIOD: Duration = Duration::from_secs(30);
/// Events are gathered into one chunk up to this size when they are there already.
const CHUNK: usize = 64 * 1024;

pub(super) async fn watch(call: &Call<'_>) -> Result<Response, ApiError> {
    let mut renderer = call.renderer()?;
    // YAML has no stream form.
    renderer.form = Form { yaml: false, ..renderer.form };
    let options = ListOptions::from_query(&call.query, true)?;
    let selection = Selection::parse(call, &options)?;
    if options.send_initial_events == Some(true) {
        // The state to begin with must not be older than what the client has seen.
        reach(call, options.resource_version).await?;
    }
    let watcher = Watcher::open(call, renderer, selection, &options);
    if upgrade::Wanted::of(call.headers) == Some(upgrade::Wanted::WebSocket) {
        return in_web_socket(call, watcher);
    }
    let body = Body::from_stream(stream::unfold(watcher, |watcher| async {
        let mut watcher = watcher?;
        match watcher.chunk().await {
            Step::More(chunk) => Some((Ok::<_, std::convert::Infallible>(chunk), Some(watcher))),
            Step::Last(chunk) => Some((Ok(chunk), None)),
            Step::End => None,
        }
    }));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// The same, one text message for each event.
fn in_web_socket(call: &Call<'_>, watcher: Option<Watcher>) -> Result<Response, ApiError> {
    let response = upgrade::web_socket(call.headers)?;
    let Some(upgrade) = call.upgrade.clone() else {
        return Err(ApiError::bad_request("this connection cannot be upgraded"));
    };
    call.server.upgraded.spawn(async move {
        match (upgrade.await, watcher) {
            (Ok(connection), Some(watcher)) => {
                let socket = WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, None).await;
                send_events(watcher, socket).await;
            }
            (Ok(_), None) => {}
            (Err(error), _) => tracing::debug!(%error, "a watch was not upgraded"),
        }
    });
    Ok(response)
}

/// Sends events until the watch ends or the client has gone.
async fn send_events<S: AsyncRead + AsyncWrite + Unpin>(mut watcher: Watcher, socket: WebSocketStream<S>) {
    let (mut sink, mut stream) = socket.split();
    let mut pings = interval_at(Instant::now() + PING_PERIOD, PING_PERIOD);
    let mut last = false;
    while !last {
        // The next chunk is made without waiting once its first event is there, so that nothing is lost between two turns.
        let chunk = tokio::select! {
            step = watcher.chunk() => match step {
                Step::More(chunk) => chunk,
                Step::Last(chunk) => {
                    last = true;
                    chunk
                }
                Step::End => break,
            },
            // Clients have nothing to say; pings are answered below.
            heard = stream.next() => match heard {
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
            _ = pings.tick() => match sink.send(Message::Ping(Bytes::new())).await {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        for line in chunk.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // Events are JSON, and that is UTF-8.
            let text = String::from_utf8_lossy(line).into_owned();
            if sink.send(Message::text(text)).await.is_err() {
                return;
            }
        }
    }
    // The client may have gone at the same time.
    let _ = sink.send(Message::Close(None)).await;
}

/// What the body does next.
enum Step {
    More(Bytes),
    Last(Bytes),
    End,
}

/// One client's watch. It owns no task: the body polls it, so it goes when the client goes.
struct Watcher {
    server: Arc<Server>,
    renderer: Renderer,
    selection: Selection,
    namespace: Option<String>,
    source: Source,
    /// The present state, still to be sent as ADDED.
    initial: VecDeque<Arc<Record>>,
    /// The revision of the bookmark that closes the initial events, until it is sent.
    initial_end: Option<Revision>,
    bookmarks: bool,
    next_bookmark: Instant,
    end: Instant,
    /// No event was sent yet: the first Table carries the columns.
    first: bool,
}

enum Source {
    Open(Watch),
    /// The history asked for is gone: one ERROR event, then the end.
    Refused(ApiError),
}

impl Watcher {
    fn open(call: &Call<'_>, renderer: Renderer, selection: Selection, options: &ListOptions) -> Option<Self> {
        let anywhere = matches!(options.resource_version, None | Some(0));
        let initial_events = options.send_initial_events.unwrap_or(anywhere);
        let (initial, listed) = if initial_events { select(call, &selection) } else { (Vec::new(), Revision(0)) };
        let from = match options.resource_version {
            _ if initial_events => listed,
            // `sendInitialEvents=false` without a revision: from now on.
            None | Some(0) => call.server.store.revision(),
            Some(revision) => Revision(revision),
        };
        let source = match call.server.store.watch(&call.resource.storage(), from) {
            Ok(watch) => Source::Open(watch),
            Err(too_old) => Source::Refused(ApiError::Expired(too_old.to_string())),
        };
        let now = Instant::now();
        let life = options.timeout.unwrap_or_else(|| Duration::from_secs(rand::random_range(LIFE)));
        let watch_list = options.send_initial_events == Some(true);
        let end = now.checked_add(life).unwrap_or(now + Duration::from_secs(LIFE.end));
        Some(Self {
            server: Arc::clone(call.server),
            renderer,
            selection,
            namespace: call.path.namespace.clone(),
            source,
            initial: initial.into(),
            initial_end: (watch_list && options.bookmarks).then_some(from),
            bookmarks: options.bookmarks,
            next_bookmark: bookmark_time(now, end),
            end,
            first: true,
        })
    }

    /// The next piece of the body: as many lines as are there already, at least one.
    async fn chunk(&mut self) -> Step {
        let mut lines = BytesMut::new();
        while let Some(record) = self.initial.pop_front() {
            self.line(&mut lines, "ADDED", &record.value);
            if lines.len() >= CHUNK {
                return Step::More(lines.freeze());
            }
        }
        if let Some(revision) = self.initial_end.take() {
            self.bookmark(&mut lines, revision, true);
        }
        if !lines.is_empty() {
            return Step::More(lines.freeze());
        }
        loop {
            let watch = match &mut self.source {
                Source::Open(watch) => watch,
                Source::Refused(error) => return Step::Last(error_line(error)),
            };
            tokio::select! {
                event = watch.next() => match event {
                    Ok(event) => {
                        if let Some(step) = self.live(event, &mut lines) {
                            return step;
                        }
                    }
                    Err(WatchClosed::StoreClosed) => return Step::End,
                    // The client resumes from its last revision and is told there whether it can.
                    Err(WatchClosed::TooSlow) => return Step::End,
                },
                () = sleep_until(self.next_bookmark), if self.bookmarks => {
                    let progress = watch.progress();
                    self.next_bookmark = bookmark_time(Instant::now(), self.end);
                    if let Some(revision) = progress {
                        self.bookmark(&mut lines, revision, false);
                        return Step::More(lines.freeze());
                    }
                }
                () = sleep_until(self.end) => return Step::End,
                () = self.server.closing.cancelled() => return Step::End,
            }
        }
    }

    /// Writes an event and those that wait behind it; None when none of them concerns this client.
    fn live(&mut self, event: Event, lines: &mut BytesMut) -> Option<Step> {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            if let Some((kind, text)) = self.transition(&event) {
                self.line(lines, kind, &text);
            }
            if lines.len() < CHUNK
                && let Source::Open(watch) = &mut self.source
            {
                // An error here comes again at the next call.
                next = watch.try_next().ok().flatten();
            }
        }
        (!lines.is_empty()).then(|| Step::More(std::mem::take(lines).freeze()))
    }

    /// What an event means to a client that sees only what its selectors match.
    fn transition(&self, event: &Event) -> Option<(&'static str, Bytes)> {
        if self.namespace.as_deref().is_some_and(|namespace| namespace != &*event.record.key.namespace) {
            return None;
        }
        let was = event.previous.as_ref().is_some_and(|previous| self.selection.matches(previous));
        let is = event.kind != EventKind::Deleted && self.selection.matches(&event.record);
        let kind = match (was, is) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return None,
        };
        Some((kind, event.record.value.clone()))
    }

    fn line(&mut self, lines: &mut BytesMut, kind: &str, text: &Bytes) {
        let object = self.renderer.event_object(text, std::mem::take(&mut self.first));
        lines.reserve(object.len() + 32);
        lines.put_slice(b"{\"type\":\"");
        lines.put_slice(kind.as_bytes());
        lines.put_slice(b"\",\"object\":");
        lines.put_slice(&object);
        lines.put_slice(b"}\n");
    }

    fn bookmark(&self, lines: &mut BytesMut, revision: Revision, initial_end: bool) {
        let object = self.renderer.bookmark_object(revision, initial_end);
        lines.put_slice(event_line("BOOKMARK", &object).as_bytes());
    }
}

/// A minute from now, or shortly before the end when that comes first; never at once.
fn bookmark_time(now: Instant, end: Instant) -> Instant {
    let last = end.checked_sub(LAST_BOOKMARK).unwrap_or(end);
    if last > now { last.min(now + BOOKMARK_PERIOD) } else { end + BOOKMARK_PERIOD }
}

fn event_line(kind: &str, object: &Value) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

fn error_line(error: &ApiError) -> Bytes {
    Bytes::from(event_line("ERROR", &error.status()))
}
