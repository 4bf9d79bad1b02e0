//! A store that somebody has damaged, looked through by the server.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Event, Service};
use k8s_openapi::api::networking::v1::IPAddress;
use kube::Api;
use kube::api::{ListParams, PostParams};

use super::*;
use crate::{ApiServer, Identity, MASTERS, Options};

async fn create(api: &Api<Service>, name: &str, spec: Value) -> Service {
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
}

/// Writes past the server, as only a defect could.
async fn damage(server: &Server, op: Op) {
    server.store.commit(Txn { expect: Vec::new(), ops: vec![op] }).await.unwrap();
}

/// Changes a stored Service without anybody looking at it.
async fn change(server: &Server, name: &str, change: impl FnOnce(&mut Value)) {
    let record = server.store.get(&Key::new(SERVICES, "default", name)).unwrap();
    let mut object = stored::decode(&record.value);
    change(&mut object);
    let encoded = Encoded::new(&object);
    damage(server, Op::put(record.key.clone(), move |revision| encoded.at(revision))).await;
}

/// The reasons of the events about each Service.
async fn told(client: &kube::Client) -> BTreeMap<String, Vec<String>> {
    let events: Api<Event> = Api::namespaced(client.clone(), "default");
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events.list(&ListParams::default()).await.unwrap() {
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        told.entry(event.involved_object.name.unwrap()).or_default().push(event.reason.unwrap());
    }
    told.values_mut().for_each(|reasons| reasons.sort());
    told
}

// S-113, S-125
#[tokio::test]
async fn what_services_have_is_recorded_again_and_what_cannot_be_is_told() {
    let api = ApiServer::open(Options::default()).await.unwrap();
    let (server, client) = (&*api.server, api.client(Identity::new("admin", &[MASTERS])));
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let node_port = |port: u16| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    let first = create(&services, "first", node_port(30001)).await;
    create(&services, "lost", node_port(30002)).await;
    create(&services, "second", node_port(30003)).await;
    create(&services, "outside", node_port(30004)).await;
    create(&services, "odd", json!({"ports": [{"port": 80}]})).await;
    let both = json!([
        {"name": "t", "port": 53, "protocol": "TCP", "nodePort": 30006},
        {"name": "u", "port": 53, "protocol": "UDP", "nodePort": 30006},
    ]);
    create(&services, "dns", json!({"type": "NodePort", "ports": both})).await;
    let before = services.list(&ListParams::default()).await.unwrap().items;
    run(server).await;
    assert_eq!(told(&client).await, BTreeMap::new(), "all is well, also with one number for two protocols");
    assert_eq!(services.list(&ListParams::default()).await.unwrap().items, before);

    let lost_ip = services.get("lost").await.unwrap().spec.unwrap().cluster_ip.unwrap();
    let first_ip = first.spec.unwrap().cluster_ip.unwrap();
    let of_lost = Claim::ClusterIp(lost_ip.parse().unwrap());
    for key in [claim_key(&Claim::NodePort(30002)), claim_key(&of_lost), address_key(&of_lost).unwrap()] {
        damage(server, Op::delete(key, |_| Bytes::new())).await;
    }
    change(server, "second", |service| {
        service["spec"]["ports"][0]["nodePort"] = json!(30001);
        service["spec"]["clusterIP"] = json!(first_ip);
        service["spec"]["clusterIPs"] = json!([first_ip]);
    })
    .await;
    change(server, "outside", |service| {
        service["spec"]["ports"][0]["nodePort"] = json!(80);
        service["spec"]["clusterIPs"] = json!(["192.0.2.1"]);
    })
    .await;
    change(server, "odd", |service| service["spec"]["clusterIPs"] = json!(["10.96.0.x"])).await;
    let damaged = services.list(&ListParams::default()).await.unwrap().items;
    run(server).await;

    let expected = [
        ("lost", vec!["ClusterIPNotAllocated", "PortNotAllocated"]),
        ("second", vec!["ClusterIPAlreadyAllocated", "PortAlreadyAllocated"]),
        ("outside", vec!["ClusterIPOutOfRange", "PortOutOfRange"]),
        ("odd", vec!["ClusterIPNotValid"]),
    ];
    let expected = expected.map(|(name, reasons)| (name.to_owned(), reasons.into_iter().map(str::to_owned).collect()));
    assert_eq!(told(&client).await, BTreeMap::from(expected));
    assert_eq!(services.list(&ListParams::default()).await.unwrap().items, damaged, "no Service is changed");
    for claim in [Claim::NodePort(30002), of_lost] {
        assert!(server.store.get(&claim_key(&claim)).is_some(), "{claim:?} is recorded again");
    }
    let addresses: Api<IPAddress> = Api::all(client.clone());
    assert_eq!(addresses.get(&lost_ip).await.unwrap().spec.parent_ref.name, "lost", "and so is the address");
    assert!(server.store.get(&claim_key(&Claim::NodePort(30003))).is_none(), "nobody has this any more");
    let again = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30002}]});
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "again"}, "spec": again});
    let taken = services.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await;
    assert!(taken.unwrap_err().to_string().contains("already allocated"), "it cannot be handed out a second time");
    api.close().await;
}
