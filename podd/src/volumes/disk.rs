//! Puts volumes onto the disk. A volume of API objects changes all at once: its files are links through `..data`,
//! a link that is exchanged.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{HostPathVolumeSource, Volume};

use super::content::{Files, Sources, files};
use super::{Root, VolumeError};

/// The link that all files go through.
const DATA: &str = "..data";
/// The link that will replace it.
const NEXT: &str = "..data_next";

/// Whom the files of a pod's volumes belong to; `None` leaves them with us.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Owner {
    pub(crate) uid: Option<u32>,
    /// `fsGroup`: the group of all files, which it may read.
    pub(crate) group: Option<u32>,
}

/// Makes or refreshes one volume below `directory`.
pub(crate) fn prepare(
    volume: &Volume,
    directory: &Path,
    sources: &Sources<'_>,
    owner: Owner,
) -> Result<Root, VolumeError> {
    if let Some(source) = &volume.host_path {
        let path = host_path(source)?;
        return Ok(Root { path, read_only: false });
    }
    let path = directory.join(&volume.name);
    let failed = |source| VolumeError::Disk { path: path.display().to_string(), source };
    if let Some(files) = files(volume, sources)? {
        write_all(&path, &files, owner).map_err(failed)?;
        return Ok(Root { path, read_only: true });
    }
    if volume.empty_dir.is_some() {
        empty_dir(&path, owner).map_err(failed)?;
        return Ok(Root { path, read_only: false });
    }
    Err(VolumeError::Kind(volume.name.clone()))
}

fn empty_dir(path: &Path, owner: Owner) -> io::Result<()> {
    fs::create_dir_all(path)?;
    chown(path, owner.uid, owner.group)?;
    fs::set_permissions(path, Permissions::from_mode(0o777))
}

fn host_path(source: &HostPathVolumeSource) -> Result<PathBuf, VolumeError> {
    let path = PathBuf::from(&source.path);
    let problem = |problem: String| VolumeError::HostPath { path: source.path.clone(), problem };
    let kind = source.type_.as_deref().unwrap_or_default();
    match kind {
        "DirectoryOrCreate" => fs::create_dir_all(&path).map_err(|error| problem(error.to_string()))?,
        "FileOrCreate" if !path.exists() => {
            fs::File::create(&path).map_err(|error| problem(error.to_string()))?;
        }
        _ => {}
    }
    let meta = fs::metadata(&path).map_err(|error| problem(error.to_string()))?;
    let fits = match kind {
        "Directory" | "DirectoryOrCreate" => meta.is_dir(),
        "File" | "FileOrCreate" => meta.is_file(),
        "Socket" => std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()),
        "CharDevice" => std::os::unix::fs::FileTypeExt::is_char_device(&meta.file_type()),
        "BlockDevice" => std::os::unix::fs::FileTypeExt::is_block_device(&meta.file_type()),
        _ => true,
    };
    if fits { Ok(path) } else { Err(problem(format!("is not a {kind}"))) }
}

/// Writes `files` so that a reader sees either all old ones or all new ones. Unchanged files are left alone.
fn write_all(directory: &Path, files: &Files, owner: Owner) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let data = directory.join(DATA);
    if is_current(&data, files) {
        return Ok(());
    }
    let old = fs::read_link(&data).ok();
    let stamp = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S.%9f").to_string();
    let fresh = directory.join(&stamp);
    for (path, entry) in files {
        let target = fresh.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&target, &entry.bytes)?;
        let readable = if owner.group.is_some() { 0o440 } else { 0 };
        chown(&target, owner.uid, owner.group)?;
        fs::set_permissions(&target, Permissions::from_mode(entry.mode | readable))?;
    }
    fs::create_dir_all(&fresh)?;
    let next = directory.join(NEXT);
    remove_if_there(&next)?;
    symlink(&stamp, &next)?;
    fs::rename(&next, &data)?;
    link_names(directory, files)?;
    if let Some(old) = old {
        fs::remove_dir_all(directory.join(old))?;
    }
    Ok(())
}

/// One link for each first path component; links of files that are gone are removed.
fn link_names(directory: &Path, files: &Files) -> io::Result<()> {
    let names: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for entry in fs::read_dir(directory)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !names.contains(&*name) {
            fs::remove_file(entry.path())?;
        }
    }
    for name in names {
        let link = directory.join(name);
        if !link.is_symlink() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    Ok(())
}

fn is_current(data: &Path, files: &Files) -> bool {
    let same = |(path, entry): (&String, &super::content::FileEntry)| {
        fs::read(data.join(path)).is_ok_and(|bytes| bytes == entry.bytes)
    };
    data.is_dir() && count_files(data) == files.len() && files.iter().all(same)
}

fn count_files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { count_files(&entry.path()) } else { 1 }).sum()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::content::FileEntry;

    fn files(list: &[(&str, &str)]) -> Files {
        let entry = |text: &str| FileEntry { bytes: text.as_bytes().to_vec(), mode: 0o640 };
        list.iter().map(|(path, text)| ((*path).to_owned(), entry(text))).collect()
    }

    #[test]
    fn files_appear_change_and_go() {
        let directory = tempfile::tempdir().expect("a directory");
        let read = |path: &str| fs::read_to_string(directory.path().join(path));
        write_all(directory.path(), &files(&[("a", "1"), ("deep/b", "2")]), Owner::default()).expect("written");
        assert_eq!((read("a").expect("a"), read("deep/b").expect("b")), ("1".to_owned(), "2".to_owned()));
        let mode = fs::metadata(directory.path().join("a")).expect("a").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);

        let before = fs::read_link(directory.path().join(DATA)).expect("a link");
        write_all(directory.path(), &files(&[("a", "1"), ("deep/b", "2")]), Owner::default()).expect("written");
        assert_eq!(fs::read_link(directory.path().join(DATA)).expect("a link"), before, "nothing changed");

        write_all(directory.path(), &files(&[("a", "new"), ("c", "3")]), Owner::default()).expect("written");
        assert_eq!((read("a").expect("a"), read("c").expect("c")), ("new".to_owned(), "3".to_owned()));
        assert!(read("deep/b").is_err());
        let stamps = fs::read_dir(directory.path()).expect("readable").flatten();
        assert_eq!(
            stamps.filter(|e| e.file_name().to_string_lossy().starts_with("..2")).count(),
            1,
            "the old set is gone"
        );
    }

    #[test]
    fn host_paths_are_checked() {
        let directory = tempfile::tempdir().expect("a directory");
        let source = |name: &str, kind: &str| HostPathVolumeSource {
            path: directory.path().join(name).display().to_string(),
            type_: Some(kind.to_owned()),
        };
        assert!(host_path(&source("new", "Directory")).is_err());
        assert!(host_path(&source("new", "DirectoryOrCreate")).is_ok());
        assert!(host_path(&source("new", "File")).is_err());
        assert!(host_path(&source("file", "FileOrCreate")).is_ok());
        assert!(host_path(&source("file", "")).is_ok());
    }
}
