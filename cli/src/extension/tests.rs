//! The extension behind its router, with a data plane that has one link.

use axum::body::Body;
use http::{Request, StatusCode};
use minisvc_netd::{Config, Link, LinkRole};
use tower::ServiceExt as _;

use super::*;

const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

fn netd() -> (Netd, std::os::unix::net::UnixStream) {
    let net = |text: &str| text.parse().expect("a range");
    let netd = Netd::start(Config::new(vec![net("10.96.0.0/16")], vec![net("10.244.0.0/16")])).expect("started");
    let (inside, outside) = std::os::unix::net::UnixStream::pair().expect("a pair");
    outside.set_nonblocking(true).expect("non-blocking");
    let role = LinkRole::Pod { node: "node-1".into() };
    let addresses = vec!["10.244.0.2".parse().expect("an address")];
    let name = "default/web-1".to_owned();
    netd.attach(Link { name, device: outside.into(), addresses, role, host_ports: None });
    (netd, inside)
}

async fn ask(netd: &Netd, path: &str, accept: &str) -> (StatusCode, Value) {
    let router = extension(Sources {
        netd: netd.clone(),
        nodes: Nodes::default(),
        home: LabHome::at("none", std::path::Path::new("/nowhere")),
        questions: questions(),
        shutdown: CancellationToken::new(),
    })
    .router;
    let request = Request::get(format!("/apis/minisvc.dev/v1/{path}")).header("accept", accept);
    let answer = router.oneshot(request.body(Body::empty()).expect("a request")).await.expect("answered");
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
    (status, serde_json::from_slice(&body).expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_looked_at_comes_as_a_list_as_one_and_as_a_table() {
    let (netd, _inside) = netd();
    let (status, list) = ask(&netd, "routes", "application/json").await;
    assert_eq!(
        (status, &list["kind"], &list["apiVersion"]),
        (StatusCode::OK, &"RouteList".into(), &"minisvc.dev/v1".into())
    );
    let to = json!({"kind": "Pod", "name": "default/web-1", "node": "node-1"});
    assert_eq!(list["items"], json!([{"metadata": {"name": "10.244.0.2"}, "address": "10.244.0.2", "to": to}]));
    let (_, one) = ask(&netd, "routes/10.244.0.2", "application/json").await;
    assert_eq!((&one["kind"], &one["to"]), (&"Route".into(), &to));
    let (_, table) = ask(&netd, "routes?limit=500", AS_TABLE).await;
    assert_eq!(
        (&table["kind"], &table["rows"][0]["cells"]),
        (&"Table".into(), &json!(["10.244.0.2", "pod/default/web-1", "node-1"]))
    );
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["columnDefinitions"][0]["name"], "Address");
    netd.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_answers_and_has_a_cell_for_every_column() {
    let (netd, _inside) = netd();
    for view in views::ALL {
        let (status, table) = ask(&netd, view.resource.plural, AS_TABLE).await;
        assert_eq!((status, &table["kind"]), (StatusCode::OK, &"Table".into()), "{}", view.resource.plural);
        for row in table["rows"].as_array().expect("rows") {
            assert_eq!(
                row["cells"].as_array().map(Vec::len),
                Some(view.columns.len()),
                "{}: {row}",
                view.resource.plural
            );
        }
        let cells = (view.row)(&json!({}), Timestamp::UNIX_EPOCH);
        assert_eq!(cells.len(), view.columns.len(), "{}", view.resource.plural);
    }
    netd.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_refused_with_what_would_be() {
    let (netd, _inside) = netd();
    for (path, said) in [
        ("flows?sevice=web", "flows has no parameter \"sevice\"; it has client, service, pod, node, port, limit"),
        ("flows?client=web", "client=web is no address"),
        ("flows?port=http", "port=http is no port"),
        ("routes?watch=true", "routes cannot be watched"),
        ("routes?labelSelector=a%3Db", "routes has no parameter \"labelSelector\""),
    ] {
        let (status, answer) = ask(&netd, path, "application/json").await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
        assert!(message.contains(said), "{path}: {message}");
    }
    let (status, answer) = ask(&netd, "routes/10.9.9.9", "application/json").await;
    assert_eq!((status, &answer["reason"]), (StatusCode::NOT_FOUND, &"NotFound".into()));
    netd.shutdown();
}

#[test]
fn the_first_clause_that_can_be_served_holds() {
    for (accept, version) in [
        ("application/json", None),
        (AS_TABLE, Some("v1")),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", Some("v1beta1")),
        ("application/vnd.kubernetes.protobuf, application/json;as=Table;v=v1;g=meta.k8s.io", Some("v1")),
        ("application/json, application/json;as=Table;v=v1;g=meta.k8s.io", None),
        ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json", None),
    ] {
        let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().expect("a header"))]);
        assert_eq!(table_version(&headers), version, "{accept}");
    }
}
