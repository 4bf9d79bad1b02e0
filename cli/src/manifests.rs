//! Reading manifests: files, folders and standard input, YAML or JSON, several objects in one.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{CliError, Context as _};

/// Largest manifest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// One object of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    /// Where it came from, for messages.
    pub(crate) origin: String,
    /// The object.
    pub(crate) object: Value,
}

impl Manifest {
    fn text(&self, pointer: &str) -> &str {
        self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// For example `v1` or `apps/v1`.
    pub(crate) fn api_version(&self) -> &str {
        self.text("/apiVersion")
    }

    /// For example `Service`.
    pub(crate) fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// `metadata.name`.
    pub(crate) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// `metadata.namespace`, empty when the manifest names none.
    pub(crate) fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }
}

/// Reads everything that `paths` name, in their order; folders in the order of their file names.
///
/// # Errors
/// Names the file and what is wrong in it. Nothing has been changed then.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Manifest>, CliError> {
    let mut found = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let text = std::io::read_to_string(std::io::stdin()).context(|| "cannot read standard input".to_owned())?;
            found.extend(parse("standard input", &text)?);
            continue;
        }
        for file in files_of(path)? {
            let size = std::fs::metadata(&file).map_or(0, |meta| meta.len());
            if size > MAX_FILE {
                return Err(CliError::usage(format!("{} is too large for a manifest ({size} bytes)", file.display())));
            }
            let text = std::fs::read_to_string(&file)
                .map_err(|source| CliError::usage(format!("cannot read {}", file.display())).because(source))?;
            found.extend(parse(&file.display().to_string(), &text)?);
        }
    }
    if found.is_empty() {
        return Err(CliError::usage("the manifests hold no object"));
    }
    Ok(found)
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>, CliError> {
    let unreadable = |source| CliError::usage(format!("cannot read {}", path.display())).because(source);
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let is_manifest =
        |path: &PathBuf| path.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|x| e == *x));
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)
        .map_err(unreadable)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_manifest)
        .collect();
    files.sort();
    Ok(files)
}

/// Takes a text apart into its objects; `List`s are opened.
///
/// # Errors
/// The place in the text, and what was expected there.
pub(crate) fn parse(origin: &str, text: &str) -> Result<Vec<Manifest>, CliError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|source| CliError::usage(format!("{origin} is neither YAML nor JSON")).because(source))?;
    let mut manifests = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        let is_list =
            document["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && document["items"].is_array();
        let objects = match (is_list, document) {
            (true, Value::Object(mut list)) => match list.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            },
            (_, document) => vec![document],
        };
        for object in objects {
            let manifest = Manifest { origin: origin.to_owned(), object };
            for (field, value) in
                [("apiVersion", manifest.api_version()), ("kind", manifest.kind()), ("metadata.name", manifest.name())]
            {
                let generated = field == "metadata.name" && !manifest.text("/metadata/generateName").is_empty();
                if value.is_empty() && !generated {
                    return Err(CliError::usage(format!("an object in {origin} has no {field}")));
                }
            }
            manifests.push(manifest);
        }
    }
    Ok(manifests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_may_hold_several_objects_and_lists() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n# only a comment\n---\n\
                    apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: b, namespace: shop}}\n";
        let found = parse("x", text).expect("well formed");
        let names: Vec<_> = found.iter().map(|m| (m.kind(), m.namespace(), m.name())).collect();
        assert_eq!(names, [("Service", "", "a"), ("Pod", "shop", "b")]);
    }

    #[test]
    fn json_is_a_manifest_too() {
        let found = parse("x", r#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}"#);
        assert_eq!(found.expect("well formed")[0].api_version(), "apps/v1");
    }

    #[test]
    fn what_is_no_object_is_named_with_its_file() {
        for (text, message) in [
            ("kind: Pod\nmetadata: {name: a}", "has no apiVersion"),
            ("apiVersion: v1\nkind: Pod", "has no metadata.name"),
            ("a: [", "neither YAML nor JSON"),
        ] {
            let error = parse("web.yaml", text).expect_err("malformed").render();
            assert!(error.contains("web.yaml") && error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_folder_gives_its_manifests_in_order_and_a_missing_file_is_named() {
        let dir = tempfile::tempdir().expect("temporary folder");
        for (file, name) in [("2.yaml", "b"), ("1.yml", "a"), ("readme.txt", "c")] {
            let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
            std::fs::write(dir.path().join(file), text).expect("written");
        }
        let found = read(&[dir.path().to_owned()]).expect("readable");
        assert_eq!(found.iter().map(Manifest::name).collect::<Vec<_>>(), ["a", "b"]);
        let error = read(&[dir.path().join("nope.yaml")]).expect_err("missing").render();
        assert!(error.contains("nope.yaml"), "{error}");
    }
}
