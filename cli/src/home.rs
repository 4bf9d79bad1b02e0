//! Where labs keep their things, and which labs there are.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::args::{LabArgs, NetworkMode};
use crate::config::LabConfig;
use crate::error::{CliError, Context as _};

/// The folder of one lab and the names inside it.
#[derive(Debug, Clone)]
pub(crate) struct LabHome {
    pub(crate) name: String,
    root: PathBuf,
}

/// What a running lab says about itself in `lab.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LabRecord {
    /// Name of the lab.
    pub(crate) name: String,
    /// Process id of the lab's main process, on the host.
    pub(crate) pid: u32,
    /// Where the API answers on the host.
    pub(crate) server: String,
    /// `private` or `host`.
    pub(crate) network: String,
    /// When the lab was started, RFC 3339.
    pub(crate) started: String,
    /// Version of the program that runs it.
    pub(crate) version: String,
}

impl LabHome {
    /// The folder of the lab that `args` names. Makes nothing.
    ///
    /// # Errors
    /// When no folder is given and the user has no home.
    pub(crate) fn of(args: &LabArgs) -> Result<Self, CliError> {
        let base = match &args.state_dir {
            Some(dir) => std::path::absolute(dir).context(|| format!("cannot use the folder {}", dir.display()))?,
            None => default_base()?,
        };
        Ok(Self { name: args.name.clone(), root: base.join(&args.name) })
    }

    /// A lab in a folder of its own, wherever that is.
    pub(crate) fn at(name: &str, root: &Path) -> Self {
        Self { name: name.to_owned(), root: root.to_owned() }
    }

    /// All labs that have a folder beside this one, running or not, by name.
    pub(crate) fn siblings(&self) -> Vec<Self> {
        let Some(base) = self.root.parent() else { return Vec::new() };
        let Ok(entries) = std::fs::read_dir(base) else { return Vec::new() };
        let mut labs: Vec<Self> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .map(|name| Self { root: base.join(&name), name })
            .filter(|lab| lab.root.join("run").is_dir())
            .collect();
        labs.sort_by(|a, b| a.name.cmp(&b.name));
        labs
    }

    /// Makes the folders. Others may pass through them, because the kubeconfig and the sockets belong to the user behind
    /// sudo; what is secret is in folders of its own, or in files that only their owner can read.
    ///
    /// # Errors
    /// When a folder cannot be made.
    pub(crate) fn create(&self) -> Result<(), CliError> {
        make_dir(&self.root, 0o711)?;
        make_dir(&self.run_dir(), 0o711)
    }

    /// Makes a folder of the lab that only its owner can enter.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn private_dir(&self, name: &str) -> Result<PathBuf, CliError> {
        let dir = self.root.join(name);
        make_dir(&dir, 0o700)?;
        Ok(dir)
    }

    /// What outlives the lab: objects, keys, logs.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What lives as long as the lab runs: sockets and `lab.json`.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The API for `curl --unix-socket` and for our own commands.
    pub(crate) fn api_socket(&self) -> PathBuf {
        self.run_dir().join("api.sock")
    }

    /// Where `shell`, `exec` and `down` ask the main process.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.run_dir().join("control.sock")
    }

    /// The kubeconfig of the lab.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// The kubeconfig for programs inside the lab: the API is elsewhere for them.
    pub(crate) fn kubeconfig_inside(&self) -> PathBuf {
        self.root.join("kubeconfig.inside")
    }

    /// Writes both kubeconfigs, for the user behind sudo.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(crate) fn write_kubeconfigs(&self, outside: &str, inside: &str) -> Result<(), CliError> {
        let (uid, gid) = behind_sudo();
        for (path, text) in [(self.kubeconfig(), outside), (self.kubeconfig_inside(), inside)] {
            write_private(&path, text.as_bytes())?;
            give_to(&path, uid, gid)?;
        }
        Ok(())
    }

    fn record_path(&self) -> PathBuf {
        self.run_dir().join("lab.json")
    }

    /// Writes `lab.json`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write_record(&self, record: &LabRecord) -> Result<(), CliError> {
        let text = serde_json::to_vec_pretty(record).context(|| "cannot describe the lab".to_owned())?;
        let (uid, gid) = behind_sudo();
        write_private(&self.record_path(), &text)?;
        give_to(&self.record_path(), uid, gid)
    }

    /// Writes down where this machine reaches the lab's Services.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write_published(&self, published: &[minisvc_netd::Published]) -> Result<(), CliError> {
        let text = serde_json::to_vec_pretty(published).context(|| "cannot describe what is published".to_owned())?;
        let (uid, gid) = behind_sudo();
        write_private(&self.published_path(), &text)?;
        give_to(&self.published_path(), uid, gid)
    }

    /// Where this machine reaches the lab's Services, as the running lab has written it down.
    pub(crate) fn published(&self) -> serde_json::Value {
        let text = std::fs::read(self.published_path()).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_else(|_| serde_json::json!([]))
    }

    fn published_path(&self) -> PathBuf {
        self.run_dir().join("published.json")
    }

    /// Removes what says that the lab runs. Called last, when it no longer does.
    pub(crate) fn clear_run(&self) {
        for path in [self.record_path(), self.published_path(), self.api_socket(), self.control_socket()] {
            // A file that is gone already is what we want.
            let _ = std::fs::remove_file(path);
        }
    }

    /// What the running lab says of itself; `None` when it does not run.
    pub(crate) fn running(&self) -> Option<LabRecord> {
        let record = serde_json::from_slice(&std::fs::read(self.record_path()).ok()?).ok()?;
        // After a kill -9 the file is still there, but nobody answers.
        UnixStream::connect(self.api_socket()).ok()?;
        Some(record)
    }

    /// Whether it ran and did not end in order: what says that it runs is there, but nobody answers.
    pub(crate) fn was_killed(&self) -> bool {
        self.record_path().exists() && self.running().is_none() && UnixStream::connect(self.api_socket()).is_err()
    }

    /// Like [`Self::running`], but with words for the user when the lab does not run.
    ///
    /// # Errors
    /// Names the labs that do run.
    pub(crate) fn require_running(&self) -> Result<LabRecord, CliError> {
        if let Some(record) = self.running() {
            return Ok(record);
        }
        let others: Vec<String> =
            self.siblings().into_iter().filter(|lab| lab.running().is_some()).map(|lab| lab.name).collect();
        let error = CliError::not_found(format!("no lab named {:?} runs", self.name));
        Err(if others.is_empty() {
            error.hint("start one: minisvc up")
        } else {
            error.hint(format!("these run: {}; name one with --name", others.join(", ")))
        })
    }
}

impl LabRecord {
    /// The record of a lab that this process has just started.
    pub(crate) fn new(config: &LabConfig, server: &str) -> Self {
        Self {
            name: config.name.clone(),
            pid: std::process::id(),
            server: server.to_owned(),
            network: match config.network {
                NetworkMode::Private => "private".to_owned(),
                NetworkMode::Host => "host".to_owned(),
            },
            started: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

fn make_dir(dir: &Path, mode: u32) -> Result<(), CliError> {
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(dir).map_err(|source| {
        CliError::environment(format!("cannot make the folder {}", dir.display()))
            .because(source)
            .hint("name a folder that you may write to with --state-dir DIR")
    })
}

/// Makes a user the owner of a file, if that is not so already.
///
/// # Errors
/// When the file is gone, or belongs to somebody else and we are not root.
pub(crate) fn give_to(path: &Path, uid: u32, gid: u32) -> Result<(), CliError> {
    let owner = std::fs::metadata(path).map(|meta| meta.uid()).context(|| format!("cannot read {}", path.display()))?;
    if owner == uid {
        return Ok(());
    }
    std::os::unix::fs::chown(path, Some(uid), Some(gid))
        .context(|| format!("cannot give {} to its user", path.display()))
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), CliError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let write = || -> io::Result<()> {
        let temporary = path.with_extension("new");
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        std::fs::rename(&temporary, path)
    };
    write().context(|| format!("cannot write {}", path.display()))
}

fn default_base() -> Result<PathBuf, CliError> {
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/minisvc"));
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("XDG_STATE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("minisvc"))
        .ok_or_else(|| {
            CliError::environment("neither HOME nor XDG_STATE_HOME is set, so there is no place for labs")
                .hint("name one with --state-dir DIR")
        })
}

/// The user behind `sudo`, or who runs this program: whose processes pods are, and who owns the kubeconfig.
pub(crate) fn behind_sudo() -> (u32, u32) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if uid.is_root()
        && let (Some(uid), Some(gid)) = (number("SUDO_UID"), number("SUDO_GID"))
    {
        return (uid, gid);
    }
    (uid.as_raw(), gid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_that_was_killed_does_not_count_as_running() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let lab = LabHome::at("x", &dir.path().join("x"));
        lab.create().expect("folders");
        let record = LabRecord {
            name: "x".into(),
            pid: 1,
            server: "https://127.0.0.1:1".into(),
            network: "private".into(),
            started: "now".into(),
            version: "0".into(),
        };
        lab.write_record(&record).expect("written");
        assert_eq!(lab.running(), None, "nobody answers at its socket");
        let _listener = std::os::unix::net::UnixListener::bind(lab.api_socket()).expect("bound");
        assert_eq!(lab.running(), Some(record));
        let other = LabHome::at("y", &dir.path().join("y"));
        let text = other.require_running().expect_err("y does not run").render();
        assert!(text.contains("these run: x"), "{text}");
    }

    #[test]
    fn secrets_are_readable_by_their_owner_alone() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("kubeconfig");
        write_private(&path, b"secret").expect("written");
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
    }
}
