//! Makes the files that an image brings along, below the pod's own directory.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use super::OwnProgram;
use super::ready::{Content, Extras, Tree};
use super::texts::IPV6_MARK;

/// Where a program is, given the directories of a `PATH`. Servers are looked for where only root's `PATH` leads, too.
pub fn find_program(name: &str, path: &str) -> Option<PathBuf> {
    let is_there = |candidate: &PathBuf| candidate.is_file();
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(is_there);
    }
    let listed = path.split(':').filter(|directory| !directory.is_empty()).map(PathBuf::from);
    let servers = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    // Debian keeps the versions of PostgreSQL side by side.
    let versions =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    listed.chain(servers).chain(versions).map(|directory| directory.join(name)).find(is_there)
}

/// A directory or file of the container's own, and where it appears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Brought {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
}

/// What the container is, as far as its files depend on it.
pub(crate) struct For<'a> {
    /// Below which its files are made; they stay for as long as the pod.
    pub(crate) directory: &'a Path,
    /// Who is to own them; `None` leaves them to us.
    pub(crate) owner: Option<u32>,
    pub(crate) ipv6: bool,
    /// The container's `PATH`.
    pub(crate) path: &'a str,
}

/// Makes the files. What a container changed in them before a restart is made anew, as with an image.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn bring(extras: &Extras, container: &For<'_>) -> io::Result<Vec<Brought>> {
    let mut all = Vec::new();
    for tree in extras.trees.iter().filter(|tree| !tree.if_there || Path::new(tree.target).is_dir()) {
        let source = container.directory.join(tree.target.trim_start_matches('/').replace('/', "-"));
        if source.exists() {
            fs::remove_dir_all(&source)?;
        }
        fs::create_dir_all(&source)?;
        fill(tree, &source, container)?;
        all.push(Brought { source, target: PathBuf::from(tree.target), read_only: false });
    }
    for (link, program) in extras.links {
        let name = link.rsplit('/').next().unwrap_or_default();
        // Its own, if the machine has one.
        if find_program(name, container.path).is_some() {
            continue;
        }
        if let Some(source) = find_program(program, container.path) {
            all.push(Brought { source, target: PathBuf::from(link), read_only: true });
        }
    }
    for (file, of_nobody) in [("passwd", "x:65534:65534::/nonexistent:/usr/sbin/nologin"), ("group", "x:65534:")] {
        let target = Path::new("/etc").join(file);
        let here = fs::read_to_string(&target).unwrap_or_default();
        let known = |user: &str| here.lines().any(|line| line.split(':').next() == Some(user));
        let missing: Vec<String> =
            extras.users.iter().filter(|user| !known(user)).map(|user| format!("{user}:{of_nobody}\n")).collect();
        if !missing.is_empty() {
            let source = container.directory.join(file);
            fs::create_dir_all(container.directory)?;
            fs::write(&source, here + &missing.concat())?;
            all.push(Brought { source, target, read_only: true });
        }
    }
    Ok(all)
}

/// Puts a script where containers expect the image's own program, if nothing of the machine is there.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn bring_program(own: &OwnProgram, container: &For<'_>) -> io::Result<Vec<Brought>> {
    let missing = own.paths.iter().filter(|path| !Path::new(path).exists());
    missing
        .map(|path| {
            let source = container.directory.join(path.trim_start_matches('/').replace('/', "-"));
            let words: Vec<String> =
                own.words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
            fs::create_dir_all(container.directory)?;
            fs::write(&source, format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" ")))?;
            fs::set_permissions(&source, fs::Permissions::from_mode(0o755))?;
            Ok(Brought { source, target: PathBuf::from(path), read_only: true })
        })
        .collect()
}

fn fill(tree: &Tree, source: &Path, container: &For<'_>) -> io::Result<()> {
    own(source, container)?;
    for (name, content) in tree.entries {
        let path = source.join(name);
        if let Some(parent) = path.parent().filter(|parent| *parent != source && !parent.exists()) {
            fs::create_dir_all(parent)?;
            own(parent, container)?;
        }
        match content {
            Content::Text(text) => {
                fs::write(&path, fit(text, container.ipv6))?;
                own(&path, container)?;
            }
            Content::Directory => {
                fs::create_dir(&path)?;
                own(&path, container)?;
            }
            Content::Link(to) => symlink(to, &path)?,
            Content::Copy(from) => {
                if let Ok(text) = fs::read(from) {
                    fs::write(&path, text)?;
                    own(&path, container)?;
                }
            }
        }
    }
    Ok(())
}

/// Takes the lines for IPv6 in, or leaves them out.
fn fit(text: &str, ipv6: bool) -> String {
    let lines = text.lines().filter_map(|line| match line.strip_prefix(IPV6_MARK) {
        Some(rest) => ipv6.then_some(rest),
        None => Some(line),
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn own(path: &Path, container: &For<'_>) -> io::Result<()> {
    match container.owner {
        Some(uid) => chown(path, Some(uid), None),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ready::{Runs, find};

    fn nginx() -> Extras {
        let Some(Runs::Program(program)) = find("nginx").map(|ready| &ready.runs) else { panic!("a program") };
        program.extras
    }

    #[test]
    fn nginx_gets_settings_and_pages_of_its_own() {
        let place = tempfile::tempdir().expect("a directory");
        let mut container = For { directory: place.path(), owner: None, ipv6: false, path: "/bin" };
        let brought = bring(&nginx(), &container).expect("made");
        let of = |target: &str| brought.iter().find(|b| b.target == Path::new(target)).expect("there").source.clone();
        let read = |name: &str| fs::read_to_string(of("/etc/nginx").join(name)).expect("a file");
        assert!(read("nginx.conf").contains("include /etc/nginx/conf.d/*.conf;"));
        assert!(read("conf.d/default.conf").contains("listen 80;") && !read("conf.d/default.conf").contains("[::]"));
        let users = fs::read_to_string("/etc/passwd").expect("users");
        if !users.contains("nginx:") {
            let users = fs::read_to_string(of("/etc/passwd")).expect("users");
            assert!(users.contains("root:") && users.contains("nginx:x:65534:"), "{users}");
        }
        assert_eq!(fs::read_link(of("/var/log/nginx").join("access.log")).expect("a link"), Path::new("/dev/stdout"));
        fs::write(of("/usr/share/nginx/html").join("index.html"), "changed").expect("written");
        container.ipv6 = true;
        bring(&nginx(), &container).expect("made again");
        assert!(read("conf.d/default.conf").contains("    listen [::]:80;"));
        let page = fs::read_to_string(of("/usr/share/nginx/html").join("index.html")).expect("a file");
        assert!(page.contains("Welcome to nginx!"), "a restarted container begins with the image's files");
    }

    #[test]
    fn a_missing_name_is_a_link_to_a_program_that_is_there() {
        let place = tempfile::tempdir().expect("a directory");
        let bin = place.path().join("bin");
        fs::create_dir(&bin).expect("made");
        fs::write(bin.join("shell-99"), "").expect("written");
        let path = bin.display().to_string();
        let container = For { directory: place.path(), owner: None, ipv6: false, path: &path };
        let extras = Extras {
            links: &[("/usr/local/bin/no-such-name", "shell-99"), ("/x/shell-99", "shell-99")],
            ..Extras::default()
        };
        let expected =
            Brought { source: bin.join("shell-99"), target: "/usr/local/bin/no-such-name".into(), read_only: true };
        assert_eq!(bring(&extras, &container).expect("made"), [expected]);
    }

    #[test]
    fn the_own_program_of_an_image_is_a_script() {
        let place = tempfile::tempdir().expect("a directory");
        let container = For { directory: &place.path().join("image"), owner: None, ipv6: false, path: "" };
        let words = ["/bin/echo", "it's", "--"].map(str::to_owned).to_vec();
        let brought =
            bring_program(&OwnProgram { paths: vec!["/bin/sh", "/no/such"], words }, &container).expect("made");
        let [script] = brought.as_slice() else { panic!("one is missing: {brought:?}") };
        assert_eq!(script.target, Path::new("/no/such"));
        let said = std::process::Command::new(&script.source).args(["a b", "$c"]).output().expect("executed").stdout;
        assert_eq!(String::from_utf8(said).expect("text"), "it's -- a b $c\n");
    }
}
