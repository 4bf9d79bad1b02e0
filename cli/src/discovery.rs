//! From what the user calls a kind (`pods`, `svc`, `Deployment`) to where it lives in the API.

use http::Method;
use serde_json::Value;

use crate::api::LabApi;
use crate::error::CliError;
use crate::suggest;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// One kind that the lab serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    /// Groups of kinds that it belongs to, such as `all`.
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
}

impl Kind {
    /// Path of the collection; `None` as namespace means all of them.
    pub(crate) fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        match namespace {
            Some(namespace) if self.namespaced => format!("{root}/namespaces/{namespace}/{}", self.plural),
            _ => format!("{root}/{}", self.plural),
        }
    }

    /// `deployment.apps/web` or `service/web`, as kubectl prints it.
    pub(crate) fn display(&self, name: &str) -> String {
        let dot = if self.group.is_empty() { "" } else { "." };
        format!("{}{dot}{}/{name}", self.singular, self.group)
    }

    /// An object of a list with its kind, which lists leave out.
    pub(crate) fn describe(&self, mut object: Value) -> Value {
        let dash = if self.group.is_empty() { "" } else { "/" };
        object["apiVersion"] = format!("{}{dash}{}", self.group, self.version).into();
        object["kind"] = self.kind.clone().into();
        object
    }

    fn goes_by(&self, word: &str) -> bool {
        let word = word.to_ascii_lowercase();
        word == self.plural
            || word == self.singular
            || word == self.kind.to_ascii_lowercase()
            || self.short_names.contains(&word)
            || (!self.group.is_empty() && word == format!("{}.{}", self.plural, self.group))
    }
}

/// Every kind that a lab serves, in the server's order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kinds(Vec<Kind>);

impl Kinds {
    /// Asks the lab.
    ///
    /// # Errors
    /// When the lab cannot be reached.
    pub(crate) async fn ask(api: &LabApi) -> Result<Self, CliError> {
        let core = api.json(Method::GET, "/api", AGGREGATED, None).await?;
        let groups = api.json(Method::GET, "/apis", AGGREGATED, None).await?;
        Ok(Self([core, groups].iter().flat_map(parse).collect()))
    }

    /// The kind that goes by `word`.
    ///
    /// # Errors
    /// When none does; the hint lists those there are.
    pub(crate) fn by_word(&self, word: &str) -> Result<&Kind, CliError> {
        self.0.iter().find(|kind| kind.goes_by(word)).ok_or_else(|| {
            let error = CliError::not_found(format!("the lab knows no kind {word:?}"));
            let words =
                self.0.iter().flat_map(|kind| [&kind.plural, &kind.singular].into_iter().chain(&kind.short_names));
            if let Some(close) = suggest::closest(word, words.map(String::as_str)) {
                return error.hint(format!("did you mean {close}?"));
            }
            let known: Vec<&str> = self.0.iter().map(|kind| kind.plural.as_str()).collect();
            error.hint(format!("it knows {}", known.join(", ")))
        })
    }

    /// The kinds that `words` name, in their order: one word, several with commas between them, or a category such as
    /// `all`.
    ///
    /// # Errors
    /// At the first word that names nothing.
    pub(crate) fn by_words(&self, words: &str) -> Result<Vec<&Kind>, CliError> {
        let mut kinds: Vec<&Kind> = Vec::new();
        for word in words.split(',') {
            let group: Vec<&Kind> = self.0.iter().filter(|kind| kind.categories.iter().any(|c| c == word)).collect();
            let found = if group.is_empty() { vec![self.by_word(word)?] } else { group };
            kinds.extend(found.into_iter().filter(|kind| !kinds.contains(kind)).collect::<Vec<_>>());
        }
        Ok(kinds)
    }

    /// The kind of a manifest.
    ///
    /// # Errors
    /// When the lab does not serve it.
    pub(crate) fn by_manifest(&self, api_version: &str, kind: &str) -> Result<&Kind, CliError> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        self.0
            .iter()
            .find(|known| known.group == group && known.version == version && known.kind == kind)
            .ok_or_else(|| CliError::not_found(format!("the lab serves no {kind} of {api_version}")))
    }
}

fn parse(list: &Value) -> Vec<Kind> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut kinds = Vec::new();
    for group in array(&list["items"]) {
        for version in array(&group["versions"]) {
            for resource in array(&version["resources"]) {
                kinds.push(Kind {
                    group: text(&group["metadata"]["name"]),
                    version: text(&version["version"]),
                    kind: text(&resource["responseKind"]["kind"]),
                    plural: text(&resource["resource"]),
                    singular: text(&resource["singularResource"]),
                    short_names: array(&resource["shortNames"]).iter().map(text).collect(),
                    categories: array(&resource["categories"]).iter().map(text).collect(),
                    namespaced: resource["scope"] == "Namespaced",
                });
            }
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kinds() -> Kinds {
        Kinds(parse(&json!({"items": [
            {"versions": [{"version": "v1", "resources": [
                {"resource": "services", "singularResource": "service", "scope": "Namespaced",
                 "responseKind": {"kind": "Service"}, "shortNames": ["svc"], "categories": ["all"]},
                {"resource": "nodes", "singularResource": "node", "scope": "Cluster", "responseKind": {"kind": "Node"}}]}]},
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                {"resource": "deployments", "singularResource": "deployment", "scope": "Namespaced",
                 "responseKind": {"kind": "Deployment"}, "shortNames": ["deploy"], "categories": ["all"]}]}]}]})))
    }

    #[test]
    fn a_kind_goes_by_all_its_names() {
        let kinds = kinds();
        for (word, path) in [
            ("svc", "/api/v1/namespaces/n/services"),
            ("Service", "/api/v1/namespaces/n/services"),
            ("deploy", "/apis/apps/v1/namespaces/n/deployments"),
            ("deployments.apps", "/apis/apps/v1/namespaces/n/deployments"),
            ("node", "/api/v1/nodes"),
        ] {
            assert_eq!(kinds.by_word(word).expect("known").path(Some("n")), path);
        }
        let text = kinds.by_word("pod").expect_err("not served").render();
        assert!(text.contains("services, nodes, deployments"), "{text}");
        let text = kinds.by_word("servces").expect_err("a slip").render();
        assert!(text.ends_with("hint: did you mean services?"), "{text}");
    }

    #[test]
    fn several_kinds_are_named_by_commas_or_by_their_category() {
        let kinds = kinds();
        let found = |words: &str| -> Vec<String> {
            kinds.by_words(words).expect("known").iter().map(|kind| kind.plural.clone()).collect()
        };
        assert_eq!(found("all"), ["services", "deployments"]);
        assert_eq!(found("node,all,svc"), ["nodes", "services", "deployments"]);
        assert!(kinds.by_words("svc,pod").is_err(), "one of them is not served");
    }

    #[test]
    fn a_manifest_names_group_version_and_kind() {
        let kinds = kinds();
        assert_eq!(kinds.by_manifest("apps/v1", "Deployment").expect("served").display("web"), "deployment.apps/web");
        assert!(kinds.by_manifest("v1", "Deployment").is_err());
    }
}
