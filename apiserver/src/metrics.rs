//! Figures about the server, and those of other parts of the lab, in the text form of OpenMetrics: `/metrics`.
//!
//! Names are those of a real API server where the figure means the same, so that what reads them need not be changed.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{StatusCode, header};
use minisvc_store::Store;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry as Figures;

use crate::error::ApiError;
use crate::registry::Registry;
use crate::request_info::{Query, ResourcePath, Route, Verb};
use crate::reviews;

/// Appends the figures of another part of the lab to what `/metrics` answers: whole families with `# HELP` and `# TYPE`
/// lines in the text form of OpenMetrics, without the closing `# EOF`. Called for every reading; it must not block.
pub type MetricsSource = dyn Fn(&mut String) + Send + Sync;

const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds; the first is what a read from memory takes, the last what patience takes.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What is counted about requests. All values come from the registry, so that no client can make up new ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Timed {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResource {
    resource: String,
}

/// What a request is counted as, and since when it is being answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: &'static str,
    since: Instant,
}

impl Asked {
    pub(crate) fn of(registry: &Registry, parts: &Parts) -> Self {
        let nothing = Self { verb: "other", group: "", resource: "", subresource: "", since: Instant::now() };
        let path = match Route::parse(parts.uri.path()) {
            Route::Resource(path) => path,
            _ if parts.method == http::Method::GET => return Self { verb: "GET", ..nothing },
            _ => return nothing,
        };
        let verb = Verb::of(&parts.method, &path, &Query::parse(parts.uri.query())).map_or("other", label);
        let (group, resource, subresource) = known(registry, &path);
        Self { verb, group, resource, subresource, ..nothing }
    }
}

/// The names of what the path is about, as far as it is served here.
fn known(registry: &Registry, path: &ResourcePath) -> (&'static str, &'static str, &'static str) {
    if let Some(review) = reviews::find(path) {
        return (review.group, review.plural, "");
    }
    let Some(resource) = registry.find(&path.group, &path.version, &path.resource) else { return ("", "", "") };
    let below = path.subresource.as_deref().and_then(|segment| resource.subresource(segment));
    (resource.group, resource.plural, below.map_or("", |subresource| subresource.segment()))
}

fn label(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "GET",
        Verb::List => "LIST",
        Verb::Watch => "WATCH",
        Verb::Create => "POST",
        Verb::Update => "PUT",
        Verb::Patch => "PATCH",
        Verb::Delete => "DELETE",
        Verb::DeleteCollection => "DELETECOLLECTION",
        Verb::Other => "other",
    }
}

/// What the server counts, and who else has figures.
pub(crate) struct Metrics {
    figures: Figures,
    requests: Family<Answered, Counter>,
    durations: Family<Timed, Histogram>,
    sources: RwLock<Vec<Arc<MetricsSource>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let requests = Family::<Answered, Counter>::default();
        let durations = Family::<Timed, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        let mut figures = Figures::default();
        figures.register("apiserver_request", "Requests that were answered", requests.clone());
        let help = "How long it took until the answer began; what streams goes on after that";
        figures.register("apiserver_request_duration_seconds", help, durations.clone());
        Self { figures, requests, durations, sources: RwLock::default() }
    }
}

impl Metrics {
    pub(crate) fn answered(&self, asked: Asked, code: StatusCode) {
        let Asked { verb, group, resource, subresource, since } = asked;
        self.requests.get_or_create(&Answered { verb, group, resource, subresource, code: code.as_u16() }).inc();
        self.durations.get_or_create(&Timed { verb, group, resource }).observe(since.elapsed().as_secs_f64());
    }

    pub(crate) fn add_source(&self, source: Arc<MetricsSource>) {
        self.sources.write().unwrap_or_else(PoisonError::into_inner).push(source);
    }

    /// All figures as they are now.
    pub(crate) fn answer(&self, store: &Store) -> Result<Response, ApiError> {
        let text = self.text(store).map_err(ApiError::internal)?;
        Ok(([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response())
    }

    fn text(&self, store: &Store) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.figures)?;
        encode_registry(&mut text, &of_store(store))?;
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner).clone();
        for source in sources {
            source(&mut text);
        }
        encode_eof(&mut text)?;
        Ok(text)
    }
}

/// What the store knows without being told to count.
fn of_store(store: &Store) -> Figures {
    let gauge = |counts: Vec<(Arc<str>, usize)>| {
        let family = Family::<OfResource, Gauge>::default();
        // Names that begin with '+' are the server's own bookkeeping.
        for (resource, count) in counts.into_iter().filter(|(resource, _)| !resource.starts_with('+')) {
            let of = OfResource { resource: resource.to_string() };
            family.get_or_create(&of).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        family
    };
    let mut figures = Figures::default();
    figures.register("apiserver_storage_objects", "Objects that are stored", gauge(store.counts()));
    figures.register("apiserver_registered_watchers", "Watches that are open", gauge(store.watchers()));
    figures.register(
        "minisvc_store_commits",
        "Transactions of the store since it was opened",
        ConstCounter::new(store.commits()),
    );
    figures
}
