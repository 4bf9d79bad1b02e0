//! A controller of somebody else, written with kube-rs as its documentation has it: watches, server-side apply, finalizers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::{DEADLINE, client, config_map, config_maps, refusal};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{self, Event, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::json;

const FINALIZER: &str = "mirrors.example/cleanup";
const MANAGER: &str = "mirror-controller";

type Failed = finalizer::Error<kube::Error>;

/// Keeps a Secret with what each ConfigMap labelled `mirror` holds, and another one that outlives it until it says goodbye.
async fn reconcile(map: Arc<ConfigMap>, client: Arc<Client>) -> Result<Action, Failed> {
    let maps: Api<ConfigMap> = Api::namespaced((*client).clone(), "default");
    finalizer(&maps, FINALIZER, map, |event| async {
        match event {
            Event::Apply(map) => mirror(&map, &client).await,
            Event::Cleanup(map) => goodbye(&map, &client).await,
        }
    })
    .await
}

async fn mirror(map: &ConfigMap, client: &Client) -> Result<Action, kube::Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    let name = map.name_any();
    let own = map.controller_owner_ref(&()).into_iter().collect::<Vec<_>>();
    let body = |name: &str, owners: serde_json::Value| {
        let data = map.data.clone().unwrap_or_default();
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "ownerReferences": owners},
            "stringData": data,
        })
    };
    let apply = PatchParams::apply(MANAGER);
    secrets.patch(&name, &apply, &Patch::Apply(body(&name, json!(own)))).await?;
    let kept = format!("{name}-kept");
    secrets.patch(&kept, &apply, &Patch::Apply(body(&kept, json!([])))).await?;
    let annotation = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "annotations": {"mirrors.example/seen": map.metadata.uid}},
    });
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    maps.patch(&name, &apply.force(), &Patch::Apply(annotation)).await?;
    Ok(Action::await_change())
}

async fn goodbye(map: &ConfigMap, client: &Client) -> Result<Action, kube::Error> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    match secrets.delete(&format!("{}-kept", map.name_any()), &DeleteParams::default()).await {
        Ok(_) => Ok(Action::await_change()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Action::await_change()),
        Err(error) => Err(error),
    }
}

async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(found) = ask().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("waited for {what}"))
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let value = secret.data.as_ref()?.get(key)?;
    String::from_utf8(value.0.clone()).ok()
}

//
#[tokio::test]
async fn a_controller_of_kube_rs_works_with_finalizers_and_server_side_apply() {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let (server, client) = client().await;
        let config = config.labels("mirror=yes");
        let owned = watcher::Config::default();
        let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
        let running = Controller::new(config_maps(&client), config)
            .owns(secrets.clone(), owned)
            .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(50)), Arc::new(client.clone()))
            .for_each(|_| std::future::ready(()));
        let running = tokio::spawn(running);
        exercise(&client, &secrets).await;
        running.abort();
        server.close().await;
    }
}

async fn exercise(client: &Client, secrets: &Api<Secret>) {
    let maps = config_maps(client);
    let mut map = config_map("m", &[("k", "1"), ("gone", "x")]);
    map.labels_mut().insert("mirror".to_owned(), "yes".to_owned());
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    maps.create(&PostParams::default(), &config_map("other", &[])).await.unwrap();
    let first = until("the mirror", async || secrets.get_opt("m").await.unwrap()).await;
    assert_eq!(
        (text(&first, "k").as_deref(), &first.owner_references()[0].uid),
        (Some("1"), made.metadata.uid.as_ref().unwrap())
    );
    let seen = until("its mark", async || {
        let map = maps.get("m").await.unwrap();
        map.annotations().contains_key("mirrors.example/seen").then_some(map)
    });
    let seen = seen.await;
    assert_eq!(seen.finalizers(), [FINALIZER]);
    assert_eq!(seen.data.as_ref().unwrap().len(), 2, "what the user wrote is the user's");
    let entries = seen.metadata.managed_fields.as_ref().unwrap();
    assert!(
        entries
            .iter()
            .any(|entry| entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Apply"))
    );

    // A change of the user is followed, with what is left out removed; a change by a stranger is undone.
    maps.patch("m", &PatchParams::default(), &Patch::Merge(json!({"data": {"k": "2", "gone": null}}))).await.unwrap();
    until("the change", async || {
        let secret = secrets.get("m").await.unwrap();
        (text(&secret, "k").as_deref() == Some("2")).then_some(())
    })
    .await;
    secrets.delete("m", &DeleteParams::default()).await.unwrap();
    until("another mirror", async || secrets.get_opt("m").await.unwrap().filter(|again| again.uid() != first.uid()))
        .await;
    let stranger = PatchParams::apply("stranger");
    let taken = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "m"}, "stringData": {"k": "3"}});
    let (code, reason, _) = refusal(secrets.patch("m", &stranger, &Patch::Apply(taken)).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));

    // It goes when the controller has cleaned up, and what it had made goes before it.
    let uid = made.uid().unwrap();
    maps.delete("m", &DeleteParams::default()).await.unwrap();
    let deleted = await_condition(maps.clone(), "m", conditions::is_deleted(&uid));
    tokio::time::timeout(DEADLINE, deleted).await.unwrap().unwrap();
    assert!(secrets.get_opt("m-kept").await.unwrap().is_none());
    let other: BTreeMap<String, String> = maps.get("other").await.unwrap().annotations().clone();
    assert!(other.is_empty(), "it was not asked for");
}
