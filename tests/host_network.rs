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
    let minisvc = format!(
        "export MINISVC_STATE_DIR={} MINISVC_DNS_UPSTREAM=none; minisvc() {{ {} \"$@\"; }}; cd {}; ",
        folder.path().display(),
        common::MINISVC,
        env!("CARGO_MANIFEST_DIR")
    );
    let up = format!("{minisvc} minisvc up --network host --api-port 0 --detach --wait -f ../examples/hello");
    let (status, text) = sh(&host, &up).await;
    assert_eq!(status, ExitStatus::Code(0), "{text}");
    let (_, interfaces) = sh(&host, "ls /sys/class/net; cat /proc/net/dev").await;
    assert!(interfaces.contains("minisvc0"), "{interfaces}");

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
    sandbox.shutdown().await;
}
