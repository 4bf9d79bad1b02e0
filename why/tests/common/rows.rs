//! Tables of set-ups that are broken in one place each, and the one sentence that names it.

use minisvc_why::{Cause, Outcome};

use super::{World, ask};

/// One broken set-up.
pub struct Row {
    pub label: &'static str,
    pub breaks: fn(&mut World),
    /// What is asked, and by which pod if not by the workstation.
    pub asks: (&'static str, Option<&'static str>),
    pub cause: Cause,
    /// What the sentence must say.
    pub says: &'static [&'static str],
    /// What the command that mends it must hold; empty when there is none.
    pub mends: &'static str,
}

/// The question that most rows ask.
pub const WEB: (&str, Option<&str>) = ("svc/web", None);

/// Breaks, asks and compares.
pub fn check(rows: &[Row]) {
    for Row { label, breaks, asks: (target, client), cause, says, mends } in rows {
        let mut world = World::working();
        breaks(&mut world);
        let findings = ask(world, target, *client);
        assert_eq!(findings.cause, *cause, "{label}: {findings:#?}");
        for part in *says {
            assert!(findings.sentence.contains(part), "{label} does not say {part:?}: {}", findings.sentence);
        }
        let commands: Vec<&str> =
            findings.advice.iter().filter(|advice| advice.mends).map(|advice| advice.line.as_str()).collect();
        assert_eq!(commands.is_empty(), mends.is_empty(), "{label}: {commands:?}");
        assert!(mends.is_empty() || commands.join("; ").contains(mends), "{label}: {commands:?}");
        assert_ne!(findings.outcome, Outcome::Fine, "{label}");
        assert_eq!(
            findings.steps.iter().filter(|step| step.outcome == Outcome::Broken).count(),
            usize::from(findings.outcome == Outcome::Broken),
            "{label}: a broken step is the last"
        );
    }
}
