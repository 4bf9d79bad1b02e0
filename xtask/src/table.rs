//! The schema table in memory and its text form. It does not know where the facts come from.
//!
//! The text form is described in `apiserver/schema/src/table.rs`, which reads it.

use std::collections::BTreeMap;
use std::fmt::Write;

/// All definitions by full name, such as `io.k8s.api.core.v1.Pod`.
#[derive(Default)]
pub struct Table {
    pub definitions: BTreeMap<String, Definition>,
}

/// One object type.
#[derive(Default)]
pub struct Definition {
    /// `group/version/Kind`, with an empty group for the core one, if it is an API kind.
    pub gvk: Option<String>,
    /// The whole value is one unit for server-side apply.
    pub atomic: bool,
    pub description: String,
    pub fields: BTreeMap<String, Field>,
}

/// One field of an object type.
#[derive(Default)]
pub struct Field {
    /// Type expression: a scalar name, a definition's name, or one of those behind `[]` or `{}`.
    pub ty: String,
    /// Protobuf field numbers from the definition's message down to the field; longer than one where JSON inlines a message.
    pub numbers: Vec<u32>,
    pub attributes: Vec<String>,
    pub description: String,
}

const HEADER: &str = "\
# Written by `xtask schema`; do not edit. Types, descriptions and required fields: crate k8s-openapi 0.29 (v1.36),
# protobuf numbers: crate k8s-pb 0.9, both Apache-2.0 and generated from the Kubernetes API definitions
# (Apache-2.0, The Kubernetes Authors). Merge behaviour, defaults and explicit zeros: merge.toml beside this file.
";

/// The text of the whole table: a line per definition, followed by a line per field.
pub fn render(table: &Table) -> String {
    let mut out = String::from(HEADER);
    for (name, definition) in &table.definitions {
        let atomic = if definition.atomic { "atomic" } else { "" };
        let gvk = definition.gvk.as_deref().unwrap_or("");
        let _ = writeln!(out, "{name}\t{gvk}\t{atomic}\t{}", escape(&definition.description));
        for (field, f) in &definition.fields {
            let numbers: Vec<String> = f.numbers.iter().map(u32::to_string).collect();
            let _ = writeln!(
                out,
                "\t{field}\t{}\t{}\t{}\t{}",
                f.ty,
                numbers.join("."),
                f.attributes.join(" "),
                escape(&f.description)
            );
        }
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t")
}
