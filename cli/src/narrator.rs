//! Telling the user what happens: sentences on standard error, each with the time since the start.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Width of a line of prose.
const WIDTH: usize = 96;

/// What a note begins with.
pub(crate) const NOTE: &str = "Note: ";

/// Tells a story with times.
#[derive(Debug, Clone)]
pub(crate) struct Narrator {
    started: Instant,
    colour: bool,
}

impl Narrator {
    /// Starts the clock.
    pub(crate) fn new() -> Self {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { started: Instant::now(), colour }
    }

    /// How long the story has been going.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Something has happened: one line with its time.
    pub(crate) fn step(&self, sentence: &str) {
        let time = format!("{:7.3}s", self.elapsed().as_secs_f64());
        self.line(&format!("{}  {sentence}", self.paint("2", &time)));
    }

    /// Something that the reader may want to do about it. `--detach` shows it too.
    pub(crate) fn note(&self, sentence: &str) {
        self.line(&format!("{NOTE}{sentence}"));
    }

    /// A heading before several steps.
    pub(crate) fn chapter(&self, number: usize, title: &str) {
        self.line("");
        self.line(&self.paint("1", &format!("{number}. {title}")));
    }

    /// A paragraph of explanation, broken into lines.
    pub(crate) fn explain(&self, text: &str) {
        for line in wrap(text, WIDTH) {
            self.line(&format!("   {line}"));
        }
    }

    /// A line as it is, indented: something the reader could type, or an answer they would get.
    pub(crate) fn quote(&self, text: &str) {
        for line in text.lines() {
            self.line(&format!("      {}", self.paint("36", line)));
        }
    }

    /// A line as it is.
    pub(crate) fn line(&self, text: &str) {
        // In one piece, so that what pods write at the same time cannot come in between. A reader that has gone away must not
        // end the lab.
        let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Breaks a text at blanks into lines of at most `width` characters.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_broken_at_blanks() {
        assert_eq!(wrap("one two  three\n four", 9), ["one two", "three", "four"]);
        assert_eq!(wrap("unbreakable", 3), ["unbreakable"]);
    }
}
