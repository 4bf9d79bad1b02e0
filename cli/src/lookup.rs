//! What a resolver does with a name, step by step: which names it tries in which order, and what it is told.
//!
//! `minisvc dns` runs the hidden command `__lookup` on the workstation or in a pod, where it reads that place's
//! `/etc/resolv.conf`. It follows the rules of resolv.conf(5), as the C library does.

use std::io::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Record, RecordType};

use crate::probe::{self, Failure};

/// What a resolver is configured to do.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Resolver {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    /// A name with fewer dots is tried with the search list first.
    ndots: usize,
}

impl Resolver {
    /// This place's own.
    fn read() -> Result<Self, Failure> {
        Ok(Self::parse(&std::fs::read_to_string("/etc/resolv.conf")?))
    }

    fn server(&self) -> Result<IpAddr, Failure> {
        Ok(*self.servers.first().ok_or("/etc/resolv.conf names no server")?)
    }

    /// Reads a resolver file. The last `search` line holds, as in the C library.
    fn parse(text: &str) -> Self {
        let mut resolver = Self { servers: Vec::new(), search: Vec::new(), ndots: 1 };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    resolver.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()))
                }
                Some("search" | "domain") => {
                    resolver.search = words.map(|word| word.trim_end_matches('.').to_owned()).collect()
                }
                Some("options") => {
                    let ndots = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok()).next_back();
                    resolver.ndots = ndots.unwrap_or(resolver.ndots);
                }
                _ => {}
            }
        }
        resolver
    }

    /// The names that are asked for, in order, each with the reason.
    fn candidates(&self, name: &str) -> Vec<(String, String)> {
        let as_it_is = |reason: &str| (format!("{}.", name.trim_end_matches('.')), reason.to_owned());
        if name.ends_with('.') {
            return vec![as_it_is("the name ends with a dot: it is complete")];
        }
        let searched = self.search.iter().map(|domain| (format!("{name}.{domain}."), format!("search {domain}")));
        let dots = name.matches('.').count();
        if dots >= self.ndots {
            let first = as_it_is(&format!("{dots} dots, and ndots is {}: as it is first", self.ndots));
            return std::iter::once(first).chain(searched).collect();
        }
        let last = as_it_is("as it is, after the search list");
        searched.chain(std::iter::once(last)).collect()
    }
}

/// The hidden command `__lookup NAME TYPE`. Ends with 0 if the name was found.
pub(crate) fn lookup_main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let [name, kind] = arguments.as_slice() else { return ExitCode::from(2) };
    match lookup(name, kind) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Whoever started us shows it; if nobody listens there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn lookup(name: &str, kind: &str) -> Result<bool, Failure> {
    let mut out = std::io::stdout();
    let (mut number, mut found) = (0, false);
    let resolver = Resolver::read()?;
    let server = resolver.server()?;
    writeln!(out, "server {server}, ndots {}, search {}", resolver.ndots, resolver.search.join(" "))?;
    let kind = kind.to_ascii_uppercase();
    walk(name, &kind, |step| {
        number += 1;
        writeln!(out, "{number}. {} {kind}   ({})", step.name, step.reason)?;
        writeln!(out, "   {}   ({:.1} ms)", step.verdict, step.took.as_secs_f64() * 1000.0)?;
        for record in step.records {
            writeln!(out, "   {record}")?;
        }
        found = step.is_last && !step.records.is_empty();
        Ok(())
    })?;
    if !found {
        writeln!(out, "not found")?;
    }
    Ok(found)
}

/// One question of a lookup, with its answer.
pub(crate) struct Step<'a> {
    /// The complete name that was asked for.
    pub(crate) name: &'a str,
    /// Why.
    pub(crate) reason: &'a str,
    /// What the answer means.
    pub(crate) verdict: String,
    /// The records in it.
    pub(crate) records: &'a [Record],
    /// How long it took.
    pub(crate) took: Duration,
    /// Whether a resolver asks no further.
    pub(crate) is_last: bool,
}

impl Step<'_> {
    /// The addresses among the records.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.records.iter().filter_map(|record| record.data.ip_addr())
    }
}

/// Does what a resolver does, and tells of each step.
///
/// # Errors
/// When nobody can be asked, or the answer cannot be read.
pub(crate) fn walk(
    name: &str,
    kind: &str,
    mut tell: impl FnMut(&Step<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let kind: RecordType = kind.to_ascii_uppercase().parse().map_err(|_| format!("{kind:?} is no record type"))?;
    let resolver = Resolver::read()?;
    let server = resolver.server()?;
    for (candidate, reason) in resolver.candidates(name) {
        let started = Instant::now();
        let answer = probe::ask(false, server, kind, &candidate)?;
        let (verdict, goes_on) = read(&answer);
        let (took, is_last) = (started.elapsed(), !goes_on);
        tell(&Step { name: &candidate, reason: &reason, verdict, records: &answer.answers, took, is_last })?;
        if is_last {
            break;
        }
    }
    Ok(())
}

/// What an answer means, and whether a resolver goes on to the next name.
fn read(answer: &Message) -> (String, bool) {
    match (answer.metadata.response_code, answer.answers.len()) {
        (ResponseCode::NoError, 0) => ("NODATA: the name exists, but has no record of this type".to_owned(), true),
        (ResponseCode::NoError, count) => (format!("NOERROR, {count} records"), false),
        (ResponseCode::NXDomain, _) => ("NXDOMAIN: no such name".to_owned(), true),
        (code, _) => (format!("{code}"), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: &str) -> Vec<String> {
        let text = "search a.svc.x svc.x x.\nnameserver 10.96.0.10\noptions ndots:5 timeout:1\n";
        Resolver::parse(text).candidates(name).into_iter().map(|(name, _)| name).collect()
    }

    // N-087
    #[test]
    fn short_names_are_searched_first_and_a_final_dot_avoids_it() {
        assert_eq!(names("web"), ["web.a.svc.x.", "web.svc.x.", "web.x.", "web."]);
        assert_eq!(
            names("www.example.com"),
            ["www.example.com.a.svc.x.", "www.example.com.svc.x.", "www.example.com.x.", "www.example.com."]
        );
        assert_eq!(names("web.a.svc.x."), ["web.a.svc.x."]);
        assert_eq!(names("a.b.c.d.e.f")[0], "a.b.c.d.e.f.", "five dots are enough");
    }

    #[test]
    fn a_resolver_file_may_say_little() {
        let empty = Resolver::parse("# nothing\n");
        assert_eq!(empty, Resolver { servers: vec![], search: vec![], ndots: 1 });
        assert_eq!(empty.candidates("web"), [("web.".to_owned(), "as it is, after the search list".to_owned())]);
    }
}
