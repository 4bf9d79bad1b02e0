use super::*;
use crate::table::definitions;
use crate::testing::object_of;
use proptest::prelude::*;
use serde_json::json;

/// Writes the wire form of an object: what the decoder reads, over the same table.
fn encode_message(definition: &Definition, object: &Map<String, Value>) -> Vec<u8> {
    // Inlined messages are written in parts, one for each field: a reader must join them.
    let mut out = Vec::new();
    for (name, value) in object {
        let field = definition.field(name).expect("a field of the type");
        let Some((last, outer)) = field.numbers.split_last() else { continue };
        let wrap = |bytes: Vec<u8>| outer.iter().rev().fold(bytes, |inner, number| delimited(*number, &inner));
        match (&field.ty, value) {
            (Type::List(element), Value::Array(items)) => {
                out.extend(items.iter().flat_map(|item| wrap(encode_value(*last, element, item))));
            }
            (Type::Map(ty), Value::Object(map)) => out.extend(map.iter().flat_map(|(key, value)| {
                let entry = [delimited(1, key.as_bytes()), encode_value(2, ty, value)].concat();
                wrap(delimited(*last, &entry))
            })),
            (ty, value) => out.extend(wrap(encode_value(*last, ty, value))),
        }
    }
    out
}

fn encode_value(number: u32, ty: &Type, value: &Value) -> Vec<u8> {
    let text = || value.as_str().unwrap_or_default();
    match ty {
        Type::Object(id) => delimited(number, &encode_message(id.get(), value.as_object().expect("an object"))),
        Type::List(element) => {
            let items = value.as_array().into_iter().flatten();
            delimited(number, &items.flat_map(|item| encode_value(1, element, item)).collect::<Vec<_>>())
        }
        Type::Map(_) => panic!("no map of maps"),
        Type::Scalar(scalar) => match scalar {
            Scalar::String => delimited(number, text().as_bytes()),
            Scalar::Bytes => {
                delimited(number, &base64::engine::general_purpose::STANDARD.decode(text()).expect("base64"))
            }
            Scalar::Bool => numeric(number, u64::from(value == &json!(true))),
            Scalar::Int32 | Scalar::Int64 => numeric(number, value.as_i64().expect("a number").cast_unsigned()),
            Scalar::Double => {
                let mut out = varint(u64::from(number) << 3 | 1);
                out.extend(value.as_f64().expect("a number").to_le_bytes());
                out
            }
            Scalar::Quantity => delimited(number, &delimited(1, text().as_bytes())),
            Scalar::Raw | Scalar::Fields => delimited(number, &delimited(1, value.to_string().as_bytes())),
            Scalar::Time | Scalar::MicroTime => {
                let time: jiff::Timestamp = text().parse().expect("a time");
                let nanos = u64::try_from(time.subsec_nanosecond()).expect("after 1970");
                let parts = [numeric(1, time.as_second().cast_unsigned()), numeric(2, nanos)].concat();
                delimited(number, &parts)
            }
            Scalar::IntOrString => delimited(
                number,
                &match value {
                    Value::String(text) => [numeric(1, 1), numeric(2, 0), delimited(3, text.as_bytes())].concat(),
                    other => {
                        let bits = other.as_i64().expect("a number").cast_unsigned();
                        [numeric(1, 0), numeric(2, bits), delimited(3, b"")].concat()
                    }
                },
            ),
        },
    }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
    out
}

fn numeric(number: u32, value: u64) -> Vec<u8> {
    [varint(u64::from(number) << 3), varint(value)].concat()
}

fn delimited(number: u32, bytes: &[u8]) -> Vec<u8> {
    [varint(u64::from(number) << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [delimited(1, api_version.as_bytes()), delimited(2, kind.as_bytes())].concat();
    [MAGIC, &delimited(1, &meta), &delimited(2, raw), &delimited(3, b""), &delimited(4, b"")].concat()
}

/// Takes out what one of two equivalent bodies says by silence: nulls everywhere, and a status of zeros on top.
fn bare(mut value: Value) -> Value {
    fn without_nulls(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|_, v| !v.is_null());
                map.values_mut().for_each(without_nulls);
            }
            Value::Array(items) => items.iter_mut().for_each(without_nulls),
            _ => {}
        }
    }
    without_nulls(&mut value);
    if let Some(object) = value.as_object_mut() {
        object.shift_remove("status");
    }
    value
}

/// Each line: a kubectl command, the protobuf body 1.33 sent for it, and the JSON body 1.31 sent.
const RECORDED: &str = include_str!("../tests/recorded-bodies.jsonl");

//
#[test]
fn recorded_bodies_give_what_an_older_kubectl_sends_as_json() {
    let mut count = 0;
    for line in RECORDED.lines() {
        let row: Value = serde_json::from_str(line).expect("a row");
        let body = base64::engine::general_purpose::STANDARD.decode(row["protobuf"].as_str().expect("text"));
        let decoded = decode_protobuf(&body.expect("base64")).expect("a body");
        assert_eq!(decoded.value["kind"], decoded.kind.as_str());
        assert_eq!(bare(decoded.value), bare(row["json"].clone()), "A-038: {}", row["command"]);
        count += 1;
    }
    assert_eq!(count, 16);
}

#[test]
fn hand_assembled_messages_follow_the_rules() {
    // Written down byte by byte from the .proto definitions, not with the encoder above.
    let rows: &[(&str, &str, &str, &[u8], Value)] = &[
        // metadata(1){name(1)="a"}, spec(2){ports(1){name(1)="", protocol(2)="TCP", port(3)=80,
        // targetPort(4){type 0, int 8080, str ""}, nodePort(5)=0}, clusterIP(3)=""}
        (
            "A-039",
            "v1",
            "Service",
            b"\x0a\x03\x0a\x01a\x12\x1a\x0a\x16\x0a\x00\x12\x03TCP\x18\x50\x22\x07\x08\x00\x10\x90\x3f\x1a\x00\x28\x00\x32\x00\x1a\x00",
            json!({"metadata": {"name": "a"}, "spec": {"ports": [{"protocol": "TCP", "port": 80, "targetPort": 8080}]}}),
        ),
        // targetPort {type 1, int 0, str "http"}
        (
            "A-039",
            "v1",
            "Service",
            b"\x12\x0e\x0a\x0c\x22\x0a\x08\x01\x10\x00\x1a\x04http",
            json!({"spec": {"ports": [{"targetPort": "http"}]}}),
        ),
        // replicas(1)=0 is explicit, minReadySeconds(5)=0 is not, paused(7)=false is not
        ("A-039", "apps/v1", "Deployment", b"\x12\x06\x08\x00\x28\x00\x38\x00", json!({"spec": {"replicas": 0}})),
        // metadata.creationTimestamp(8){seconds(1)=1700000000}
        (
            "A-039",
            "v1",
            "Pod",
            b"\x0a\x08\x42\x06\x08\x80\xe2\xcf\xaa\x06",
            json!({"metadata": {"creationTimestamp": "2023-11-14T22:13:20Z"}}),
        ),
        // metadata.creationTimestamp(8){} is no time
        ("A-039", "v1", "Pod", b"\x0a\x02\x42\x00", json!({"metadata": {}})),
        // spec(2).renewTime(4){seconds(1)=1700000000, nanos(2)=5000}
        (
            "A-060",
            "coordination.k8s.io/v1",
            "Lease",
            b"\x12\x0b\x22\x09\x08\x80\xe2\xcf\xaa\x06\x10\x88\x27",
            json!({"spec": {"renewTime": "2023-11-14T22:13:20.000005Z"}}),
        ),
        // data(2){key "k", value 00 ff} ; type(3)="Opaque"
        (
            "A-039",
            "v1",
            "Secret",
            b"\x12\x07\x0a\x01k\x12\x02\x00\xff\x1a\x06Opaque",
            json!({"data": {"k": "AP8="}, "type": "Opaque"}),
        ),
        // spec(1).hard(1){key "cpu", value {1: "1"}}
        ("A-039", "v1", "ResourceQuota", b"\x12\x0c\x0a\x0a\x0a\x03cpu\x12\x03\x0a\x011", json!({"spec": {"hard": {"cpu": "1"}}})),
        // spec(2).volumes(1){name(1)="v", volumeSource(2){emptyDir(2){}}}: JSON inlines the source
        (
            "A-039",
            "v1",
            "Pod",
            b"\x12\x09\x0a\x07\x0a\x01v\x12\x02\x12\x00",
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
        ),
        // data(2){raw(1)={"a":1}}, revision(3)=2
        (
            "A-039",
            "apps/v1",
            "ControllerRevision",
            b"\x12\x09\x0a\x07{\"a\":1}\x18\x02",
            json!({"data": {"a": 1}, "revision": 2}),
        ),
        // spec(1).extra(5){key "k", value {items(1)="a", items(1)="b"}}
        (
            "A-039",
            "authorization.k8s.io/v1",
            "SubjectAccessReview",
            b"\x12\x0d\x2a\x0b\x0a\x01k\x12\x06\x0a\x01a\x0a\x01b",
            json!({"spec": {"extra": {"k": ["a", "b"]}}}),
        ),
        // gracePeriodSeconds(1)=0, as kubectl delete --force sends it, in the group of what is deleted
        ("A-039", "policy/v1", "DeleteOptions", b"\x08\x00", json!({"gracePeriodSeconds": 0})),
        // unknown number 1000 (varint, length-delimited) is skipped
        ("A-039", "v1", "ConfigMap", b"\xc0\x3e\x01\xc2\x3e\x02zz\x12\x06\x0a\x01a\x12\x01b", json!({"data": {"a": "b"}})),
    ];
    for (statement, api_version, kind, raw, wanted) in rows {
        let decoded = decode_protobuf(&envelope(api_version, kind, raw)).expect(kind);
        let mut wanted = wanted.clone();
        wanted["apiVersion"] = json!(api_version);
        wanted["kind"] = json!(kind);
        assert_eq!(decoded.value, wanted, "{statement}: {kind}");
    }
}

#[test]
fn what_is_no_body_is_refused() {
    assert_eq!(decode_protobuf(b"{}"), Err(ProtobufError::NoMagic));
    assert_eq!(decode_protobuf(b""), Err(ProtobufError::NoMagic));
    let unknown = decode_protobuf(&envelope("example.com/v1", "Widget", b""));
    assert!(matches!(unknown, Err(ProtobufError::UnknownKind { .. })), "{unknown:?}");
    let compressed = [MAGIC, &delimited(3, b"gzip")].concat();
    assert_eq!(decode_protobuf(&compressed), Err(ProtobufError::Encoding("gzip".into())));
    for raw in [&b"\x0a\x05ab"[..], b"\x0f\x01", b"\x08\x01", b"\x0a", b"\x12\x03\x0a\x02\xff"] {
        let decoded = decode_protobuf(&envelope("v1", "Service", raw));
        assert!(matches!(decoded, Err(Malformed(_))), "{raw:?}: {decoded:?}");
    }
}

/// Every kind must come back from its wire form, whatever its object looks like.
fn round_trip(definition: &'static Definition, object: Value) {
    let (group, version, kind) = definition.gvk.expect("a kind");
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let raw = encode_message(definition, object.as_object().expect("an object"));
    let decoded = decode_protobuf(&envelope(&api_version, kind, &raw)).expect("a body");
    let mut wanted = object;
    wanted["apiVersion"] = json!(api_version);
    wanted["kind"] = json!(kind);
    assert_eq!(decoded.value, wanted, "{kind}");
}

proptest! {
    //
    #[test]
    fn objects_of_every_kind_survive_the_wire(seed in any::<u64>()) {
        for (index, definition) in definitions().iter().filter(|d| d.gvk.is_some()).enumerate() {
            round_trip(definition, object_of(definition, seed.wrapping_add(index as u64), |f| !f.numbers.is_empty()));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(raw in proptest::collection::vec(any::<u8>(), 0..200), pod in any::<bool>()) {
        let _ = decode_protobuf(&raw);
        let _ = decode_protobuf(&[MAGIC, &raw].concat());
        let _ = decode_protobuf(&envelope("v1", if pod { "Pod" } else { "Service" }, &raw));
    }

    #[test]
    fn damaged_bodies_never_panic(seed in any::<u64>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let kind = Kind::find("", "v1", "Pod").expect("in the table");
        let object = object_of(kind.definition(), seed, |f| !f.numbers.is_empty());
        let mut raw = encode_message(kind.definition(), object.as_object().expect("an object"));
        raw.push(0);
        let at = at.index(raw.len());
        raw[at] = byte;
        let _ = decode_protobuf(&envelope("v1", "Pod", &raw));
        let _ = decode_protobuf(&envelope("v1", "Pod", &raw[..at]));
    }
}
