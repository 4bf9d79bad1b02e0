//! Puts the lessons of `examples/labs` into the program: a table of their files, each with its text.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let labs = Path::new(&env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?).join("../examples/labs");
    println!("cargo:rerun-if-changed={}", labs.display());
    let mut table = String::from("&[\n");
    // A file beside them is for those who read the folder.
    for folder in sorted(&labs)?.iter().filter(|path| path.is_dir()) {
        println!("cargo:rerun-if-changed={}", folder.display());
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let _ = writeln!(table, "    ({name:?}, &[");
        for file in sorted(folder)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let path = fs::canonicalize(&file)?;
            let _ = writeln!(table, "        ({name:?}, include_str!({:?})),", path.display().to_string());
        }
        table.push_str("    ]),\n");
    }
    table.push_str("]\n");
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("labs.rs"), table)
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    found.sort();
    Ok(found)
}
