//! The one error type of the command line: what failed, why, and what to type instead.
//!
//! Libraries return typed errors; they become a [`CliError`] here and nowhere else.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::process::ExitCode;

/// Whose move it is. Decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The command line or a file named on it is wrong: exit code 2.
    Usage,
    /// The machine lacks something: exit code 1.
    Environment,
    /// What was named does not exist: exit code 1.
    NotFound,
    /// It was tried and did not work: exit code 1.
    Failed,
}

/// An error as the user sees it: a sentence, its causes, and hints on lines of their own.
#[derive(Debug)]
pub(crate) struct CliError {
    kind: Kind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    hints: Vec<String>,
}

impl CliError {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, hints: Vec::new() }
    }

    /// Wrong input: the user has to type something else.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The machine lacks something.
    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self::new(Kind::Environment, message)
    }

    /// What was named does not exist.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// It was tried and did not work.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The cause, shown after the message.
    pub(crate) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A line that says what to type.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Whether what was named does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }

    /// 2 for wrong usage, 1 for everything else.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Usage => 2,
            Kind::Environment | Kind::NotFound | Kind::Failed => 1,
        })
    }

    /// The text for standard error: `error: …`, its causes, then one `hint: …` line each.
    pub(crate) fn render(&self) -> String {
        let mut text = format!("error: {self}");
        for hint in &self.hints {
            // Writing to a String cannot fail.
            let _ = write!(text, "\nhint: {hint}");
        }
        text
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self.source.as_deref().map(|source| source as &dyn Error);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Error for CliError {}

/// Shorthand for `map_err` on anything fallible: says what was being done.
pub(crate) trait Context<T> {
    /// Turns the error into [`CliError::failed`] with `doing` in front of it.
    fn context(self, doing: impl FnOnce() -> String) -> Result<T, CliError>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Context<T> for Result<T, E> {
    fn context(self, doing: impl FnOnce() -> String) -> Result<T, CliError> {
        self.map_err(|source| CliError::failed(doing()).because(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_causes_and_says_what_to_type() {
        let error = CliError::environment("cannot open the TUN device")
            .because(std::io::Error::from(std::io::ErrorKind::PermissionDenied))
            .hint("sudo chmod 0666 /dev/net/tun");
        assert_eq!(
            error.render(),
            "error: cannot open the TUN device: permission denied\nhint: sudo chmod 0666 /dev/net/tun"
        );
    }

    #[test]
    fn wrong_usage_exits_with_two_and_everything_else_with_one() {
        assert_eq!(CliError::usage("x").exit_code(), ExitCode::from(2));
        assert_eq!(CliError::failed("x").exit_code(), ExitCode::from(1));
        assert_eq!(CliError::not_found("x").exit_code(), ExitCode::from(1));
    }
}
