//! What the processes of a pod see: names, files, variables, volumes, each other.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use minisvc_podd::LogOptions;
use minisvc_sandbox::SocketKind;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::lab::{Lab, NODE, create, shell, status, waiting};
use crate::tests;

tests![
    // P-075
    test_names_and_resolver_files,
    // N-090, N-105
    test_a_pod_may_have_a_resolver_of_its_own,
    // N-088, N-096, P-068, P-069
    test_what_is_made_at_the_start_of_a_pod_and_of_a_container,
    test_a_pod_in_the_nodes_network_is_called_as_the_node,
    test_variables,
    test_volumes_hold_what_the_manifest_says,
    test_volumes_follow_their_objects,
    test_the_service_account_volume,
    test_missing_references_are_waited_for,
    test_two_pods_have_the_same_port_and_one_does_not_see_the_other,
    test_the_echo_server_answers_http_tcp_and_udp,
    test_containers_run_as_the_manifest_says,
];

/// Runs a script to its end and returns what it printed.
async fn output(lab: &Lab, name: &str, script: &str, extra: Value) -> String {
    let mut container = shell("app", script);
    let mut spec = json!({"restartPolicy": "Never"});
    for (key, value) in extra.as_object().expect("an object").clone() {
        if ["env", "envFrom", "volumeMounts", "resources", "securityContext"].contains(&key.as_str()) {
            container[key] = value;
        } else {
            spec[key] = value;
        }
    }
    spec["containers"] = json!([container]);
    lab.pod(name, spec).await;
    lab.phase(name, "Succeeded").await;
    lab.log(name, LogOptions::default()).await
}

// N-079, N-091, N-092, N-097, P-075
async fn test_names_and_resolver_files() {
    let lab = Lab::start().await;
    let script = "hostname; cat /proc/sys/kernel/hostname; cat /etc/resolv.conf /etc/nsswitch.conf; grep pod-name /etc/hosts; head -1 /etc/hosts";
    let extra = json!({"subdomain": "db", "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["pod-name-alias"]}]});
    let text = output(&lab, "pod-name", script, extra).await;
    assert!(text.starts_with("pod-name\npod-name\nsearch default.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.96.0.10\noptions ndots:5\n"), "{text}");
    assert!(text.contains("hosts: files dns\n"));
    assert!(text.contains("\tpod-name.db.default.svc.cluster.local\tpod-name\n"), "{text}");
    assert!(text.contains("192.0.2.7\tpod-name-alias\n"));
    assert!(text.ends_with("# Kubernetes-managed hosts file.\n"));
    lab.stop().await;
}

async fn test_a_pod_may_have_a_resolver_of_its_own() {
    let lab = Lab::start().await;
    let before = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let config = json!({"nameservers": ["1.1.1.1"], "searches": ["resolv.conf.local"]});
    let extra = json!({"dnsPolicy": "None", "dnsConfig": config});
    let text = output(&lab, "custom", "cat /etc/resolv.conf; echo gone > /etc/resolv.conf", extra).await;
    assert_eq!(text, "search resolv.conf.local\nnameserver 1.1.1.1\n");
    assert_eq!(std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(), before, "the file is the pod's alone");
    lab.stop().await;
}

async fn test_what_is_made_at_the_start_of_a_pod_and_of_a_container() {
    let lab = Lab::start().await;
    let service = |name: &str| json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    let _: Service = create(&lab.client, "default", service("early")).await;
    let script = "echo edited >> /etc/hosts; env | grep -o '^[A-Z]*_SERVICE_HOST' | sort; head -2 /etc/resolv.conf | tail -1; \
                  echo started; until [ -e /data/go ]; do sleep 0.05; done; rm /data/go; exit 1";
    let mount = json!([{"name": "data", "mountPath": "/data"}]);
    let mut container = shell("app", script);
    container["volumeMounts"] = mount.clone();
    let beside = json!({"name": "beside", "command": ["sleep", "1000"], "volumeMounts": mount});
    let volumes = json!([{"name": "data", "emptyDir": {}}]);
    lab.pod("again", json!({"containers": [beside, container], "volumes": volumes})).await;
    lab.ready("again").await;
    let shell_in = |container: &'static str, script: &str| {
        let argv = ["/bin/sh", "-c", script].map(Into::into).to_vec();
        let spec = minisvc_podd::ExecSpec { argv, ..Default::default() };
        let podd = &lab.podd;
        async move { podd.exec("default", "again", Some(container), spec).await.expect("a process").wait().await.as_code() }
    };
    // The other container sees the same file.
    assert_eq!(shell_in("beside", "until grep -q edited /etc/hosts; do sleep 0.05; done").await, 0);
    let _: Service = create(&lab.client, "default", service("late")).await;
    std::fs::write(lab.directory.path().join("resolv.conf"), "nameserver 192.0.2.99\n").expect("written");
    assert_eq!(shell_in("beside", "touch /data/go").await, 0);
    let restarted = |pod: Option<&Pod>| {
        pod.is_some_and(|pod| {
            status(pod).container_statuses.iter().flatten().any(|c| c.name == "app" && c.restart_count == 1 && c.ready)
        })
    };
    lab.until("again", "restarted", restarted).await;
    assert_eq!(
        shell_in("beside", "until [ $(grep -c edited /etc/hosts) = 1 ]; do sleep 0.05; done").await,
        0,
        "edits are lost"
    );
    let of = |previous| LogOptions { container: Some("app".into()), previous, ..LogOptions::default() };
    let dns = "nameserver 10.96.0.10";
    let first = lab.log("again", of(true)).await;
    assert_eq!(first, format!("EARLY_SERVICE_HOST\nKUBERNETES_SERVICE_HOST\n{dns}\nstarted\n"));
    let mut follow = lab.podd.logs("default", "again", LogOptions { follow: true, ..of(false) }).expect("a log");
    let mut second = String::new();
    while !second.ends_with("started\n") {
        let line = futures::StreamExt::next(&mut follow).await.expect("more").expect("readable");
        second += std::str::from_utf8(&line).expect("text");
    }
    assert_eq!(second, format!("EARLY_SERVICE_HOST\nKUBERNETES_SERVICE_HOST\nLATE_SERVICE_HOST\n{dns}\nstarted\n"));
    // When the nodes come up again, containers are started only when the Services are known.
    let lab = lab.reboot().await;
    let again = |pod: Option<&Pod>| {
        pod.is_some_and(|pod| {
            status(pod).container_statuses.iter().flatten().any(|c| c.name == "app" && c.restart_count == 2 && c.ready)
        })
    };
    lab.until("again", "up again", again).await;
    let mut follow = lab.podd.logs("default", "again", LogOptions { follow: true, ..of(false) }).expect("a log");
    let first = futures::StreamExt::next(&mut follow).await.expect("a line").expect("readable");
    assert_eq!(&first[..], b"EARLY_SERVICE_HOST\n");
    lab.stop().await;
}

// N-101, N-094, N-080
async fn test_a_pod_in_the_nodes_network_is_called_as_the_node() {
    let lab = Lab::start().await;
    let text = output(
        &lab,
        "host",
        "hostname; echo $HOSTNAME; head -1 /etc/hosts; cat /etc/resolv.conf",
        json!({"hostNetwork": true}),
    )
    .await;
    let expected = format!(
        "{NODE}\n{NODE}\n# Kubernetes-managed hosts file (host network).\nsearch corp.example\nnameserver 192.0.2.1\n"
    );
    assert_eq!(text, expected);
    lab.stop().await;
}

// P-059, P-065, P-066, P-071, P-074
async fn test_variables() {
    let lab = Lab::start().await;
    let service = json!({"metadata": {"name": "my-db"}, "spec": {"selector": {"app": "db"}, "ports": [{"name": "sql", "port": 5432}]}});
    let service: Service = create(&lab.client, "default", service).await;
    let ip = service.spec.and_then(|spec| spec.cluster_ip).expect("an address");
    let map = json!({"metadata": {"name": "conf"}, "data": {"MODE": "fast", "MY_DB_SERVICE_PORT": "overridden"}});
    let _: ConfigMap = create(&lab.client, "default", map).await;
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let extra = json!({
        "envFrom": [{"configMapRef": {"name": "conf"}}],
        "env": [
            {"name": "URL", "value": "sql://$(MY_DB_SERVICE_HOST)/$(MODE)"},
            {"name": "ME", "valueFrom": field("metadata.name")},
            {"name": "IP", "valueFrom": field("status.podIP")},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
        ],
        "resources": {"limits": {"cpu": "250m"}},
    });
    let text = output(&lab, "vars", "env | sort", extra).await;
    let own = lab.pods().get("vars").await.expect("a pod");
    let address = status(&own).pod_ip.clone().expect("an address");
    for line in [
        format!("MY_DB_SERVICE_HOST={ip}"),
        format!("MY_DB_PORT_5432_TCP=tcp://{ip}:5432"),
        "MY_DB_SERVICE_PORT_SQL=5432".to_owned(),
        "MY_DB_SERVICE_PORT=overridden".to_owned(),
        format!("URL=sql://{ip}/fast"),
        "ME=vars".to_owned(),
        format!("IP={address}"),
        "CPU=250".to_owned(),
        "HOSTNAME=vars".to_owned(),
        "KUBERNETES_SERVICE_HOST=10.96.0.1".to_owned(),
    ] {
        assert!(text.lines().any(|got| got == line), "{line} in {text}");
    }
    assert!(text.lines().any(|line| line.starts_with("PATH=")));
    lab.stop().await;
}

async fn test_volumes_hold_what_the_manifest_says() {
    let lab = Lab::start().await;
    let map = json!({"metadata": {"name": "conf"}, "data": {"a.txt": "alpha", "b.txt": "beta"}});
    let _: ConfigMap = create(&lab.client, "default", map).await;
    let secret = json!({"metadata": {"name": "key"}, "data": {"password": "czNjcmV0"}});
    let _: Secret = create(&lab.client, "default", secret).await;
    let script = "cat /conf/a.txt /no/such/place/password /etc/single.conf /info/labels; echo; \
        echo x > /scratch/deep/file && cat /scratch/deep/file; touch /conf/new 2>/dev/null || echo read-only";
    let extra = json!({
        "volumes": [
            {"name": "conf", "configMap": {"name": "conf"}},
            {"name": "key", "secret": {"secretName": "key"}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "info", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        ],
        "volumeMounts": [
            {"name": "conf", "mountPath": "/conf"},
            {"name": "key", "mountPath": "/no/such/place"},
            {"name": "conf", "mountPath": "/etc/single.conf", "subPath": "b.txt"},
            {"name": "scratch", "mountPath": "/scratch/deep", "subPath": "inner"},
            {"name": "info", "mountPath": "/info"},
        ],
    });
    let text = output(&lab, "volumes", script, extra).await;
    assert_eq!(text, "alphas3cretbetaapp=\"volumes\"\nx\nread-only\n");
    assert!(!std::path::Path::new("/no/such/place").exists(), "the host's tree is untouched");
    lab.stop().await;
}

// P-072
async fn test_volumes_follow_their_objects() {
    let lab = Lab::start().await;
    let _: ConfigMap =
        create(&lab.client, "default", json!({"metadata": {"name": "conf"}, "data": {"word": "old"}})).await;
    let script = "cat /conf/word /info/labels; until grep -q new /conf/word && grep -q added /info/labels; do sleep 0.05; done; echo changed; cat /conf/word; echo $WORD";
    let mut container = shell("app", script);
    container["env"] = json!([{"name": "WORD", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "word"}}}]);
    container["volumeMounts"] = json!([{"name": "conf", "mountPath": "/conf"}, {"name": "info", "mountPath": "/info"}]);
    let labels = json!([{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]);
    let volumes =
        json!([{"name": "conf", "configMap": {"name": "conf"}}, {"name": "info", "downwardAPI": {"items": labels}}]);
    lab.pod("follow", json!({"restartPolicy": "Never", "containers": [container], "volumes": volumes})).await;
    lab.ready("follow").await;
    let maps: kube::Api<ConfigMap> = kube::Api::namespaced(lab.client.clone(), "default");
    let change = kube::api::Patch::Merge(json!({"data": {"word": "new"}}));
    maps.patch("conf", &Default::default(), &change).await.expect("patched");
    let label = kube::api::Patch::Merge(json!({"metadata": {"labels": {"added": "yes"}}}));
    lab.pods().patch("follow", &Default::default(), &label).await.expect("patched");
    lab.phase("follow", "Succeeded").await;
    let text = lab.log("follow", LogOptions::default()).await;
    assert_eq!(text, "oldapp=\"follow\"changed\nnewold\n", "variables stay as they were");
    lab.stop().await;
}

// P-076
async fn test_the_service_account_volume() {
    let lab = Lab::start().await;
    let script = "cd /var/run/secrets/kubernetes.io/serviceaccount && cat namespace && echo && cat ca.crt && echo && tr -cd . < token && echo";
    let text = output(&lab, "inside", script, json!({"automountServiceAccountToken": true})).await;
    assert_eq!(text, "default\na certificate\n..\n", "namespace, certificate, and a token of three parts");
    lab.stop().await;
}

async fn test_missing_references_are_waited_for() {
    let lab = Lab::start().await;
    let from = json!([{"configMapRef": {"name": "later"}}]);
    let container = json!({"name": "app", "command": ["sleep", "1000"], "envFrom": from});
    lab.pod("eager", json!({"containers": [container]})).await;
    let refused = |pod: Option<&Pod>| pod.is_some_and(|pod| waiting(pod).0 == "CreateContainerConfigError");
    let pod = lab.until("eager", "refused", refused).await.expect("a pod");
    assert_eq!(waiting(&pod).1, "configmap \"later\" not found");
    let volume = json!({"name": "v", "secret": {"secretName": "later"}});
    let mounted =
        json!({"name": "app", "command": ["sleep", "1000"], "volumeMounts": [{"name": "v", "mountPath": "/v"}]});
    lab.pod("mounted", json!({"containers": [mounted], "volumes": [volume]})).await;
    assert_eq!(lab.event("mounted", "FailedMount").await, "secret \"later\" not found");
    let _: ConfigMap = create(&lab.client, "default", json!({"metadata": {"name": "later"}})).await;
    let _: Secret = create(&lab.client, "default", json!({"metadata": {"name": "later"}})).await;
    lab.ready("eager").await;
    lab.ready("mounted").await;
    lab.stop().await;
}

async fn inside(lab: &Lab, pod: &str, address: &str) -> std::io::Result<TcpStream> {
    let address: SocketAddr = address.parse().expect("an address");
    lab.podd.pod_namespace("default", pod).expect("it runs").connect_tcp(address).await
}

// P-003, P-005, P-009
async fn test_two_pods_have_the_same_port_and_one_does_not_see_the_other() {
    let lab = Lab::start().await;
    let echo = json!({"name": "echo", "image": "minisvc/echo", "env": [{"name": "PORT", "value": "80"}]});
    let second = json!({"name": "echo2", "image": "minisvc/echo", "env": [{"name": "PORT", "value": "80"}]});
    lab.pod("a", json!({"containers": [echo]})).await;
    lab.pod("b", json!({"restartPolicy": "Never", "containers": [echo]})).await;
    lab.pod("clash", json!({"restartPolicy": "Never", "containers": [echo, second]})).await;
    let pod = lab.ready("a").await;
    lab.ready("b").await;
    let address = status(&pod).pod_ip.clone().expect("an address");
    inside(&lab, "a", "127.0.0.1:80").await.expect("loopback");
    inside(&lab, "a", &format!("{address}:80")).await.expect("its own address");
    // One of the two cannot have the port.
    let ended = |pod: Option<&Pod>| {
        let list = pod.and_then(|p| status(p).container_statuses.clone()).unwrap_or_default();
        list.iter().any(|c| c.state.as_ref().and_then(|s| s.terminated.as_ref()).is_some_and(|end| end.exit_code == 1))
    };
    lab.until("clash", "clashing", ended).await;
    lab.stop().await;
}

async fn test_the_echo_server_answers_http_tcp_and_udp() {
    let lab = Lab::start().await;
    lab.pod("web", json!({"containers": [{"name": "echo", "image": "minisvc/echo"}]})).await;
    lab.ready("web").await;
    // Ready says that the process runs, not that it listens yet.
    let listening = async {
        loop {
            match inside(&lab, "web", "127.0.0.1:8080").await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    };
    let mut stream = tokio::time::timeout(crate::lab::PATIENCE, listening).await.expect("it listens");
    let mut buffer = vec![0; 4096];
    for path in ["/one", "/two"] {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("sent");
        let count = stream.read(&mut buffer).await.expect("answered");
        let answer = String::from_utf8_lossy(&buffer[..count]).into_owned();
        assert!(answer.contains("Connection: keep-alive\r\n"), "{answer}");
        assert!(answer.ends_with(&format!("web on node-1 saw 127.0.0.1 ask GET {path}\n")), "{answer}");
    }
    let mut raw = inside(&lab, "web", "127.0.0.1:8080").await.expect("connected");
    raw.write_all(b"hello\n").await.expect("sent");
    let count = raw.read(&mut buffer).await.expect("answered");
    assert_eq!(&buffer[..count], b"hello\n");
    let namespace = lab.podd.pod_namespace("default", "web").expect("it runs");
    let socket = namespace.socket(SocketKind::Udp4).await.expect("a socket");
    let socket = tokio::net::UdpSocket::from_std(std::net::UdpSocket::from(socket)).expect("non-blocking");
    socket.connect("127.0.0.1:8080").await.expect("connected");
    socket.send(b"datagram").await.expect("sent");
    let count =
        tokio::time::timeout(crate::lab::PATIENCE, socket.recv(&mut buffer)).await.expect("in time").expect("answered");
    assert_eq!(&buffer[..count], b"datagram");
    lab.stop().await;
}

async fn test_containers_run_as_the_manifest_says() {
    let lab = Lab::start().await;
    let user = json!({"securityContext": {"runAsUser": 4321, "runAsGroup": 8765}});
    let own = std::fs::metadata("/proc/self").expect("a process").uid();
    let text = output(&lab, "user", "id -u; id -g", user).await;
    if lab.sandbox.is_rootless() {
        assert!(text.starts_with(&format!("{own}\n")), "{text}");
        lab.event("user", "UserNotChanged").await;
    } else {
        assert_eq!(text, "4321\n8765\n");
    }
    let container =
        json!({"name": "app", "command": ["true"], "securityContext": {"runAsNonRoot": true, "runAsUser": 0}});
    lab.pod("root", json!({"containers": [container]})).await;
    let refused = |pod: Option<&Pod>| pod.is_some_and(|pod| waiting(pod).1.contains("runAsNonRoot"));
    lab.until("root", "refused", refused).await;
    lab.stop().await;
}
