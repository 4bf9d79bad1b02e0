//! Volumes: what is in them (`content`), how they get onto the disk (`disk`), where a container sees them (`mounts`).

pub(crate) mod content;
pub(crate) mod disk;
pub(crate) mod mounts;

use std::collections::BTreeSet;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Pod;
use thiserror::Error;

use crate::env::compose::Reference;
use crate::env::fields::FieldError;

/// Why a volume cannot be had (yet).
#[derive(Debug, Error)]
pub(crate) enum VolumeError {
    /// A ConfigMap or Secret is missing.
    #[error("{kind} {name:?} not found")]
    Missing {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It has no such key.
    #[error("{kind} {name:?} has no key {key:?}")]
    MissingKey {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key asked for.
        key: String,
    },
    /// A downward API reference.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// This runtime has no such kind of volume.
    #[error(
        "volume {0:?}: this kind of volume is not supported; use emptyDir, hostPath, configMap, secret, downwardAPI or projected"
    )]
    Kind(String),
    /// A path that would leave the volume.
    #[error("path {0:?} is not inside the volume")]
    Outside(String),
    /// A host path that is not what was asked for.
    #[error("hostPath {path}: {problem}")]
    HostPath {
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A mount of a volume that the pod does not have.
    #[error("volume mount {0:?} names no volume of the pod")]
    Unknown(String),
    /// The API server gave no token.
    #[error("no token for service account {account:?}: {source}")]
    Token {
        /// The service account.
        account: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The API server could not be asked.
    #[error("cannot read what the volumes refer to: {0}")]
    Api(Box<kube::Error>),
    /// The disk.
    #[error("cannot write {path}: {source}")]
    Disk {
        /// Where.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// A volume of a pod on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    /// What is mounted.
    pub(crate) path: PathBuf,
    /// Containers may not write to it, whatever the mount says.
    pub(crate) read_only: bool,
}

/// A service account token that a volume wants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TokenWanted {
    /// `None` for the API server's own audience.
    pub(crate) audience: Option<String>,
    /// Life time.
    pub(crate) seconds: i64,
}

/// The ConfigMaps and Secrets that the volumes of `pod` refer to.
pub(crate) fn references(pod: &Pod) -> BTreeSet<Reference> {
    let mut out = BTreeSet::new();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        out.extend(volume.config_map.as_ref().map(|source| Reference::ConfigMap(source.name.clone())));
        out.extend(volume.secret.as_ref().and_then(|s| s.secret_name.clone()).map(Reference::Secret));
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            out.extend(source.config_map.as_ref().map(|source| Reference::ConfigMap(source.name.clone())));
            out.extend(source.secret.as_ref().map(|source| Reference::Secret(source.name.clone())));
        }
    }
    out
}

/// The tokens that the volumes of `pod` want.
pub(crate) fn tokens(pod: &Pod) -> BTreeSet<TokenWanted> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let sources = volumes.filter_map(|volume| volume.projected.as_ref()).flat_map(|p| p.sources.iter().flatten());
    sources.filter_map(|source| source.service_account_token.as_ref()).map(content::token_wanted).collect()
}
