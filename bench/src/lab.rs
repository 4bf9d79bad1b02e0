//! Labs to measure: the product itself, as a user starts it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::Failure;

/// Anything that takes longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Name of the lab; each has a folder of its own anyway.
const NAME: &str = "bench";

/// A running lab. It ends when dropped.
pub(crate) struct Lab {
    process: Child,
    folder: tempfile::TempDir,
    /// What it says, each with the time after its start.
    lines: Receiver<(Duration, String)>,
}

/// Builds the product the same way as this program was built.
pub(crate) fn build() -> Result<(), Failure> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--package", "minisvc"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    if command.status()?.success() { Ok(()) } else { Err("the product does not compile".into()) }
}

/// The product, beside this program.
fn minisvc() -> Result<PathBuf, Failure> {
    Ok(myself()?.with_file_name("minisvc"))
}

/// This program, to be run in pods.
pub(crate) fn myself() -> Result<PathBuf, Failure> {
    Ok(std::env::current_exe()?)
}

impl Lab {
    /// Starts a lab in a fresh folder, without waiting for anything.
    pub(crate) fn begin(args: &[&str], manifest: Option<&str>) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("minisvc-bench-").tempdir()?;
        let mut command = Command::new(minisvc()?);
        command
            .args(["up", "--name", NAME, "--api-port", "0", "--dns-upstream", "none"])
            .args(args)
            .env("MINISVC_STATE_DIR", folder.path())
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(manifest) = manifest {
            let path = folder.path().join("manifest.yaml");
            std::fs::write(&path, manifest)?;
            command.arg("-f").arg(path);
        }
        let started = Instant::now();
        let mut process = command.spawn()?;
        let stderr = process.stderr.take().ok_or("no pipe")?;
        let (lines_tx, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // The lab goes on without anybody listening.
                let _ = lines_tx.send((started.elapsed(), line));
            }
        });
        Ok(Self { process, folder, lines })
    }

    /// Starts a lab and waits until it is ready.
    pub(crate) fn start(args: &[&str]) -> Result<Self, Failure> {
        let lab = Self::begin(args, None)?;
        lab.until_said("The lab is ready")?;
        Ok(lab)
    }

    /// Waits until the lab has said this; the time after its start.
    pub(crate) fn until_said(&self, text: &str) -> Result<Duration, Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut said = String::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (at, line) =
                self.lines.recv_timeout(left).map_err(|_| format!("the lab did not say {text:?}:\n{said}"))?;
            if line.contains(text) {
                return Ok(at);
            }
            said += &format!("{line}\n");
        }
    }

    /// Process id of the main process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Where the API listens.
    pub(crate) fn api_socket(&self) -> PathBuf {
        self.root().join("run/api.sock")
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join(NAME)
    }

    /// The folder that this lab may be given files in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A command against this lab.
    pub(crate) fn command(&self, args: &[&str]) -> Result<Command, Failure> {
        let mut command = Command::new(minisvc()?);
        command.args(args).env("MINISVC_LAB", NAME).env("MINISVC_STATE_DIR", self.folder.path()).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command to its end and returns what it printed.
    pub(crate) fn run(&self, args: &[&str]) -> Result<String, Failure> {
        let output = self.command(args)?.output()?;
        if !output.status.success() {
            return Err(format!("{args:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs this very program on the workstation, or in a pod, and returns what it printed.
    pub(crate) fn inside(&self, pod: Option<&str>, args: &[&str]) -> Result<String, Failure> {
        self.run(&Self::exec_args(pod, &myself()?.to_string_lossy(), args))
    }

    /// The same in the background, with its output in a pipe.
    pub(crate) fn inside_in_background(&self, pod: Option<&str>, args: &[&str]) -> Result<Child, Failure> {
        let program = myself()?;
        let mut command = self.command(&Self::exec_args(pod, &program.to_string_lossy(), args))?;
        Ok(command.stdout(Stdio::piped()).spawn()?)
    }

    fn exec_args<'a>(pod: Option<&'a str>, program: &'a str, args: &[&'a str]) -> Vec<&'a str> {
        std::iter::once("exec").chain(pod).chain(["--", program]).chain(args.iter().copied()).collect()
    }

    /// Applies a manifest.
    pub(crate) fn apply(&self, manifest: &str) -> Result<(), Failure> {
        let mut process = self.command(&["apply", "-f", "-"])?.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        process.stdin.take().ok_or("no pipe")?.write_all(manifest.as_bytes())?;
        if process.wait()?.success() { Ok(()) } else { Err("the manifest was refused".into()) }
    }

    /// Waits until so many pods are ready.
    pub(crate) fn until_ready(&self, count: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status: Value = serde_json::from_str(&self.run(&["status", "-o", "json"])?)?;
            let ready = status["contents"]["readyPods"].as_u64().unwrap_or_default();
            if usize::try_from(ready)? >= count {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{ready} of {count} pods are ready after {PATIENCE:?}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the lab as Ctrl-C does; how long that took.
    pub(crate) fn down(mut self) -> Result<Duration, Failure> {
        let began = Instant::now();
        nix::sys::signal::kill(self.nix_pid()?, Signal::SIGINT)?;
        self.process.wait()?;
        Ok(began.elapsed())
    }

    fn nix_pid(&self) -> Result<nix::unistd::Pid, Failure> {
        Ok(nix::unistd::Pid::from_raw(i32::try_from(self.pid())?))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Already over, or a measurement has failed: then quickly. The sandbox dies with the main process.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
