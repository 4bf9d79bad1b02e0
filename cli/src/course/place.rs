//! Where a lesson happens: its objects, placeholders that stand for what they say, and places to ask from.

use minisvc_why::Client;
use serde_json::Value;

use crate::api::LabApi;
use crate::control::Place;
use crate::discovery::Kinds;
use crate::error::CliError;
use crate::home::LabHome;

/// A running lab, as one lesson sees it.
pub(crate) struct Scene {
    pub(crate) home: LabHome,
    pub(crate) api: LabApi,
    pub(crate) kinds: Kinds,
    pub(crate) namespace: String,
}

impl Scene {
    /// The scene of a lesson.
    ///
    /// # Errors
    /// When the lab does not run.
    pub(crate) async fn of(home: LabHome, namespace: String) -> Result<Self, CliError> {
        let api = LabApi::of(&home)?;
        let kinds = Kinds::ask(&api).await?;
        Ok(Self { home, api, kinds, namespace })
    }

    /// An object by what a lesson calls it: `svc/web`, `pod[app=web]`, or with another namespace in front: `lab06-shop/svc/web`.
    ///
    /// # Errors
    /// A sentence that says what is not there.
    pub(crate) async fn object(&self, reference: &str) -> Result<Value, String> {
        let Reference { namespace, kind, choice } =
            Reference::parse(reference).ok_or_else(|| format!("{reference:?} names no object"))?;
        let namespace = namespace.unwrap_or(&self.namespace);
        let kind = self.kinds.by_word(kind).map_err(|error| error.to_string())?;
        let collection = kind.path(Some(namespace));
        match choice {
            Choice::Name(name) => match self.api.get(&format!("{collection}/{name}")).await {
                Ok(object) => Ok(object),
                Err(error) if error.is_not_found() => {
                    Err(format!("there is no {} {name} in namespace {namespace}", kind.singular))
                }
                Err(error) => Err(error.to_string()),
            },
            Choice::Label(label) => {
                let path = format!("{collection}?labelSelector={label}");
                let list = self.api.get(&path).await.map_err(|error| error.to_string())?;
                let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
                let stays = |object: &&Value| object["metadata"]["deletionTimestamp"].is_null();
                let ready = items.iter().filter(stays).find(|object| is_ready(object));
                let found = ready.or_else(|| items.iter().find(stays));
                found
                    .cloned()
                    .ok_or_else(|| format!("there is no {} with {label} in namespace {namespace}", kind.singular))
            }
        }
    }

    /// Puts what objects say in the place of `${OBJECT:/json/pointer}`.
    ///
    /// # Errors
    /// A sentence that says what is not there.
    pub(crate) async fn expand(&self, text: &str) -> Result<String, String> {
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (inner, after) = after.split_once('}').ok_or_else(|| format!("{text:?} has an open placeholder"))?;
            let (reference, pointer) = inner.split_once(':').ok_or_else(|| format!("{inner:?} names no field"))?;
            let object = self.object(reference).await?;
            let value = object.pointer(pointer).filter(|value| !value.is_null());
            let value = value
                .ok_or_else(|| format!("{reference} has no {} yet", pointer.rsplit('/').next().unwrap_or(pointer)))?;
            expanded += before;
            expanded += &value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            rest = after;
        }
        Ok(expanded + rest)
    }

    /// Where to ask from: a pod by its label, or the workstation if none is named.
    ///
    /// # Errors
    /// When no such pod runs.
    pub(crate) async fn place(&self, from: &str) -> Result<(Place, Client), String> {
        if from.is_empty() {
            return Ok((Place::Workstation, Client::Workstation));
        }
        let (namespace, label) = from.split_once('/').unwrap_or((&self.namespace, from));
        let pod = self.object(&format!("{namespace}/pod[{label}]")).await?;
        let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let container = pod["spec"]["containers"][0]["name"].as_str().map(str::to_owned);
        let key = (namespace.to_owned(), name.clone());
        Ok((Place::Pod { namespace: namespace.to_owned(), pod: name, container }, Client::Pod(key)))
    }
}

/// Whether an object's condition `Ready` is true.
pub(crate) fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// How a lesson names an object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    pub(crate) namespace: Option<&'a str>,
    pub(crate) kind: &'a str,
    pub(crate) choice: Choice<'a>,
}

/// Which object of its kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice<'a> {
    /// By name.
    Name(&'a str),
    /// The first with a label, ready ones first.
    Label(&'a str),
}

impl<'a> Reference<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        if let Some((before, label)) = text.strip_suffix(']').and_then(|text| text.split_once('[')) {
            let (namespace, kind) =
                before.split_once('/').map_or((None, before), |(namespace, kind)| (Some(namespace), kind));
            return Some(Self { namespace, kind, choice: Choice::Label(label) });
        }
        match text.split('/').collect::<Vec<_>>()[..] {
            [kind, name] => Some(Self { namespace: None, kind, choice: Choice::Name(name) }),
            [namespace, kind, name] => Some(Self { namespace: Some(namespace), kind, choice: Choice::Name(name) }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lessons_name_objects_by_name_or_label_here_or_elsewhere() {
        let name = |namespace, kind, name| Some(Reference { namespace, kind, choice: Choice::Name(name) });
        let label = |namespace, kind, label| Some(Reference { namespace, kind, choice: Choice::Label(label) });
        assert_eq!(Reference::parse("svc/web"), name(None, "svc", "web"));
        assert_eq!(Reference::parse("shop/svc/web"), name(Some("shop"), "svc", "web"));
        assert_eq!(Reference::parse("pod[app=web]"), label(None, "pod", "app=web"));
        assert_eq!(Reference::parse("shop/pod[app=web]"), label(Some("shop"), "pod", "app=web"));
        assert_eq!(Reference::parse("web"), None);
    }
}
