//! Ports, slices and names that lead nowhere.

mod common;

use common::rows::{Row, WEB, check};
use common::{World, service};
use minisvc_why::Cause;
use serde_json::{Value, json};

fn port_names(pod: &mut Value) {
    pod["spec"]["containers"][0]["ports"] = json!([{"name": "http", "containerPort": 8080}]);
}

#[test]
fn ports_that_lead_nowhere() {
    check(&[
        Row {
            label: "a port that the Service does not have",
            breaks: |_| {},
            asks: ("svc/web:8080", None),
            cause: Cause::PortMissing,
            says: &["no port 8080; it has 80/TCP", "8080 is the port of its pods"],
            mends: "svc/web:80",
        },
        Row {
            label: "a port of another protocol",
            breaks: |_| {},
            asks: ("svc/web:80/udp", None),
            cause: Cause::ProtocolAsked,
            says: &["port 80 for TCP only"],
            mends: "",
        },
        Row {
            label: "a named port that nobody has",
            breaks: |world| {
                world.both(port_names);
                world.web()["spec"]["ports"][0]["targetPort"] = json!("htpp");
            },
            asks: WEB,
            cause: Cause::PortNameMissing,
            says: &["named htpp", "they have http"],
            mends: r#""value":"http""#,
        },
        Row {
            label: "a named port where no port has a name",
            breaks: |world| world.web()["spec"]["ports"][0]["targetPort"] = json!("http"),
            asks: WEB,
            cause: Cause::PortNameMissing,
            says: &["they name no ports"],
            mends: r#""value":8080"#,
        },
        Row {
            label: "a wrong number",
            breaks: |world| world.web()["spec"]["ports"][0]["targetPort"] = json!(8081),
            asks: WEB,
            cause: Cause::WrongTargetPort,
            says: &["leads to port 8081", "listens on 8080/TCP"],
            mends: r#""value":8080"#,
        },
        Row {
            label: "a wrong number where the right one has a name",
            breaks: |world| {
                world.both(port_names);
                world.web()["spec"]["ports"][0]["targetPort"] = json!(80);
            },
            asks: WEB,
            cause: Cause::WrongTargetPort,
            says: &["leads to port 80", "listens on 8080/TCP"],
            mends: r#""value":"http""#,
        },
        Row {
            label: "loopback only",
            breaks: |world| {
                for pod in ["web-1", "web-2"] {
                    world.listens("default", pod, &[("TCP", "127.0.0.1", 8080)])
                }
            },
            asks: WEB,
            cause: Cause::LoopbackOnly,
            says: &["127.0.0.1:8080 only", "0.0.0.0"],
            mends: "",
        },
        Row {
            label: "UDP instead of TCP",
            breaks: |world| {
                for pod in ["web-1", "web-2"] {
                    world.listens("default", pod, &[("UDP", "0.0.0.0", 8080)])
                }
            },
            asks: WEB,
            cause: Cause::WrongProtocol,
            says: &["8080/UDP", "sends it TCP"],
            mends: r#""value":"UDP""#,
        },
        Row {
            label: "nothing at all",
            breaks: |world| {
                for pod in ["web-1", "web-2"] {
                    world.listens("default", pod, &[])
                }
            },
            asks: WEB,
            cause: Cause::NothingListens,
            says: &["nothing in pod default/web-1 listens on port 8080"],
            mends: "",
        },
        Row {
            label: "one family only",
            breaks: |world| {
                world.web()["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]);
                for pod in ["web-1", "web-2"] {
                    world.listens("default", pod, &[("TCP", "0.0.0.0", 8080)]);
                }
            },
            asks: WEB,
            cause: Cause::OneFamilyOnly,
            says: &["for IPv4 only", "has IPv6 too"],
            mends: r#""ipFamilyPolicy":"SingleStack""#,
        },
        Row {
            label: "only one of two listens",
            breaks: |world| world.listens("default", "web-2", &[("TCP", "::", 9090)]),
            asks: WEB,
            cause: Cause::PartlyReady,
            says: &["1 of 2 pods listen", "listens on 9090/TCP"],
            mends: r#""value":9090"#,
        },
        Row {
            label: "a pod asked on the wrong port",
            breaks: |_| {},
            asks: ("10.244.0.2:80", None),
            cause: Cause::NothingListens,
            says: &["nothing in pod default/web-1 listens on 80/TCP; it listens on 8080/TCP"],
            mends: "",
        },
        Row {
            label: "a headless Service as if it mapped ports",
            breaks: |world| {
                world.web()["spec"]["clusterIP"] = json!("None");
                world.web()["spec"]["clusterIPs"] = json!(["None"]);
            },
            asks: ("svc/web:80", None),
            cause: Cause::HeadlessPort,
            says: &["headless", "ask port 8080"],
            mends: "svc/web:8080",
        },
    ]);
}

fn by_hand(world: &mut World) {
    world.web()["spec"]["selector"] = json!({});
    world.web()["spec"]["ports"][0]["name"] = json!("http");
    world.slices[0]["ports"][0]["name"] = json!("http");
}

#[test]
fn slices_and_names_that_lead_nowhere() {
    check(&[
        Row {
            label: "a slice without the label",
            breaks: |world| {
                by_hand(world);
                world.slices[0]["metadata"]["labels"] = json!({});
            },
            asks: WEB,
            cause: Cause::SliceUnlabelled,
            says: &["web-abc lacks the label kubernetes.io/service-name"],
            mends: "label endpointslice web-abc kubernetes.io/service-name=web",
        },
        Row {
            label: "a slice with another port name",
            breaks: |world| {
                by_hand(world);
                world.slices[0]["ports"][0]["name"] = json!("web");
            },
            asks: WEB,
            cause: Cause::SlicePortName,
            says: &["named http", "named web"],
            mends: r#""path":"/ports/0/name","value":"http""#,
        },
        Row {
            label: "a slice whose endpoints are not ready",
            breaks: |world| {
                by_hand(world);
                for endpoint in 0..2 {
                    world.slices[0]["endpoints"][endpoint]["conditions"]["ready"] = json!(false);
                }
            },
            asks: WEB,
            cause: Cause::NotReady,
            says: &["have 2, but none is ready"],
            mends: "",
        },
        Row {
            label: "slices that are behind",
            breaks: |world| world.slices.clear(),
            asks: WEB,
            cause: Cause::SlicesBehind,
            says: &["no slice of Service default/web has it yet"],
            mends: "",
        },
        Row {
            label: "an external name that nobody knows",
            breaks: |world| {
                world.services.push(service("shop", "db", "10.96.0.7", &json!({})));
                world.web()["spec"] = json!({"type": "ExternalName", "externalName": "bd.shop.svc.cluster.local"});
                world.resolves("bd.shop.svc.cluster.local", &[]);
            },
            asks: WEB,
            cause: Cause::ExternalNameUnresolved,
            says: &["did you mean db.shop.svc.cluster.local"],
            mends: r#""externalName":"db.shop.svc.cluster.local""#,
        },
        Row {
            label: "an external name that is an address",
            breaks: |world| world.web()["spec"] = json!({"type": "ExternalName", "externalName": "192.0.2.7"}),
            asks: WEB,
            cause: Cause::ExternalNameIsAddress,
            says: &["192.0.2.7, which is an address"],
            mends: "",
        },
        Row {
            label: "a short name in another namespace",
            breaks: |_| {},
            asks: ("web:80", Some("shop/client")),
            cause: Cause::ShortName,
            says: &["namespace shop", "ask for web.default"],
            mends: "why web.default:80 --from client -n shop",
        },
        Row {
            label: "a name with a typo",
            breaks: |_| {},
            asks: ("wbe", None),
            cause: Cause::ServiceMissing,
            says: &["did you mean web"],
            mends: "svc/web",
        },
        Row {
            label: "a name with a typo in the namespace",
            breaks: |_| {},
            asks: ("web.defualt", None),
            cause: Cause::NamespaceMissing,
            says: &["did you mean default"],
            mends: "-n default",
        },
        Row {
            label: "a name that the server does not know",
            breaks: |world| world.resolves("web", &[]),
            asks: WEB,
            cause: Cause::NameUnresolved,
            says: &["web does not resolve", "NXDOMAIN"],
            mends: "",
        },
        Row {
            label: "a pod without subdomain",
            breaks: |world| {
                world.web()["spec"]["clusterIP"] = json!("None");
                world.web()["spec"]["clusterIPs"] = json!(["None"]);
            },
            asks: ("web-1.web.default.svc.cluster.local", None),
            cause: Cause::NameUnresolved,
            says: &["must say subdomain: web", "serviceName"],
            mends: "",
        },
    ]);
}
