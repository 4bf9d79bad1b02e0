//! A real `minisvc up` for a test: in a folder of its own, with any free port, asking no name server outside.

#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this, and none is a library")]

pub mod load;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The program under test.
pub const MINISVC: &str = env!("CARGO_BIN_EXE_minisvc");

/// The first example: a Deployment of three pods and a Service in front of them.
pub const HELLO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/hello");

/// How long anything may take before the test fails. Long, because CI runs everything at once on two cores.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A lab that runs for one test. What it printed shows when the test fails.
pub struct Lab(minisvc_testing::Lab);

impl Lab {
    /// Starts a lab with these further flags and waits until it is ready.
    pub fn start(name: &str, args: &[&str]) -> Self {
        Self::build(minisvc_testing::Lab::builder().name(name), args)
    }

    /// The same in a folder that may hold the lab's earlier state.
    pub fn start_in(name: &str, folder: &Path, args: &[&str]) -> Self {
        Self::build(minisvc_testing::Lab::builder().name(name).state_dir(folder), args)
    }

    fn build(mut builder: minisvc_testing::Builder, args: &[&str]) -> Self {
        if !args.contains(&"--publish") {
            // As a user's lab has it: some of these tests are about that.
            builder = builder.args(["--publish", "external"]);
        }
        let lab = builder.program(MINISVC).patience(PATIENCE).args(args.iter().copied()).start_blocking();
        Self(lab.expect("the lab is ready in time"))
    }

    /// Process id of the main process.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// The folder of this lab.
    pub fn root(&self) -> PathBuf {
        self.0.root()
    }

    /// The folder that holds the lab's folder.
    pub fn state_dir(&self) -> &Path {
        self.0.state_dir()
    }

    /// A `minisvc` command against this lab.
    pub fn command(&self, args: &[&str]) -> Command {
        self.0.command(args)
    }

    /// Runs a `minisvc` command and returns what it printed; it must succeed.
    pub fn run(&self, args: &[&str]) -> String {
        succeed(&mut self.command(args))
    }

    /// Runs a command on the workstation; it must succeed.
    pub fn exec(&self, command: &[&str]) -> String {
        self.run(&[&["exec", "--"], command].concat())
    }

    /// Runs a command in a pod of the default namespace; it must succeed.
    pub fn exec_in(&self, pod: &str, command: &[&str]) -> String {
        self.run(&[&["exec", pod, "--"], command].concat())
    }

    /// Requests a page from the workstation: the status code and the body, or why there is no answer.
    pub fn fetch(&self, url: &str) -> Result<String, String> {
        asked(self.command(&["exec", "--", MINISVC, "__get", url]))
    }

    /// The same from a pod. An `https` URL is asked with the ServiceAccount's certificate and token.
    pub fn fetch_in(&self, pod: &str, url: &str) -> Result<String, String> {
        asked(self.command(&["exec", pod, "--", MINISVC, "__get", url]))
    }

    /// Asks the lab's DNS from the workstation: the response code and the records, a line each.
    pub fn dig(&self, transport: &str, kind: &str, name: &str) -> Result<String, String> {
        asked(self.command(&["exec", "--", MINISVC, "__dig", transport, "10.96.0.10", kind, name]))
    }

    /// Waits until an object of the default namespace is as wanted, and returns it.
    pub fn until(&self, what: &str, kind: &str, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let started = Instant::now();
        loop {
            // The object may not exist yet.
            let output = self.command(&["get", kind, name, "-o", "json"]).output().expect("started");
            if let Ok(object) = serde_json::from_slice::<Value>(&output.stdout) {
                if fits(&object) {
                    return object;
                }
                last = object;
            }
            assert!(started.elapsed() < PATIENCE, "waited for {kind}/{name} to be {what}: {last:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a pod of the default namespace is ready, and returns it.
    pub fn ready(&self, pod: &str) -> Value {
        self.until("ready", "pod", pod, is_ready)
    }

    /// Waits until a pod has ended, and returns what it wrote.
    pub fn output_of(&self, pod: &str) -> String {
        self.until("at its end", "pod", pod, |pod| {
            ["Succeeded", "Failed"].iter().any(|phase| pod["status"]["phase"] == **phase)
        });
        self.run(&["logs", pod])
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
        let mut command = self.command(&["apply", "-f", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("started");
        process.stdin.take().expect("piped").write_all(manifest.as_bytes()).expect("written");
        let output = process.wait_with_output().expect("ended");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Applies manifests given as JSON.
    pub fn apply_all(&self, manifests: &[Value]) -> String {
        let texts: Vec<String> = manifests.iter().map(Value::to_string).collect();
        self.apply(&texts.join("\n---\n"))
    }

    /// The Unix socket at which the API is served to the lab's owner.
    pub fn api_socket(&self) -> PathBuf {
        self.root().join("run/api.sock")
    }

    /// Sends a request to the API, without the detour through a command, and returns the status code.
    pub fn ask(&self, method: &str, path: &str, content_type: &str, body: &str) -> u16 {
        let mut socket = UnixStream::connect(self.api_socket()).expect("the API listens");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("answered");
        answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("an HTTP answer")
    }

    /// Deletes a pod through the API.
    pub fn delete_pod(&self, pod: &str, query: &str) {
        let code = self.ask("DELETE", &format!("/api/v1/namespaces/default/pods/{pod}{query}"), "application/json", "");
        assert_eq!(code, 200, "{pod}");
    }

    /// Merges these fields into an object.
    pub fn merge(&self, path: &str, patch: &Value) {
        let code = self.ask("PATCH", path, "application/merge-patch+json", &patch.to_string());
        assert_eq!(code, 200, "{path}: {patch}");
    }

    /// Ends the lab as Ctrl-C does and waits for it.
    pub fn interrupt(&mut self) -> ExitStatus {
        self.0.stop().expect("ended")
    }

    /// Kills the main process without any chance to clean up.
    pub fn kill(&mut self) {
        self.0.kill().expect("killed");
    }

    /// Waits for the main process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.0.wait().expect("ended")
    }
}

/// A command that runs beside the test; its output can be read as it comes. Killed with the test.
pub struct Beside {
    process: Child,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Beside {
    /// Starts it. Standard input stays as it was set.
    pub fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().expect("started");
        let stdout = process.stdout.take().expect("piped");
        let (line_tx, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line_tx.send(line).is_err() {
                    return;
                }
            }
        });
        Self { process, lines, heard: Vec::new() }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for a line of its output that fits, and returns it.
    pub fn line(&mut self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("waited for {what}; there was {:#?}", self.heard);
            };
            self.heard.push(line.clone());
            if fits(&line) {
                return line;
            }
        }
    }

    /// Waits for its end.
    pub fn end(&mut self) -> ExitStatus {
        eventually("the command to end", || self.process.try_wait().expect("asked"))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A Pod with the label `app` and these further fields of its spec.
pub fn pod(name: &str, containers: &Value, spec: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        // Short, because what is left at a test's end need not say goodbye.
        "spec": {"containers": containers, "terminationGracePeriodSeconds": 1},
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}

/// A container that runs a script.
pub fn shell(name: &str, script: &str) -> Value {
    json!({"name": name, "image": "any/shell", "command": ["sh", "-c", script]})
}

/// A container that answers HTTP on a port.
pub fn echo(port: u16) -> Value {
    json!({"name": "echo", "image": "minisvc/echo", "env": [{"name": "PORT", "value": port.to_string()}]})
}

/// A Service with one port, for the pods with these labels; `null` selects none.
pub fn service(name: &str, selector: &Value, port: u16, target: &Value) -> Value {
    let mut spec = json!({"ports": [{"port": port, "targetPort": target}]});
    if !selector.is_null() {
        spec["selector"] = selector.clone();
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

/// Whether a pod's condition `Ready` is true.
pub fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn asked(mut command: Command) -> Result<String, String> {
    let output = command.output().expect("started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// `minisvc up` in a folder, on any free port, asking no name server but those that `args` name.
pub fn up_command(name: &str, folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(MINISVC);
    command.args(["up", "--name", name, "--api-port", "0"]).args(args);
    if !args.contains(&"--dns-upstream") {
        command.args(["--dns-upstream", "none"]);
    }
    command.env("MINISVC_STATE_DIR", folder).env_remove("RUST_LOG").stdin(Stdio::null());
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
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
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
