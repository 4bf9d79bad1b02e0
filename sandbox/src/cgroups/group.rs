//! The group of one container.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::limits::{Controller, Limits, Version, oom_kills};
use super::place::Place;
use super::{Cgroups, Lack};

/// A control group that processes can be started in, with limits that the kernel keeps. Its directory is removed with it, or as soon
/// afterwards as its last process is dead.
#[derive(Debug)]
pub struct Group {
    cgroups: Arc<Cgroups>,
    /// One, or with version 1 one for each controller.
    directories: Vec<PathBuf>,
    /// Where deaths for want of memory are counted.
    counts: Option<PathBuf>,
    unkept: Vec<String>,
}

impl Group {
    /// Makes the group `container` of `pod`, as far as that is possible here.
    pub(crate) fn make(cgroups: &Arc<Cgroups>, pod: &str, container: &str, of_pod: Limits, own: Limits) -> Self {
        let mut group =
            Self { cgroups: Arc::clone(cgroups), directories: Vec::new(), counts: None, unkept: Vec::new() };
        for controller in Controller::ALL {
            if own.of(controller).is_none() && of_pod.of(controller).is_none() {
                continue;
            }
            let limited = match cgroups.place(controller) {
                Ok(place) => group.limit(place, controller, Path::new(pod), container, (of_pod, own)),
                Err(lack) => Err(io::Error::other(reason(lack, controller))),
            };
            if let Err(error) = limited {
                group.unkept.push(format!("{}: {error}", controller.name()));
            }
        }
        group
    }

    fn limit(
        &mut self,
        place: &Place,
        controller: Controller,
        pod: &Path,
        container: &str,
        (of_pod, own): (Limits, Limits),
    ) -> io::Result<()> {
        let directory = self.cgroups.make(place, &pod.join(container))?;
        if !self.directories.contains(&directory) {
            self.directories.push(directory.clone());
        }
        if let Some(above) = directory.parent() {
            apply(above, of_pod, place.version, controller)?;
        }
        apply(&directory, own, place.version, controller)?;
        if controller == Controller::Memory {
            let counts = match place.version {
                Version::V1 => "memory.oom_control",
                Version::V2 => "memory.events",
            };
            // A container that has lost a process would limp on: Kubernetes ends all of it, where the kernel can.
            let _only_of_version_2 = fs::metadata(directory.join("memory.oom.group"))
                .and_then(|_| fs::write(directory.join("memory.oom.group"), "1"));
            self.counts = Some(directory.join(counts));
        }
        Ok(())
    }

    /// What was asked for and is not kept, each with the reason.
    pub fn unkept(&self) -> &[String] {
        &self.unkept
    }

    /// How many processes of the group were killed because there was no memory left for it.
    pub fn oom_kills(&self) -> u64 {
        let text = self.counts.as_ref().and_then(|file| fs::read_to_string(file).ok());
        text.map_or(0, |text| oom_kills(&text))
    }

    /// What a process enters the group by: see [`enter`].
    pub(crate) fn doors(&self) -> io::Result<Vec<OwnedFd>> {
        let open = |directory: &PathBuf| OpenOptions::new().write(true).open(directory.join("cgroup.procs"));
        self.directories.iter().map(|directory| open(directory).map(OwnedFd::from)).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for directory in std::mem::take(&mut self.directories) {
            self.cgroups.retire(directory);
        }
    }
}

/// Enters a group by its doors: this process, and what it forks from now on.
pub(crate) fn enter(doors: &[OwnedFd]) -> io::Result<()> {
    // Number 0 is who writes, whatever its number is elsewhere.
    doors.iter().try_for_each(|door| nix::unistd::write(door, b"0").map(|_| ()).map_err(io::Error::from))
}

fn apply(directory: &Path, limits: Limits, version: Version, controller: Controller) -> io::Result<()> {
    for setting in limits.settings(version, controller) {
        let file = directory.join(setting.file);
        match fs::write(&file, &setting.value) {
            Err(error) if setting.needed => {
                return Err(io::Error::new(error.kind(), format!("{}: {error}", file.display())));
            }
            Err(error) => tracing::debug!(%error, file = %file.display(), "not every kernel takes this"),
            Ok(()) => {}
        }
    }
    Ok(())
}

fn reason(lack: &Lack, controller: Controller) -> String {
    super::advice::why(lack, controller)
}
