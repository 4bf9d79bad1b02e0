//! Why a Service, a pod, an address or a name does not answer.
//!
//! [`diagnose`] goes from the object to the listening socket, in the order in which things depend on each other, and ends
//! with the first check that fails: everything after it would fail for the same reason. [`wanted()`] says what has to be
//! looked at inside the lab before, because it costs a process each. Both are functions of plain [`Facts`]: nothing here
//! reads, waits or logs.

mod address;
mod attempt;
mod external;
mod facts;
mod faults;
mod findings;
mod front;
mod names;
mod near;
mod pods;
mod policy;
mod ports;
mod question;
mod readiness;
mod records;
mod selector;
mod service;
mod slices;
mod sockets;
mod wanted;

pub use facts::*;
pub use findings::{Advice, Cause, Findings, Outcome, Step};
pub use question::{Client, Question, Target, TargetError};
pub use records::*;
pub use wanted::{LogWanted, Wanted, wanted};

use findings::{Checked, Report};

/// What every check may look at.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) question: &'a Question,
}

/// Answers the question.
pub fn diagnose(facts: &Facts, question: &Question) -> Findings {
    let context = Context { facts, question };
    let mut report = Report::default();
    let ended = examine(context, &mut report);
    report.finish(question.about(), question.client.label(), ended)
}

fn examine(context: Context<'_>, report: &mut Report) -> Checked<String> {
    let Context { facts, question } = context;
    if let Client::Pod((namespace, name)) = &question.client
        && question.client.pod(facts).is_none()
    {
        return Err(("client", pods::missing(facts, namespace, name)));
    }
    match &question.target {
        Target::Service((namespace, name)) => {
            let service = service::find(facts, namespace, name).map_err(|problem| ("object", problem))?;
            service::check(context, report, service, service::Entry::Own)
        }
        Target::Pod((namespace, name)) => {
            let pod = facts.pod(namespace, name);
            let pod = pod.ok_or_else(|| ("object", pods::missing(facts, namespace, name)))?;
            pods::check(context, report, pod)
        }
        Target::Address(address) => address::check(context, report, *address),
        Target::Name(name) => names::check(context, report, name),
    }
}

/// `one thing`, `3 things`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// `a, b and c`.
pub(crate) fn list<T: AsRef<str>>(items: &[T]) -> String {
    match items {
        [] => "none".to_owned(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}
