use proptest::prelude::*;

use super::*;

proptest! {
    // no path and no query stops the server.
    #[test]
    fn any_path_and_query_is_read(path in "(/[a-z%./:]{0,6}){0,8}", query in "[a-zA-Z0-9%&=+,!]{0,60}") {
        let route = Route::parse(&path);
        prop_assert_eq!(Route::parse(&format!("{path}/")), route);
        let query = Query::parse(Some(&query));
        let _ = (ListOptions::from_query(&query, true), WriteOptions::from_query(&query));
    }
}

fn resource(path: &str) -> ResourcePath {
    match Route::parse(path) {
        Route::Resource(found) => found,
        other => panic!("{path} is {other:?}"),
    }
}

//
#[test]
fn paths_of_namespaced_and_cluster_scoped_kinds() {
    let pod = resource("/api/v1/namespaces/default/pods/web/log");
    assert_eq!((pod.namespace.as_deref(), pod.resource.as_str()), (Some("default"), "pods"));
    assert_eq!((pod.name.as_deref(), pod.subresource.as_deref()), (Some("web"), Some("log")));
    let all = resource("/apis/apps/v1/deployments");
    assert_eq!((all.group.as_str(), all.namespace, all.name), ("apps", None, None));
    let namespace = resource("/api/v1/namespaces/blue");
    assert_eq!((namespace.resource.as_str(), namespace.name.as_deref()), ("namespaces", Some("blue")));
    for sub in ["status", "finalize"] {
        let namespace = resource(&format!("/api/v1/namespaces/blue/{sub}"));
        assert_eq!((namespace.namespace, namespace.subresource.as_deref()), (None, Some(sub)));
    }
}

//
#[test]
fn what_follows_a_proxy_is_kept_as_it_was_sent() {
    for (path, name, rest) in [
        ("/api/v1/namespaces/default/services/web:80/proxy", "web:80", ""),
        ("/api/v1/namespaces/default/services/http%3Aweb%3A80/proxy/", "http:web:80", "/"),
        ("/api/v1/namespaces/proxy/pods/proxy/proxy/a%2Fb//c/proxy/", "proxy", "/a%2Fb//c/proxy/"),
        ("/api/v1/nodes/node-1:80/proxy/%ff", "node-1:80", "/%ff"),
    ] {
        let found = resource(path);
        assert_eq!((found.name.as_deref(), found.proxied.as_deref()), (Some(name), Some(rest)), "{path}");
        assert_eq!((found.subresource.as_deref(), found.rest.len()), (Some("proxy"), 0), "{path}");
        let verbs = [Method::POST, Method::OPTIONS].map(|method| Verb::of(&method, &found, &Query::default()));
        assert_eq!(verbs, [Some(Verb::Create), Some(Verb::Other)]);
    }
    for path in ["/api/v1/namespaces/proxy/pods", "/api/v1/pods/a/proxyx", "/api/v1/namespaces/default/pods/proxy"] {
        assert_eq!(resource(path).proxied, None, "{path}");
    }
}

//
#[test]
fn a_trailing_slash_means_nothing() {
    for path in ["/version", "/api", "/apis", "/api/v1", "/apis/apps/v1", "/apis/apps"] {
        assert_ne!(Route::parse(path), Route::Unknown);
        assert_eq!(Route::parse(path), Route::parse(&format!("{path}/")));
    }
}

//
#[test]
fn other_paths_are_unknown() {
    for path in ["/", "", "/nothing", "/api//pods", "/apis/apps/v1//", "/api/v1/%ff"] {
        let route = Route::parse(path);
        assert!(matches!(route, Route::Unknown | Route::GroupVersion(..)), "{path}: {route:?}");
    }
    assert_eq!(Route::parse("/nothing"), Route::Unknown);
    assert_eq!(Route::parse("/api//pods"), Route::Unknown);
}

//
#[test]
fn the_legacy_watch_prefix_is_read() {
    let path = resource("/api/v1/watch/namespaces/default/pods/web");
    assert!(path.watch_prefix);
    assert_eq!((path.resource.as_str(), path.name.as_deref()), ("pods", Some("web")));
    assert_eq!(Verb::of(&Method::GET, &path, &Query::default()), Some(Verb::Watch));
}

//
#[test]
fn queries_with_holes_and_odd_booleans() {
    let query = Query::parse(Some("&&watch=1&a=0&b=False&c=&d&limit=500&"));
    for (name, expected) in [("watch", true), ("a", false), ("b", false), ("c", true), ("d", true), ("e", false)] {
        assert_eq!(query.flag(name), expected, "{name}");
    }
    assert_eq!(query.number::<i64>("limit").unwrap(), Some(500));
}

//
#[test]
fn version_match_needs_a_version() {
    for (query, legal) in [
        ("resourceVersionMatch=Exact", false),
        ("resourceVersionMatch=NotOlderThan", false),
        ("resourceVersionMatch=Exact&resourceVersion=0", false),
        ("resourceVersionMatch=Exact&resourceVersion=5", true),
        ("resourceVersionMatch=NotOlderThan&resourceVersion=0", true),
    ] {
        let outcome = ListOptions::from_query(&Query::parse(Some(query)), false);
        assert_eq!(outcome.is_ok(), legal, "{query}");
        if let Err(error) = outcome {
            assert_eq!(error.code().as_u16(), 422, "{query}");
        }
    }
}

//
#[test]
fn initial_events_need_the_match_parameter() {
    let refused = ListOptions::from_query(&Query::parse(Some("sendInitialEvents=true")), true).unwrap_err();
    assert_eq!(refused.code().as_u16(), 422);
    let query = Query::parse(Some("sendInitialEvents=true&resourceVersionMatch=NotOlderThan"));
    assert_eq!(ListOptions::from_query(&query, true).unwrap().send_initial_events, Some(true));
}

//
#[test]
fn only_all_is_a_dry_run() {
    let parse = |text| WriteOptions::from_query(&Query::parse(Some(text))).map(|o| o.dry_run);
    assert!(parse("dryRun=All").unwrap());
    assert!(!parse("").unwrap());
    assert_eq!(parse("dryRun=Some").unwrap_err().code().as_u16(), 400);
}

//
#[test]
fn field_managers_are_short() {
    let long = format!("fieldManager={}", "x".repeat(129));
    assert!(WriteOptions::from_query(&Query::parse(Some(&long))).is_err());
    let fits = format!("fieldManager={}", "x".repeat(128));
    assert!(WriteOptions::from_query(&Query::parse(Some(&fits))).is_ok());
}
