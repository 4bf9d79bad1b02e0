//! Which files a volume holds, as a function of the manifest and the objects it refers to.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccountTokenProjection, Volume, VolumeProjection,
};

use super::{TokenWanted, VolumeError};
use crate::env::compose::Objects;
use crate::env::fields::{self, Facts};

/// Permissions of a file unless something else is said.
const DEFAULT_MODE: i32 = 0o644;
/// Life time of a token unless something else is said, in seconds.
const TOKEN_SECONDS: i64 = 3600;

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileEntry {
    pub(crate) bytes: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
}

/// Files by path relative to the volume.
pub(crate) type Files = BTreeMap<String, FileEntry>;

/// Everything a volume may draw from.
pub(crate) struct Sources<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) objects: &'a Objects,
    pub(crate) tokens: &'a BTreeMap<TokenWanted, String>,
    pub(crate) facts: &'a Facts,
}

/// The files of a volume made of API objects; `None` for one that is a plain directory.
pub(crate) fn files(volume: &Volume, sources: &Sources<'_>) -> Result<Option<Files>, VolumeError> {
    let mut files = Files::new();
    if let Some(source) = &volume.config_map {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        config_map(&source.name, source.items.as_deref(), source.optional, mode, sources, &mut files)?;
    } else if let Some(source) = &volume.secret {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let name = source.secret_name.as_deref().unwrap_or_default();
        secret(name, source.items.as_deref(), source.optional, mode, sources, &mut files)?;
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        downward(source.items.as_deref().unwrap_or_default(), mode, sources, &mut files)?;
    } else if let Some(source) = &volume.projected {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        for part in source.sources.iter().flatten() {
            projection(&volume.name, part, mode, sources, &mut files)?;
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

/// What a token projection asks for.
pub(crate) fn token_wanted(source: &ServiceAccountTokenProjection) -> TokenWanted {
    TokenWanted {
        audience: source.audience.clone().filter(|audience| !audience.is_empty()),
        seconds: source.expiration_seconds.unwrap_or(TOKEN_SECONDS),
    }
}

fn projection(
    volume: &str,
    part: &VolumeProjection,
    mode: i32,
    sources: &Sources<'_>,
    files: &mut Files,
) -> Result<(), VolumeError> {
    if let Some(source) = &part.config_map {
        config_map(&source.name, source.items.as_deref(), source.optional, mode, sources, files)
    } else if let Some(source) = &part.secret {
        secret(&source.name, source.items.as_deref(), source.optional, mode, sources, files)
    } else if let Some(source) = &part.downward_api {
        downward(source.items.as_deref().unwrap_or_default(), mode, sources, files)
    } else if let Some(source) = &part.service_account_token {
        let token = sources.tokens.get(&token_wanted(source)).cloned().unwrap_or_default();
        add(files, &source.path, token.into_bytes(), mode)
    } else {
        Err(VolumeError::Kind(volume.to_owned()))
    }
}

fn config_map(
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
    sources: &Sources<'_>,
    files: &mut Files,
) -> Result<(), VolumeError> {
    let map = sources.objects.config_maps.get(name);
    let read = |map: &ConfigMap| {
        let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
        let binary = map.binary_data.iter().flatten().map(|(key, ByteString(bytes))| (key.clone(), bytes.clone()));
        text.chain(binary).collect()
    };
    keys("configmap", name, map.map(read), items, optional, mode, files)
}

fn secret(
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
    sources: &Sources<'_>,
    files: &mut Files,
) -> Result<(), VolumeError> {
    let secret = sources.objects.secrets.get(name);
    let read = |secret: &Secret| {
        let data = secret.data.iter().flatten();
        data.map(|(key, ByteString(bytes))| (key.clone(), bytes.clone())).collect()
    };
    keys("secret", name, secret.map(read), items, optional, mode, files)
}

fn keys(
    kind: &'static str,
    name: &str,
    data: Option<BTreeMap<String, Vec<u8>>>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
    files: &mut Files,
) -> Result<(), VolumeError> {
    let optional = optional.unwrap_or(false);
    let Some(data) = data else {
        return if optional { Ok(()) } else { Err(VolumeError::Missing { kind, name: name.to_owned() }) };
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return data.into_iter().try_for_each(|(key, bytes)| add(files, &key, bytes, mode));
    };
    for item in items {
        match data.get(&item.key) {
            Some(bytes) => add(files, &item.path, bytes.clone(), item.mode.unwrap_or(mode))?,
            None if optional => {}
            None => {
                return Err(VolumeError::MissingKey { kind, name: name.to_owned(), key: item.key.clone() });
            }
        }
    }
    Ok(())
}

fn downward(
    items: &[DownwardAPIVolumeFile],
    mode: i32,
    sources: &Sources<'_>,
    files: &mut Files,
) -> Result<(), VolumeError> {
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            fields::volume_field(sources.pod, &field.field_path)?
        } else if let Some(wanted) = &item.resource_field_ref {
            let divisor = wanted.divisor.as_ref().map(|divisor| divisor.0.as_str());
            let container = wanted.container_name.as_deref();
            fields::resource(sources.pod, None, container, &wanted.resource, divisor, sources.facts)?
        } else {
            String::new()
        };
        add(files, &item.path, text.into_bytes(), item.mode.unwrap_or(mode))?;
    }
    Ok(())
}

fn add(files: &mut Files, path: &str, bytes: Vec<u8>, mode: i32) -> Result<(), VolumeError> {
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !inside {
        return Err(VolumeError::Outside(path.to_owned()));
    }
    let mode = u32::try_from(mode).unwrap_or(0o644) & 0o777;
    files.insert(path.to_owned(), FileEntry { bytes, mode });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn listing(volume: Value) -> Result<Vec<(String, String, u32)>, VolumeError> {
        let mut volume = volume;
        volume["name"] = json!("v");
        let volume: Volume = serde_json::from_value(volume).expect("a volume");
        let map = json!({"metadata": {"name": "conf"}, "data": {"a.txt": "alpha", "b.txt": "beta"}, "binaryData": {"c.bin": "Yw=="}});
        let secret = json!({"metadata": {"name": "key"}, "data": {"password": "czNjcmV0"}});
        let objects = Objects {
            config_maps: BTreeMap::from([("conf".to_owned(), serde_json::from_value(map).expect("a ConfigMap"))]),
            secrets: BTreeMap::from([("key".to_owned(), serde_json::from_value(secret).expect("a Secret"))]),
        };
        let token = TokenWanted { audience: None, seconds: 3607 };
        let sources = Sources {
            pod: &crate::testing::pod(json!({})),
            objects: &objects,
            tokens: &BTreeMap::from([(token, "t0ken".to_owned())]),
            facts: &Facts::default(),
        };
        let files = files(&volume, &sources)?.expect("made of objects");
        let show =
            |(path, entry): (String, FileEntry)| (path, String::from_utf8_lossy(&entry.bytes).into_owned(), entry.mode);
        Ok(files.into_iter().map(show).collect())
    }

    fn entry(path: &str, text: &str, mode: u32) -> (String, String, u32) {
        (path.to_owned(), text.to_owned(), mode)
    }

    #[test]
    fn keys_become_files() {
        let all = listing(json!({"configMap": {"name": "conf"}})).expect("complete");
        assert_eq!(all, [entry("a.txt", "alpha", 0o644), entry("b.txt", "beta", 0o644), entry("c.bin", "c", 0o644)]);
        let items = json!([{"key": "password", "path": "deep/pw", "mode": 0o400}]);
        let some = listing(json!({"secret": {"secretName": "key", "items": items}})).expect("complete");
        assert_eq!(some, [entry("deep/pw", "s3cret", 0o400)]);
    }

    #[test]
    fn what_is_missing_is_named_unless_optional() {
        let gone = listing(json!({"configMap": {"name": "nope"}})).expect_err("missing");
        assert_eq!(gone.to_string(), "configmap \"nope\" not found");
        assert_eq!(listing(json!({"configMap": {"name": "nope", "optional": true}})).expect("optional"), []);
        let items = json!([{"key": "nope", "path": "x"}]);
        assert!(listing(json!({"configMap": {"name": "conf", "items": items}})).is_err());
        let outside = json!([{"key": "a.txt", "path": "../x"}]);
        assert!(matches!(
            listing(json!({"configMap": {"name": "conf", "items": outside}})),
            Err(VolumeError::Outside(_))
        ));
    }

    // P-076, P-072
    #[test]
    fn a_projected_volume_gathers_token_ca_and_namespace() {
        let sources = json!([
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "conf", "items": [{"key": "a.txt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]);
        let files = listing(json!({"projected": {"sources": sources, "defaultMode": 0o640}})).expect("complete");
        let expected =
            [entry("ca.crt", "alpha", 0o640), entry("namespace", "default", 0o640), entry("token", "t0ken", 0o640)];
        assert_eq!(files, expected);
    }
}
