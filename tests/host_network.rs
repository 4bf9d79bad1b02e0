//! `--network host`, inside a namespace that stands for the host: this machine's own network is never touched.

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use minisvc_sandbox::{ExitStatus, LaunchOptions, Namespace, NamespaceSpec, ProcessSpec, Sandbox};

/// Runs a shell command in the namespace; returns its exit code and what it wrote.
async fn sh(host: &Namespace, script: &str) -> (ExitStatus, String) {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let env = ["PATH", "HOME"].into_iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
    let spec = ProcessSpec {
        argv: ["/bin/sh", "-c", script].map(Into::into).to_vec(),
        env: env.collect(),
        stdout: Some(writer.try_clone().expect("copied").into()),
        stderr: Some(writer.into()),
        ..ProcessSpec::default()
    };
    let process = host.spawn(spec).await.expect("started");
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).map(|_| text)
    });
    let status = tokio::time::timeout(common::PATIENCE, process.wait()).await.expect("ended in time");
    (status, text.await.expect("no panic").expect("read"))
}

/// The machine's resolver asks the lab about the lab's ranges, so the lab must not ask back: an unknown reverse name has no
/// other owner.
async fn the_lab_answers_for_its_ranges(host: &Namespace) {
    for (name, expected) in [
        ("10.0.96.10.in-addr.arpa.", "PTR kube-dns.kube-system.svc.cluster.local."),
        ("9.9.96.10.in-addr.arpa.", "NXDomain"),
    ] {
        let (_, text) = sh(host, &format!("{} __dig udp 10.96.0.10 PTR {name}", common::MINISVC)).await;
        assert!(text.contains(expected), "{name}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_reaches_services_and_the_interface_vanishes_with_the_lab() {
    if !nix::unistd::geteuid().is_root() {
        // It needs root by its nature, and says so.
        let text = common::fail(
            &mut common::up_command("host", std::path::Path::new("/tmp/minisvc-not-made"), &["--network", "host"]),
            2,
        );
        assert!(text.contains("sudo"), "{text}");
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options =
        LaunchOptions { program: common::MINISVC.into(), args: vec!["__sandbox".into()], lab: "stand-in".into() };
    let sandbox = Sandbox::launch(options).await.expect("a sandbox");
    let host = sandbox.make_namespace(NamespaceSpec::new("host", "host")).await.expect("a namespace");
    // Stands for the client of systemd-resolved: it writes down what it was asked, and can be told to fail.
    let resolvectl = "#!/bin/sh\necho \"$*\" >> \"$(dirname \"$0\")/asked\"\n[ ! -e \"$(dirname \"$0\")/broken\" ] || { echo no bus >&2; exit 1; }\n";
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).expect("made");
    std::fs::write(bin.join("resolvectl"), resolvectl).expect("written");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bin.join("resolvectl"), executable).expect("executable");
    let minisvc = format!(
        "export MINISVC_STATE_DIR={} MINISVC_DNS_UPSTREAM=none PATH={}:$PATH; minisvc() {{ {} \"$@\"; }}; cd {}; ",
        folder.path().display(),
        bin.display(),
        common::MINISVC,
        env!("CARGO_MANIFEST_DIR")
    );
    let up = format!("{minisvc} minisvc up --network host --api-port 0 --detach --wait -f ../examples/hello");
    let (status, text) = sh(&host, &up).await;
    assert_eq!(status, ExitStatus::Code(0), "{text}");
    let (_, interfaces) = sh(&host, "ls /sys/class/net; cat /proc/net/dev").await;
    assert!(interfaces.contains("minisvc0"), "{interfaces}");
    let said = std::fs::read_to_string(folder.path().join("default/up.log")).expect("written");
    assert!(said.contains("by its systemd-resolved"), "{said}");
    let asked = std::fs::read_to_string(bin.join("asked")).expect("it was asked");
    assert_eq!(
        asked.lines().collect::<Vec<_>>(),
        [
            "default-route minisvc0 no",
            "domain minisvc0 ~cluster.local ~96.10.in-addr.arpa ~244.10.in-addr.arpa",
            "llmnr minisvc0 no",
            "mdns minisvc0 no",
            "dnsovertls minisvc0 no",
            "dns minisvc0 10.96.0.10",
        ],
        "of the lab's own names only, and last whom to ask"
    );
    the_lab_answers_for_its_ranges(&host).await;

    // A connection of the host itself, not of the workstation: what the pod sees is the host's address in the lab.
    let (_, json) = sh(&host, &format!("{minisvc} minisvc get svc hello -o json")).await;
    let service: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let vip: Ipv4Addr = service["spec"]["clusterIP"].as_str().expect("an address").parse().expect("an IPv4 address");
    let stream = host.connect_tcp((IpAddr::V4(vip), 80).into());
    let mut stream = tokio::time::timeout(Duration::from_secs(30), stream).await.expect("in time").expect("connected");
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.contains("saw 10.95.0.3 ask GET /"), "{answer}");

    let second = format!("{minisvc} minisvc up --network host --name second --api-port 0 --detach");
    let (status, text) = sh(&host, &second).await;
    assert_eq!(status, ExitStatus::Code(2), "the ranges are routed already: {text}");
    assert!(text.contains("collides with this machine's route"), "{text}");

    let (status, text) = sh(&host, &format!("{minisvc} minisvc down")).await;
    assert_eq!(status, ExitStatus::Code(0), "{text}");
    let (_, left) = sh(&host, "cat /proc/net/dev /proc/net/route").await;
    assert!(!left.contains("minisvc0"), "{left}");

    std::fs::write(bin.join("broken"), "").expect("written");
    let again = format!("{minisvc} minisvc up --network host --api-port 0 --detach; minisvc down");
    let (status, text) = sh(&host, &again).await;
    assert_eq!(status, ExitStatus::Code(0), "{text}");
    assert!(text.contains("no bus") && text.contains("server=/cluster.local/10.96.0.10"), "{text}");
    sandbox.shutdown().await;
}
