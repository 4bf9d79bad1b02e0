//! `minisvc.yaml`: the commands of a project, which `minisvc up` runs as Deployments with Services in front of them.
//!
//! `file` reads what is written, `check` says what cannot be, with its line, and `objects` says what it means. All three
//! are functions of values; the lab is asked elsewhere (`commands/project.rs`).

mod check;
mod file;
mod objects;

use std::path::{Path, PathBuf};

pub(crate) use file::Service;

use crate::error::CliError;

/// The file that `minisvc up` looks for in the present folder.
pub(crate) const FILE_NAME: &str = "minisvc.yaml";

/// Largest project file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Every object of a project has this label, so that those of commands that are not in the file any more are found.
pub(crate) const LABEL: &str = "minisvc.dev/project";

/// What the label says.
pub(crate) const LABEL_VALUE: &str = "yes";

/// A checked project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Project {
    /// The file, for messages.
    pub(crate) path: PathBuf,
    /// Names for commands, as `--image` gives them.
    pub(crate) images: Vec<(String, Vec<String>)>,
    /// In an order in which each comes after those that it depends on.
    pub(crate) commands: Vec<Command>,
}

/// A command of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) name: String,
    run: Run,
    pub(crate) port: Option<Ports>,
    pub(crate) replicas: u16,
    env: Vec<(String, String)>,
    cwd: PathBuf,
    depends_on: Vec<Dependency>,
    pub(crate) service: Option<Service>,
    ready: Ready,
}

/// What a pod of the command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Run {
    /// A program with its arguments.
    Words(Vec<String>),
    /// What an image's name means.
    Image(String),
}

/// Where the Service listens, and the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) service: u16,
    pub(crate) command: u16,
}

/// Another command whose Service has to answer first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Dependency {
    name: String,
    port: u16,
}

/// When a pod counts as ready.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ready {
    /// As soon as it runs.
    Running,
    /// When its port accepts connections.
    Accepts(u16),
    /// When this path answers with a status of 200 to 399.
    Answers(u16, String),
}

impl Project {
    /// Reads and checks a project file.
    ///
    /// # Errors
    /// The first thing that cannot be, with its line and what to write instead.
    pub(crate) fn read(path: &Path) -> Result<Self, CliError> {
        let unreadable = |source| CliError::usage(format!("cannot read {}", path.display())).because(source);
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_FILE {
            return Err(CliError::usage(format!("{} is too large for a project ({size} bytes)", path.display())));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let path = std::path::absolute(path).map_err(unreadable)?;
        let project = Self::parse(&path, &text)?;
        if let Some(missing) = project.commands.iter().map(|command| &command.cwd).find(|cwd| !cwd.is_dir()) {
            return Err(CliError::usage(format!("{}: there is no folder {}", path.display(), missing.display())));
        }
        Ok(project)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, CliError> {
        check::project(path, file::parse(text).map_err(|flaw| flaw.of(path))?).map_err(|flaw| flaw.of(path))
    }

    /// The file as somebody in the present folder would type it.
    pub(crate) fn shown(&self) -> String {
        let here = std::env::current_dir().unwrap_or_default();
        self.path.strip_prefix(here).unwrap_or(&self.path).display().to_string()
    }

    /// Whether a path that was given as a manifest is a project instead.
    pub(crate) fn is_meant_by(path: &Path) -> bool {
        path.file_name().is_some_and(|name| name == FILE_NAME)
    }
}

impl Command {
    /// Whether this machine reaches its Service without entering the lab.
    pub(crate) fn is_for_this_machine(&self) -> bool {
        matches!(self.service, Some(Service::NodePort | Service::LoadBalancer))
    }
}

/// What is wrong in a file, and where.
#[derive(Debug, PartialEq, Eq)]
struct Flaw {
    line: u64,
    message: String,
    hint: Option<String>,
}

impl Flaw {
    fn at(line: u64, message: impl Into<String>) -> Self {
        Self { line, message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn of(self, path: &Path) -> CliError {
        let error = CliError::usage(format!("{}:{}: {}", path.display(), self.line, self.message));
        self.hint.into_iter().fold(error, CliError::hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_shows_a_project_that_is_one() {
        let guide = include_str!("../../../docs/guides/run-your-services.md");
        let blocks: Vec<&str> = guide.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        let [commands, images] = blocks.as_slice() else { panic!("two blocks: {blocks:?}") };
        let project = Project::parse(Path::new("/shop/minisvc.yaml"), &format!("{images}{commands}")).expect("legal");
        let names: Vec<&str> = project.commands.iter().map(|command| command.name.as_str()).collect();
        assert_eq!((names, project.images.len()), (vec!["stock", "shop"], 1));
        // What the table of fields says is all that there is.
        let fields = guide.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        for field in fields {
            let text = format!("commands:\n- {{name: x, {field}: [], {field}x: y}}");
            let error = Project::parse(Path::new("x"), &text).expect_err("no such field").render();
            assert!(error.contains(&format!("{field}x")) || !error.contains("no field"), "{field}: {error}");
        }
    }
}
