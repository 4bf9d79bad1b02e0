//! `table`: what the data plane knows, table by table.

use http::Method;
use serde_json::Value;

use crate::api::LabApi;
use crate::args::{DataTable, LabArgs, Output, TableArgs};
use crate::error::CliError;
use crate::home::LabHome;
use crate::output::{self, Table};

/// How kubectl asks for lists.
pub(crate) const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// Where the lab answers for what is not stored.
pub(crate) const EXTENSION: &str = "/apis/minisvc.dev/v1";

/// Shows one table of the data plane.
///
/// # Errors
/// When the lab does not run.
pub(crate) async fn table(args: &TableArgs) -> Result<(), CliError> {
    let (plural, singular, hint) = match args.table {
        DataTable::Frontends => ("frontends", "frontend", "No Service has an address."),
        DataTable::Routes => ("routes", "route", "Nobody has an address."),
        DataTable::Affinity => {
            ("affinities", "affinity", "No client keeps its endpoint: see sessionAffinity of Services.")
        }
        DataTable::Clashes => ("clashes", "clash", "Nothing was claimed that is somebody else's."),
        DataTable::Counters => ("counters", "counter", "Nothing is counted."),
    };
    show(&args.lab, plural, singular, &[], args.output, hint).await
}

/// Lists a resource of the extension. `hint` is said when there is nothing to list.
///
/// # Errors
/// When the lab does not run, or does not understand the query.
pub(crate) async fn show(
    lab: &LabArgs,
    plural: &str,
    singular: &str,
    query: &[(&str, String)],
    format: Output,
    hint: &str,
) -> Result<(), CliError> {
    let api = LabApi::of(&LabHome::of(lab)?)?;
    let path = path(plural, query);
    if matches!(format, Output::Table | Output::Wide) {
        let answer = api.json(Method::GET, &path, AS_TABLE, None).await?;
        let table = Table::from_server(&answer, format == Output::Wide, false);
        if table.is_empty() {
            eprintln!("{hint}");
            return Ok(());
        }
        return output::print(&table.render_all());
    }
    let items = api.get(&path).await?["items"].take();
    print_items(&items, singular, format)
}

/// Prints a list as JSON, as YAML, or the names in it.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn print_items(items: &Value, singular: &str, format: Output) -> Result<(), CliError> {
    match format {
        Output::Yaml => output::print_yaml(items),
        Output::Name => {
            let names = items.as_array().into_iter().flatten().filter_map(|item| item["metadata"]["name"].as_str());
            output::print(&names.map(|name| format!("{singular}.minisvc.dev/{name}\n")).collect::<String>())
        }
        Output::Json | Output::Table | Output::Wide => output::print_json(items),
    }
}

/// The path of a list of the extension.
pub(crate) fn path(plural: &str, query: &[(&str, String)]) -> String {
    let query: String = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    format!("{EXTENSION}/{plural}?{query}")
}
