//! Strategic merge patches as kubectl 1.33 sends them.

use minisvc_schema::{Kind, strategic, unknown_fields};
use serde_json::Value;

/// Each line: a kubectl command, the object it found, the patch it sent, and what must come out.
const RECORDED: &str = include_str!("recorded-patches.jsonl");

//
#[test]
fn patches_of_kubectl_do_what_the_command_says() {
    let kind = Kind::find("apps", "v1", "Deployment").expect("in the table");
    let rows: Vec<Value> = RECORDED.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
    assert_eq!(rows.len(), 4);
    for row in rows {
        let patched = strategic::apply(kind, &row["live"], &row["patch"]).expect("a patch");
        assert_eq!(patched, row["wanted"], "{}", row["command"]);
        assert_eq!(unknown_fields(kind, &patched), Vec::<String>::new(), "no directive is left");
        let again = strategic::apply(kind, &patched, &row["patch"]).expect("a patch");
        assert_eq!(again, patched, "{} twice", row["command"]);
    }
}
