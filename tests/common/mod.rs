//! A real `minisvc up` for a test: in a folder of its own, with any free port, asking no name server outside.

#![allow(dead_code, reason = "each test uses its own part of this")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The program under test.
pub const MINISVC: &str = env!("CARGO_BIN_EXE_minisvc");

/// How long anything may take before the test fails. Long, because CI runs everything at once on two cores.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A lab that runs for one test.
pub struct Lab {
    pub name: String,
    process: Child,
    folder: PathBuf,
    /// Removed with the lab, unless the test gave its own.
    _temporary: Option<tempfile::TempDir>,
}

impl Lab {
    /// Starts a lab with these further flags and waits until it is ready.
    pub fn start(name: &str, args: &[&str]) -> Self {
        let temporary = tempfile::Builder::new().prefix("minisvc-test-").tempdir().expect("a temporary folder");
        let folder = temporary.path().to_owned();
        Self { _temporary: Some(temporary), ..Self::start_in(name, &folder, args) }
    }

    /// The same in a folder that may hold the lab's earlier state.
    pub fn start_in(name: &str, folder: &Path, args: &[&str]) -> Self {
        let mut command = up_command(name, folder, args);
        let mut process = command.stderr(Stdio::piped()).spawn().expect("started");
        let stderr = process.stderr.take().expect("piped");
        let (ready_tx, ready_rx) = std::sync::mpsc::channel();
        // Keeps reading, so that the lab never waits for a full pipe; the lines show when a test fails.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("[lab] {line}");
                if line.starts_with("The lab is ready") {
                    let _ = ready_tx.send(());
                }
            }
        });
        let lab = Self { name: name.to_owned(), process, folder: folder.to_owned(), _temporary: None };
        ready_rx.recv_timeout(PATIENCE).expect("the lab is ready in time");
        lab
    }

    /// Process id of the main process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The folder of this lab.
    pub fn root(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// The folder that holds the lab's folder.
    pub fn state_dir(&self) -> &Path {
        &self.folder
    }

    /// A `minisvc` command against this lab.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(MINISVC);
        command.args(args).env("MINISVC_LAB", &self.name).env("MINISVC_STATE_DIR", &self.folder).stdin(Stdio::null());
        command
    }

    /// Runs a `minisvc` command and returns what it printed; it must succeed.
    pub fn run(&self, args: &[&str]) -> String {
        succeed(&mut self.command(args))
    }

    /// Runs a command on the workstation; it must succeed.
    pub fn exec(&self, command: &[&str]) -> String {
        self.run(&[&["exec", "--"], command].concat())
    }

    /// The objects of a kind in all namespaces, as JSON.
    pub fn list(&self, kind: &str) -> Vec<Value> {
        let text = self.run(&["get", kind, "-A", "-o", "json"]);
        let list: Value = serde_json::from_str(&text).expect("JSON");
        list["items"].as_array().cloned().expect("a list")
    }

    /// One object of the default namespace, as JSON.
    pub fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::from_str(&self.run(&["get", kind, name, "-o", "json"])).expect("JSON")
    }

    /// Applies a manifest given as text.
    pub fn apply(&self, manifest: &str) -> String {
        use std::io::Write as _;
        let mut command = self.command(&["apply", "-f", "-"]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
        process.stdin.take().expect("piped").write_all(manifest.as_bytes()).expect("written");
        let output = process.wait_with_output().expect("ended");
        assert!(output.status.success(), "apply failed");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// A kube client over the lab's Unix socket would need the command's own code; tests go through `kubectl`-like
    /// commands or raw requests with `curl`-like plain HTTP over the socket.
    pub fn api_socket(&self) -> PathBuf {
        self.root().join("run/api.sock")
    }

    /// Ends the lab as Ctrl-C does and waits for it.
    pub fn interrupt(&mut self) -> std::process::ExitStatus {
        signal(self.pid(), nix::sys::signal::Signal::SIGINT);
        self.process.wait().expect("ended")
    }

    /// Kills the main process without any chance to clean up.
    pub fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("ended");
    }

    /// Waits for the main process to end by itself.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.process.wait().expect("ended")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            signal(self.pid(), nix::sys::signal::Signal::SIGTERM);
            let deadline = Instant::now() + Duration::from_secs(20);
            while Instant::now() < deadline && matches!(self.process.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// `minisvc up` in a folder, on any free port, asking nobody outside.
pub fn up_command(name: &str, folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(MINISVC);
    command
        .args(["up", "--name", name, "--api-port", "0", "--dns-upstream", "none"])
        .args(args)
        .env("MINISVC_STATE_DIR", folder)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

/// Sends a signal to a process that a test started.
pub fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a process id"));
    nix::sys::signal::kill(pid, signal).expect("signalled");
}

/// Runs a command, which must succeed, and returns its standard output.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Runs a command, which must fail with this exit code, and returns its standard error.
pub fn fail(command: &mut Command, code: i32) -> String {
    let Output { status, stderr, .. } = command.output().expect("started");
    let text = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(code), "{command:?}: {text}");
    text
}

/// Asks again and again until there is an answer.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes whose environment holds this text. A pod's process inherits what its manifest says.
pub fn processes_with(marker: &str) -> Vec<u32> {
    let is_marked = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environment| environment.windows(marker.len()).any(|window| window == marker.as_bytes()))
    };
    let entries = std::fs::read_dir("/proc").expect("readable");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(is_marked).collect()
}
