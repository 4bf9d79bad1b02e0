//! Tables, as kubectl asks for them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use common::{ask, server};
use minisvc_apiserver::ApiServer;
use serde_json::{Value, json};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const KUBECTL: &str =
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

async fn with_objects() -> ApiServer {
    let server = server().await;
    for name in ["b", "a"] {
        let object = json!({"metadata": {"name": name, "labels": {"x": "y"}}, "data": {"k": "v"}});
        ask("POST", CONFIG_MAPS).json(&object).of(&server).await;
    }
    server
}

//
#[tokio::test]
async fn a_list_becomes_rows_with_metadata() {
    let server = with_objects().await;
    let list = ask("GET", &format!("{CONFIG_MAPS}?limit=500")).of(&server).await.json();
    let table = ask("GET", &format!("{CONFIG_MAPS}?limit=500")).accept(KUBECTL).of(&server).await.json();
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["metadata"]["resourceVersion"], list["metadata"]["resourceVersion"]);
    let columns = table["columnDefinitions"].as_array().unwrap();
    assert_eq!((&columns[0]["name"], &columns[0]["format"]), (&json!("Name"), &json!("name")));
    for column in columns {
        for key in ["name", "type", "format", "description"] {
            assert!(column[key].is_string(), "{key} of {column}");
        }
        assert!(column["priority"].is_number());
    }
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["cells"][0].clone()).collect::<Vec<_>>(), ["a", "b"]);
    for row in rows {
        assert_eq!(row["cells"].as_array().unwrap().len(), columns.len());
        assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(row["object"]["metadata"]["labels"], json!({"x": "y"}));
    }
}

//
#[tokio::test]
async fn rows_include_what_is_asked_for() {
    let server = with_objects().await;
    let row = |include: &'static str| {
        let server = server.clone();
        async move {
            let path = format!("{CONFIG_MAPS}?includeObject={include}");
            ask("GET", &path).accept(KUBECTL).of(&server).await.json()["rows"][0].clone()
        }
    };
    let whole = row("Object").await;
    assert_eq!((&whole["object"]["kind"], &whole["object"]["data"]), (&json!("ConfigMap"), &json!({"k": "v"})));
    assert_eq!(row("None").await["object"], Value::Null);
    assert_eq!(row("Metadata").await["object"]["data"], Value::Null);
    let wrong = ask("GET", &format!("{CONFIG_MAPS}?includeObject=Some")).accept(KUBECTL).of(&server).await;
    assert_eq!(wrong.code.as_u16(), 400);
}

//
#[tokio::test]
async fn one_object_is_a_table_of_one_row_in_the_version_asked_for() {
    let server = with_objects().await;
    let beta = "application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json";
    let table = ask("GET", &format!("{CONFIG_MAPS}/a")).accept(beta).of(&server).await.json();
    assert_eq!(table["apiVersion"], "meta.k8s.io/v1beta1");
    assert_eq!(table["rows"].as_array().unwrap().len(), 1);
    assert_eq!(table["rows"][0]["object"]["apiVersion"], "meta.k8s.io/v1beta1");
}

// errors are a Status whatever the client would like
#[tokio::test]
async fn errors_are_never_tables() {
    let server = with_objects().await;
    let answer = ask("GET", &format!("{CONFIG_MAPS}/none")).accept(KUBECTL).of(&server).await;
    assert_eq!((answer.code.as_u16(), &answer.json()["kind"]), (404, &json!("Status")));
}
