//! What a container sees of the file tree. Everything here happens in the container's own mount namespace, in the forked child.
//!
//! A mount point that the host lacks must appear in the container only. The directory above it is then covered with a tmpfs in
//! which every entry of the covered directory is bound to itself, and the mount point is made in that. An overlay would be less work
//! for large directories, but sockets of the host (a database's in `/run`) do not work through one, and what lies on other file
//! systems below it disappears.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot};

use crate::error::{OsError, SpawnError};
use crate::spec::Mount;
use crate::sys;

/// Symbolic links followed in one path, as the kernel does.
const LINK_LIMIT: usize = 40;
/// Entries of a directory that may be bound one by one; a container with more mounts than that would start slowly.
const ENTRY_LIMIT: usize = 4096;
const NONE: Option<&str> = None;

/// Makes the mounts: first what is hidden, so that nothing that was asked for gets hidden, then the others in order.
pub(super) fn apply(list: &[Mount]) -> Result<(), SpawnError> {
    // Opened before anything changes, so that sources mean the host's files.
    let sources: Vec<Option<OwnedFd>> = list.iter().map(open_source).collect::<Result<_, _>>()?;
    let mut tree = Tree::default();
    let (hidden, others): (Vec<_>, Vec<_>) =
        list.iter().zip(&sources).partition(|(wanted, _)| matches!(wanted, Mount::Hide { .. }));
    for (wanted, source) in hidden.into_iter().chain(others) {
        tree.apply(wanted, source.as_ref()).map_err(|source| failed(wanted, source))?;
    }
    Ok(())
}

fn open_source(wanted: &Mount) -> Result<Option<OwnedFd>, SpawnError> {
    match wanted {
        Mount::Bind { source, .. } => open_path(source).map(Some).map_err(|error| failed(wanted, error)),
        Mount::Tmpfs { .. } | Mount::Hide { .. } => Ok(None),
    }
}

fn failed(wanted: &Mount, error: io::Error) -> SpawnError {
    let (what, target) = match wanted {
        Mount::Bind { source, target, .. } => (source.display().to_string(), target),
        Mount::Tmpfs { target, .. } => ("a tmpfs".to_owned(), target),
        Mount::Hide { target } => ("a cover".to_owned(), target),
    };
    SpawnError::Mount { what, target: target.display().to_string(), source: OsError::from(error) }
}

/// The file tree of this process.
#[derive(Default)]
struct Tree {
    /// Devices of the tmpfs mounts that belong to this container alone: mount points can simply be made there.
    private: BTreeSet<u64>,
}

impl Tree {
    fn apply(&mut self, wanted: &Mount, source: Option<&OwnedFd>) -> io::Result<()> {
        match (wanted, source) {
            (Mount::Bind { target, read_only, .. }, Some(source)) => self.bind(source, target, *read_only),
            (Mount::Tmpfs { target, size_bytes }, _) => {
                let target = self.mount_point(target, true)?;
                let size = size_bytes.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
                self.mount_tmpfs(&target, &format!("mode=0777{size}"))
            }
            (Mount::Hide { target }, _) => self.hide(target),
            (Mount::Bind { .. }, None) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn bind(&mut self, source: &OwnedFd, target: &Path, read_only: bool) -> io::Result<()> {
        let source = descriptor_path(source);
        let target = self.mount_point(target, fs::metadata(&source)?.is_dir())?;
        bind_tree(&source, &target)?;
        if read_only { sys::set_tree_read_only(target.as_os_str()) } else { Ok(()) }
    }

    fn hide(&mut self, target: &Path) -> io::Result<()> {
        let place = resolve(target)?;
        if !place.missing.is_empty() {
            return Ok(());
        }
        if place.existing.is_dir() {
            return self.mount_tmpfs(&place.existing, "mode=0755");
        }
        // Reads as empty, and nobody listens there.
        bind_tree(Path::new("/dev/null"), &place.existing)
    }

    fn mount_tmpfs(&mut self, target: &Path, options: &str) -> io::Result<()> {
        mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options))?;
        self.private.insert(fs::metadata(target)?.dev());
        Ok(())
    }

    /// Where `target` really is, made if it is missing.
    fn mount_point(&mut self, target: &Path, directory: bool) -> io::Result<PathBuf> {
        let Place { mut existing, missing } = resolve(target)?;
        if missing.is_empty() {
            return Ok(existing);
        }
        if !self.private.contains(&fs::metadata(&existing)?.dev()) {
            self.open_up(&existing)?;
        }
        let (last, above) = missing.split_last().ok_or(Errno::EINVAL)?;
        for name in above {
            existing.push(name);
            make_directory(&existing)?;
        }
        existing.push(last);
        if directory {
            make_directory(&existing)?
        } else {
            drop(File::create_new(&existing)?)
        }
        Ok(existing)
    }

    /// Makes `directory` a place where entries can be added that only this container sees.
    fn open_up(&mut self, directory: &Path) -> io::Result<()> {
        let covered = open_path(directory)?;
        let entries = read_entries(directory)?;
        if directory == Path::new("/") {
            return self.replace_root(&covered, entries);
        }
        let like = fs::metadata(directory)?;
        self.mount_tmpfs(directory, "mode=0755")?;
        let covered = descriptor_path(&covered);
        for entry in entries {
            show(&covered.join(&entry.name), &entry, directory)?;
        }
        look_like(directory, &like)
    }

    /// A mount on `/` is not seen by processes whose root is below it, so a new root is built aside and moved there.
    fn replace_root(&mut self, root: &OwnedFd, entries: Vec<Entry>) -> io::Result<()> {
        // Any directory does to build it on; it appears in the new root as it was, because the entries are opened first.
        let site = entries.iter().find(|entry| entry.kind == Kind::Directory && entry.name != "proc");
        let site = Path::new("/").join(&site.ok_or(Errno::ENOENT)?.name);
        let like = fs::metadata("/")?;
        let root = descriptor_path(root);
        // What cannot be opened is looked up later by its name, and found unusable once more.
        let opened = entries.iter().map(|entry| match entry.kind {
            Kind::Link => None,
            Kind::Directory | Kind::Other => open_path(&root.join(&entry.name)).ok(),
        });
        let opened: Vec<Option<OwnedFd>> = opened.collect();
        self.mount_tmpfs(&site, "mode=0755")?;
        // Else it would be copied into itself, with what it is mounted on.
        mount(NONE, &site, NONE, MsFlags::MS_UNBINDABLE, NONE)?;
        for (entry, opened) in entries.iter().zip(&opened) {
            let source = opened.as_ref().map_or_else(|| root.join(&entry.name), descriptor_path);
            show(&source, entry, &site)?;
        }
        look_like(&site, &like)?;
        mount(NONE, &site, NONE, MsFlags::MS_PRIVATE, NONE)?;
        chdir(&site)?;
        mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE)?;
        chroot(".")?;
        chdir("/")?;
        Ok(())
    }
}

/// A path without symbolic links, split where the file tree ends.
#[derive(Debug)]
struct Place {
    existing: PathBuf,
    missing: Vec<OsString>,
}

/// Follows every symbolic link, also one to something that does not exist.
fn resolve(target: &Path) -> io::Result<Place> {
    if !target.is_absolute() {
        return Err(Errno::EINVAL.into());
    }
    // What is still to be walked, the next component last.
    let mut ahead: Vec<OsString> = reversed(target);
    let mut place = Place { existing: PathBuf::from("/"), missing: Vec::new() };
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if name == ".." {
            if place.missing.pop().is_none() {
                place.existing.pop();
            }
            continue;
        }
        if !place.missing.is_empty() {
            place.missing.push(name);
            continue;
        }
        let next = place.existing.join(&name);
        match fs::symlink_metadata(&next) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => place.missing.push(name),
            Err(error) => return Err(error),
            Ok(found) if found.is_symlink() => {
                links += 1;
                if links > LINK_LIMIT {
                    return Err(Errno::ELOOP.into());
                }
                let link = fs::read_link(&next)?;
                if link.is_absolute() {
                    place.existing = PathBuf::from("/");
                }
                ahead.extend(reversed(&link));
            }
            Ok(_) => place.existing = next,
        }
    }
    Ok(place)
}

fn reversed(path: &Path) -> Vec<OsString> {
    let kept = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(kept).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    Link,
    Other,
}

struct Entry {
    name: OsString,
    kind: Kind,
}

fn read_entries(directory: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // From the directory itself: a file system that refuses to be looked at (another user's FUSE) stops nothing.
        let kind = match entry.file_type() {
            Ok(kind) if kind.is_dir() => Kind::Directory,
            Ok(kind) if kind.is_symlink() => Kind::Link,
            Ok(_) => Kind::Other,
            // Gone since it was listed.
            Err(_) => continue,
        };
        entries.push(Entry { name: entry.file_name(), kind });
        if entries.len() > ENTRY_LIMIT {
            return Err(Errno::EMLINK.into());
        }
    }
    Ok(entries)
}

/// Makes an entry of a covered directory appear again in what covers it.
fn show(source: &Path, entry: &Entry, directory: &Path) -> io::Result<()> {
    let target = directory.join(&entry.name);
    let result = match entry.kind {
        Kind::Link => fs::read_link(source).and_then(|link| symlink(link, &target)),
        Kind::Directory => make_directory(&target).and_then(|()| bind_tree(source, &target)),
        Kind::Other => File::create_new(&target).and_then(|_| bind_tree(source, &target)),
    };
    match result {
        Err(error) if is_unusable(&error) => match entry.kind {
            Kind::Link => Ok(()),
            Kind::Directory => fs::remove_dir(&target),
            Kind::Other => fs::remove_file(&target),
        },
        result => result,
    }
}

/// Gone since it was listed, or a broken mount (a FUSE server that died, a stale NFS handle): of no use on the host either, and
/// no reason to stop a container.
fn is_unusable(error: &io::Error) -> bool {
    use nix::libc::{EACCES, ENOENT, ENOTCONN, ESTALE};
    matches!(error.raw_os_error(), Some(EACCES | ENOENT | ENOTCONN | ESTALE))
}

/// Owner and mode as the directory that it stands for; the owner only where that is possible.
fn look_like(directory: &Path, like: &fs::Metadata) -> io::Result<()> {
    // In a user namespace other owners do not exist: then it is the user's own.
    let _ = lchown(directory, Some(like.uid()), Some(like.gid()));
    fs::set_permissions(directory, Permissions::from_mode(like.mode() & 0o7777))
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// A path to what is open, valid in this process.
fn descriptor_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// With everything mounted below, because an ordinary user may not show what another mount covers.
fn bind_tree(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(directory: &Path, target: &str) -> (String, Vec<OsString>) {
        let place = resolve(&directory.join(target)).unwrap();
        let inside = place.existing.strip_prefix(fs::canonicalize(directory).unwrap()).unwrap();
        (inside.display().to_string(), place.missing)
    }

    #[test]
    fn targets_are_followed_through_links_and_split_where_the_tree_ends() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("run/lock")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/hosts"), "").unwrap();
        symlink("run", root.join("var")).unwrap();
        symlink("../run/resolve/stub.conf", root.join("etc/resolv.conf")).unwrap();
        symlink(root.join("etc"), root.join("absolute")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        for (target, existing, missing) in [
            ("etc/hosts", "etc/hosts", &[][..]),
            ("absolute/hosts", "etc/hosts", &[]),
            ("var/lock", "run/lock", &[]),
            ("var/secrets/token", "run", &["secrets", "token"]),
            ("etc/resolv.conf", "run", &["resolve", "stub.conf"]),
            ("run/none/../lock/x", "run/lock", &["x"]),
            ("etc/../run/./lock", "run/lock", &[]),
        ] {
            let missing: Vec<OsString> = missing.iter().map(OsString::from).collect();
            assert_eq!(place(root, target), (existing.to_owned(), missing), "{target}");
        }
        let error = resolve(&root.join("loop/x")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ELOOP as i32));
        assert!(resolve(Path::new("relative")).is_err());
    }
}
