//! Connections that stop being HTTP, over a real socket: watches in a WebSocket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod common;

use std::time::Duration;

use common::{client, config_map, config_maps};
use futures::{SinkExt as _, StreamExt as _};
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;

/// Far more than anything here takes on a slow machine.
const DEADLINE: Duration = Duration::from_secs(30);

async fn event(socket: &mut WebSocketStream<UnixStream>) -> Value {
    loop {
        let message = tokio::time::timeout(DEADLINE, socket.next()).await.unwrap().unwrap().unwrap();
        match message {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?} is no event"),
        }
    }
}

//
#[tokio::test]
async fn a_watch_can_be_a_websocket_with_a_message_for_each_event() {
    let (server, client) = client().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (stop, serving) = (CancellationToken::new(), server.clone());
    let token = stop.clone();
    let own = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(folder.path()).unwrap());
    let task = tokio::spawn(async move { serving.serve_unix(listener, vec![own], token).await });
    let api = config_maps(&client);
    for name in ["a", "b"] {
        api.create(&PostParams::default(), &config_map(name, &[])).await.unwrap();
    }
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let head = "GET /api/v1/namespaces/default/configmaps?watch=1&fieldSelector=metadata.name!%3Db HTTP/1.1\r\nHost: api\r\n\
                Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nOrigin: http://headlamp\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101") && answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    let seen = |event: &Value| (event["type"].clone(), event["object"]["metadata"]["name"].clone());
    assert_eq!(seen(&event(&mut socket).await), (json!("ADDED"), json!("a")));
    api.create(&PostParams::default(), &config_map("c", &[])).await.unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(seen(&event(&mut socket).await), (json!("ADDED"), json!("c")));
    assert_eq!(seen(&event(&mut socket).await), (json!("DELETED"), json!("a")));
    socket.send(Message::Ping("there?".into())).await.unwrap();
    let pong = tokio::time::timeout(DEADLINE, socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(pong, Message::Pong("there?".into()));
    // The server's end is the end of the watch, and does not wait for the client.
    tokio::time::timeout(DEADLINE, server.close()).await.unwrap();
    let last = tokio::time::timeout(DEADLINE, socket.next()).await.unwrap();
    assert!(matches!(last, Some(Ok(Message::Close(_)))), "{last:?}");
    stop.cancel();
    tokio::time::timeout(DEADLINE, task).await.unwrap().unwrap();
}
