//! Names: whose a name is, through which search step it resolves, and what was meant when it does not.

use crate::facts::{Facts, Key, Lookup};
use crate::findings::{Cause, Checked, Problem, Report};
use crate::near::nearest;
use crate::records::{Pod, Service};
use crate::service::{self, Entry};
use crate::{Context, list, pods};

/// What a name inside the lab stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A Service.
    Service(Key),
    /// A pod behind a headless Service, by its host name.
    PodOf(String, Key),
    /// Something outside.
    Outside,
}

/// Reads a name as the search list would complete it: `web`, `web.shop`, `web.shop.svc`, `web-0.web.shop` and the like.
pub(crate) fn meaning(facts: &Facts, name: &str, namespace: &str) -> Meaning {
    let name = name.trim_end_matches('.');
    let inside = name.strip_suffix(&format!(".svc.{}", facts.domain)).or_else(|| name.strip_suffix(".svc"));
    let complete = inside.is_some();
    let labels: Vec<&str> = inside.unwrap_or(name).split('.').collect();
    let key = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
    let is_service = |namespace: &str, name: &str| facts.service(namespace, name).is_some();
    match labels.as_slice() {
        [one] if !complete => Meaning::Service(key(namespace, one)),
        // A pod's name under a headless Service of the client's own namespace looks the same.
        [host, service] if !complete && !is_service(service, host) && is_service(namespace, service) => {
            Meaning::PodOf((*host).to_owned(), key(namespace, service))
        }
        [service, home] if complete || facts.namespaces.iter().any(|known| known == home) => {
            Meaning::Service(key(home, service))
        }
        [host, service, home] if complete || facts.namespaces.iter().any(|known| known == home) => {
            Meaning::PodOf((*host).to_owned(), key(home, service))
        }
        // Two short words are more likely a namespace with a typo than a domain.
        [service, home] if is_near_namespace(facts, home) => Meaning::Service(key(home, service)),
        _ => Meaning::Outside,
    }
}

fn is_near_namespace(facts: &Facts, word: &str) -> bool {
    nearest(word, facts.namespaces.iter().map(String::as_str)).is_some()
}

/// The whole way from a name.
pub(crate) fn check(context: Context<'_>, report: &mut Report, name: &str) -> Checked<String> {
    let Context { facts, question } = context;
    let namespace = question.client.namespace();
    match meaning(facts, name, namespace) {
        Meaning::Service((home, service)) => match facts.service(&home, &service) {
            Some(found) => service::check(context, report, found, Entry::Own),
            None => Err(("name", no_service(context, name, (&home, &service)))),
        },
        Meaning::PodOf(host, (home, service)) => {
            let found = service::find(facts, &home, &service).map_err(|problem| ("name", problem))?;
            let pod = pod_of(context, name, &host, found).map_err(|problem| ("name", problem))?;
            resolved(context, report, name).map_err(|problem| ("name", problem))?;
            pods::check(context, report, pod)
        }
        Meaning::Outside => {
            resolved(context, report, name).map_err(|problem| ("name", problem))?;
            crate::attempt::check(context, report).map_err(|problem| ("connection", problem))?;
            Ok(format!("{name} is outside of the lab, and resolves"))
        }
    }
}

/// A short name for a Service that is not where the client is, or no Service at all.
fn no_service(context: Context<'_>, name: &str, (namespace, service): (&str, &str)) -> Problem {
    let facts = context.facts;
    if let Err(problem) = service::require_namespace(facts, namespace, &["why", &format!("svc/{service}")]) {
        return problem;
    }
    let same: Vec<&Service> = facts.services.iter().filter(|other| other.metadata.name == service).collect();
    if name == service
        && let [first, ..] = same.as_slice()
    {
        let homes: Vec<String> = same.iter().map(|other| format!("{service}.{}", other.metadata.namespace)).collect();
        let sentence = format!(
            "{} is in namespace {namespace}, where there is no Service {service}: a short name is looked up in the client's own \
             namespace, so ask for {}",
            context.question.client.label(),
            list(&homes)
        );
        let full = format!("{service}.{}", first.metadata.namespace);
        return again(Problem::new(Cause::ShortName, sentence), context, &full);
    }
    match service::find(facts, namespace, service) {
        Ok(_) => Problem::new(Cause::NameUnresolved, format!("{name} does not resolve")),
        Err(problem) => problem,
    }
}

/// The same question with the right name.
fn again(problem: Problem, context: Context<'_>, name: &str) -> Problem {
    let target = context.question.port.map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    match &context.question.client {
        crate::Client::Workstation => problem.mend(&["minisvc", "why", &target]),
        crate::Client::Pod((namespace, pod)) => {
            problem.mend(&["minisvc", "why", &target, "--from", pod, "-n", namespace])
        }
    }
}

/// A pod by its host name under a headless Service.
fn pod_of<'a>(context: Context<'a>, name: &str, host: &str, service: &Service) -> Result<&'a Pod, Problem> {
    let facts = context.facts;
    let (namespace, home) = (service.metadata.namespace.as_str(), service.metadata.name.as_str());
    let Some(pod) = facts.pod(namespace, host) else {
        return Err(pods::missing(facts, namespace, host));
    };
    if !service.is_headless() {
        let sentence = format!(
            "{name} does not resolve: Service {namespace}/{home} is not headless, and only headless ones name their pods"
        );
        return Err(Problem::new(Cause::NameUnresolved, sentence));
    }
    if pod.spec.subdomain != home {
        let has = if pod.spec.subdomain.is_empty() { "none".to_owned() } else { pod.spec.subdomain.clone() };
        let sentence = format!(
            "{name} does not resolve: pod {namespace}/{host} must say subdomain: {home} to have a name under that Service, and says \
             {has}; in a StatefulSet this is serviceName"
        );
        return Err(Problem::new(Cause::NameUnresolved, sentence));
    }
    if let Some(problem) = pods::trouble(facts, pod).filter(|_| !service.spec.publish_not_ready_addresses) {
        let sentence = format!("{name} does not resolve, because only ready pods have names: {}", problem.sentence);
        return Err(Problem { sentence, ..problem });
    }
    Ok(pod)
}

fn resolved(context: Context<'_>, report: &mut Report, name: &str) -> Result<(), Problem> {
    let Some(lookup) = context.facts.lookup(name) else { return Ok(()) };
    if lookup.addresses.is_empty() {
        return Err(unresolved(context, lookup));
    }
    report.fine("name", through(lookup));
    Ok(())
}

fn unresolved(context: Context<'_>, lookup: &Lookup) -> Problem {
    let name = &lookup.name;
    let said = lookup.failure.clone().or_else(|| lookup.steps.last().map(|step| step.verdict.clone()));
    let sentence = format!(
        "{name} does not resolve from {}: {}",
        context.question.client.label(),
        said.unwrap_or_else(|| "nobody was asked".to_owned())
    );
    let problem = Problem::new(Cause::NameUnresolved, sentence);
    match &context.question.client {
        crate::Client::Workstation => problem.look(&["minisvc", "dns", name]),
        crate::Client::Pod((namespace, pod)) => problem.look(&["minisvc", "dns", name, "--from", pod, "-n", namespace]),
    }
}

/// `web is 10.96.0.9, by search shop.svc.cluster.local`.
fn through(lookup: &Lookup) -> String {
    let step = lookup.steps.iter().find(|step| step.found);
    let by = step.map(|step| format!(", as {} ({})", step.name, step.reason)).unwrap_or_default();
    format!("{} is {}{by}", lookup.name, addresses(lookup))
}

/// The addresses of an answer, a few of them.
pub(crate) fn addresses(lookup: &Lookup) -> String {
    let shown: Vec<String> = lookup.addresses.iter().take(3).map(ToString::to_string).collect();
    let more = if lookup.addresses.len() > shown.len() { " and more" } else { "" };
    list(&shown) + more
}

/// The name by which a client finds a Service: short in its own namespace.
pub(crate) fn name_for(service: &Service, namespace: &str) -> String {
    let Service { metadata, .. } = service;
    if metadata.namespace == namespace {
        metadata.name.clone()
    } else {
        format!("{}.{}", metadata.name, metadata.namespace)
    }
}

/// Whether the client's name for a Service leads to it.
pub(crate) fn of_service(context: Context<'_>, report: &mut Report, service: &Service) -> Result<(), Problem> {
    let Context { facts, question } = context;
    let name = match &question.target {
        crate::Target::Name(name) => name.clone(),
        _ => name_for(service, question.client.namespace()),
    };
    let Some(lookup) = facts.lookup(&name) else { return Ok(()) };
    if lookup.addresses.is_empty() {
        return Err(unresolved(context, lookup));
    }
    let own = service.cluster_ips();
    if !own.is_empty() && !lookup.addresses.iter().any(|address| own.contains(address)) {
        let sentence = format!("{name} leads to {}, not to Service {}", addresses(lookup), service.metadata.path());
        return Err(Problem::new(Cause::NameUnresolved, sentence).look(&["minisvc", "dns", &name]));
    }
    report.fine("name", through(lookup));
    Ok(())
}

impl Facts {
    pub(crate) fn lookup(&self, name: &str) -> Option<&Lookup> {
        self.seen.lookups.iter().find(|lookup| lookup.name == name)
    }
}
