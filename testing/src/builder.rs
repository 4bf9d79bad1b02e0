//! What a lab shall look like.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Error;
use crate::lab::{Folder, Lab};
use crate::process::{self, LabProcess};
use crate::program;

/// How long a lab may take to start, and anything in it to become ready, unless the test says otherwise. Long, because CI
/// runs everything at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// IP families of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpFamily {
    /// Only IPv4.
    Ipv4,
    /// Only IPv6.
    Ipv6,
    /// Both.
    Dual,
}

impl IpFamily {
    fn word(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Dual => "dual",
        }
    }
}

/// Describes a lab before it is started. See [`Lab::builder`].
#[derive(Debug, Clone)]
#[must_use = "nothing is started before `start`"]
pub struct Builder {
    name: String,
    program: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    patience: Duration,
    args: Vec<String>,
}

impl Default for Builder {
    fn default() -> Self {
        Self { name: "test".to_owned(), program: None, state_dir: None, patience: PATIENCE, args: Vec::new() }
    }
}

impl Builder {
    /// Name of the lab, for those who look at it from outside. Labs of different tests may have the same.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Number of virtual nodes; one unless it is said.
    pub fn nodes(self, count: u8) -> Self {
        self.args(["--nodes", &count.to_string()])
    }

    /// IP families of nodes, pods and Services; IPv4 unless it is said.
    pub fn ip_family(self, family: IpFamily) -> Self {
        self.args(["--ip-family", family.word()])
    }

    /// A name for a local command, usable as a container image. The command is split as a shell would.
    pub fn image(self, name: &str, command: &str) -> Self {
        self.args(["--image", &format!("{name}={command}")])
    }

    /// Whether pods reach what is outside of the lab, this machine included; they do unless it is said.
    pub fn egress(self, on: bool) -> Self {
        self.args(["--egress", if on { "on" } else { "off" }])
    }

    /// Manifests to apply before the start is over: a file or a folder. May be called again.
    pub fn manifests(self, path: impl AsRef<Path>) -> Self {
        self.args(["-f", &path.as_ref().to_string_lossy()])
    }

    /// A project file: the commands that it lists run when the start is over, and are ready.
    pub fn project(self, path: impl AsRef<Path>) -> Self {
        self.args(["--project", &path.as_ref().to_string_lossy(), "--wait"])
    }

    /// Further flags of `minisvc up`.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// How long the start, and each wait for something in the lab, may take; a minute unless it is said.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The program to run, instead of the one that is found as the crate's documentation says.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// A folder that outlives the lab, for tests that start it again. Else it is a temporary one that goes with the lab.
    pub fn state_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(folder.into());
        self
    }

    /// Starts the lab and returns when it is ready.
    ///
    /// # Errors
    /// When there is no program, or the lab does not start: then with what it said.
    pub async fn start(self) -> Result<Lab, Error> {
        let started = tokio::task::spawn_blocking(|| self.start_blocking()).await;
        started.map_err(|error| Error::Io { doing: "start the lab", source: std::io::Error::other(error) })?
    }

    /// The same for tests without a runtime. Only [`Lab::command`] and what looks at the lab from outside work without one.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_blocking(self) -> Result<Lab, Error> {
        let program = self.program.clone().map_or_else(program::find, Ok)?;
        let folder = match &self.state_dir {
            Some(folder) => Folder::Given(folder.clone()),
            None => Folder::temporary()?,
        };
        let mut up = self.command(&program, folder.path());
        let process = LabProcess::start(&mut up, self.patience)?;
        Ok(Lab::new(self.name, program, self.patience, process, folder))
    }

    /// `minisvc up` as it will be run.
    fn command(&self, program: &Path, folder: &Path) -> std::process::Command {
        let mut up = process::command(program, &self.name, folder);
        up.args(["up", "--until-eof"]);
        // What would meet other labs, or the machine, unless the test wants it.
        let alone = [("--api-port", "0"), ("--dns-upstream", "none"), ("--publish", "none"), ("--project", "none")];
        for (flag, value) in alone {
            if !self.args.iter().any(|arg| arg == flag || arg.starts_with(&format!("{flag}="))) {
                up.args([flag, value]);
            }
        }
        up.args(&self.args).env_remove("RUST_LOG").env_remove("MINISVC_DNS_UPSTREAM");
        up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(builder: &Builder) -> String {
        let command = builder.command(Path::new("minisvc"), Path::new("/tmp/x"));
        command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_lab_meets_nobody_unless_the_test_wants_it() {
        assert_eq!(
            line(&Builder::default()),
            "up --until-eof --api-port 0 --dns-upstream none --publish none --project none"
        );
        let open = Builder::default().args(["--publish=all", "--dns-upstream", "127.0.0.1:5353"]);
        assert_eq!(
            line(&open),
            "up --until-eof --api-port 0 --project none --publish=all --dns-upstream 127.0.0.1:5353"
        );
    }

    #[test]
    fn every_wish_becomes_a_flag() {
        let builder = Builder::default().nodes(3).ip_family(IpFamily::Dual).image("web", "sh -c 'x y'").egress(false);
        let text = line(&builder);
        assert!(text.ends_with("--nodes 3 --ip-family dual --image web=sh -c 'x y' --egress off"), "{text}");
    }
}
