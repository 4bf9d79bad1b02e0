//! Measurements of minisvc on this machine, beside the same over loopback where there is a same.
//!
//! `cargo run --release -p minisvc-bench` builds the product, runs it in private labs below a temporary folder and prints
//! one table. `-- start memory` runs only the groups named. Nothing but our own programs is used, except for NSD, dnsperf and
//! Chromium where they are installed: this one also serves and makes the load, inside the pods. What the figures mean is in docs/benchmarks.md.

mod api;
mod control;
mod dataplane;
mod dns;
mod figures;
mod lab;
mod load;
mod memory;
mod objects;
mod observe;
mod page;
mod pods;
mod scale;
mod start;

use std::process::ExitCode;

/// What every measurement may fail with: it is printed, and the run ends.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A group of measurements: its name on the command line, and what it prints.
type Group = (&'static str, fn() -> Result<(), Failure>);

const GROUPS: [Group; 10] = [
    ("start", start::measure),
    ("memory", memory::measure),
    ("pods", pods::measure),
    ("dataplane", dataplane::measure),
    ("control", control::measure),
    ("dns", dns::measure),
    ("objects", objects::measure),
    ("scale", scale::measure),
    ("observe", observe::measure),
    ("page", page::measure),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.first().map(String::as_str) {
        Some(hidden) if hidden.starts_with("__") => load::run(hidden, arguments.get(1..).unwrap_or_default()),
        _ => run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            figures::complain(&*error);
            ExitCode::FAILURE
        }
    }
}

fn run(wanted: &[String]) -> Result<(), Failure> {
    if let Some(unknown) = wanted.iter().find(|name| !GROUPS.iter().any(|(known, _)| known == name)) {
        let known: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
        return Err(format!("there is no group {unknown:?}; there are {}", known.join(", ")).into());
    }
    lab::build()?;
    figures::machine();
    for (name, measure) in GROUPS {
        if wanted.is_empty() || wanted.iter().any(|wish| wish == name) {
            figures::group(name);
            measure()?;
        }
    }
    Ok(())
}
