//! What goes to standard output: aligned tables, JSON, YAML. Progress and errors go to standard error elsewhere.

use std::io::Write as _;

use clap::ValueEnum as _;
use serde_json::Value;

use crate::args::Output;
use crate::error::{CliError, Context as _};
use crate::jsonpath::Template;
use crate::suggest;

/// What `get` prints: one of the formats of every listing, or what a template makes of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GetOutput {
    /// One of the formats.
    As(Output),
    /// A template.
    JsonPath(Template),
}

impl GetOutput {
    /// Reads what stands behind `-o`.
    ///
    /// # Errors
    /// When it is no format, with those there are.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(template) = text.strip_prefix("jsonpath=") {
            return Template::parse(template).map(Self::JsonPath).map_err(|error| error.to_string());
        }
        let known: Vec<String> = Output::value_variants()
            .iter()
            .filter_map(|one| Some(one.to_possible_value()?.get_name().to_owned()))
            .collect();
        Output::from_str(text, false).map(Self::As).map_err(|_| {
            match suggest::closest(text, known.iter().map(String::as_str)) {
                Some(close) => format!("did you mean {close}?"),
                None => format!("there are {}, jsonpath=TEMPLATE", known.join(", ")),
            }
        })
    }
}

/// Blanks between two columns, as kubectl has them.
const GAP: usize = 3;

/// Writes to standard output. A reader that has gone away is no error.
///
/// # Errors
/// When standard output cannot be written for another reason.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context(|| "cannot write to standard output".to_owned())
        }
        _ => Ok(()),
    }
}

/// Writes a value as indented JSON.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_json(value: &Value) -> Result<(), CliError> {
    print(&format!("{value:#}\n"))
}

/// Writes a value as YAML.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_yaml(value: &Value) -> Result<(), CliError> {
    let text = serde_saphyr::to_string(value).context(|| "cannot write YAML".to_owned())?;
    print(&text)
}

/// Rows under a header, each column as wide as its widest cell so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    header: Vec<String>,
    /// Which of the server's cells are shown.
    shown: Vec<usize>,
    with_namespace: bool,
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
}

impl Table {
    /// A table of our own.
    pub(crate) fn new(header: &[&str]) -> Self {
        let mut table = Self { header: header.iter().map(|&name| name.to_owned()).collect(), ..Self::default() };
        table.fit();
        table
    }

    /// Adds a row; it has as many cells as the header.
    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
        self.fit();
    }

    /// Takes over the server's Table: the columns of priority 0, all of them if `wide`.
    pub(crate) fn from_server(answer: &Value, wide: bool, with_namespace: bool) -> Self {
        let columns = answer["columnDefinitions"].as_array().cloned().unwrap_or_default();
        let shown: Vec<usize> =
            (0..columns.len()).filter(|&index| wide || columns[index]["priority"].as_i64().unwrap_or(0) == 0).collect();
        let mut header: Vec<String> =
            shown.iter().map(|&index| columns[index]["name"].as_str().unwrap_or_default().to_uppercase()).collect();
        if with_namespace {
            header.insert(0, "NAMESPACE".to_owned());
        }
        let mut table = Self { header, shown, with_namespace, ..Self::default() };
        table.rows = table.cells(answer);
        table.fit();
        table
    }

    /// Puts the kind in front of every name, where several kinds are listed: `service/web`. Events show theirs only if
    /// everything is shown.
    pub(crate) fn name_in_full(&mut self, full: impl Fn(&str) -> String) {
        let Some(column) = self.header.iter().position(|title| title == "NAME") else { return };
        for name in self.rows.iter_mut().filter_map(|row| row.get_mut(column)) {
            *name = full(name);
        }
        self.fit();
    }

    /// Whether there is no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Header and rows.
    pub(crate) fn render_all(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        std::iter::once(&self.header).chain(&self.rows).map(|row| self.line(row)).collect()
    }

    /// The rows of a watch event, aligned with what was printed before.
    pub(crate) fn render_event(&mut self, object: &Value) -> String {
        let first = self.rows.is_empty();
        let new = self.cells(object);
        self.rows.extend(new.iter().cloned());
        self.fit();
        let header = if first { self.line(&self.header) } else { String::new() };
        // Only the widths of earlier rows matter from here on.
        self.rows.truncate(1);
        header + &new.iter().map(|row| self.line(row)).collect::<String>()
    }

    fn cells(&self, table: &Value) -> Vec<Vec<String>> {
        let rows = table["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
        rows.iter()
            .map(|row| {
                let namespace = row["object"]["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
                let cells = self.shown.iter().map(|&index| match &row["cells"][index] {
                    Value::String(text) => text.clone(),
                    Value::Null => String::new(),
                    other => other.to_string(),
                });
                self.with_namespace.then_some(namespace).into_iter().chain(cells).collect()
            })
            .collect()
    }

    fn fit(&mut self) {
        self.widths.resize(self.header.len(), 0);
        for row in std::iter::once(&self.header).chain(&self.rows) {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
    }

    fn line(&self, row: &[String]) -> String {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&self.widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + GAP - cell.chars().count().min(*width)));
        }
        format!("{}\n", line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer() -> Value {
        json!({"columnDefinitions": [{"name": "Name"}, {"name": "Port(s)"}, {"name": "Selector", "priority": 1}],
               "rows": [{"cells": ["a", "80/TCP", "app=a"], "object": {"metadata": {"namespace": "n"}}},
                        {"cells": ["longer-name", 1, null], "object": {"metadata": {"namespace": "other"}}}]})
    }

    #[test]
    fn a_table_shows_the_columns_that_were_asked_for() {
        let narrow = Table::from_server(&answer(), false, false).render_all();
        assert_eq!(narrow, "NAME          PORT(S)\na             80/TCP\nlonger-name   1\n");
        let wide = Table::from_server(&answer(), true, true).render_all();
        assert_eq!(
            wide,
            "NAMESPACE   NAME          PORT(S)   SELECTOR\nn           a             80/TCP    app=a\nother       longer-name   1\n"
        );
    }

    #[test]
    fn a_format_is_one_of_those_there_are_or_a_template() {
        assert_eq!(GetOutput::parse("wide"), Ok(GetOutput::As(Output::Wide)));
        assert!(matches!(GetOutput::parse("jsonpath={.kind}"), Ok(GetOutput::JsonPath(_))));
        assert_eq!(GetOutput::parse("jsno"), Err("did you mean json?".to_owned()));
        assert!(GetOutput::parse("jsonpath={.kind").is_err_and(|text| text.contains("not closed")));
        assert!(GetOutput::parse("custom-columns=A:.a").is_err_and(|text| text.contains("jsonpath=TEMPLATE")));
    }

    #[test]
    fn names_say_their_kind_where_several_are_listed() {
        let mut table = Table::from_server(&answer(), false, true);
        table.name_in_full(|name| format!("service/{name}"));
        let text = table.render_all();
        assert!(text.contains("\nother       service/longer-name   1\n"), "{text}");
        let events = json!({"columnDefinitions": [{"name": "Last Seen"}, {"name": "Name", "priority": 1}],
                            "rows": [{"cells": ["3s", "web.1"]}]});
        let mut table = Table::from_server(&events, false, false);
        table.name_in_full(|name| format!("event/{name}"));
        assert_eq!(table.render_all(), "LAST SEEN\n3s\n");
    }

    #[test]
    fn later_events_are_aligned_with_what_was_printed() {
        let mut table = Table::from_server(&answer(), false, false);
        let event = json!({"rows": [{"cells": ["b", "81/TCP", ""]}]});
        assert_eq!(table.render_event(&event), "b             81/TCP\n");
    }

    #[test]
    fn the_header_comes_with_the_first_row_of_an_empty_watch() {
        let mut empty = answer();
        empty["rows"] = json!([]);
        let mut table = Table::from_server(&empty, false, false);
        assert_eq!(table.render_all(), "");
        let event = json!({"rows": [{"cells": ["b", "81/TCP", ""]}]});
        assert_eq!(table.render_event(&event), "NAME   PORT(S)\nb      81/TCP\n");
        assert_eq!(table.render_event(&event), "b      81/TCP\n");
    }
}
