//! A running lab and what a test does with it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt as _;

use crate::builder::Builder;
use crate::error::Error;
use crate::process::{self, LabProcess};
use crate::{client, ready};

/// How often an answer is asked for again.
const AGAIN: Duration = Duration::from_millis(20);

/// A lab that lives as long as this value.
#[derive(Debug)]
pub struct Lab {
    name: String,
    program: PathBuf,
    patience: Duration,
    // Before the folder: the lab has to be gone when that is removed.
    process: LabProcess,
    folder: Folder,
}

/// Where a lab keeps its things.
#[derive(Debug)]
pub(crate) enum Folder {
    /// The test's own.
    Given(PathBuf),
    /// Removed with the lab.
    Temporary(tempfile::TempDir),
}

impl Folder {
    pub(crate) fn temporary() -> Result<Self, Error> {
        let made = tempfile::Builder::new().prefix("minisvc-test-").tempdir();
        made.map(Self::Temporary).map_err(Error::io("make a temporary folder"))
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}

/// An answer to an HTTP request from inside of the lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// For example 200.
    pub status: u16,
    /// The text, without blanks at its end.
    pub body: String,
}

impl Lab {
    /// Starts a lab with one node and IPv4.
    ///
    /// # Errors
    /// When there is no program, or the lab does not start: then with what it said.
    pub async fn start() -> Result<Self, Error> {
        Self::builder().start().await
    }

    /// A lab with more nodes, other IP families, images …
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(name: String, program: PathBuf, patience: Duration, process: LabProcess, folder: Folder) -> Self {
        Self { name, program, patience, process, folder }
    }

    /// A client that may do everything, with the namespace `default`. It talks over a Unix socket that only the lab's owner may use.
    pub fn client(&self) -> kube::Client {
        client::over(process::api_socket(self.folder.path(), &self.name))
    }

    /// The kubeconfig file, for programs that are no kube-rs.
    pub fn kubeconfig(&self) -> PathBuf {
        self.root().join("kubeconfig")
    }

    /// Creates or changes every object of a YAML or JSON text, in the namespace `default` unless they name another. Returns
    /// what happened to each, a line each.
    ///
    /// # Errors
    /// At the first object that the lab refuses.
    pub async fn apply(&self, manifests: &str) -> Result<String, Error> {
        run(self.command(["apply", "-f", "-"]), manifests).await
    }

    /// Waits until `KIND/NAME` in the namespace `default` is ready: a pod, the pods of a Deployment, StatefulSet, DaemonSet
    /// or ReplicaSet, a Service (it has a ready endpoint), a node; a Job is ready when it is complete. It need not exist yet.
    ///
    /// # Errors
    /// When it is not ready in time: then with what it looked like last.
    pub async fn wait_ready(&self, what: &str) -> Result<(), Error> {
        self.wait_ready_in("default", what).await
    }

    /// The same in another namespace.
    ///
    /// # Errors
    /// As [`Self::wait_ready`].
    pub async fn wait_ready_in(&self, namespace: &str, what: &str) -> Result<(), Error> {
        ready::wait(self.client(), namespace, what, self.patience).await
    }

    /// Runs a command on the workstation, from where every virtual IP, pod and name is reached. Returns what it printed.
    ///
    /// # Errors
    /// When it does not end with 0.
    pub async fn exec<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Result<String, Error> {
        run(with(self.command(["exec", "--"]), command), "").await
    }

    /// The same in a pod of the namespace `default`.
    ///
    /// # Errors
    /// When it does not end with 0, or there is no such pod.
    pub async fn exec_in<S: AsRef<OsStr>>(
        &self,
        pod: &str,
        command: impl IntoIterator<Item = S>,
    ) -> Result<String, Error> {
        run(with(self.command(["exec", pod, "--"]), command), "").await
    }

    /// Asks a server from the workstation, once. The URL has `http` and a name or address of the lab.
    ///
    /// # Errors
    /// When nobody answers. A status such as 404 or 503 is an answer.
    pub async fn http_get(&self, url: &str) -> Result<Response, Error> {
        let output = run(with(self.command(["exec", "--"]), self.getter(url)), "").await?;
        parse(&output)
    }

    /// The same from a pod of the namespace `default`: as from a node, with its session affinity and traffic policies.
    ///
    /// # Errors
    /// As [`Self::http_get`].
    pub async fn http_get_in(&self, pod: &str, url: &str) -> Result<Response, Error> {
        let output = run(with(self.command(["exec", pod, "--"]), self.getter(url)), "").await?;
        parse(&output)
    }

    /// Asks again and again, from the workstation, until an answer fits: a moment passes between a change of an object and
    /// what the traffic does.
    ///
    /// # Errors
    /// When none fits in time: then with the last answer or failure.
    pub async fn http_get_until(&self, url: &str, fits: impl Fn(&Response) -> bool) -> Result<Response, Error> {
        let started = Instant::now();
        loop {
            let last = match self.http_get(url).await {
                Ok(answer) if fits(&answer) => return Ok(answer),
                Ok(answer) => format!("{} {}", answer.status, answer.body),
                Err(error) => error.to_string(),
            };
            if started.elapsed() > self.patience {
                return Err(Error::Timeout { what: format!("no answer of {url} fits"), within: self.patience, last });
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// How long each later wait may take, where what is waited for should take longer, or not even as long.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// A `minisvc` command against this lab, for everything else.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> std::process::Command {
        let mut command = process::command(&self.program, &self.name, self.folder.path());
        command.args(args);
        command
    }

    /// Name of the lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Process id of the lab's main process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The folder of this lab: its objects, logs, kubeconfig and sockets.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// The folder that holds the lab's folder.
    pub fn state_dir(&self) -> &Path {
        self.folder.path()
    }

    /// The last lines that the lab itself has said. They are printed when a test panics.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends the lab as Ctrl-C does, and waits for it. Dropping it does the same, but tells nobody how it went.
    ///
    /// # Errors
    /// When it cannot be asked to end.
    pub fn stop(&mut self) -> Result<ExitStatus, Error> {
        self.process.end(Signal::SIGINT).map_err(Error::io("end the lab"))
    }

    /// Kills the main process: what a lab does when the power fails.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> Result<ExitStatus, Error> {
        self.process.end(Signal::SIGKILL).map_err(Error::io("kill the lab"))
    }

    /// Waits until the lab has ended by itself.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.process.wait().map_err(Error::io("wait for the lab"))
    }

    /// The program itself is the HTTP client, so that none has to be installed.
    fn getter(&self, url: &str) -> [std::ffi::OsString; 3] {
        [self.program.clone().into(), "__get".into(), url.into()]
    }
}

impl Drop for Lab {
    #[allow(clippy::print_stderr, reason = "what the lab said belongs into the log of a test that fails")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the lab {:?} said:\n{}", self.name, self.log());
        }
    }
}

fn with<S: AsRef<OsStr>>(
    mut command: std::process::Command,
    args: impl IntoIterator<Item = S>,
) -> std::process::Command {
    command.args(args);
    command
}

/// Runs a command with this input; it must end with 0. It is killed when the caller loses interest.
async fn run(command: std::process::Command, input: &str) -> Result<String, Error> {
    let shown = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(Error::io("run a command"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input says itself why.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(Error::io("wait for a command"))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() {
        return Ok(text(output.stdout));
    }
    Err(Error::Command { command: shown, status: output.status, stderr: text(output.stderr).trim_end().to_owned() })
}

/// The status code, a blank and the body.
fn parse(output: &str) -> Result<Response, Error> {
    let text = output.trim_end();
    let (status, body) = text.split_once(' ').unwrap_or((text, ""));
    match status.parse() {
        Ok(status) => Ok(Response { status, body: body.to_owned() }),
        Err(_) => Err(Error::Unexpected { command: "__get", output: output.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_a_text() {
        assert_eq!(parse("200 ok\nfine\n").expect("legal"), Response { status: 200, body: "ok\nfine".to_owned() });
        assert_eq!(parse("404 \n").expect("legal"), Response { status: 404, body: String::new() });
        assert!(parse("hello world").is_err());
    }
}
