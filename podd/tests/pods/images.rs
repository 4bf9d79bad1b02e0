//! Images are names for programs of this machine.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use k8s_openapi::api::core::v1::Pod;
use minisvc_podd::ImageCommand;
use minisvc_sandbox::ExitStatus;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::lab::{Lab, NODE, restarts, status, waiting};
use crate::tests;

tests![
    test_an_image_without_a_program_waits_and_says_what_to_do,
    test_well_known_images_run_with_their_own_files,
    test_well_known_servers_are_built_in,
];

// P-020
async fn test_an_image_without_a_program_waits_and_says_what_to_do() {
    let lab = Lab::start().await;
    lab.pod("web", json!({"containers": [{"name": "web", "image": "corp.example/web:7"}]})).await;
    lab.pod("db", json!({"containers": [{"name": "db", "image": "memcached:1"}]})).await;
    let refused = |pod: Option<&Pod>| pod.is_some_and(|pod| waiting(pod).0 == "ErrImageNeverPull");
    let pod = lab.until("web", "refused", refused).await.expect("a pod");
    assert!(waiting(&pod).1.contains("--image corp.example/web=COMMAND"), "{}", waiting(&pod).1);
    assert_eq!(status(&pod).phase.as_deref(), Some("Pending"));
    lab.event_saying("web", "Failed", "minisvc images").await;
    // Unless this machine has it.
    if minisvc_podd::find_program("memcached", "/usr/local/bin:/usr/bin:/bin").is_none() {
        let pod = lab.until("db", "refused", refused).await.expect("a pod");
        assert!(waiting(&pod).1.contains("apt-get install memcached"), "{}", waiting(&pod).1);
    }
    lab.pod(
        "say",
        json!({"restartPolicy": "Never", "containers": [{"name": "say", "image": "say:1", "args": ["hello"]}]}),
    )
    .await;
    lab.phase("say", "Succeeded").await;
    assert_eq!(lab.log("say", Default::default()).await, "said: hello\n");
    lab.stop().await;
}

// What stands for nginx here is a script, so that nginx need not be installed.
async fn test_well_known_images_run_with_their_own_files() {
    let lab = Lab::start().await;
    let bin = lab.directory.path().join("bin");
    std::fs::create_dir(&bin).expect("made");
    let script = "#!/bin/sh\necho \"args: $*\"\ngrep -c 'listen 80;' /etc/nginx/conf.d/default.conf\n\
                  echo to the log > /var/log/nginx/access.log\ncat /usr/share/nginx/html/index.html\n";
    std::fs::write(bin.join("nginx"), script).expect("written");
    std::fs::set_permissions(bin.join("nginx"), std::fs::Permissions::from_mode(0o755)).expect("executable");
    let path = json!([{"name": "PATH", "value": format!("{}:/usr/bin:/bin", bin.display())}]);
    let page = lab.directory.path().join("page");
    std::fs::create_dir(&page).expect("made");
    std::fs::write(page.join("index.html"), "mine\n").expect("written");
    lab.pod(
        "web",
        json!({"restartPolicy": "Never", "volumes": [{"name": "page", "hostPath": {"path": page}}], "containers": [
            {"name": "web", "image": "nginx:1.27", "env": path, "volumeMounts": [{"name": "page", "mountPath": "/usr/share/nginx/html"}]}]}),
    )
    .await;
    lab.phase("web", "Succeeded").await;
    assert_eq!(lab.log("web", Default::default()).await, "args: -g daemon off;\n1\nto the log\nmine\n");
    // The same around a shell, which may write; nothing of it reaches the machine.
    let shell = json!({"name": "web", "image": "nginx", "command": ["/bin/sh", "-c", "sleep 1000"]});
    lab.pod("shell", json!({"containers": [shell]})).await;
    lab.ready("shell").await;
    let write = "grep -q Welcome /usr/share/nginx/html/index.html && echo x > /usr/share/nginx/html/minisvc-test";
    assert_eq!(lab.exec("shell", write).await, ExitStatus::Code(0));
    assert!(!std::path::Path::new("/usr/share/nginx/html/minisvc-test").exists());
    lab.stop().await;
}

async fn ask(lab: &Lab, port: u16, path: &str) -> String {
    let node = lab.podd.node_namespace(NODE).expect("a node");
    let mut stream = node.connect_tcp(SocketAddr::from(([10, 95, 0, 11], port))).await.expect("connected");
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer.split_once("\r\n\r\n").expect("a head").1.to_owned()
}

async fn test_well_known_servers_are_built_in() {
    let lab = Lab::with(|config| {
        config.images.insert("mine".into(), ImageCommand { command: vec!["/bin/sleep".into(), "1000".into()] });
    })
    .await;
    let probe = |port: u16| json!({"tcpSocket": {"port": port}, "periodSeconds": 1});
    let results = json!([{"name": "results", "mountPath": "/results"}]);
    let containers = json!([
        {"name": "a", "image": "registry.k8s.io/e2e-test-images/agnhost:2.53", "args": ["netexec", "--http-port=8101", "--udp-port=8102"], "readinessProbe": probe(8101)},
        {"name": "b", "image": "us-docker.pkg.dev/google-samples/containers/gke/hello-app:2.0", "env": [{"name": "PORT", "value": "8103"}], "readinessProbe": probe(8103)},
        {"name": "c", "image": "hashicorp/http-echo:1.0", "args": ["-text=apple", "-listen=:8104"], "readinessProbe": probe(8104)},
        {"name": "d", "image": "registry.k8s.io/pause:3.9"},
        {"name": "e", "image": "mine:latest"},
        {"name": "f", "image": "busybox:1.36", "args": ["sh", "-c", "echo OK > /results/one; sleep 1000"], "volumeMounts": results},
        {"name": "g", "image": "k8s.gcr.io/e2e-test-images/agnhost:2.21", "command": ["/agnhost", "porter"],
         "env": [{"name": "SERVE_PORT_8105", "value": "foo"}, {"name": "SERVE_TLS_PORT_8106", "value": "tls"}],
         "readinessProbe": {"httpGet": {"port": 8106, "scheme": "HTTPS"}, "periodSeconds": 1}},
        {"name": "h", "image": "k8s.gcr.io/e2e-test-images/agnhost:2.21", "args": ["test-webserver", "--port=8107"], "volumeMounts": results,
         "readinessProbe": {"exec": {"command": ["sh", "-c", "/agnhost connect 127.0.0.1:8107 --timeout=1s"]}, "periodSeconds": 1}},
    ]);
    let volumes = json!([{"name": "results", "emptyDir": {}}]);
    lab.pod("many", json!({"hostNetwork": true, "volumes": volumes, "containers": containers})).await;
    let pod = lab.ready("many").await;
    assert_eq!(restarts(&pod), 0);
    assert_eq!(ask(&lab, 8101, "/hostName").await, "node-1", "as in the node's network");
    assert_eq!(ask(&lab, 8101, "/echo?msg=hi").await, "hi");
    let dialled = ask(&lab, 8101, "/dial?host=127.0.0.1&port=8105&request=hostname&tries=2").await;
    assert_eq!(dialled, r#"{"responses":["foo","foo"]}"#);
    let dialled = ask(&lab, 8101, "/dial?host=127.0.0.1&port=8102&request=hostname&protocol=udp").await;
    assert_eq!(dialled, r#"{"responses":["node-1"]}"#);
    assert_eq!(ask(&lab, 8107, "/results/one").await, "OK\n");
    assert_eq!(ask(&lab, 8107, "/etc/hostname").await, "404 page not found\n", "only what is in its volumes");
    assert_eq!(ask(&lab, 8103, "/").await, "Hello, world!\nVersion: 2.0.0\nHostname: node-1\n");
    assert_eq!(ask(&lab, 8104, "/x").await, "apple\n");
    lab.pod("wrong", json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "registry.k8s.io/e2e-test-images/agnhost", "args": ["guestbook"]}]}))
        .await;
    lab.phase("wrong", "Failed").await;
    assert!(lab.log("wrong", Default::default()).await.contains("\"guestbook\" is not built in"));
    lab.stop().await;
}
