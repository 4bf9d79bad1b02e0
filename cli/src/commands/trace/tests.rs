//! Decisions as lines, and as packets in a file.

use serde_json::json;

use super::*;

fn flow() -> Value {
    json!({"time": "2026-01-01T12:00:01.234567Z", "event": "flow", "protocol": "TCP",
        "from": {"kind": "Workstation", "name": "workstation"}, "source": "10.95.0.1:4000", "destination": "10.96.0.9:80",
        "flags": "SYN", "length": 60, "service": "default/web:http", "endpoint": "10.244.0.2:8080",
        "to": {"kind": "Pod", "name": "default/web-1", "node": "node-1"}, "why": "at random of 3 endpoints"})
}

#[test]
fn a_decision_is_one_line_from_client_to_endpoint() {
    let with = |changes: Value| {
        let mut line = flow();
        line.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
        sentence(&line)
    };
    assert_eq!(
        with(json!({})),
        "12:00:01.234  TCP workstation 10.95.0.1:4000 -> default/web:http 10.96.0.9:80 -> pod/default/web-1 10.244.0.2:8080  at random of 3 endpoints"
    );
    assert_eq!(
        with(
            json!({"event": "refused", "to": null, "endpoint": null, "why": "no endpoint is ready (RST)", "time": "2026-01-01T12:00:01Z"})
        ),
        "12:00:01.000  TCP workstation 10.95.0.1:4000 -> default/web:http 10.96.0.9:80  refused: no endpoint is ready (RST)"
    );
    let reply = json!({"event": "packet", "isReply": true, "from": {"kind": "Pod", "name": "default/web-1"},
        "source": "10.244.0.2:8080", "destination": "10.95.0.1:4000", "to": {"kind": "Workstation", "name": "workstation"},
        "flags": "SYN,ACK", "why": "an answer, from the address that was asked"});
    assert_eq!(
        with(reply),
        "12:00:01.234  TCP pod/default/web-1 10.244.0.2:8080 -> 10.95.0.1:4000 workstation SYN,ACK 60 bytes  an answer, from the address that was asked"
    );
    assert_eq!(
        with(json!({"event": "lost", "why": "7 decisions were lost, because they were not taken fast enough"})),
        "12:00:01.234  7 decisions were lost, because they were not taken fast enough"
    );
}

#[test]
fn a_packet_is_written_where_it_came_from_and_where_it_went() {
    let mut file = Vec::new();
    let mut capture = Capture::begin(&mut file).expect("written");
    let mut line = flow();
    line["before"] = BASE64_STANDARD.encode("before").into();
    line["after"] = BASE64_STANDARD.encode("after").into();
    write_frames(&mut capture, &line).expect("written");
    let mut refused = line.clone();
    (refused["event"], refused["to"], refused["why"]) =
        ("refused".into(), Value::Null, "no endpoint is ready (RST)".into());
    write_frames(&mut capture, &refused).expect("written");
    let (mut dropped, mut made) = (refused.clone(), refused);
    dropped["after"] = "".into();
    made["before"] = "".into();
    write_frames(&mut capture, &dropped).expect("written");
    write_frames(&mut capture, &made).expect("written");
    let read = pcapng::tests::read(&file);
    assert_eq!(read.interfaces, ["workstation", "pod/default/web-1"]);
    let seen: Vec<_> = read.packets.iter().map(|packet| (packet.0, packet.1, packet.3.as_slice())).collect();
    let (sent, arrived) = (2, 1);
    assert_eq!(
        seen,
        [
            (0, sent, &b"before"[..]),
            (1, arrived, b"after"),
            (0, sent, b"before"),
            (0, arrived, b"after"),
            (0, sent, b"before"),
            (0, arrived, b"after"),
        ]
    );
    assert_eq!(read.packets[0].4, "flow: default/web:http: at random of 3 endpoints");
    assert_eq!(read.packets[2].4, "refused: default/web:http: no endpoint is ready (RST)");
    assert_eq!(read.packets[0].2, 1_767_268_801_234_567_000);
}
