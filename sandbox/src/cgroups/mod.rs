//! Control groups: what a container may use of memory and processors.
//!
//! A group is a directory, `minisvc-LAB.PID.START/POD/CONTAINER` below a [`place`], so it is the one thing of a lab that the kernel
//! does not take away with the last process. Who removes them: the main process when a container or the lab ends, the helper when
//! the main process was killed, and the next start when both were ([`leftover`]).

mod advice;
mod group;
mod leftover;
mod limits;
mod place;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub(crate) use advice::remarks;
pub use group::Group;
pub(crate) use group::enter;
pub(crate) use leftover::end_lab;
pub use leftover::{abandoned_groups, remove_abandoned_groups};
pub use limits::Limits;
use limits::{Controller, Version};
use place::{Lack, Machine, Place, has_word};

/// The group that the main process goes to when it has to leave the one it was started in.
const MAIN: &str = "main";

/// The groups of one lab. Nothing is made before a container needs it.
#[derive(Debug)]
pub(crate) struct Cgroups {
    /// Of the lab's directory, at each place.
    name: String,
    memory: Result<Place, Lack>,
    cpu: Result<Place, Lack>,
    /// Directories whose last process was still about to die. A container that is restarted adds one at most.
    lingering: Mutex<Vec<PathBuf>>,
}

impl Cgroups {
    /// Finds out what is possible, and leaves our own group if groups can only be made below it then.
    pub(crate) fn prepare(lab: &str) -> Self {
        let machine = Machine::read();
        let place = |controller| machine.place(controller);
        let mut cgroups = Self {
            name: leftover::directory_name(lab),
            memory: place(Controller::Memory),
            cpu: place(Controller::Cpu),
            lingering: Mutex::default(),
        };
        if let Err((directory, error)) = cgroups.leave() {
            tracing::debug!(%error, directory = %directory.display(), "cannot leave our own control group");
            for place in [&mut cgroups.memory, &mut cgroups.cpu] {
                if place.as_ref().is_ok_and(|place| !place.leaving.is_empty()) {
                    *place = Err(Lack::NotOurs(directory.clone()));
                }
            }
        }
        cgroups
    }

    fn leave(&self) -> Result<(), (PathBuf, io::Error)> {
        let Some(place) = self.places().find(|place| !place.leaving.is_empty()) else { return Ok(()) };
        let main = place.directory.join(&self.name).join(MAIN);
        let go = |pid: &u32| match fs::write(main.join("cgroup.procs"), pid.to_string()) {
            // Who waited for us is gone already.
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(()),
            went => went,
        };
        let left = fs::create_dir_all(&main).and_then(|()| place.leaving.iter().try_for_each(go));
        left.map_err(|error| (place.directory.clone(), error))
    }

    fn place(&self, controller: Controller) -> Result<&Place, &Lack> {
        match controller {
            Controller::Memory => self.memory.as_ref(),
            Controller::Cpu => self.cpu.as_ref(),
        }
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.memory.iter().chain(&self.cpu)
    }

    /// The lab's directories, which need not exist.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        let mut directories: Vec<PathBuf> = self.places().map(|place| place.directory.join(&self.name)).collect();
        directories.sort();
        directories.dedup();
        directories
    }

    /// Makes a directory below the lab's and lets it have groups below that can be limited.
    fn make(&self, place: &Place, below: &Path) -> io::Result<PathBuf> {
        // Nobody may remove on the way what is still empty.
        let _whole = self.lingering.lock().unwrap_or_else(PoisonError::into_inner);
        let mut directory = place.directory.clone();
        for name in Path::new(&self.name).join(below).iter() {
            if place.version == Version::V2 {
                self.pass_on(place, &directory);
            }
            directory.push(name);
            match fs::create_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(directory)
    }

    /// Gives the groups below the directory the controllers that the place has. What cannot be passed on is missed where it is
    /// needed.
    fn pass_on(&self, place: &Place, directory: &Path) {
        let file = directory.join("cgroup.subtree_control");
        for controller in Controller::ALL {
            let has = self.place(controller).is_ok_and(|with| with.directory == place.directory);
            if has
                && !has_word(&file, controller.name())
                && let Err(error) = fs::write(&file, format!("+{}", controller.name()))
            {
                tracing::debug!(%error, file = %file.display(), "a controller cannot be passed on");
            }
        }
    }

    /// Removes a directory and those above it that have become empty, now or later.
    fn retire(&self, directory: PathBuf) {
        let mut lingering = self.lingering.lock().unwrap_or_else(PoisonError::into_inner);
        lingering.push(directory);
        lingering.retain(|directory| !self.remove_upwards(directory));
    }

    /// Removes everything of a lab whose processes are dead or about to die. Takes as long as they do.
    pub(crate) fn remove(&self) {
        leftover::remove(&self.directories());
    }

    /// False if something is still in it.
    fn remove_upwards(&self, directory: &Path) -> bool {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return false,
            Ok(()) | Err(_) => {}
        }
        let above = directory.ancestors().skip(1).take_while(|path| path.iter().any(|name| name == self.name.as_str()));
        let _other_groups = above.map(fs::remove_dir).find(Result::is_err);
        true
    }
}
