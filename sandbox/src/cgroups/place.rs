//! Where on this machine we may make control groups, if anywhere: read from `/proc` and found out by looking.

use std::fs;
use std::iter;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process;

use nix::unistd::{AccessFlags, access, geteuid};

use super::limits::{Controller, Version};
use crate::sys::is_marked;

/// Where groups for a controller can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) version: Version,
    /// The directory in which the lab's is made.
    pub(super) directory: PathBuf,
    /// These, which are ours, are alone in that directory itself, and have to leave it first: processes are only in groups without
    /// groups below.
    pub(super) leaving: Vec<u32>,
}

/// Why groups for a controller cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lack {
    /// The kernel has no such controller, or nobody mounted it.
    Missing,
    /// The directory belongs to somebody else, or nothing can be written there.
    NotOurs(PathBuf),
    /// Processes of others are in the directory itself.
    Crowded(PathBuf),
    /// The directory is ours, but whoever gave it to us kept the controller.
    NotGiven(PathBuf),
}

/// What `/proc` says about control groups.
#[derive(Debug)]
pub(super) struct Machine {
    mounts: Vec<Mounted>,
    /// `/proc/self/cgroup`.
    membership: String,
    who: Who,
}

/// Who asks.
#[derive(Debug)]
struct Who {
    /// This process, and the one that waits for it in `up --detach`.
    processes: Vec<u32>,
    root: bool,
    /// Whether systemd has marked a group as given away.
    is_marked: fn(&Path) -> bool,
}

/// A mounted hierarchy of groups.
#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    version: Version,
    /// Those of version 1.
    controllers: Vec<String>,
    /// The group that appears as the top: not the real one in a container.
    root: PathBuf,
    point: PathBuf,
}

impl Machine {
    /// As it is now.
    pub(super) fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/self/mountinfo"), read("/proc/self/cgroup"), Who::is_this())
    }

    fn parse(mountinfo: &str, membership: String, who: Who) -> Self {
        Self { mounts: mountinfo.lines().filter_map(mounted).collect(), membership, who }
    }

    /// Where groups for this controller can be made.
    pub(super) fn place(&self, controller: Controller) -> Result<Place, Lack> {
        let name = controller.name();
        let old = self.mounts.iter().find(|mount| mount.controllers.iter().any(|known| known == name));
        if let Some(mount) = old {
            return self.place_v1(mount);
        }
        let unified = self.mounts.iter().filter(|mount| mount.version == Version::V2);
        let mut with = unified.filter(|mount| has_word(&mount.point.join("cgroup.controllers"), name));
        self.place_v2(with.next().ok_or(Lack::Missing)?, name)
    }

    /// The tops of all hierarchies that have one of our controllers.
    pub(super) fn tops(&self) -> impl Iterator<Item = &Path> {
        let ours = |mount: &&Mounted| {
            let has = |controller: Controller| mount.controllers.iter().any(|known| known == controller.name());
            mount.version == Version::V2 || Controller::ALL.into_iter().any(has)
        };
        self.mounts.iter().filter(ours).map(|mount| mount.point.as_path())
    }

    /// Groups of version 1 may be made below any that is ours, and below our own what limits us limits them too.
    fn place_v1(&self, mount: &Mounted) -> Result<Place, Lack> {
        let directory = self.own(mount);
        if !is_writable(&directory, &["cgroup.procs"]) {
            return Err(Lack::NotOurs(directory));
        }
        Ok(Place { version: Version::V1, directory, leaving: Vec::new() })
    }

    /// Below our own group when nobody else is in it and it was given to us (a scope or a container made for us), else below the highest
    /// above it that is ours and has no processes: a user's `user@.service`, and for root the top.
    fn place_v2(&self, mount: &Mounted, name: &str) -> Result<Place, Lack> {
        let own = self.own(mount);
        let files = ["cgroup.procs", "cgroup.subtree_control"];
        let is_ours = |directory: &Path| is_writable(directory, &files);
        // The real top is the one group that may have both processes and groups, and the one that has no type.
        let is_free = |directory: &Path| !directory.join("cgroup.type").exists() || processes(directory).is_empty();
        let below_top = |directory: &&Path| directory.starts_with(&mount.point);
        let inside = processes(&own);
        let alone = !inside.is_empty() && inside.iter().all(|pid| self.who.processes.contains(pid));
        let (directory, leaving) = if alone && is_ours(&own) && self.who.was_given(&own) {
            (own, inside)
        } else {
            let above: Vec<&Path> = own.ancestors().take_while(below_top).filter(|path| is_ours(path)).collect();
            match above.iter().rev().find(|path| is_free(path)) {
                Some(free) => ((*free).to_owned(), Vec::new()),
                None if above.is_empty() => return Err(Lack::NotOurs(own)),
                None if alone => (own, inside),
                None => return Err(Lack::Crowded(own)),
            }
        };
        let given = has_word(&directory.join("cgroup.controllers"), name);
        if given { Ok(Place { version: Version::V2, directory, leaving }) } else { Err(Lack::NotGiven(directory)) }
    }

    /// The directory of the group that we are in.
    fn own(&self, mount: &Mounted) -> PathBuf {
        let lines = self.membership.lines().filter_map(|line| {
            let (_, line) = line.split_once(':')?;
            line.split_once(':')
        });
        let mut fitting = lines.filter(|(controllers, _)| match mount.version {
            Version::V2 => controllers.is_empty(),
            Version::V1 => controllers.split(',').any(|name| mount.controllers.iter().any(|known| known == name)),
        });
        let path = fitting.next().map_or("/", |(_, path)| path);
        // Outside of what is mounted, which is a container's, our group cannot be seen.
        let below = Path::new(path).strip_prefix(&mount.root).unwrap_or_else(|_| Path::new(""));
        let below = if below.starts_with("..") { Path::new("") } else { below };
        if below.as_os_str().is_empty() { mount.point.clone() } else { mount.point.join(below) }
    }
}

impl Who {
    fn is_this() -> Self {
        let program = |process: &str| fs::read_link(format!("/proc/{process}/exe")).ok();
        let parent = parent_id();
        // Another one of the same program only waits until we are ready.
        let waits = program("self").is_some_and(|own| program(&parent.to_string()) == Some(own));
        let processes = iter::once(process::id()).chain(waits.then_some(parent)).collect();
        let is_marked =
            |group: &Path| [c"user.delegate", c"trusted.delegate"].iter().any(|mark| is_marked(group, mark));
        Self { processes, root: geteuid().is_root(), is_marked }
    }

    /// Whether what we make below a group is nobody else's business. systemd watches a service or a scope that it did not give away by
    /// `Delegate=`: one process that is killed there for want of memory, and it ends them all.
    fn was_given(&self, group: &Path) -> bool {
        let is_unit = group.extension().is_some_and(|kind| kind == "service" || kind == "scope");
        // A user's systemd marks nothing, but gives all controllers away, and else not more than what is limited.
        let has_all = || Controller::ALL.iter().all(|with| has_word(&group.join("cgroup.controllers"), with.name()));
        !is_unit || (self.is_marked)(group) || (!self.root && has_all())
    }
}

/// A line of `/proc/self/mountinfo`, if it is about control groups.
fn mounted(line: &str) -> Option<Mounted> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, point) = (unescape(mount.next()?), unescape(mount.next()?));
    let mut file_system = file_system.split(' ');
    let kind = file_system.next()?;
    let options = file_system.nth(1).unwrap_or_default();
    let (version, controllers) = match kind {
        "cgroup" => (Version::V1, options.split(',').map(str::to_owned).collect()),
        "cgroup2" => (Version::V2, Vec::new()),
        _ => return None,
    };
    Some(Mounted { version, controllers, root, point })
}

/// Spaces and the like are three octal digits there.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Whether we may make groups in the directory and write these files of it.
fn is_writable(directory: &Path, files: &[&str]) -> bool {
    let may = |path: &Path| access(path, AccessFlags::W_OK).is_ok();
    may(directory) && files.iter().all(|file| may(&directory.join(file)))
}

/// The processes in a group itself.
fn processes(directory: &Path) -> Vec<u32> {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Whether a file of words has this one.
pub(super) fn has_word(file: &Path, word: &str) -> bool {
    fs::read_to_string(file).unwrap_or_default().split_ascii_whitespace().any(|found| found == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: u32 = 4711;
    const PARENT: u32 = 4710;

    fn as_root() -> Who {
        Who { processes: vec![ME, PARENT], root: true, is_marked: |group| group.join("marked").exists() }
    }

    /// A tree that looks like a hierarchy of version 2, and what `/proc` would say to a process in `own`.
    fn unified(own: &str, groups: &[(&str, &str, &str)]) -> (tempfile::TempDir, Machine) {
        let top = tempfile::tempdir().expect("a temporary folder");
        for (path, controllers, processes) in groups {
            let directory = top.path().join(path);
            fs::create_dir_all(&directory).expect("made");
            let write = |file: &str, text: &str| fs::write(directory.join(file), text).expect("written");
            write("cgroup.controllers", controllers);
            write("cgroup.procs", processes);
            write("cgroup.subtree_control", "");
            if !path.is_empty() {
                write("cgroup.type", "domain");
            }
        }
        let mountinfo = format!("30 23 0:26 / {} rw,nosuid shared:4 - cgroup2 cgroup2 rw\n", top.path().display());
        let machine = Machine::parse(&mountinfo, format!("0::/{own}\n"), as_root());
        (top, machine)
    }

    #[test]
    fn root_makes_groups_at_the_top() {
        let (top, machine) = unified("a/b", &[("", "cpu memory", "1\n2\n"), ("a", "", ""), ("a/b", "", "4711\n9\n")]);
        let place = machine.place(Controller::Memory).expect("a place");
        let expected = Place { version: Version::V2, directory: top.path().to_owned(), leaving: vec![] };
        assert_eq!(place, expected);
    }

    #[test]
    fn a_scope_of_ones_own_is_left_for_a_group_below() {
        let (top, machine) = unified("a/b", &[("", "memory", "1"), ("a", "", ""), ("a/b", "memory", "4711\n")]);
        let place = machine.place(Controller::Memory).expect("a place");
        assert_eq!((place.directory, place.leaving), (top.path().join("a/b"), vec![ME]));
        // What waits for us goes along, others do not.
        fs::write(top.path().join("a/b/cgroup.procs"), "4710\n4711\n").expect("written");
        assert_eq!(machine.place(Controller::Memory).expect("a place").leaving, [PARENT, ME]);
        fs::write(top.path().join("a/b/cgroup.procs"), "4711\n4712\n").expect("written");
        assert_eq!(machine.place(Controller::Memory).expect("a place").directory, top.path());
    }

    #[test]
    fn what_systemd_watches_is_left_alone() {
        let own = "user.slice/a.scope";
        let all = "cpu memory pids";
        let groups = [("", all, "1"), ("user.slice", all, ""), (own, "memory pids", "4711")];
        let (top, mut machine) = unified(own, &groups);
        let scope = top.path().join(own);
        let place = |machine: &Machine| machine.place(Controller::Memory).expect("a place");
        assert_eq!(place(&machine).directory, top.path());
        fs::write(scope.join("cgroup.controllers"), all).expect("written");
        assert_eq!(place(&machine).directory, top.path(), "others beside it may need them");
        // A user's, which has no marks.
        machine.who.root = false;
        assert_eq!(place(&machine).directory, scope);
        fs::write(scope.join("cgroup.controllers"), "memory").expect("written");
        assert_eq!(place(&machine).directory, top.path());
        for root in [true, false] {
            machine.who.root = root;
            fs::write(scope.join("marked"), "").expect("written");
            assert_eq!((place(&machine).directory, place(&machine).leaving), (scope.clone(), vec![ME]));
            assert_eq!(machine.place(Controller::Cpu), Err(Lack::NotGiven(scope.clone())));
            fs::remove_file(scope.join("marked")).expect("removed");
        }
        // Better than nothing, where nobody else's group is ours.
        for above in ["", "user.slice"] {
            fs::remove_file(top.path().join(above).join("cgroup.procs")).expect("removed");
        }
        assert_eq!(place(&machine).directory, scope);
    }

    #[test]
    fn what_is_missing_is_said() {
        let (_top, machine) = unified("", &[("", "cpu pids", "1")]);
        assert_eq!(machine.place(Controller::Memory), Err(Lack::Missing));
        assert_eq!(Machine::parse("", String::new(), as_root()).place(Controller::Cpu), Err(Lack::Missing));
        // The top of a container is not the real one.
        let (top, machine) = unified("", &[("", "memory", "4711\n12\n")]);
        fs::write(top.path().join("cgroup.type"), "domain").expect("written");
        assert_eq!(machine.place(Controller::Memory), Err(Lack::Crowded(top.path().to_owned())));
        let (top, machine) = unified("a", &[("", "memory cpu", ""), ("a", "memory", "4711")]);
        assert_eq!(machine.place(Controller::Cpu), Err(Lack::NotGiven(top.path().join("a"))));
        let gone = Machine::parse("9 1 0:2 / /no/such rw - cgroup none rw,cpu\n", "2:cpu:/x\n".to_owned(), as_root());
        assert_eq!(gone.place(Controller::Cpu), Err(Lack::NotOurs("/no/such/x".into())));
    }

    #[test]
    fn a_controller_of_version_1_is_taken_where_we_are() {
        let top = tempfile::tempdir().expect("a temporary folder");
        let own = top.path().join("deep/own");
        fs::create_dir_all(&own).expect("made");
        fs::write(own.join("cgroup.procs"), "").expect("written");
        let point = top.path().display();
        for (root, path) in [("/", "/deep/own"), ("/docker/17", "/docker/17/deep/own")] {
            let mountinfo = format!("31 23 0:27 {root} {point} rw - cgroup none rw,cpu,cpuacct\n");
            let machine = Machine::parse(&mountinfo, format!("4:memory:/x\n3:cpuacct,cpu:{path}\n"), as_root());
            let place = machine.place(Controller::Cpu).expect("a place");
            assert_eq!((place.version, &place.directory), (Version::V1, &own), "{root}");
            assert_eq!(machine.place(Controller::Memory), Err(Lack::Missing));
            assert_eq!(machine.tops().collect::<Vec<_>>(), [top.path()]);
        }
    }

    #[test]
    fn our_own_group_is_found_below_what_is_mounted() {
        for (root, path, expected) in [
            ("/", "/", "/sys/fs/cgroup/my groups"),
            ("/", "/user.slice", "/sys/fs/cgroup/my groups/user.slice"),
            ("/docker/17", "/docker/17", "/sys/fs/cgroup/my groups"),
            // Of a namespace for groups that does not begin where the mount does.
            ("/docker/17", "/elsewhere", "/sys/fs/cgroup/my groups"),
            ("/", "/../x", "/sys/fs/cgroup/my groups"),
        ] {
            let line = format!("31 23 0:27 {root} /sys/fs/cgroup/my\\040groups rw - cgroup2 none rw\n");
            let machine = Machine::parse(&line, format!("0::{path}\n"), as_root());
            assert_eq!(machine.own(&machine.mounts[0]), Path::new(expected), "{root} {path}");
        }
    }
}
