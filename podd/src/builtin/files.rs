//! `agnhost test-webserver`: the files of a container over HTTP.
//!
//! An image has files of its own; here a container sees those of the machine, which are nobody's business. So only what is in
//! its volumes is served.

use std::fs;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

/// Longer files are cut: nobody tests with them. In bytes.
const LIMIT: u64 = 16 << 20;

/// The directories that may be served: the mount paths of the container's volumes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Files(Vec<PathBuf>);

impl Files {
    /// From a list with colons between.
    pub(super) fn below(list: &str) -> Self {
        Self(list.split(':').filter(|path| path.starts_with('/')).map(PathBuf::from).collect())
    }

    /// Status and content of what is at a path: a file, or the names in a directory.
    pub(super) fn get(&self, path: &str) -> (String, Vec<u8>) {
        let found = plain(path).filter(|path| self.0.iter().any(|volume| path.starts_with(volume)));
        // Links must not lead out of the volumes.
        let real = found.and_then(|path| fs::canonicalize(path).ok()).filter(|real| self.holds(real));
        match real.as_deref().and_then(content) {
            Some(bytes) => ("200 OK".to_owned(), bytes),
            None => ("404 Not Found".to_owned(), b"404 page not found\n".to_vec()),
        }
    }

    fn holds(&self, real: &Path) -> bool {
        self.0.iter().filter_map(|volume| fs::canonicalize(volume).ok()).any(|volume| real.starts_with(volume))
    }
}

fn content(path: &Path) -> Option<Vec<u8>> {
    if path.is_dir() {
        let mut names: Vec<String> =
            fs::read_dir(path).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        return Some(names.into_iter().map(|name| name + "\n").collect::<String>().into_bytes());
    }
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(LIMIT).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The path of a request without its query, decoded; none if it climbs.
fn plain(path: &str) -> Option<PathBuf> {
    let path = path.split('?').next().unwrap_or_default();
    let path = percent_encoding::percent_decode_str(path).decode_utf8().ok()?;
    let path = PathBuf::from(path.as_ref());
    path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_))).then_some(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_is_in_volumes_is_served() {
        let place = tempfile::tempdir().expect("a directory");
        let (volume, secret) = (place.path().join("results"), place.path().join("secret"));
        fs::create_dir(&volume).expect("made");
        fs::write(volume.join("a b"), [0xff, 0]).expect("written");
        fs::write(&secret, "private").expect("written");
        symlink(&secret, volume.join("link")).expect("a link");
        let files = Files::below(&volume.display().to_string());
        let root = volume.display();
        let status = |path: String| files.get(&path).0;
        assert_eq!(files.get(&format!("{root}/a%20b?x")), ("200 OK".to_owned(), vec![0xff, 0]));
        assert_eq!(files.get(&format!("{root}/")).1, b"a b\nlink\n");
        for path in
            [format!("{root}/none"), format!("{root}/link"), format!("{root}/../secret"), secret.display().to_string()]
        {
            assert_eq!(status(path.clone()), "404 Not Found", "{path}");
        }
        assert_eq!(Files::default().get("/etc/hostname").0, "404 Not Found");
    }
}
