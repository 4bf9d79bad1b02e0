//! What a container sees of the file tree.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use minisvc_sandbox::{ExitStatus, Mount, MountSpace, NamespaceSpec, ProcessSpec, SpawnError};
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};

use crate::support::{command, is_root, lab, marker, output, pod, run, shell};

fn bind(source: &Path, target: impl Into<PathBuf>) -> Mount {
    Mount::Bind { source: source.to_owned(), target: target.into(), read_only: false }
}

/// A directory with one file, `token`, of this content.
fn volume(content: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("token"), content).unwrap();
    directory
}

// P-075
pub(crate) async fn test_each_namespace_has_its_own_hostname_and_process_list() {
    let lab = lab().await;
    let first = lab.make_namespace(NamespaceSpec::new("pod:web-0", "web-0")).await.unwrap();
    let second = lab.make_namespace(NamespaceSpec::new("pod:db-0", "db-0")).await.unwrap();
    assert_eq!(output(&first, MountSpace::Agent, "cat /proc/sys/kernel/hostname").await, "web-0");
    assert_eq!(output(&second, MountSpace::Agent, "cat /proc/sys/kernel/hostname").await, "db-0");
    // PID 1 tells `ps` which namespace it is; besides it there are the shell and nobody else.
    let _sleeper = second.spawn(command(&["sleep", "1000"])).await.unwrap();
    let seen =
        output(&first, MountSpace::Agent, "read name < /proc/1/comm; echo $name; set -- /proc/[0-9]*; echo $#").await;
    assert_eq!(seen, "pod:web-0\n2");
}

// P-075
pub(crate) async fn test_files_are_replaced_for_one_container_only() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let before = fs::read_to_string("/etc/hosts").unwrap();
    let files = volume("10.244.0.5 web-0\n");
    let mounts = MountSpace::New(vec![bind(&files.path().join("token"), "/etc/hosts")]);
    assert_eq!(output(&pod, mounts, "cat /etc/hosts").await, "10.244.0.5 web-0");
    assert_eq!(output(&pod, MountSpace::Agent, "cat /etc/hosts").await, before.trim());
    assert_eq!(fs::read_to_string("/etc/hosts").unwrap(), before);
}

// P-076
pub(crate) async fn test_missing_mount_points_appear_in_the_container_only() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let (secret, data) = (volume("secret"), volume("data"));
    let place = "/var/run/secrets/kubernetes.io/serviceaccount";
    let (at_root, below_etc) = (format!("/{}", marker()), format!("/etc/{}/a/b", marker()));
    let mounts = vec![
        bind(secret.path(), place),
        bind(data.path(), &at_root),
        bind(&data.path().join("token"), &below_etc),
        Mount::Tmpfs { target: format!("{at_root}-2/x").into(), size_bytes: None },
    ];
    let script = format!(
        "cat {place}/token {at_root}/token {below_etc}; echo; echo x > {at_root}/new; ls -d {at_root}-2/x /run/. /proc/self/exe /bin/sh"
    );
    let seen = output(&pod, MountSpace::New(mounts.clone()), &script).await;
    assert_eq!(seen, format!("secretdatadata\n/bin/sh\n{at_root}-2/x\n/proc/self/exe\n/run/."));
    // What the container writes into a volume is in the volume; the rest of the tree is where it was.
    assert_eq!(fs::read_to_string(data.path().join("new")).unwrap(), "x\n");
    let listing = "ls -a / /run /etc | grep -v minisvc-";
    let before = output(&pod, MountSpace::Agent, listing).await;
    let without_secrets =
        |text: &str| text.lines().filter(|line| *line != "secrets").map(str::to_owned).collect::<Vec<_>>();
    let inside = output(&pod, MountSpace::New(mounts), listing).await;
    assert_eq!(without_secrets(&inside), without_secrets(&before));
    assert!(!Path::new(&at_root).exists() && !Path::new(&below_etc).exists());
    assert_eq!(output(&pod, MountSpace::Agent, &format!("ls -d {at_root} 2>/dev/null; true")).await, "");
}

pub(crate) async fn test_a_link_that_leads_nowhere_is_a_mount_point() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let (files, tree) = (volume("nameserver 10.96.0.10"), tempfile::tempdir().unwrap());
    // As /etc/resolv.conf of systemd-resolved, whose directory is covered at the same time.
    fs::create_dir(tree.path().join("resolve")).unwrap();
    fs::write(tree.path().join("resolve/stub.conf"), "nameserver 127.0.0.53").unwrap();
    let link = tree.path().join("resolv.conf");
    std::os::unix::fs::symlink("resolve/stub.conf", &link).unwrap();
    let nowhere = tree.path().join("nowhere.conf");
    std::os::unix::fs::symlink("none/such.conf", &nowhere).unwrap();
    let mounts = MountSpace::New(vec![
        bind(&files.path().join("token"), &link),
        bind(&files.path().join("token"), &nowhere),
        Mount::Hide { target: tree.path().join("resolve") },
    ]);
    let script = format!("cat {} {}; ls {}", link.display(), nowhere.display(), tree.path().join("resolve").display());
    let seen = output(&pod, mounts, &script).await;
    assert_eq!(seen, "nameserver 10.96.0.10nameserver 10.96.0.10stub.conf");
}

pub(crate) async fn test_read_only_mounts_refuse_writes() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let (files, below) = (volume("old"), volume("old"));
    fs::create_dir(files.path().join("below")).unwrap();
    let target = PathBuf::from(format!("/mnt-{}", marker()));
    let mounts = MountSpace::New(vec![
        bind(below.path(), files.path().join("below")),
        Mount::Bind { source: files.path().to_owned(), target: target.clone(), read_only: true },
        bind(files.path(), target.with_extension("rw")),
    ]);
    let at = target.display();
    let script = format!("echo new > {at}/token && exit 1; rm {at}/token && exit 2; echo new > {at}.rw/token");
    output(&pod, mounts, &script).await;
    assert_eq!(fs::read_to_string(files.path().join("token")).unwrap(), "new\n");
}

pub(crate) async fn test_an_exec_sees_the_mounts_of_its_container() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let files = volume("mounted");
    let target = format!("/{}", marker());
    let mounts = MountSpace::New(vec![bind(files.path(), &target)]);
    let container = pod.spawn(ProcessSpec { mounts, ..shell("sleep 1000") }).await.unwrap();
    let script = format!("cat {target}/token");
    assert_eq!(output(&pod, MountSpace::Of(container.id()), &script).await, "mounted");
    let (_, status) = run(&pod, shell(&script)).await.unwrap();
    assert_ne!(status, ExitStatus::Code(0), "the mount is visible outside its container");
}

pub(crate) async fn test_what_is_hidden_looks_empty() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let tree = volume("visible");
    fs::create_dir(tree.path().join("directory")).unwrap();
    fs::write(tree.path().join("directory/entry"), "").unwrap();
    let socket = tree.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let hide = |name: &str| Mount::Hide { target: tree.path().join(name) };
    let mounts = MountSpace::New(vec![hide("token"), hide("directory"), hide("socket"), hide("absent/x")]);
    let at = tree.path().display();
    assert_eq!(
        output(&pod, mounts.clone(), &format!("cat {at}/token; ls {at}/directory; ls {at}")).await,
        "directory\nsocket\ntoken"
    );
    let program = std::env::current_exe().unwrap();
    let argv = vec![program.into_os_string(), "__connect".into(), socket.into_os_string()];
    let connect = ProcessSpec { argv, mounts, ..command(&[]) };
    let (shown, status) = run(&pod, connect).await.unwrap();
    assert_eq!(status, ExitStatus::Code(1));
    assert!(shown.contains("refused"), "{shown}");
}

pub(crate) async fn test_a_tmpfs_is_limited() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let target = format!("/{}", marker());
    let mounts = MountSpace::New(vec![Mount::Tmpfs { target: target.clone().into(), size_bytes: Some(1 << 20) }]);
    let script = format!(
        "head -c 1000000 /dev/zero > {target}/a || exit 1; head -c 100000 /dev/zero > {target}/b 2>/dev/null && exit 2; stat -c %a {target}"
    );
    assert_eq!(output(&pod, mounts, &script).await, "777");
}

/// A database's socket in `/run` must answer although the service account's directory is made beside it.
pub(crate) async fn test_sockets_beside_a_new_mount_point_still_answer() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let tree = tempfile::tempdir().unwrap();
    let socket = tree.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let secret = volume("");
    let mounts = MountSpace::New(vec![bind(secret.path(), tree.path().join("new"))]);
    let program = std::env::current_exe().unwrap();
    let argv = vec![program.into_os_string(), "__connect".into(), socket.into_os_string()];
    let (shown, status) = run(&pod, ProcessSpec { argv, mounts, ..command(&[]) }).await.unwrap();
    assert_eq!(status, ExitStatus::Code(0), "{shown}");
    let mut heard = String::new();
    listener.accept().unwrap().0.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hello");
}

pub(crate) async fn test_impossible_mounts_are_named() {
    let lab = lab().await;
    let pod = pod(&lab).await;
    let files = volume("");
    let token = files.path().join("token");
    for (mount, what, target) in [
        (bind(Path::new("/no/such/source"), "/mnt"), "/no/such/source", "/mnt"),
        (bind(&token, "/etc"), token.to_str().unwrap(), "/etc"),
        (bind(files.path(), "/etc/hosts"), files.path().to_str().unwrap(), "/etc/hosts"),
        (bind(files.path(), "/etc/hosts/below"), files.path().to_str().unwrap(), "/etc/hosts/below"),
        (Mount::Tmpfs { target: "relative".into(), size_bytes: None }, "a tmpfs", "relative"),
    ] {
        let spec = ProcessSpec { mounts: MountSpace::New(vec![mount]), ..shell("exit 0") };
        let error = pod.spawn(spec).await.unwrap_err();
        let SpawnError::Mount { what: told, target: place, .. } = &error else { panic!("{error:?}") };
        assert_eq!((told.as_str(), place.as_str()), (what, target));
    }
}

pub(crate) async fn test_later_mounts_of_the_host_follow() {
    if !is_root() {
        // An ordinary user mounts nothing on a host.
        return;
    }
    let run = || Command::new("/proc/self/exe").arg("__mount-later").output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// In a mount namespace of its own, which stands for the host and passes mounts on as most do.
pub(crate) fn mount_later() -> ExitCode {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let host_mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let lab = lab().await;
        let pod = pod(&lab).await;
        let before = host_mounts();
        let mounts = MountSpace::New(vec![Mount::Tmpfs { target: format!("/{}", marker()).into(), size_bytes: None }]);
        let container = pod.spawn(ProcessSpec { mounts, ..command(&["sleep", "1000"]) }).await.unwrap();
        assert_eq!(host_mounts(), before, "the container's mounts are on the host");
        let see = format!("grep -c {} /proc/self/mountinfo; true", directory.path().display());
        mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), none).unwrap();
        for space in [MountSpace::Agent, MountSpace::Of(container.id())] {
            assert_eq!(output(&pod, space, &see).await, "1");
        }
        umount(directory.path()).unwrap();
        for space in [MountSpace::Agent, MountSpace::Of(container.id())] {
            assert_eq!(output(&pod, space, &see).await, "0");
        }
        lab.shutdown().await;
    });
    ExitCode::SUCCESS
}
