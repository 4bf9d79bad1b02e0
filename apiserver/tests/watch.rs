//! Watches: what there is, then what happens, without gaps; and kube's own watcher and reflector on top.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{ask, client, config_map, config_maps, next, server};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, ResourceExt};
use minisvc_apiserver::ApiServer;
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn create(api: &Api<ConfigMap>, name: &str) -> u64 {
    let object = api.create(&PostParams::default(), &config_map(name, &[])).await.unwrap();
    object.resource_version().unwrap().parse().unwrap()
}

async fn relabel(api: &Api<ConfigMap>, name: &str, color: &str) {
    let patch = json!({"metadata": {"labels": {"color": color}}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

fn brief(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

//
#[tokio::test]
async fn present_state_then_changes_in_order() {
    let (server, client) = client().await;
    let api = config_maps(&client);
    create(&api, "a").await;
    for query in ["watch=true", "watch=1&resourceVersion=0"] {
        let mut lines = ask("GET", &format!("{CONFIG_MAPS}?{query}")).lines(&server).await;
        assert_eq!(lines.brief().await, brief("ADDED", "a"));
        let added = create(&api, "b").await;
        relabel(&api, "b", "red").await;
        api.delete("b", &DeleteParams::default()).await.unwrap();
        assert_eq!(lines.brief().await, brief("ADDED", "b"));
        assert_eq!(lines.brief().await, brief("MODIFIED", "b"));
        let deleted = lines.next().await.unwrap();
        assert_eq!(
            (&deleted["type"], &deleted["object"]["metadata"]["labels"]),
            (&json!("DELETED"), &json!({"color": "red"}))
        );
        let at: u64 = deleted["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        assert!(at > added + 1, "{at} is the revision of the deletion");
    }
}

// headers come before the first event
#[tokio::test]
async fn an_idle_watch_has_begun() {
    let server = server().await;
    let now = ask("GET", CONFIG_MAPS).of(&server).await.json()["metadata"]["resourceVersion"].clone();
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={}", now.as_str().unwrap());
    // `lines` returns when the head of the answer is there; nothing has happened yet.
    let mut lines = ask("GET", &path).lines(&server).await;
    create(&config_maps(&server.client(common::admin())), "a").await;
    assert_eq!(lines.brief().await, brief("ADDED", "a"));
}

//
#[tokio::test]
async fn only_what_comes_after_the_revision() {
    let (server, client) = client().await;
    let api = config_maps(&client);
    let first = create(&api, "a").await;
    create(&api, "b").await;
    let mut lines = ask("GET", &format!("{CONFIG_MAPS}?watch=true&resourceVersion={first}")).lines(&server).await;
    assert_eq!(lines.brief().await, brief("ADDED", "b"));
    let future = first + 3;
    let mut later = ask("GET", &format!("{CONFIG_MAPS}?watch=true&resourceVersion={future}")).lines(&server).await;
    for name in ["c", "d", "e"] {
        create(&api, name).await;
    }
    assert_eq!(later.brief().await, brief("ADDED", "e"));
}

//
#[tokio::test]
async fn forgotten_history_is_an_error_event() {
    let (server, client) = client().await;
    let api = config_maps(&client);
    let start = create(&api, "a").await;
    let mut unread = ask("GET", &format!("{CONFIG_MAPS}?watch=true&resourceVersion={start}")).lines(&server).await;
    // One more than the store keeps for a resource.
    for round in 0..4097 {
        relabel(&api, "a", &round.to_string()).await;
    }
    let mut lines = ask("GET", &format!("{CONFIG_MAPS}?watch=true&resourceVersion={start}")).lines(&server).await;
    let event = lines.next().await.unwrap();
    assert_eq!(event["type"], "ERROR");
    let status = &event["object"];
    assert_eq!(
        (&status["code"], &status["reason"], &status["kind"]),
        (&json!(410), &json!("Expired"), &json!("Status"))
    );
    assert!(
        status["message"].as_str().unwrap().starts_with(&format!("too old resource version: {start} (")),
        "{status}"
    );
    assert!(lines.next().await.is_none(), "the body ends");
    assert!(unread.next().await.is_none(), "who does not read is cut off instead of missing an event");
}

//
#[tokio::test]
async fn selectors_see_who_arrives_and_who_leaves() {
    let (server, client) = client().await;
    let api = config_maps(&client);
    create(&api, "a").await;
    let path = format!("{CONFIG_MAPS}?watch=true&labelSelector=color%3Dred");
    let mut lines = ask("GET", &path).lines(&server).await;
    for color in ["red", "red", "blue", "green", "red"] {
        relabel(&api, "a", color).await;
    }
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(lines.brief().await, brief("ADDED", "a"));
    let left = lines.next().await.unwrap();
    assert_eq!((&left["type"], &left["object"]["metadata"]["labels"]["color"]), (&json!("DELETED"), &json!("blue")));
    assert_eq!(lines.brief().await, brief("ADDED", "a"));
    assert_eq!(lines.brief().await, brief("DELETED", "a"));
}

//
#[tokio::test]
async fn one_name_by_selector_path_or_prefix() {
    let (server, client) = client().await;
    let api = config_maps(&client);
    create(&api, "a").await;
    create(&api, "b").await;
    for path in [
        "/api/v1/namespaces/default/configmaps?watch=true&fieldSelector=metadata.name%3Db&resourceVersion=0",
        "/api/v1/namespaces/default/configmaps/b?watch=true",
        "/api/v1/watch/namespaces/default/configmaps/b",
    ] {
        let mut lines = ask("GET", path).lines(&server).await;
        assert_eq!(lines.brief().await, brief("ADDED", "b"), "{path}");
    }
    let mismatch = "/api/v1/namespaces/default/configmaps/b?watch=true&fieldSelector=metadata.name%3Da";
    assert_eq!(ask("GET", mismatch).of(&server).await.code.as_u16(), 400);
}

//
#[tokio::test]
async fn a_watch_ends_when_it_said_with_a_bookmark_before() {
    let server = server().await;
    let path = format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=3&allowWatchBookmarks=true");
    let mut lines = ask("GET", &path).lines(&server).await;
    let bookmark = lines.next().await.unwrap();
    let revision = ask("GET", CONFIG_MAPS).of(&server).await.json()["metadata"]["resourceVersion"].clone();
    let expected = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": revision}});
    assert_eq!(bookmark, json!({"type": "BOOKMARK", "object": expected}));
    assert!(lines.next().await.is_none());
    let mut unasked = ask("GET", &format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=3")).lines(&server).await;
    assert!(unasked.next().await.is_none(), "no bookmark unless asked for");
}

//
#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let (server, client) = client().await;
    let api = config_maps(&client);
    create(&api, "a").await;
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut lines = ask("GET", &format!("{CONFIG_MAPS}?{query}")).lines(&server).await;
    assert_eq!(lines.brief().await, brief("ADDED", "a"));
    let bookmark = lines.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    create(&api, "b").await;
    assert_eq!(lines.brief().await, brief("ADDED", "b"));
    let refused = ask("GET", &format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true")).of(&server).await;
    assert_eq!(refused.code.as_u16(), 422);
}

//
#[tokio::test]
async fn table_watches_send_columns_once() {
    let (server, client) = client().await;
    let api = config_maps(&client);
    create(&api, "a").await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let mut lines = ask("GET", &format!("{CONFIG_MAPS}?watch=true")).accept(table).lines(&server).await;
    let first = lines.next().await.unwrap();
    create(&api, "b").await;
    let second = lines.next().await.unwrap();
    let columns = |event: &Value| event["object"]["columnDefinitions"].as_array().unwrap().len();
    assert_eq!((&first["object"]["kind"], &second["object"]["kind"]), (&json!("Table"), &json!("Table")));
    assert!(columns(&first) > 1);
    assert_eq!(columns(&second), 0);
    assert_eq!(second["object"]["rows"][0]["object"]["metadata"]["name"], "b");
    let partial = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let mut lines = ask("GET", &format!("{CONFIG_MAPS}?watch=true")).accept(partial).lines(&server).await;
    assert_eq!(lines.next().await.unwrap()["object"]["kind"], "PartialObjectMetadata");
}

// another namespace's events are not this client's
#[tokio::test]
async fn a_namespace_is_a_filter() {
    let (server, client) = client().await;
    let elsewhere: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
    let mut here = ask("GET", &format!("{CONFIG_MAPS}?watch=true")).lines(&server).await;
    let mut everywhere = ask("GET", "/api/v1/configmaps?watch=true").lines(&server).await;
    create(&elsewhere, "x").await;
    create(&config_maps(&client), "a").await;
    assert_eq!(here.brief().await, brief("ADDED", "a"));
    assert_eq!(everywhere.brief().await, brief("ADDED", "x"));
    assert_eq!(everywhere.brief().await, brief("ADDED", "a"));
}

// a dry run is no event
#[tokio::test]
async fn dry_runs_are_not_seen() {
    let (server, client) = client().await;
    let api = config_maps(&client);
    let mut lines = ask("GET", &format!("{CONFIG_MAPS}?watch=true")).lines(&server).await;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    api.create(&dry, &config_map("dry", &[])).await.unwrap();
    create(&api, "wet").await;
    assert_eq!(lines.brief().await, brief("ADDED", "wet"));
}

#[tokio::test]
async fn a_closed_server_ends_its_watches() {
    let server = server().await;
    let mut lines = ask("GET", &format!("{CONFIG_MAPS}?watch=true")).lines(&server).await;
    server.close().await;
    assert!(lines.next().await.is_none());
}

/// What a reflector in this mode has seen once `last` is there.
async fn reflected(server: &ApiServer, config: watcher::Config) -> Vec<(String, Option<String>)> {
    let client = server.client(common::admin());
    let api = config_maps(&client);
    create(&api, "old").await;
    let (reader, writer) = reflector::store();
    let mut stream = Box::pin(watcher(api.clone(), config).reflect(writer).applied_objects());
    assert_eq!(next(&mut stream).await.unwrap().name_any(), "old");
    create(&api, "doomed").await;
    assert_eq!(next(&mut stream).await.unwrap().name_any(), "doomed");
    let patch = json!({"data": {"k": "v"}});
    api.patch("old", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    api.delete("doomed", &DeleteParams::default()).await.unwrap();
    create(&api, "last").await;
    loop {
        if next(&mut stream).await.unwrap().name_any() == "last" {
            break;
        }
    }
    let mut seen: Vec<(String, Option<String>)> = reader
        .state()
        .iter()
        .map(|object| (object.name_any(), object.data.as_ref().and_then(|data| data.get("k").cloned())))
        .collect();
    seen.sort();
    seen
}

//
#[tokio::test]
async fn reflectors_of_both_list_modes_end_up_with_the_same() {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let server = server().await;
        let seen = reflected(&server, config).await;
        assert_eq!(seen, [("last".to_owned(), None), ("old".to_owned(), Some("v".to_owned()))]);
    }
}

// history is not kept across a restart, and whoever asks for it is told
#[tokio::test]
async fn a_restart_forgets_history() {
    let directory = tempfile::tempdir().unwrap();
    let options = minisvc_apiserver::Options {
        state_dir: Some(directory.path().to_owned()),
        ..minisvc_apiserver::Options::default()
    };
    let server = ApiServer::open(options.clone()).await.unwrap();
    let before = create(&config_maps(&server.client(common::admin())), "a").await;
    server.close().await;
    let server = ApiServer::open(options).await.unwrap();
    let mut lines = ask("GET", &format!("{CONFIG_MAPS}?watch=true&resourceVersion={before}")).lines(&server).await;
    let event = lines.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
    server.close().await;
}

// many writers, and every watcher sees every object in the order of revisions
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_miss_nothing_while_many_write() {
    let (server, client) = client().await;
    let mut watches = Vec::new();
    for _ in 0..4 {
        watches.push(ask("GET", &format!("{CONFIG_MAPS}?watch=true")).lines(&server).await);
    }
    let writers = (0..8).map(|writer| {
        let api = config_maps(&client);
        tokio::spawn(async move {
            for round in 0..20 {
                let name = format!("w{writer}-{round}");
                let object = config_map(&name, &[]);
                api.create(&PostParams::default(), &object).await.unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    for mut lines in watches {
        let mut revisions = Vec::new();
        while revisions.len() < 160 {
            let event = lines.next().await.unwrap();
            assert_eq!(event["type"], "ADDED");
            let revision: u64 = event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            revisions.push(revision);
        }
        assert!(revisions.is_sorted_by(|a, b| a < b));
    }
    for writer in futures::stream::iter(writers).buffer_unordered(8).collect::<Vec<_>>().await {
        writer.unwrap();
    }
}
