//! The answer as people read it.

use minisvc_why::{Findings, Outcome};

/// The checks, a line each, then the sentence and the commands.
pub(crate) fn render(findings: &Findings) -> String {
    let mut text = format!("{}, asked by {}\n", findings.about, findings.client);
    let width = findings.steps.iter().map(|step| step.check.len()).max().unwrap_or_default();
    for step in &findings.steps {
        let mark = match step.outcome {
            Outcome::Fine => '✓',
            Outcome::Odd => '!',
            Outcome::Broken => '✗',
        };
        // What is wrong is said once, below.
        let found = if step.found == findings.sentence { "see below" } else { &step.found };
        text += &format!("  {mark} {:width$}  {found}\n", step.check);
    }
    text += &format!(
        "\n{}{}\n",
        capitalised(&findings.sentence),
        if findings.sentence.ends_with(['.', '?']) { "" } else { "." }
    );
    for advice in &findings.advice {
        text += &format!("{}: {}\n", if advice.mends { "mend" } else { "look" }, advice.line);
    }
    text
}

/// A sentence starts with a capital letter, unless it starts with something's name.
fn capitalised(sentence: &str) -> String {
    let first = sentence.split(' ').next().unwrap_or_default();
    let is_word = ["a", "all", "container", "every", "fault", "no", "nobody", "none", "nothing", "pod", "the", "there"];
    if !is_word.contains(&first) {
        return sentence.to_owned();
    }
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use minisvc_why::{Client, Facts, Question, diagnose};

    use super::*;

    #[test]
    fn the_sentence_is_said_once_and_the_command_stands_alone_on_its_line() {
        let facts = Facts { namespaces: vec!["shop".into()], ..Facts::default() };
        let question = Question::parse("svc/web", "shpo", Client::Workstation).expect("a target");
        assert_eq!(
            render(&diagnose(&facts, &question)),
            "svc/web in shpo, asked by the workstation\n  ✗ object  see below\n\n\
             There is no namespace shpo; did you mean shop?\nmend: minisvc why svc/web -n shop\n"
        );
    }
}
