//! `get`, `apply`, `delete` and `logs`: the everyday part of kubectl for machines without it.

use std::io::Write as _;

use futures::StreamExt as _;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::api::LabApi;
use crate::args::{ApplyArgs, DeleteArgs, GetArgs, LogsArgs, Output};
use crate::commands::project::{self, Running};
use crate::discovery::{Kind, Kinds};
use crate::error::{CliError, Context as _};
use crate::home::LabHome;
use crate::manifests::{self, Manifest};
use crate::narrator::Narrator;
use crate::output::{self, GetOutput, Table};
use crate::suggest;

pub(crate) const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// Who the server shall say owns what `minisvc apply` set.
const FIELD_MANAGER: &str = "minisvc";

/// Lists objects, and with `--watch` every change of them.
///
/// # Errors
/// When a kind or the object does not exist.
pub(crate) async fn get(args: &GetArgs) -> Result<(), CliError> {
    let api = LabApi::of(&LabHome::of(&args.lab)?)?;
    let kinds = Kinds::ask(&api).await?;
    let named = Named::of(&args.kind, args.object.as_deref());
    match kinds.by_words(named.kind)?[..] {
        [kind] => match (get_one_kind(args, &api, kind, named.object).await, named.object) {
            (Err(error), Some(name)) => Err(did_you_mean(error, &api, kind, &args.scope.namespace, name).await),
            (result, _) => result,
        },
        ref several => get_several_kinds(args, &api, several, named.object).await,
    }
}

/// A kind and an object as they are typed: `pod web` or `pod/web`.
pub(crate) struct Named<'a> {
    pub(crate) kind: &'a str,
    pub(crate) object: Option<&'a str>,
}

impl<'a> Named<'a> {
    pub(crate) fn of(kind: &'a str, object: Option<&'a str>) -> Self {
        match (kind.split_once('/'), object) {
            (Some((kind, object)), None) => Self { kind, object: Some(object) },
            _ => Self { kind, object },
        }
    }
}

/// Adds to "not found" which object was meant, or where the one of this name is.
pub(crate) async fn did_you_mean(error: CliError, api: &LabApi, kind: &Kind, namespace: &str, name: &str) -> CliError {
    if !error.is_not_found() {
        return error;
    }
    // The error that is there already is more to the point than one about a list.
    let Ok(everywhere) = api.get(&kind.path(None)).await else { return error };
    let all = everywhere["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |object: &Value, field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    if let Some(elsewhere) = all.iter().find(|object| text(object, "name") == name) {
        return error.hint(format!("there is one in another namespace: add -n {}", text(elsewhere, "namespace")));
    }
    let here = all.iter().filter(|object| !kind.namespaced || text(object, "namespace") == namespace);
    let names: Vec<&str> = here.filter_map(|object| object["metadata"]["name"].as_str()).collect();
    match suggest::object(name, &names) {
        Some(close) => error.hint(format!("did you mean {close}?")),
        None => error.hint(format!("see which there are: minisvc get {} -A", kind.plural)),
    }
}

/// What is asked of the server for one kind: the collection, the object in it if one is named, and the query.
struct Listing {
    collection: String,
    path: String,
    query: Vec<String>,
    /// Whether the rows need their namespace beside them.
    across_namespaces: bool,
}

impl Listing {
    fn of(args: &GetArgs, kind: &Kind, object: Option<&str>) -> Self {
        let namespace = (!args.scope.all_namespaces).then_some(args.scope.namespace.as_str());
        let collection = kind.path(namespace);
        let path = object.map_or_else(|| collection.clone(), |name| format!("{collection}/{name}"));
        let query = args.scope.selector.iter().map(|selector| format!("labelSelector={}", encode(selector))).collect();
        Self { collection, path, query, across_namespaces: args.scope.all_namespaces && kind.namespaced }
    }

    fn url(&self) -> String {
        format!("{}?{}", self.path, self.query.join("&"))
    }
}

async fn get_one_kind(args: &GetArgs, api: &LabApi, kind: &Kind, object: Option<&str>) -> Result<(), CliError> {
    let mut listing = Listing::of(args, kind, object);
    let format = match &args.output {
        GetOutput::JsonPath(template) => return output::print(&template.render(&api.get(&listing.url()).await?)?),
        GetOutput::As(format) => *format,
    };
    match format {
        Output::Table | Output::Wide => {
            let answer = api.json(Method::GET, &listing.url(), AS_TABLE, None).await?;
            let mut table = Table::from_server(&answer, format == Output::Wide, listing.across_namespaces);
            if table.is_empty() && !args.watch {
                say_that_nothing_is_there(args);
                return Ok(());
            }
            output::print(&table.render_all())?;
            if args.watch {
                if let Some(name) = object {
                    listing.query.push(format!("fieldSelector=metadata.name%3D{}", encode(name)));
                }
                let seen = answer["metadata"]["resourceVersion"].as_str().unwrap_or("0");
                listing.query.extend(["watch=true".to_owned(), format!("resourceVersion={seen}")]);
                watch(api, &format!("{}?{}", listing.collection, listing.query.join("&")), &mut table).await?;
            }
            Ok(())
        }
        Output::Json => output::print_json(&api.get(&listing.url()).await?),
        Output::Yaml => output::print_yaml(&api.get(&listing.url()).await?),
        Output::Name => output::print(&names(kind, &items(&api.get(&listing.url()).await?))),
    }
}

/// A table for each kind that has objects, as kubectl shows them, or one list of all objects.
async fn get_several_kinds(
    args: &GetArgs,
    api: &LabApi,
    kinds: &[&Kind],
    object: Option<&str>,
) -> Result<(), CliError> {
    if args.watch || object.is_some() {
        return Err(CliError::usage("--watch and the name of an object need one kind")
            .hint("name one kind, for example minisvc get pods -w"));
    }
    let mut tables = Vec::new();
    let mut everything = Vec::new();
    let mut all_names = String::new();
    for kind in kinds {
        let listing = Listing::of(args, kind, None);
        if let GetOutput::As(format @ (Output::Table | Output::Wide)) = args.output {
            let answer = api.json(Method::GET, &listing.url(), AS_TABLE, None).await?;
            let mut table = Table::from_server(&answer, format == Output::Wide, listing.across_namespaces);
            table.name_in_full(|name| kind.display(name));
            tables.extend((!table.is_empty()).then(|| table.render_all()));
        } else {
            let found = items(&api.get(&listing.url()).await?);
            all_names += &names(kind, &found);
            everything.extend(found.into_iter().map(|object| kind.describe(object)));
        }
    }
    let list = || json!({"apiVersion": "v1", "kind": "List", "items": everything});
    let format = match &args.output {
        GetOutput::JsonPath(template) => return output::print(&template.render(&list())?),
        GetOutput::As(format) => *format,
    };
    match format {
        Output::Json => output::print_json(&list()),
        Output::Yaml => output::print_yaml(&list()),
        Output::Name => output::print(&all_names),
        Output::Table | Output::Wide if tables.is_empty() => {
            say_that_nothing_is_there(args);
            Ok(())
        }
        Output::Table | Output::Wide => output::print(&tables.join("\n")),
    }
}

/// The objects of a list, or the one object that was asked for.
fn items(answer: &Value) -> Vec<Value> {
    answer["items"].as_array().cloned().unwrap_or_else(|| vec![answer.clone()])
}

fn names(kind: &Kind, objects: &[Value]) -> String {
    let name = |object: &Value| kind.display(object["metadata"]["name"].as_str().unwrap_or_default());
    objects.iter().map(|object| format!("{}\n", name(object))).collect()
}

fn say_that_nothing_is_there(args: &GetArgs) {
    let namespace = &args.scope.namespace;
    let scope = if args.scope.all_namespaces { String::new() } else { format!(" in {namespace} namespace") };
    eprintln!("No resources found{scope}.");
}

async fn watch(api: &LabApi, path: &str, table: &mut Table) -> Result<(), CliError> {
    let answer = api.send(Method::GET, path, &[("accept", AS_TABLE)], Vec::new()).await?;
    let mut stream = answer.into_body().into_data_stream();
    let mut pending = Vec::new();
    while let Some(chunk) = stream.next().await {
        pending.extend_from_slice(&chunk.context(|| "the watch broke off".to_owned())?);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line).context(|| "the lab sent a broken event".to_owned())?;
            if event["type"] == "ERROR" {
                return Err(CliError::failed(event["object"]["message"].as_str().unwrap_or("the watch ended")));
            }
            output::print(&table.render_event(&event["object"]))?;
        }
    }
    Ok(())
}

/// Creates or changes every object of the manifests by server-side apply.
///
/// # Errors
/// At the first object that the lab refuses; those before it are applied and were printed.
pub(crate) async fn apply(args: &ApplyArgs) -> Result<(), CliError> {
    let mut filenames = args.filenames.clone();
    let project = project::find(None, &mut filenames)?;
    let found = if filenames.is_empty() { Vec::new() } else { manifests::read(&filenames)? };
    let home = LabHome::of(&args.lab)?;
    let api = LabApi::of(&home)?;
    let mut lines = apply_all(&api, &found, &args.namespace).await?;
    if let Some(project) = &project {
        lines.extend(Running::new(project, api.kube(), &home, &Narrator::new()).apply().await?);
    }
    lines.iter().try_for_each(|line| output::print(&format!("{line}\n")))
}

/// Applies `manifests`; says of each what happened to it, such as `service/hello created`.
///
/// # Errors
/// At the first object that the lab refuses.
pub(crate) async fn apply_all(api: &LabApi, manifests: &[Manifest], namespace: &str) -> Result<Vec<String>, CliError> {
    let kinds = Kinds::ask(api).await?;
    let mut lines = Vec::new();
    for manifest in manifests {
        let kind = kinds.by_manifest(manifest.api_version(), manifest.kind())?;
        let target = if manifest.namespace().is_empty() { namespace } else { manifest.namespace() };
        let path = format!("{}/{}", kind.path(Some(target)), manifest.name());
        let before = match api.get(&path).await {
            Ok(object) => object["metadata"]["resourceVersion"].as_str().map(str::to_owned),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let url = format!("{path}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict&force=true");
        let headers = [("content-type", "application/apply-patch+yaml"), ("accept", "application/json")];
        let answer = api.send(Method::PATCH, &url, &headers, manifest.object.to_string().into_bytes()).await;
        let answer = answer.map_err(|error| error.hint(format!("the object stands in {}", manifest.origin)))?;
        let body = answer.into_body().collect().await.context(|| "the lab's answer broke off".to_owned())?.to_bytes();
        let after: Value = serde_json::from_slice(&body).context(|| "the lab's answer is no JSON".to_owned())?;
        let what = match before {
            None => "created",
            Some(version) if after["metadata"]["resourceVersion"] == version.as_str() => "unchanged",
            Some(_) => "configured",
        };
        lines.push(format!("{} {what}", kind.display(manifest.name())));
    }
    Ok(lines)
}

/// Deletes one object, or everything that manifests name.
///
/// # Errors
/// When something to delete does not exist.
pub(crate) async fn delete(args: &DeleteArgs) -> Result<(), CliError> {
    let api = LabApi::of(&LabHome::of(&args.lab)?)?;
    let kinds = Kinds::ask(&api).await?;
    let mut targets = Vec::new();
    if let Some(word) = &args.kind {
        let named = Named::of(word, args.object.as_deref());
        let Some(object) = named.object else {
            return Err(CliError::usage("delete needs the name of an object")
                .hint(format!("type minisvc delete {} NAME", named.kind)));
        };
        targets.push((kinds.by_word(named.kind)?, args.namespace.clone(), object.to_owned()));
    } else {
        for manifest in manifests::read(&args.filenames)? {
            let kind = kinds.by_manifest(manifest.api_version(), manifest.kind())?;
            let namespace = if manifest.namespace().is_empty() { &args.namespace } else { manifest.namespace() };
            targets.push((kind, namespace.to_owned(), manifest.name().to_owned()));
        }
    }
    for (kind, namespace, name) in targets {
        let path = format!("{}/{name}", kind.path(Some(&namespace)));
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
        if let Err(error) = api.json(Method::DELETE, &path, "application/json", Some(&options)).await {
            return Err(did_you_mean(error, &api, kind, &namespace, &name).await);
        }
        output::print(&format!("{} deleted\n", kind.display(&name)))?;
    }
    Ok(())
}

/// Prints what a container wrote.
///
/// # Errors
/// When the pod or container does not exist or has not started.
pub(crate) async fn logs(args: &LogsArgs) -> Result<(), CliError> {
    let api = LabApi::of(&LabHome::of(&args.lab)?)?;
    let mut query = vec![format!("follow={}", args.follow), format!("previous={}", args.previous)];
    let container = api.container(&args.namespace, &args.pod, args.container.as_deref()).await?;
    query.push(format!("container={}", encode(&container)));
    query.extend(args.tail.map(|lines| format!("tailLines={lines}")));
    query.extend(args.since.map(|seconds| format!("sinceSeconds={seconds}")));
    query.extend(args.timestamps.then(|| "timestamps=true".to_owned()));
    stream_log(&api, &args.namespace, &args.pod, &query.join("&")).await
}

/// Copies a container's log to standard output until it ends.
///
/// # Errors
/// As [`logs`].
pub(crate) async fn stream_log(api: &LabApi, namespace: &str, pod: &str, query: &str) -> Result<(), CliError> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/log?{query}");
    let mut stream = api.send(Method::GET, &path, &[], Vec::new()).await?.into_body().into_data_stream();
    let mut stdout = std::io::stdout().lock();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.context(|| "the log broke off".to_owned())?;
        // Whoever reads us has gone: nothing is left to do, and nothing is wrong.
        if stdout.write_all(&chunk).and_then(|()| stdout.flush()).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Percent-encodes what has a meaning of its own in a query.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_survive_the_query_string() {
        assert_eq!(encode("app in (a,b)"), "app%20in%20%28a%2Cb%29");
    }
}
