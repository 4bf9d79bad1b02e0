//! Chores of the project that need more than the product does.
//!
//! `cargo run --manifest-path xtask/Cargo.toml -- schema` writes `apiserver/schema/schema.txt`; run it after an
//! update of `k8s-openapi` or an edit of `apiserver/schema/merge.toml`, and commit the result.

mod definitions;
mod numbers;
mod overlay;
mod table;

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("schema") => schema(std::env::args().any(|argument| argument == "--check")),
        _ => bail!("usage: xtask schema [--check]"),
    }
}

/// Writes the schema table and reports what could not be filled in; with `check`, only compares it.
fn schema(check: bool) -> Result<()> {
    let crate_dir = root()?.join("apiserver/schema");
    let mut table = definitions::collect()?;
    let unnumbered = numbers::fill(&mut table)?;
    let reviewed = std::fs::read_to_string(crate_dir.join("merge.toml")).context("reading merge.toml")?;
    overlay::apply(&mut table, &reviewed)?;
    let path = crate_dir.join("schema.txt");
    let text = table::render(&table);
    if check {
        if std::fs::read_to_string(&path).context("reading the table")? != text {
            bail!("{} is not what `xtask schema` writes: run it and commit the result", path.display());
        }
        return Ok(());
    }
    std::fs::write(&path, &text).with_context(|| format!("writing {}", path.display()))?;
    println!("{}: {} definitions, {} bytes", path.display(), table.definitions.len(), text.len());
    for field in unnumbered {
        println!("no protobuf number: {field}");
    }
    Ok(())
}

/// The repository, one level above this package.
fn root() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).context("xtask has no parent directory")
}
