//! Create, read, update: what the server fills in, refuses and leaves alone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{admin, ask, client, config_map, config_maps, map, named, refusal, server};
use http::StatusCode;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use minisvc_apiserver::{ApiServer, Options};
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

// A-046, A-047, A-043
#[tokio::test]
async fn the_server_fills_in_what_is_its_own() {
    let server = server().await;
    let sent = json!({
        "metadata": {
            "name": "a", "uid": "mine", "creationTimestamp": null, "generation": 7, "selfLink": "/x",
            "deletionTimestamp": "2020-01-01T00:00:00Z",
        },
        "data": {"k": "v"},
    });
    let answer = ask("POST", CONFIG_MAPS).json(&sent).of(&server).await;
    assert_eq!(answer.code, StatusCode::CREATED);
    assert!(answer.text.ends_with('\n'));
    let object = answer.json();
    assert_eq!((&object["kind"], &object["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    let metadata = &object["metadata"];
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert_eq!(metadata["creationTimestamp"].as_str().unwrap().len(), "2020-01-01T00:00:00Z".len());
    assert!(metadata["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    for absent in ["generation", "selfLink", "deletionTimestamp"] {
        assert_eq!(metadata[absent], Value::Null, "{absent}");
    }
    let read = ask("GET", &format!("{CONFIG_MAPS}/a")).of(&server).await;
    assert_eq!(read.json(), object);
}

/// Each creation expects the namespace to be as it was looked at (A-058), and has to look again.
#[tokio::test]
async fn objects_come_into_a_namespace_that_changes_all_the_time() {
    let server = server().await;
    let changes = (0..40).map(|number| {
        let change = json!({"metadata": {"labels": {"turn": number.to_string()}}});
        ask("PATCH", "/api/v1/namespaces/default").patch("application/merge-patch+json", &change).of(&server)
    });
    let creates = (0..40)
        .map(|number| ask("POST", CONFIG_MAPS).json(&json!({"metadata": {"name": format!("c{number}")}})).of(&server));
    let (changed, created) =
        futures::future::join(futures::future::join_all(changes), futures::future::join_all(creates)).await;
    assert!(changed.iter().any(|answer| answer.code == StatusCode::OK));
    let refused: Vec<_> = created.iter().filter(|answer| answer.code != StatusCode::CREATED).collect();
    assert!(refused.is_empty(), "{}", refused[0].text);
}

// A-046
#[tokio::test]
async fn what_contradicts_the_url_is_refused() {
    let server = server().await;
    for wrong in [
        json!({"kind": "Secret", "metadata": {"name": "a"}}),
        json!({"apiVersion": "v2", "metadata": {"name": "a"}}),
        json!({"metadata": {"name": "a", "namespace": "other"}}),
        json!([]),
    ] {
        let answer = ask("POST", CONFIG_MAPS).json(&wrong).of(&server).await;
        assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{wrong}");
        assert_eq!(answer.json()["reason"], "BadRequest", "{wrong}");
    }
}

// A-047: what kubectl writes for lack of a time is no unknown field
#[tokio::test]
async fn a_null_creation_time_is_normal() {
    let server = server().await;
    let sent = json!({"metadata": {"name": "a", "creationTimestamp": null}});
    let answer = ask("POST", &format!("{CONFIG_MAPS}?fieldValidation=Strict")).json(&sent).of(&server).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text);
    assert_eq!(answer.header("warning"), "");
}

// A-048
#[tokio::test]
async fn a_revision_on_create_is_refused() {
    let (_server, client) = client().await;
    let mut object = config_map("a", &[]);
    object.metadata.resource_version = Some("5".to_owned());
    let (code, _, message) = refusal(config_maps(&client).create(&PostParams::default(), &object).await);
    assert_eq!(code, 400);
    assert!(message.contains("should not be set on objects to be created"), "{message}");
}

// A-049
#[tokio::test]
async fn names_are_generated() {
    let (_server, client) = client().await;
    let api = config_maps(&client);
    let metadata = ObjectMeta { generate_name: Some("web-".to_owned()), ..ObjectMeta::default() };
    let object = ConfigMap { metadata, ..ConfigMap::default() };
    let first = api.create(&PostParams::default(), &object).await.unwrap().name_any();
    let second = api.create(&PostParams::default(), &object).await.unwrap().name_any();
    assert_ne!(first, second);
    assert!(first.starts_with("web-") && first.len() == 9, "{first}");
}

// A-050
#[tokio::test]
async fn a_name_is_given_once() {
    let (_server, client) = client().await;
    let api = config_maps(&client);
    api.create(&PostParams::default(), &config_map("a", &[])).await.unwrap();
    let (code, reason, message) = refusal(api.create(&PostParams::default(), &config_map("a", &[])).await);
    assert_eq!((code, reason.as_str(), message.as_str()), (409, "AlreadyExists", "configmaps \"a\" already exists"));
}

// A-050
#[tokio::test]
async fn of_many_creates_at_once_one_wins() {
    let (_server, client) = client().await;
    let creates = (0..16).map(|_| {
        let api = config_maps(&client);
        tokio::spawn(async move { api.create(&PostParams::default(), &config_map("a", &[])).await.is_ok() })
    });
    let won = futures::future::join_all(creates).await.into_iter().filter(|outcome| *outcome.as_ref().unwrap()).count();
    assert_eq!(won, 1);
}

// A-092, A-119, A-120
#[tokio::test]
async fn what_is_absent_is_named() {
    let server = server().await;
    let answer = ask("GET", &format!("{CONFIG_MAPS}/none")).of(&server).await;
    let expected = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "configmaps \"none\" not found", "reason": "NotFound",
        "details": {"name": "none", "kind": "configmaps"}, "code": 404,
    });
    assert_eq!((answer.code, answer.json()), (StatusCode::NOT_FOUND, expected));
}

// A-051
#[tokio::test]
async fn a_stale_update_conflicts_and_one_without_revision_does_not() {
    let (_server, client) = client().await;
    let api = config_maps(&client);
    let first = api.create(&PostParams::default(), &config_map("a", &[("k", "1")])).await.unwrap();
    let mut newer = first.clone();
    newer.data = Some(map(&[("k", "2")]));
    api.replace("a", &PostParams::default(), &newer).await.unwrap();
    let mut stale = first;
    stale.data = Some(map(&[("k", "3")]));
    let (code, reason, message) = refusal(api.replace("a", &PostParams::default(), &stale).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert_eq!(
        message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to \
         the latest version and try again"
    );
    stale.metadata.resource_version = None;
    assert_eq!(api.replace("a", &PostParams::default(), &stale).await.unwrap().data, Some(map(&[("k", "3")])));
}

// A-051, A-055
#[tokio::test]
async fn an_update_is_of_the_object_it_names() {
    let server = server().await;
    ask("POST", CONFIG_MAPS).json(&json!({"metadata": {"name": "a"}})).of(&server).await;
    let path = format!("{CONFIG_MAPS}/a");
    let other_name = ask("PUT", &path).json(&json!({"metadata": {"name": "b"}})).of(&server).await;
    assert_eq!(other_name.code, StatusCode::BAD_REQUEST);
    let other_uid = ask("PUT", &path).json(&json!({"metadata": {"name": "a", "uid": "x"}})).of(&server).await;
    assert_eq!((other_uid.code, &other_uid.json()["reason"]), (StatusCode::CONFLICT, &json!("Conflict")));
    assert!(other_uid.text.contains("Precondition failed: UID in precondition: x"), "{}", other_uid.text);
    let absent = ask("PUT", &format!("{CONFIG_MAPS}/b")).json(&json!({"metadata": {"name": "b"}})).of(&server).await;
    assert_eq!(absent.code, StatusCode::NOT_FOUND);
}

// A-052
#[tokio::test]
async fn a_write_that_changes_nothing_keeps_the_revision() {
    let (_server, client) = client().await;
    let api = config_maps(&client);
    let before = api.create(&PostParams::default(), &config_map("a", &[("k", "v")])).await.unwrap();
    let after = api.replace("a", &PostParams::default(), &config_map("a", &[("k", "v")])).await.unwrap();
    assert_eq!(before.resource_version(), after.resource_version());
}

// A-056
#[tokio::test]
async fn a_dry_run_answers_and_stores_nothing() {
    let (_server, client) = client().await;
    let api = config_maps(&client);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let created = api.create(&dry, &config_map("a", &[])).await.unwrap();
    assert!(created.uid().is_some());
    assert_eq!(refusal(api.get("a").await).0, 404);
    api.create(&PostParams::default(), &config_map("a", &[("k", "1")])).await.unwrap();
    let replaced = api.replace("a", &dry, &config_map("a", &[("k", "2")])).await.unwrap();
    assert_eq!(replaced.data, Some(map(&[("k", "2")])));
    assert_eq!(api.get("a").await.unwrap().data, Some(map(&[("k", "1")])));
}

// A-058
#[tokio::test]
async fn namespaces_must_be_there_and_stay() {
    let (_server, client) = client().await;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "blue");
    let (code, _, message) = refusal(api.create(&PostParams::default(), &config_map("a", &[])).await);
    assert_eq!((code, message.as_str()), (404, "namespaces \"blue\" not found"));
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = Namespace { metadata: named("blue"), ..Namespace::default() };
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    api.create(&PostParams::default(), &config_map("a", &[])).await.unwrap();
    namespaces.delete("blue", &Default::default()).await.unwrap();
    match api.create(&PostParams::default(), &config_map("b", &[])).await.unwrap_err() {
        kube::Error::Api(status) => {
            assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
            let causes = status.details.unwrap().causes;
            assert_eq!(
                (causes[0].reason.as_str(), causes[0].field.as_str()),
                ("NamespaceTerminating", "metadata.namespace")
            );
        }
        other => panic!("{other}"),
    }
}

// A-059
#[tokio::test]
async fn four_namespaces_exist_from_the_start() {
    let (_server, client) = client().await;
    let list = Api::<Namespace>::all(client).list(&ListParams::default()).await.unwrap();
    let names: Vec<String> = list.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, ["default", "kube-node-lease", "kube-public", "kube-system"]);
    for namespace in &list {
        assert_eq!(namespace.labels().get("kubernetes.io/metadata.name"), Some(&namespace.name_any()));
    }
}

// A-012, A-119
#[tokio::test]
async fn bodies_have_a_limit() {
    let server = server().await;
    let huge = ask("POST", CONFIG_MAPS).bytes(vec![b' '; 3 * 1024 * 1024 + 1]).of(&server).await;
    assert_eq!((huge.code, &huge.json()["reason"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("RequestEntityTooLarge")));
}

// A-040, A-038
#[tokio::test]
async fn bodies_come_in_several_forms() {
    let server = server().await;
    let untyped = ask("POST", CONFIG_MAPS).bytes(r#"{"metadata":{"name":"untyped"}}"#).of(&server).await;
    assert_eq!(untyped.code, StatusCode::CREATED);
    let yaml = ask("POST", CONFIG_MAPS).header("content-type", "application/yaml").bytes("metadata:\n  name: yaml\n");
    assert_eq!(yaml.of(&server).await.code, StatusCode::CREATED);
    let protobuf = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x0c\x0a\x0a\x0a\x08protobuf";
    let protobuf =
        ask("POST", CONFIG_MAPS).header("content-type", "application/vnd.kubernetes.protobuf").bytes(*protobuf);
    let created = protobuf.of(&server).await;
    assert_eq!((created.code, &created.json()["metadata"]["name"]), (StatusCode::CREATED, &json!("protobuf")));
    let other = ask("POST", CONFIG_MAPS).header("content-type", "text/csv").bytes("a,b").of(&server).await;
    assert_eq!(
        (other.code, &other.json()["reason"]),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, &json!("UnsupportedMediaType"))
    );
    let typed_get = ask("GET", CONFIG_MAPS).header("content-type", "application/json").of(&server).await;
    assert_eq!(typed_get.code, StatusCode::OK);
}

// A-063, A-064, A-044, S-036
#[tokio::test]
async fn unknown_fields_are_refused_warned_about_or_ignored() {
    let server = server().await;
    let body = r#"{"metadata":{"name":"a"},"foo":1,"data":{"k":"1","k":"2"}}"#;
    let post = |mode: &str| ask("POST", &format!("{CONFIG_MAPS}?dryRun=All&fieldValidation={mode}")).bytes(body);
    let strict = post("Strict").of(&server).await;
    assert_eq!(strict.code, StatusCode::BAD_REQUEST);
    assert_eq!(
        strict.json()["message"],
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"foo\", \
         duplicate field \"data.k\""
    );
    let warned = post("").of(&server).await;
    let warnings: Vec<&str> = warned.headers.get_all("warning").iter().map(|v| v.to_str().unwrap()).collect();
    assert_eq!(warnings, [r#"299 - "unknown field \"foo\"""#, r#"299 - "duplicate field \"data.k\"""#]);
    assert_eq!(warned.code, StatusCode::CREATED);
    let ignored = post("Ignore").of(&server).await;
    assert_eq!((ignored.code, ignored.header("warning")), (StatusCode::CREATED, ""));
    for answer in [warned, ignored] {
        assert_eq!((answer.json().get("foo"), &answer.json()["data"]), (None, &json!({"k": "2"})));
    }
    for mode in ["Strict", "Warn", "Ignore"] {
        let path = format!("{CONFIG_MAPS}?fieldValidation={mode}");
        let wrong_type =
            ask("POST", &path).json(&json!({"metadata": {"name": "a"}, "data": {"k": 1}})).of(&server).await;
        assert_eq!(wrong_type.code, StatusCode::BAD_REQUEST, "{mode}");
    }
}

// A-065, A-066
#[tokio::test]
async fn an_illegal_name_is_invalid() {
    let server = server().await;
    let answer = ask("POST", CONFIG_MAPS).json(&json!({"metadata": {"name": "No Capitals"}})).of(&server).await;
    let status = answer.json();
    assert_eq!((answer.code, &status["reason"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("Invalid")));
    assert_eq!(status["details"]["kind"], "ConfigMap");
    assert_eq!(status["details"]["causes"][0]["field"], "metadata.name");
    assert_eq!(status["details"]["causes"][0]["reason"], "FieldValueInvalid");
}

// A-098, A-094, A-093, A-095
#[tokio::test]
async fn lists_are_sorted_and_selected() {
    let (server, client) = client().await;
    let api = config_maps(&client);
    for (name, color) in [("b", "red"), ("a", "blue"), ("c", "red")] {
        let mut object = config_map(name, &[]);
        object.metadata.labels = Some(map(&[("color", color)]));
        api.create(&PostParams::default(), &object).await.unwrap();
    }
    let names = |query: &str| {
        let path = format!("{CONFIG_MAPS}?limit=500{query}");
        let server = server.clone();
        async move {
            let list = ask("GET", &path).of(&server).await.json();
            assert_eq!(list["kind"], "ConfigMapList");
            let items = list["items"].as_array().unwrap().clone();
            assert!(items.iter().all(|item| item.get("kind").is_none() && item.get("apiVersion").is_none()));
            items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        }
    };
    assert_eq!(names("").await, ["a", "b", "c"]);
    assert_eq!(names("&labelSelector=color%3Dred").await, ["b", "c"]);
    assert_eq!(names("&labelSelector=color%20in%20(blue),color").await, ["a"]);
    assert_eq!(names("&fieldSelector=metadata.name%3Db").await, ["b"]);
    assert_eq!(names("&fieldSelector=metadata.namespace!%3Ddefault").await, Vec::<String>::new());
    let unsupported = ask("GET", &format!("{CONFIG_MAPS}?fieldSelector=data.k%3Dv")).of(&server).await;
    assert_eq!(unsupported.json()["message"], "field label not supported: data.k");
}

// A-099
#[tokio::test]
async fn a_future_revision_is_refused_after_a_while() {
    let server = server().await;
    let answer = ask("GET", &format!("{CONFIG_MAPS}?resourceVersion=99999999")).of(&server).await;
    let status = answer.json();
    assert_eq!((answer.code, &status["reason"]), (StatusCode::GATEWAY_TIMEOUT, &json!("Timeout")));
    assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert_eq!(answer.header("retry-after"), "1");
}

// A-099, A-103
#[tokio::test]
async fn a_read_waits_for_a_revision_that_is_about_to_come() {
    let (server, client) = client().await;
    let object = config_maps(&client).create(&PostParams::default(), &config_map("a", &[])).await.unwrap();
    let next: u64 = object.resource_version().unwrap().parse::<u64>().unwrap() + 1;
    let path = format!("{CONFIG_MAPS}/a?resourceVersion={next}");
    let waiting = tokio::spawn({
        let server = server.clone();
        async move { ask("GET", &path).of(&server).await }
    });
    config_maps(&client).create(&PostParams::default(), &config_map("b", &[])).await.unwrap();
    assert_eq!(waiting.await.unwrap().code, StatusCode::OK);
}

// A-100
#[tokio::test]
async fn an_exact_revision_is_the_present_one_or_expired() {
    let (server, client) = client().await;
    let list = config_maps(&client).list(&ListParams::default()).await.unwrap();
    let now: u64 = list.metadata.resource_version.unwrap().parse().unwrap();
    let exact = |revision: u64| format!("{CONFIG_MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact");
    assert_eq!(ask("GET", &exact(now)).of(&server).await.code, StatusCode::OK);
    config_maps(&client).create(&PostParams::default(), &config_map("a", &[])).await.unwrap();
    let gone = ask("GET", &exact(now)).of(&server).await;
    assert_eq!((gone.code, &gone.json()["reason"]), (StatusCode::GONE, &json!("Expired")));
}

// A-098, A-101, A-102
#[tokio::test]
async fn a_list_in_pages_shows_one_moment() {
    let (server, client) = client().await;
    let api = config_maps(&client);
    for name in ["a", "b", "c", "d", "e"] {
        api.create(&PostParams::default(), &config_map(name, &[])).await.unwrap();
    }
    let list = async |query: &str| ask("GET", &format!("{CONFIG_MAPS}?{query}")).of(&server).await;
    let names = |list: &Value| {
        let items = list["items"].as_array().unwrap();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = list("limit=2").await.json();
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["a".to_owned(), "b".to_owned()], &json!(3))
    );
    api.delete("c", &DeleteParams::default()).await.unwrap();
    api.create(&PostParams::default(), &config_map("ba", &[])).await.unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = list(&format!("limit=2&continue={token}")).await.json();
    assert_eq!(names(&second), ["c", "d"], "as it was at the first page");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let table = ask("GET", &format!("{CONFIG_MAPS}?limit=1&continue={token}"))
        .accept("application/json;as=Table;v=v1;g=meta.k8s.io");
    let third = table.of(&server).await.json();
    assert_eq!((third["rows"].as_array().unwrap().len(), &third["metadata"]["continue"]), (1, &Value::Null));

    let selected = list("limit=1&fieldSelector=metadata.name!%3Da").await.json();
    assert!(selected["metadata"]["continue"].is_string() && selected["metadata"]["remainingItemCount"].is_null());
    let any = list("limit=1&resourceVersion=0").await.json();
    assert_eq!((names(&any).len(), &any["metadata"]["continue"]), (5, &Value::Null), "any moment is all at once");
}

// A-102
#[tokio::test]
async fn tokens_that_are_no_good_are_refused() {
    let (server, client) = client().await;
    let api = config_maps(&client);
    let list = async |query: &str| ask("GET", &format!("{CONFIG_MAPS}?{query}")).of(&server).await;
    let answer = list("continue=abc").await;
    assert_eq!((answer.code, &answer.json()["message"]), (StatusCode::BAD_REQUEST, &json!("invalid continue token")));
    for name in ["a", "b", "c"] {
        api.create(&PostParams::default(), &config_map(name, &[])).await.unwrap();
    }
    let token = |answer: &Value| answer["metadata"]["continue"].as_str().unwrap().to_owned();
    let old = token(&list("limit=1").await.json());
    assert_eq!(list(&format!("continue={old}&resourceVersion=5")).await.code, StatusCode::BAD_REQUEST);
    let both = list(&format!("continue={old}&resourceVersion=0&resourceVersionMatch=NotOlderThan")).await;
    assert_eq!(both.code, StatusCode::UNPROCESSABLE_ENTITY);
    // So many lists begin after it that its moment is given up.
    for number in 0..40 {
        api.create(&PostParams::default(), &config_map(&format!("more{number}"), &[])).await.unwrap();
        list("limit=1").await;
    }
    let gone = list(&format!("continue={old}")).await;
    assert_eq!((gone.code, &gone.json()["reason"]), (StatusCode::GONE, &json!("Expired")));
    let rest = list(&format!("limit=2&continue={}", token(&gone.json()))).await.json();
    assert_eq!(rest["items"][0]["metadata"]["name"], "b", "what is left can be read as it is now");
    let rest = list(&format!("limit=2&continue={}", token(&rest))).await;
    assert_eq!(rest.json()["items"][0]["metadata"]["name"], "more0");
}

// A-014
#[tokio::test]
async fn strangers_get_health_and_version_only() {
    let server = server().await;
    for path in ["/healthz", "/livez", "/readyz", "/livez/ping"] {
        let answer = ask("GET", path).anonymous().of(&server).await;
        assert_eq!((answer.code, answer.text.as_str()), (StatusCode::OK, "ok"), "{path}");
    }
    assert_eq!(ask("GET", "/version").anonymous().of(&server).await.code, StatusCode::OK);
    for path in [CONFIG_MAPS, "/api", "/apis", "/openapi/v3", "/nothing", "/api/v1/watch/pods"] {
        let answer = ask("GET", path).anonymous().of(&server).await;
        assert_eq!(
            (answer.code, &answer.json()["reason"]),
            (StatusCode::UNAUTHORIZED, &json!("Unauthorized")),
            "{path}"
        );
    }
}

// A-014
#[tokio::test]
async fn a_closing_server_is_not_ready() {
    let server = server().await;
    server.close().await;
    let ready = ask("GET", "/readyz").anonymous().of(&server).await;
    assert_eq!(ready.code, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(ready.text.contains("[-]shutdown"), "{}", ready.text);
    assert_eq!(ask("GET", "/livez").anonymous().of(&server).await.code, StatusCode::OK);
}

// A-015, A-119
#[tokio::test]
async fn unknown_paths_are_plain_text_and_wrong_methods_a_status() {
    let server = server().await;
    for path in ["/nothing", "/api/v1/nothings", "/apis/none.example/v1", "/apis/none.example", "/api/v2"] {
        let answer = ask("GET", path).of(&server).await;
        assert_eq!((answer.code, answer.text.trim()), (StatusCode::NOT_FOUND, "404 page not found"), "{path}");
        assert!(answer.header("content-type").starts_with("text/plain"), "{path}");
    }
    let answer = ask("POST", &format!("{CONFIG_MAPS}/a")).json(&json!({})).of(&server).await;
    assert_eq!((answer.code, &answer.json()["reason"]), (StatusCode::METHOD_NOT_ALLOWED, &json!("MethodNotAllowed")));
}

// A-037, A-041
#[tokio::test]
async fn the_form_of_the_answer_is_negotiated() {
    let server = server().await;
    let create = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    ask("POST", CONFIG_MAPS).json(&create).of(&server).await;
    let path = format!("{CONFIG_MAPS}/a");
    let yaml = ask("GET", &path).accept("application/yaml").of(&server).await;
    assert_eq!(yaml.header("content-type"), "application/yaml");
    assert!(yaml.text.contains("name: a"), "{}", yaml.text);
    let protobuf_first =
        ask("GET", &path).accept("application/vnd.kubernetes.protobuf,application/json").of(&server).await;
    assert_eq!(protobuf_first.json()["data"]["k"], "v");
    let none = ask("GET", &path).accept("text/html").of(&server).await;
    assert_eq!((none.code, &none.json()["reason"]), (StatusCode::NOT_ACCEPTABLE, &json!("NotAcceptable")));
    let partial = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let metadata = ask("GET", &path).accept(partial).of(&server).await.json();
    assert_eq!((&metadata["kind"], &metadata["metadata"]["name"]), (&json!("PartialObjectMetadata"), &json!("a")));
    assert!(metadata.get("data").is_none());
    let list = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let metadata = ask("GET", CONFIG_MAPS).accept(list).of(&server).await.json();
    assert_eq!(
        (&metadata["kind"], metadata["items"].as_array().unwrap().len()),
        (&json!("PartialObjectMetadataList"), 1)
    );
}

// What is stored is there after a restart, and revisions go on growing.
#[tokio::test]
async fn objects_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { state_dir: Some(directory.path().join("labs/one")), ..Options::default() };
    let server = ApiServer::open(options.clone()).await.unwrap();
    let api = config_maps(&server.client(admin()));
    let before = api.create(&PostParams::default(), &config_map("a", &[("k", "v")])).await.unwrap();
    let second = ApiServer::open(options.clone()).await.unwrap_err().to_string();
    assert!(second.contains("in use by another minisvc"), "{second}");
    server.close().await;
    let server = ApiServer::open(options).await.unwrap();
    let api = config_maps(&server.client(admin()));
    assert_eq!(api.get("a").await.unwrap(), before);
    let after = api.create(&PostParams::default(), &config_map("b", &[])).await.unwrap();
    let revision = |object: &ConfigMap| object.resource_version().unwrap().parse::<u64>().unwrap();
    assert!(revision(&after) > revision(&before));
    server.close().await;
}
