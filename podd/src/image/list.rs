//! What is known about images, for people.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::ready::{READY, Runs};
use super::{ECHO, ImageCommand, PAUSE};

/// One image, or several that are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageListing {
    /// Its names, without registry and tag.
    pub names: Vec<String>,
    /// What a container without `command` executes.
    pub command: String,
    /// Where that is on this machine; `None` if it is missing.
    pub found: Option<String>,
    /// The Debian package that has what is missing.
    pub package: Option<&'static str>,
}

/// The user's mappings, the built-in images and the ready mappings. `find` says where a program is on this machine.
pub fn list(images: &BTreeMap<String, ImageCommand>, find: &dyn Fn(&str) -> Option<PathBuf>) -> Vec<ImageListing> {
    let place = |path: PathBuf| path.display().to_string();
    let own = images.iter().map(|(name, mapped)| ImageListing {
        names: vec![name.clone()],
        command: mapped.command.join(" "),
        found: mapped.command.first().and_then(|program| find(program)).map(place),
        package: mapped.command.first().and_then(|program| super::package_of(program)),
    });
    let builtin = |name: &str, what: &str| ImageListing {
        names: vec![name.to_owned()],
        command: what.to_owned(),
        found: Some("built in".to_owned()),
        package: None,
    };
    let own_servers = [builtin(ECHO, "echo server"), builtin(PAUSE, "waits")];
    let ready = READY.iter().map(|ready| {
        let names = ready.names.iter().map(|name| (*name).to_owned()).collect();
        match &ready.runs {
            Runs::Tools(default, _) => {
                let program = default.first().copied().unwrap_or_default();
                let found = find(program).map(place);
                ImageListing { names, command: default.join(" "), found, package: super::package_of(program) }
            }
            Runs::Server(manner, _) => ImageListing {
                names,
                command: format!("echo server as {manner}"),
                found: Some("built in".to_owned()),
                package: None,
            },
            Runs::Pause => {
                ImageListing { names, command: "waits".to_owned(), found: Some("built in".to_owned()), package: None }
            }
            Runs::Program(program) => {
                let found = program.candidates.iter().find_map(|name| find(name));
                let name = program.candidates.first().copied().unwrap_or_default();
                let words: Vec<&str> = [name]
                    .into_iter()
                    .chain(program.first.iter().copied())
                    .chain(program.default.iter().copied())
                    .chain(program.always.iter().copied())
                    .collect();
                ImageListing {
                    names,
                    command: words.join(" "),
                    found: found.map(place),
                    package: Some(program.package),
                }
            }
        }
    });
    // A mapping of the user's stands instead of a ready one.
    let shadowed = |listing: &ImageListing| listing.names.iter().all(|name| images.contains_key(name));
    own.chain(own_servers.into_iter().chain(ready).filter(|listing| !shadowed(listing))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mapped_found_and_missing_is_told() {
        let mine =
            BTreeMap::from([("redis".to_owned(), ImageCommand { command: vec!["/opt/redis".into(), "-x".into()] })]);
        let find =
            |name: &str| (name == "nginx" || name == "/opt/redis").then(|| PathBuf::from("/usr/sbin").join(name));
        let list = list(&mine, &find);
        let of =
            |name: &str| list.iter().find(|listing| listing.names.iter().any(|n| n == name)).expect("listed").clone();
        assert_eq!((of("redis").command.as_str(), of("redis").found.as_deref()), ("/opt/redis -x", Some("/opt/redis")));
        assert_eq!(of("nginx").found.as_deref(), Some("/usr/sbin/nginx"));
        assert_eq!((of("memcached").found, of("memcached").package), (None, Some("memcached")));
        assert_eq!(of("minisvc/echo").found.as_deref(), Some("built in"));
    }
}
