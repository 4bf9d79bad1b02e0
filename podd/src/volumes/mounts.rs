//! Where a container sees what: volumes, the pod's own files, and the host's resolver sockets covered.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::Container;
use minisvc_sandbox::Mount;

use super::{Root, VolumeError};
use crate::env::expand::expand;
use crate::image::bring::Brought;

/// Sockets through which the host's libraries would ask the host instead of the pod's DNS.
const HIDDEN: [&str; 3] =
    ["/run/systemd/resolve/io.systemd.Resolve", "/run/dbus/system_bus_socket", "/run/nscd/socket"];

/// The files every container of a pod gets unless it mounts its own (N-095).
#[derive(Clone, Debug)]
pub(crate) struct PodFiles {
    pub(crate) hosts: PathBuf,
    pub(crate) resolv_conf: PathBuf,
    pub(crate) nsswitch: PathBuf,
}

/// The mounts of `container`, parents before children; its own come before what the pod and its image have.
pub(crate) fn mounts(
    container: &Container,
    roots: &BTreeMap<String, Root>,
    own: &PodFiles,
    brought: &[Brought],
    environment: &BTreeMap<String, String>,
) -> Result<Vec<Mount>, VolumeError> {
    let mut binds = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let root = roots.get(&mount.name).ok_or_else(|| VolumeError::Unknown(mount.name.clone()))?;
        let sub = match (&mount.sub_path_expr, &mount.sub_path) {
            (Some(text), _) => expand(text, |name| environment.get(name).cloned()),
            (None, Some(path)) => path.clone(),
            (None, None) => String::new(),
        };
        binds.push((
            PathBuf::from(&mount.mount_path),
            below(&root.path, &sub, root.read_only)?,
            root.read_only || mount.read_only.unwrap_or(false),
        ));
    }
    let own =
        [("/etc/hosts", &own.hosts), ("/etc/resolv.conf", &own.resolv_conf), ("/etc/nsswitch.conf", &own.nsswitch)];
    for (target, source) in own {
        if !binds.iter().any(|(taken, ..)| taken == Path::new(target)) {
            binds.push((PathBuf::from(target), source.clone(), false));
        }
    }
    for Brought { source, target, read_only } in brought {
        if !binds.iter().any(|(taken, ..)| taken == target) {
            binds.push((target.clone(), source.clone(), *read_only));
        }
    }
    binds.sort_by_key(|(target, ..)| target.components().count());
    let hidden = HIDDEN.iter().map(|path| Mount::Hide { target: PathBuf::from(path) });
    let binds = binds.into_iter().map(|(target, source, read_only)| Mount::Bind { source, target, read_only });
    Ok(hidden.chain(binds).collect())
}

/// `sub` inside `root`. In a volume that containers may write to, a missing directory is made.
fn below(root: &Path, sub: &str, read_only: bool) -> Result<PathBuf, VolumeError> {
    if sub.is_empty() {
        return Ok(root.to_path_buf());
    }
    let outside = || VolumeError::Outside(sub.to_owned());
    if !Path::new(sub).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(outside());
    }
    let path = root.join(sub);
    let failed = |source| VolumeError::Disk { path: path.display().to_string(), source };
    if !read_only && !path.exists() {
        std::fs::create_dir_all(&path).map_err(failed)?;
    }
    // A link inside the volume, made by a container, must not lead out of it.
    let real = path.canonicalize().map_err(failed)?;
    let root = root.canonicalize().map_err(failed)?;
    if real.starts_with(&root) { Ok(real) } else { Err(outside()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    struct Place {
        directory: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().expect("a directory") }
        }

        fn mounts(&self, list: Value) -> Result<Vec<Mount>, VolumeError> {
            let container = json!({"name": "app", "volumeMounts": list});
            let container: Container = serde_json::from_value(container).expect("a container");
            let root = |read_only| Root { path: self.directory.path().to_path_buf(), read_only };
            let roots = BTreeMap::from([("data".to_owned(), root(false)), ("conf".to_owned(), root(true))]);
            let own = PodFiles { hosts: "/h".into(), resolv_conf: "/r".into(), nsswitch: "/n".into() };
            let environment = BTreeMap::from([("POD".to_owned(), "web-0".to_owned())]);
            let brought = ["/srv", "/etc/app"].map(|target| Brought {
                source: "/image".into(),
                target: target.into(),
                read_only: false,
            });
            mounts(&container, &roots, &own, &brought, &environment)
        }

        fn binds(&self, list: Value) -> Vec<(String, String, bool)> {
            let root = self.directory.path().canonicalize().expect("a path");
            let show = |mount| match mount {
                Mount::Bind { source, target, read_only } => {
                    let source = source.strip_prefix(&root).unwrap_or(&source).display().to_string();
                    Some((target.display().to_string(), source, read_only))
                }
                _ => None,
            };
            self.mounts(list).expect("mountable").into_iter().filter_map(show).collect()
        }
    }

    // N-095
    #[test]
    fn a_container_with_its_own_hosts_file_is_left_alone() {
        let place = Place::new();
        std::fs::write(place.directory.path().join("hosts"), "").expect("written");
        let list = json!([{"name": "conf", "mountPath": "/etc/hosts", "subPath": "hosts"}]);
        let hosts: Vec<_> = place.binds(list).into_iter().filter(|(target, ..)| target == "/etc/hosts").collect();
        assert_eq!(hosts, [("/etc/hosts".to_owned(), "hosts".to_owned(), true)]);
        assert!(place.binds(json!([])).contains(&("/etc/hosts".to_owned(), "/h".to_owned(), false)));
    }

    #[test]
    fn parents_are_mounted_before_children_and_sub_paths_expand() {
        let place = Place::new();
        let list = json!([
            {"name": "data", "mountPath": "/srv/data/deep", "subPathExpr": "$(POD)/x"},
            {"name": "data", "mountPath": "/srv", "readOnly": true},
        ]);
        let binds = place.binds(list);
        assert_eq!(binds.first().expect("a mount"), &("/srv".to_owned(), String::new(), true), "not the image's");
        assert!(binds.contains(&("/etc/app".to_owned(), "/image".to_owned(), false)));
        assert_eq!(binds.last().expect("a mount"), &("/srv/data/deep".to_owned(), "web-0/x".to_owned(), false));
    }

    #[test]
    fn nothing_leads_out_of_a_volume() {
        let place = Place::new();
        std::os::unix::fs::symlink("/etc", place.directory.path().join("way-out")).expect("a link");
        for sub in ["../x", "/etc", "way-out"] {
            let list = json!([{"name": "data", "mountPath": "/srv", "subPath": sub}]);
            assert!(matches!(place.mounts(list), Err(VolumeError::Outside(_))), "{sub}");
        }
        assert!(matches!(place.mounts(json!([{"name": "nope", "mountPath": "/x"}])), Err(VolumeError::Unknown(_))));
    }

    #[test]
    fn the_hosts_resolvers_are_covered() {
        let place = Place::new();
        let mounts = place.mounts(json!([])).expect("mountable");
        assert!(mounts.contains(&Mount::Hide { target: "/run/nscd/socket".into() }));
    }
}
