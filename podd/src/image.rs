//! An image is a name for a command: what a container executes, and the files it has for itself.

pub(crate) mod bring;
mod list;
pub(crate) mod name;
mod ready;
mod texts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

use name::{familiar, public, repository};
use ready::{Args, Extras, Program, Ready, Runs};

pub use list::{ImageListing, list};
pub(crate) use ready::package_of;

/// Repository of the built-in server that echoes.
const ECHO: &str = "minisvc/echo";
/// Repository of the built-in program that only waits.
const PAUSE: &str = "minisvc/pause";
/// The hidden commands behind them.
const ECHO_COMMAND: &str = "__echo";
const PAUSE_COMMAND: &str = "__pause";

/// What an image name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageCommand {
    /// Program and arguments; the container's `args` follow.
    pub command: Vec<String>,
}

/// Why there is nothing to execute.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum ImageError {
    /// Nobody said what the image means.
    #[error(
        "image {0:?} is not mapped to a command: give the container a `command`, or start minisvc with \
         `--image {1}=COMMAND…` (`minisvc images` lists what is known)"
    )]
    Unmapped(String, String),
    /// It is known, but its program is not there.
    #[error(
        "image {image:?} is run by the program {program}, which is not installed: `apt-get install {package}` (Debian, \
         Ubuntu), or start minisvc with `--image {name}=COMMAND…`"
    )]
    NotInstalled {
        /// As written.
        image: String,
        /// What to map.
        name: String,
        /// What is missing.
        program: &'static str,
        /// Where it is.
        package: &'static str,
    },
    /// Neither an image nor a command.
    #[error("the container has neither an image nor a command")]
    Nothing,
}

/// What a container executes, before `$(VAR)` is expanded.
#[derive(Debug, Default)]
pub(crate) struct Recipe {
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
    /// What the image brings along.
    pub(crate) extras: Extras,
    /// For whoever executes something in the container later, or from a script.
    pub(crate) own: OwnProgram,
}

/// The program of an image that is no file of this machine, such as `/agnhost`, and what stands for it here.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnProgram {
    /// Where containers expect it.
    pub(crate) paths: Vec<&'static str>,
    /// Program and first arguments.
    pub(crate) words: Vec<String>,
}

impl OwnProgram {
    fn of(ready: Option<&'static Ready>, words: &[String]) -> Self {
        let called = ready.map_or(&[][..], Ready::program_names);
        Self { paths: called.iter().copied().filter(|name| name.starts_with('/')).collect(), words: words.to_vec() }
    }
}

impl Recipe {
    fn plain(argv: Vec<String>) -> Self {
        Self { argv, ..Self::default() }
    }
}

/// What an image is asked for.
pub(crate) struct Wanted<'a> {
    /// As in the manifest; each may be empty.
    pub(crate) image: &'a str,
    pub(crate) command: &'a [String],
    pub(crate) args: &'a [String],
}

/// What images are looked up in.
pub(crate) struct Known<'a> {
    /// The user's own mappings.
    pub(crate) images: &'a BTreeMap<String, ImageCommand>,
    /// The program that has the built-in servers.
    pub(crate) builtin: &'a Path,
    /// Where a program is on this machine.
    pub(crate) find: &'a dyn Fn(&str) -> Option<PathBuf>,
}

/// Program and arguments of a container, and what comes with its image.
///
/// A `command` wins whatever the image; an image is looked up among the user's mappings as written, then without tag and
/// digest, then without registry and `library/`; then among the built-in and the ready ones. A `command` that names the
/// image's own program means the program that stands for it here.
///
/// # Errors
/// When neither the container nor a mapping names a program, or that program is not installed.
pub(crate) fn recipe(wanted: &Wanted<'_>, known: &Known<'_>) -> Result<Recipe, ImageError> {
    let Wanted { image, command, args } = *wanted;
    let words = || command.iter().chain(args).cloned().collect::<Vec<String>>();
    if image.is_empty() {
        return if command.is_empty() { Err(ImageError::Nothing) } else { Ok(Recipe::plain(words())) };
    }
    let bare = repository(image);
    if let Some(mapped) = [image, bare, familiar(bare)].into_iter().find_map(|name| known.images.get(name)) {
        let ready = public(bare).and_then(ready::find);
        let own = OwnProgram::of(ready, &mapped.command);
        let argv = match command.split_first() {
            None => [&mapped.command, args].concat(),
            Some((first, rest)) if ready.is_some_and(|ready| ready.calls_its_program(first)) => {
                [&mapped.command, rest, args].concat()
            }
            Some(_) => words(),
        };
        return Ok(Recipe { argv, own, ..Recipe::default() });
    }
    let builtin = |hidden: &str| vec![known.builtin.to_string_lossy().into_owned(), hidden.to_owned()];
    let hidden = match familiar(bare) {
        ECHO => Some(ECHO_COMMAND),
        PAUSE => Some(PAUSE_COMMAND),
        _ => None,
    };
    if let (Some(hidden), true) = (hidden, command.is_empty()) {
        return Ok(Recipe::plain(builtin(hidden).into_iter().chain(args.iter().cloned()).collect()));
    }
    let ready = public(bare).and_then(ready::find);
    match ready.map(|ready| &ready.runs) {
        None if command.is_empty() => Err(ImageError::Unmapped(image.to_owned(), familiar(bare).to_owned())),
        None => Ok(Recipe::plain(words())),
        Some(Runs::Tools(default, extras)) => {
            let words = words();
            let argv = if words.is_empty() { own(default) } else { words };
            Ok(Recipe { argv, extras: *extras, ..Recipe::default() })
        }
        Some(Runs::Pause) if command.is_empty() => Ok(Recipe::plain(builtin(PAUSE_COMMAND))),
        Some(Runs::Pause) => Ok(Recipe::plain(words())),
        Some(Runs::Server(manner, _)) => {
            let manner = ["--as".to_owned(), (*manner).to_owned()];
            let version = name::tag(image).map(|tag| ["--tag".to_owned(), tag.to_owned()]);
            let options = manner.into_iter().chain(version.into_iter().flatten());
            let server: Vec<String> =
                builtin(ECHO_COMMAND).into_iter().chain(options).chain(["--".to_owned()]).collect();
            let argv = match command.split_first() {
                None => [&server, args].concat(),
                Some((first, rest)) if ready.is_some_and(|ready| ready.calls_its_program(first)) => {
                    [&server, rest, args].concat()
                }
                Some(_) => words(),
            };
            Ok(Recipe { argv, own: OwnProgram::of(ready, &server), ..Recipe::default() })
        }
        Some(Runs::Program(program)) => of_program(program, wanted, known),
    }
}

fn of_program(program: &Program, wanted: &Wanted<'_>, known: &Known<'_>) -> Result<Recipe, ImageError> {
    let Wanted { image, command, args } = *wanted;
    let is_own = |word: &String| program.is_called(word);
    let words: Vec<String> = match (command.split_first(), args.split_first()) {
        (Some((first, rest)), _) if is_own(first) => rest.iter().chain(args).cloned().collect(),
        // Another program, which finds the image's files around it.
        (Some(_), _) => {
            let argv = command.iter().chain(args).cloned().collect();
            return Ok(Recipe { argv, extras: program.extras, ..Recipe::default() });
        }
        (None, None) => own(program.default),
        (None, Some((first, rest))) if is_own(first) => rest.to_vec(),
        (None, Some((first, _)))
            if program.args == Args::Appended || first.starts_with('-') || first.ends_with(".conf") =>
        {
            args.to_vec()
        }
        (None, Some(_)) => {
            return Ok(Recipe { argv: args.to_vec(), extras: program.extras, ..Recipe::default() });
        }
    };
    let found = program.candidates.iter().find_map(|name| (known.find)(name));
    let Some(found) = found else {
        return Err(ImageError::NotInstalled {
            image: image.to_owned(),
            name: familiar(repository(image)).to_owned(),
            program: program.candidates.first().copied().unwrap_or_default(),
            package: program.package,
        });
    };
    let found = found.to_string_lossy().into_owned();
    let start = match program.script {
        Some(script) => ["/bin/sh", "-c", script, "entrypoint"].map(str::to_owned).to_vec(),
        None => vec![found],
    };
    let argv = start.into_iter().chain(own(program.first)).chain(words).chain(own(program.always)).collect();
    Ok(Recipe { argv, extras: program.extras, ..Recipe::default() })
}

fn own(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Whether the image is the built-in server, which wants to know its pod.
pub(crate) fn is_echo(image: &str) -> bool {
    familiar(repository(image)) == ECHO
        || matches!(public(repository(image)).and_then(ready::find), Some(Ready { runs: Runs::Server(..), .. }))
}

#[cfg(test)]
mod tests;
