//! Channels over a WebSocket: exec and attach, and port-forward.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::channels::{self, Heard, RESIZE, STATUS, STDERR, STDIN, STDOUT, Version};
use super::forward::{FromPod, Target};
use super::remote::{Ends, Input, Output, Remote};
use crate::logs::OutputStream;

/// Pieces under way in each direction.
pub(super) const AHEAD: usize = 16;
/// How often an otherwise silent client is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(15);
/// How long the client may take to agree to the end. What it has not read by then may be lost to it.
pub(super) const GOODBYE: Duration = Duration::from_secs(5);

/// Runs `work` beside both directions of its connection. `writing` ends when `work` has nothing more to say; `reading`
/// ends when the client has gone: then `writing` is dropped, which tells `work`. Otherwise what the client still says is
/// read for a while, because a connection that is closed with something unread may lose what was sent last.
pub(super) async fn beside(work: impl Future, writing: impl Future, reading: impl Future) {
    let mut work = pin!(work.map(drop).fuse());
    let mut reading = pin!(reading.map(drop));
    let left = {
        let mut writing = pin!(writing.map(drop).fuse());
        let mut both = pin!(futures::future::join(work.as_mut(), writing.as_mut()));
        tokio::select! {
            _ = &mut both => false,
            () = &mut reading => true,
        }
    };
    if left {
        if !futures::future::FusedFuture::is_terminated(&*work) {
            work.await;
        }
    } else {
        // Both ways it is over.
        let _ = timeout(GOODBYE, reading).await;
    }
}

/// Connects a process.
pub(super) async fn remote<S>(socket: WebSocketStream<S>, version: Version, remote: Remote)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, stream) = socket.split();
    let (input_tx, input) = mpsc::channel(AHEAD);
    let (output, mut output_rx) = mpsc::channel(AHEAD);
    let writing = async move {
        let mut writer = Writer::new(sink);
        while let Some(said) = writer.next_or_ping(&mut output_rx).await {
            let sent = match said {
                Output::Data(OutputStream::Stdout, bytes) => writer.send(channels::message(STDOUT, &bytes)).await,
                Output::Data(OutputStream::Stderr, bytes) => writer.send(channels::message(STDERR, &bytes)).await,
                Output::Done(verdict) => {
                    let sent = writer.send(channels::message(STATUS, &verdict.status())).await;
                    writer.close().await;
                    sent
                }
            };
            if !sent {
                return;
            }
        }
    };
    let reading = read_remote(stream, version, input_tx);
    beside(remote.run(Ends { input, output }), writing, reading).await;
}

async fn read_remote<S>(mut stream: SplitStream<WebSocketStream<S>>, version: Version, input_tx: mpsc::Sender<Input>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(heard) = next(&mut stream, version).await {
        let input = match heard {
            Heard::Data(STDIN, bytes) => Input::Data(bytes),
            Heard::Closed(STDIN) => Input::End,
            Heard::Data(RESIZE, json) => match channels::size(&json) {
                Some((columns, rows)) => Input::Size(columns, rows),
                None => continue,
            },
            Heard::Data(..) | Heard::Closed(_) | Heard::Nothing => continue,
        };
        // A process that does not listen any more may still be talking.
        let _ = input_tx.send(input).await;
    }
}

/// The next message; pings are answered below. `None` when the client has gone.
async fn next<S>(stream: &mut SplitStream<WebSocketStream<S>>, version: Version) -> Option<Heard>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match stream.next().await?.ok()? {
            Message::Binary(bytes) => return Some(channels::read(version, &bytes)),
            Message::Text(text) => return Some(channels::read(version, &Bytes::from(text))),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
        }
    }
}

/// The way to the client.
struct Writer<S> {
    sink: SplitSink<WebSocketStream<S>, Message>,
    pings: tokio::time::Interval,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Writer<S> {
    fn new(sink: SplitSink<WebSocketStream<S>, Message>) -> Self {
        Self { sink, pings: interval_at(Instant::now() + PING_EVERY, PING_EVERY) }
    }

    /// The next thing to say, while the client is asked now and then whether it is there; `None` also when it is not.
    async fn next_or_ping<T>(&mut self, from: &mut mpsc::Receiver<T>) -> Option<T> {
        loop {
            tokio::select! {
                said = from.recv() => return said,
                _ = self.pings.tick() => self.sink.send(Message::Ping(Bytes::new())).await.ok()?,
            }
        }
    }

    async fn send(&mut self, message: Bytes) -> bool {
        self.sink.send(Message::Binary(message)).await.is_ok()
    }

    async fn close(&mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        // Whoever has gone need not be told.
        let _ = self.sink.send(Message::Close(Some(frame))).await;
    }
}

/// Connects `ports`: channel 2i carries the bytes of the i-th, channel 2i+1 why it cannot be reached.
pub(super) async fn forward<S>(socket: WebSocketStream<S>, version: Version, target: Target, ports: Vec<u16>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (sink, mut stream) = socket.split();
    let (message_tx, mut message_rx) = mpsc::channel::<Bytes>(AHEAD);
    let mut halves: BTreeMap<u8, mpsc::Sender<Bytes>> = BTreeMap::new();
    let connections = FuturesUnordered::new();
    // The request was refused if there are more ports than channels.
    for (channel, port) in (0..=u8::MAX).step_by(2).zip(ports) {
        let (bytes_tx, bytes_rx) = mpsc::channel(AHEAD);
        halves.insert(channel, bytes_tx);
        connections.push(forward_port(target.clone(), (channel, port), bytes_rx, message_tx.clone()));
    }
    drop(message_tx);
    let writing = async move {
        let mut writer = Writer::new(sink);
        while let Some(message) = writer.next_or_ping(&mut message_rx).await {
            if !writer.send(message).await {
                return;
            }
        }
        writer.close().await;
    };
    let reading = async move {
        while let Some(heard) = next(&mut stream, version).await {
            match heard {
                Heard::Data(channel, bytes) => {
                    if let Some(half) = halves.get(&channel) {
                        // The pod may have closed its side.
                        let _ = half.send(bytes).await;
                    }
                }
                Heard::Closed(channel) => drop(halves.remove(&channel)),
                Heard::Nothing => {}
            }
        }
    };
    beside(connections.collect::<()>(), writing, reading).await;
}

async fn forward_port(
    target: Target,
    (channel, port): (u8, u16),
    bytes_rx: mpsc::Receiver<Bytes>,
    message_tx: mpsc::Sender<Bytes>,
) {
    for channel in [channel, channel + 1] {
        if message_tx.send(channels::message(channel, &port.to_le_bytes())).await.is_err() {
            return;
        }
    }
    let tell = |said: FromPod| {
        let message_tx = message_tx.clone();
        async move {
            let message = match said {
                FromPod::Data(bytes) => channels::message(channel, &bytes),
                FromPod::Failed(why) => channels::message(channel + 1, why.as_bytes()),
                // No client in use knows how to be told that one channel has ended; the end of all says it.
                FromPod::End => return true,
            };
            message_tx.send(message).await.is_ok()
        }
    };
    tokio::select! {
        () = target.serve(port, bytes_rx, tell) => {}
        () = message_tx.closed() => {}
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    //
    #[tokio::test]
    async fn either_side_may_ask_whether_the_other_is_there() {
        let (ours, theirs) = tokio::io::duplex(1024);
        let (sink, mut stream) = WebSocketStream::from_raw_socket(ours, Role::Server, None).await.split();
        let mut client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        let mut writer = Writer { sink, pings: tokio::time::interval(Duration::from_millis(1)) };
        let (_silent_tx, mut silent_rx) = mpsc::channel::<Bytes>(1);
        let serving = tokio::spawn(async move {
            tokio::join!(writer.next_or_ping(&mut silent_rx), next(&mut stream, Version::V5));
        });
        client.send(Message::Ping("there?".into())).await.expect("sent");
        let (mut asked, mut answered) = (false, false);
        while !asked || !answered {
            let message = timeout(Duration::from_secs(30), client.next()).await.expect("a message in time");
            match message.expect("the connection stays").expect("a message") {
                Message::Ping(_) => asked = true,
                Message::Pong(text) => answered = text == "there?",
                other => panic!("{other:?} was not expected"),
            }
        }
        serving.abort();
    }
}
