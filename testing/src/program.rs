//! Finding the `minisvc` program. What may be found is a function of the environment, which tests give it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::Error;

const NAME: &str = "minisvc";

/// What decides where the program is.
#[derive(Debug, Default)]
struct Surroundings {
    named: Option<OsString>,
    of_cargo: Option<OsString>,
    test: Option<PathBuf>,
    path: Option<OsString>,
}

/// The program that is taken when the test names none.
pub(crate) fn find() -> Result<PathBuf, Error> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let around = Surroundings {
        named: variable("MINISVC_PROGRAM"),
        of_cargo: variable("CARGO_BIN_EXE_minisvc"),
        test: std::env::current_exe().ok(),
        path: variable("PATH"),
    };
    choose(&around, Path::is_file)
}

fn choose(around: &Surroundings, exists: impl Fn(&Path) -> bool) -> Result<PathBuf, Error> {
    // Who names a program means that one: another in its stead would test something else.
    if let Some(named) = &around.named {
        let path = PathBuf::from(named);
        let tried = || vec![format!("MINISVC_PROGRAM={}", path.display())];
        return if exists(&path) { Ok(path) } else { Err(Error::NoProgram { tried: tried() }) };
    }
    let mut tried = vec!["MINISVC_PROGRAM (not set)".to_owned()];
    match &around.of_cargo {
        Some(program) if exists(Path::new(program)) => return Ok(program.into()),
        Some(program) => tried.push(program.to_string_lossy().into_owned()),
        None => tried.push("CARGO_BIN_EXE_minisvc (not set)".to_owned()),
    }
    // A test is target/debug/deps/NAME-HASH, an example target/debug/examples/NAME; programs are in target/debug.
    for folder in around.test.iter().flat_map(|test| test.ancestors().skip(1).take(2)) {
        let beside = folder.join(NAME);
        if exists(&beside) {
            return Ok(beside);
        }
        tried.push(beside.display().to_string());
    }
    let on_path =
        around.path.iter().flat_map(std::env::split_paths).map(|folder| folder.join(NAME)).find(|p| exists(p));
    on_path.ok_or_else(|| {
        tried.push("PATH".to_owned());
        Error::NoProgram { tried }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around() -> Surroundings {
        Surroundings {
            named: None,
            of_cargo: Some("/cargo/minisvc".into()),
            test: Some("/w/target/debug/deps/shop-0123".into()),
            path: Some("/usr/bin:/opt/bin".into()),
        }
    }

    #[test]
    fn the_first_place_that_has_it_is_taken() {
        let all = ["/cargo/minisvc", "/w/target/debug/minisvc", "/opt/bin/minisvc"];
        for first in 0..all.len() {
            let there = |path: &Path| all.iter().skip(first).any(|known| path == Path::new(known));
            assert_eq!(choose(&around(), there).expect("found"), Path::new(all[first]));
        }
    }

    #[test]
    fn a_program_that_is_named_is_taken_or_nothing() {
        let named = || Surroundings { named: Some("/mine".into()), ..around() };
        assert_eq!(choose(&named(), |_| true).expect("found"), Path::new("/mine"));
        let text = choose(&named(), |path| path != Path::new("/mine")).expect_err("not there").to_string();
        assert!(text.contains("MINISVC_PROGRAM=/mine"), "{text}");
    }

    #[test]
    fn without_a_program_every_place_is_named_and_what_to_type() {
        let text = choose(&around(), |_| false).expect_err("nowhere").to_string();
        for part in ["/cargo/minisvc", "/w/target/debug/minisvc", "PATH", "cargo build -p minisvc", "MINISVC_PROGRAM"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
