//! What this binary does when it is not the test: the helper, and programs for processes under test.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;

use minisvc_sandbox::{Limits, ProcessSpec, helper_main};

use crate::support::{lab, marked, pod, shell};
use crate::{mounts, network, rootless};

/// Does what the arguments say, if they name a program.
pub(crate) fn run(args: &[String]) -> Option<ExitCode> {
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["__sandbox", ..] => helper_main(),
        ["__connect", path] => Some(connect(path)),
        ["__hold-lab", marker] => Some(hold_lab(marker)),
        ["__mount-later"] => Some(mounts::mount_later()),
        ["__host-tun"] => Some(network::open_host_tun_in_a_namespace()),
        ["__problems", "closed-tun"] => rootless::problems_with_a_closed_tun(),
        ["__problems", "as-we-are"] => Some(rootless::print_problems()),
        ["__problems", "no-user-namespaces"] => Some(rootless::problems_without_user_namespaces()),
        ["__without-root", program] => rootless::become_nobody(program),
        _ => None,
    }
}

fn connect(path: &str) -> ExitCode {
    match UnixStream::connect(path).and_then(|mut stream| stream.write_all(b"hello")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A main process to be killed: launches a lab with a process, says so, and waits.
fn hold_lab(marker: &str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let lab = lab().await;
        let pod = pod(&lab).await;
        let limits = Limits { memory: Some(64 << 20), cpu: Some(500) };
        let group = Arc::new(lab.make_group("uid", "held.0", Limits::default(), limits));
        let spec = ProcessSpec { group: Some(Arc::clone(&group)), ..shell("setsid sleep 1000 & sleep 1000") };
        let process = pod.spawn(marked(spec, marker)).await.unwrap();
        println!("ready");
        std::io::stdout().flush().unwrap();
        process.wait().await;
    });
    ExitCode::SUCCESS
}
