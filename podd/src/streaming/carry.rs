//! A connection as pieces of bytes in and pieces of bytes out, whatever lies below.

use std::pin::Pin;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Sink, SinkExt as _, StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// What comes; ends when the connection does.
pub(super) type Incoming = BoxStream<'static, Bytes>;
/// What goes; an error when the connection is gone.
pub(super) type Outgoing = Pin<Box<dyn Sink<Bytes, Error = ()> + Send>>;
/// Both directions.
pub(super) type Carried = (Incoming, Outgoing);

/// The bytes of a connection.
pub(super) fn raw<S: AsyncRead + AsyncWrite + Send + 'static>(stream: S) -> Carried {
    let (reader, writer) = tokio::io::split(stream);
    let incoming = tokio_util::io::ReaderStream::with_capacity(reader, 32 << 10);
    let incoming =
        incoming.take_while(|piece| std::future::ready(piece.is_ok())).filter_map(|piece| async { piece.ok() });
    let outgoing = futures::sink::unfold(writer, |mut writer, piece: Bytes| async move {
        writer.write_all(&piece).await.map_err(drop)?;
        writer.flush().await.map_err(drop)?;
        Ok(writer)
    });
    (incoming.boxed(), Box::pin(outgoing))
}

/// The bytes in the binary messages of a WebSocket; where one message ends and the next begins means nothing.
pub(super) fn in_web_socket<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(socket: WebSocketStream<S>) -> Carried {
    let (sink, stream) = socket.split();
    let messages = stream.into_stream().take_while(|message| std::future::ready(message.is_ok()));
    let incoming = messages.filter_map(|message| async {
        match message {
            Ok(Message::Binary(bytes)) => Some(bytes),
            _ => None,
        }
    });
    let outgoing = sink.with(|piece: Bytes| async { Ok(Message::Binary(piece)) });
    let outgoing = outgoing.sink_map_err(|_: tokio_tungstenite::tungstenite::Error| ());
    (incoming.boxed(), Box::pin(outgoing))
}
