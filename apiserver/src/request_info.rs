//! What a request asks for, read from its method, path and query: one parser for the whole URL space.
//!
//! It knows the shape of URLs, not which kinds exist.

use std::time::Duration;

use http::Method;

use crate::error::ApiError;
use crate::paging::Token;

/// What the path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/healthz`, `/livez`, `/readyz` and single checks below them.
    Health(String),
    /// `/version`.
    Version,
    /// `/api`.
    CoreVersions,
    /// `/apis`.
    Groups,
    /// `/apis/G`.
    Group(String),
    /// `/api/v1`, `/apis/G/V`.
    GroupVersion(String, String),
    /// `/openapi/v3` and documents below it (without that prefix, no leading slash).
    OpenApi(String),
    /// `/metrics`.
    Metrics,
    /// Anything below a group-version.
    Resource(ResourcePath),
    /// None of these.
    Unknown,
}

/// A path below a group-version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ResourcePath {
    /// Empty for core.
    pub(crate) group: String,
    pub(crate) version: String,
    /// None on cluster-wide paths.
    pub(crate) namespace: Option<String>,
    pub(crate) resource: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// What follows the subresource.
    pub(crate) rest: Vec<String>,
    /// The legacy `/watch/` prefix was there.
    pub(crate) watch_prefix: bool,
    /// What follows `/proxy`, as it was sent: it is somebody else's path.
    pub(crate) proxied: Option<String>,
}

impl Route {
    /// Reads a path; a trailing slash means nothing.
    pub(crate) fn parse(path: &str) -> Self {
        proxied(path).unwrap_or_else(|| Self::of(path))
    }

    /// Reads a path that is meant for this server up to its end.
    fn of(path: &str) -> Self {
        let trimmed = path.trim_matches('/');
        if trimmed.is_empty() {
            return Self::Unknown;
        }
        let mut segments = Vec::new();
        for raw in trimmed.split('/') {
            match percent_encoding::percent_decode_str(raw).decode_utf8() {
                Ok(text) if !text.is_empty() => segments.push(text.into_owned()),
                _ => return Self::Unknown,
            }
        }
        let words: Vec<&str> = segments.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["healthz" | "livez" | "readyz", ..] => Self::Health(segments[0].clone()),
            ["version"] => Self::Version,
            ["metrics"] => Self::Metrics,
            ["api"] => Self::CoreVersions,
            ["apis"] => Self::Groups,
            ["apis", group] => Self::Group((*group).to_owned()),
            ["api", version] => Self::GroupVersion(String::new(), (*version).to_owned()),
            ["apis", group, version] => Self::GroupVersion((*group).to_owned(), (*version).to_owned()),
            ["openapi", rest @ ..] => Self::OpenApi(rest.join("/")),
            ["api", version, below @ ..] => resource_path("", version, below),
            ["apis", group, version, below @ ..] => resource_path(group, version, below),
            _ => Self::Unknown,
        }
    }
}

/// Reads a path of a proxy subresource; what follows it is not looked at.
fn proxied(path: &str) -> Option<Route> {
    // No path has it further behind than namespace, name and subresource may be called that.
    let ends = path.match_indices("/proxy").map(|(at, word)| at + word.len()).take(4);
    ends.filter(|end| matches!(path.as_bytes().get(*end), None | Some(b'/'))).find_map(|end| {
        match Route::of(&path[..end]) {
            Route::Resource(mut found) if found.subresource.as_deref() == Some("proxy") => {
                found.proxied = Some(path[end..].to_owned());
                Some(Route::Resource(found))
            }
            _ => None,
        }
    })
}

fn resource_path(group: &str, version: &str, below: &[&str]) -> Route {
    let (watch_prefix, below) = match below {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        _ => (false, below),
    };
    let (namespace, below) = match below {
        // A Namespace's own subresources come before reading it as a prefix.
        ["namespaces", _, "status" | "finalize"] => (None, below),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
        _ => (None, below),
    };
    let mut words = below.iter().map(|word| (*word).to_owned());
    let Some(resource) = words.next() else { return Route::Unknown };
    Route::Resource(ResourcePath {
        group: group.to_owned(),
        version: version.to_owned(),
        namespace,
        resource,
        name: words.next(),
        subresource: words.next(),
        rest: words.collect(),
        watch_prefix,
        proxied: None,
    })
}

/// What is done to a resource, in the words of discovery and authorisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// GET of one object.
    Get,
    /// GET of a collection.
    List,
    /// GET with `watch`.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE of one object.
    Delete,
    /// DELETE of a collection.
    DeleteCollection,
    /// A method that means nothing here: only who may everything may ask for it.
    Other,
}

impl Verb {
    /// As clients write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Other => "*",
        }
    }

    /// The verb of a method on a resource path; None when the method means nothing there.
    pub(crate) fn of(method: &Method, path: &ResourcePath, query: &Query) -> Option<Self> {
        let named = path.name.is_some();
        let watch = path.watch_prefix || query.flag("watch");
        match *method {
            Method::GET | Method::HEAD if path.subresource.is_some() => Some(Self::Get),
            Method::GET | Method::HEAD if watch => Some(Self::Watch),
            Method::GET | Method::HEAD => Some(if named { Self::Get } else { Self::List }),
            Method::POST => Some(Self::Create),
            Method::PUT => Some(Self::Update),
            Method::PATCH => Some(Self::Patch),
            Method::DELETE => Some(if named { Self::Delete } else { Self::DeleteCollection }),
            // Whatever the target makes of it.
            _ if path.proxied.is_some() => Some(Self::Other),
            _ => None,
        }
    }
}

/// The query parameters; unknown ones are nobody's business.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads a query string; empty segments are tolerated.
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
        Self { pairs }
    }

    /// The first value of a parameter; None when absent or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.raw(name).filter(|value| !value.is_empty())
    }

    /// All values of a parameter, in their order.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// True unless absent, `0` or `false`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.raw(name).is_some_and(truthy)
    }

    /// A boolean that may be left out.
    pub(crate) fn optional_flag(&self, name: &str) -> Option<bool> {
        self.raw(name).map(truthy)
    }

    /// A number that may be left out.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let parse = |text: &str| {
            text.parse().map_err(|_| ApiError::bad_request(format!("invalid value {text:?} of parameter {name}")))
        };
        self.get(name).map(parse).transpose()
    }

    fn raw(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn truthy(value: &str) -> bool {
    value != "0" && !value.eq_ignore_ascii_case("false")
}

/// How unknown and duplicate fields are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Strict,
    Warn,
    Ignore,
}

/// Parameters of create, update and patch.
#[derive(Debug, Clone)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    /// As given; the fall-back is the user agent.
    pub(crate) field_manager: Option<String>,
    pub(crate) field_validation: FieldValidation,
    /// Only apply knows it.
    pub(crate) force: Option<bool>,
}

/// The longest name of a field manager.
const MAX_FIELD_MANAGER: usize = 128;

impl WriteOptions {
    pub(crate) fn from_query(query: &Query) -> Result<Self, ApiError> {
        let field_validation = match query.get("fieldValidation") {
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Warn") | None => FieldValidation::Warn,
            Some(other) => {
                let text = format!("invalid fieldValidation {other:?}: must be one of Strict, Warn, Ignore");
                return Err(ApiError::BadRequest(text));
            }
        };
        let field_manager = query.get("fieldManager").map(str::to_owned);
        if let Some(name) = &field_manager
            && (name.chars().count() > MAX_FIELD_MANAGER || name.chars().any(char::is_control))
        {
            let text = format!("invalid fieldManager: at most {MAX_FIELD_MANAGER} printable characters");
            return Err(ApiError::BadRequest(text));
        }
        let dry_runs: Vec<&str> =
            query.pairs.iter().filter(|(key, _)| key == "dryRun").map(|(_, value)| value.as_str()).collect();
        Ok(Self { dry_run: dry_run(&dry_runs)?, field_manager, field_validation, force: query.optional_flag("force") })
    }
}

/// Reads a `dryRun` list: empty or exactly `All`.
pub(crate) fn dry_run(values: &[&str]) -> Result<bool, ApiError> {
    match values.iter().find(|value| !value.is_empty() && **value != "All") {
        Some(other) => Err(ApiError::BadRequest(format!("invalid dryRun {other:?}: supported values: \"All\""))),
        None => Ok(values.contains(&"All")),
    }
}

/// `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    NotOlderThan,
    Exact,
}

/// Parameters of list, watch and deletecollection.
#[derive(Debug, Clone)]
pub(crate) struct ListOptions {
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    /// None when unset; `Some(0)` means any.
    pub(crate) resource_version: Option<u64>,
    pub(crate) version_match: Option<VersionMatch>,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
    pub(crate) timeout: Option<Duration>,
    /// At most so many on a page.
    pub(crate) limit: Option<usize>,
    /// Where the list goes on.
    pub(crate) token: Option<Token>,
}

impl ListOptions {
    /// Reads and cross-checks the parameters.
    pub(crate) fn from_query(query: &Query, watch: bool) -> Result<Self, ApiError> {
        let resource_version = resource_version(query)?;
        let version_match = match query.get("resourceVersionMatch") {
            None => None,
            Some("NotOlderThan") => Some(VersionMatch::NotOlderThan),
            Some("Exact") => Some(VersionMatch::Exact),
            Some(other) => return Err(list_options_error("resourceVersionMatch", &format!("unsupported {other:?}"))),
        };
        let send_initial_events = query.optional_flag("sendInitialEvents");
        let token = query.get("continue").map(Token::decode).transpose()?;
        if token.is_some() && version_match.is_some() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            return Err(list_options_error("resourceVersionMatch", why));
        }
        if token.is_some() && resource_version.is_some_and(|revision| revision > 0) {
            return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
        }
        let limit =
            query.number::<i64>("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
        if watch {
            match (send_initial_events, version_match) {
                (Some(_), Some(VersionMatch::NotOlderThan)) | (None, None) => {}
                (Some(_), _) => {
                    let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                    return Err(list_options_error("resourceVersionMatch", why));
                }
                (None, Some(_)) => {
                    let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                    return Err(list_options_error("resourceVersionMatch", why));
                }
            }
        } else {
            match (version_match, resource_version) {
                (Some(_), None) => {
                    let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                    return Err(list_options_error("resourceVersionMatch", why));
                }
                (Some(VersionMatch::Exact), Some(0)) => {
                    let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                    return Err(list_options_error("resourceVersionMatch", why));
                }
                _ => {}
            }
            if send_initial_events.is_some() {
                return Err(list_options_error("sendInitialEvents", "sendInitialEvents is forbidden for list"));
            }
        }
        Ok(Self {
            label_selector: query.get("labelSelector").unwrap_or_default().to_owned(),
            field_selector: query.get("fieldSelector").unwrap_or_default().to_owned(),
            resource_version,
            version_match,
            bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events,
            timeout: query.number::<u64>("timeoutSeconds")?.filter(|s| *s > 0).map(Duration::from_secs),
            limit,
            token,
        })
    }
}

/// The `resourceVersion` parameter; None when unset.
pub(crate) fn resource_version(query: &Query) -> Result<Option<u64>, ApiError> {
    query.number("resourceVersion")
}

fn list_options_error(field: &str, why: &str) -> ApiError {
    let error = crate::error::FieldError::forbidden(field, why);
    ApiError::Invalid { group: "meta.k8s.io", kind: "ListOptions", name: String::new(), errors: vec![error] }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // no path and no query stops the server.
        #[test]
        fn any_path_and_query_is_read(path in "(/[a-z%./:]{0,6}){0,8}", query in "[a-zA-Z0-9%&=+,!]{0,60}") {
            let route = Route::parse(&path);
            prop_assert_eq!(Route::parse(&format!("{path}/")), route);
            let query = Query::parse(Some(&query));
            let _ = (ListOptions::from_query(&query, true), WriteOptions::from_query(&query));
        }
    }

    fn resource(path: &str) -> ResourcePath {
        match Route::parse(path) {
            Route::Resource(found) => found,
            other => panic!("{path} is {other:?}"),
        }
    }

    //
    #[test]
    fn paths_of_namespaced_and_cluster_scoped_kinds() {
        let pod = resource("/api/v1/namespaces/default/pods/web/log");
        assert_eq!((pod.namespace.as_deref(), pod.resource.as_str()), (Some("default"), "pods"));
        assert_eq!((pod.name.as_deref(), pod.subresource.as_deref()), (Some("web"), Some("log")));
        let all = resource("/apis/apps/v1/deployments");
        assert_eq!((all.group.as_str(), all.namespace, all.name), ("apps", None, None));
        let namespace = resource("/api/v1/namespaces/blue");
        assert_eq!((namespace.resource.as_str(), namespace.name.as_deref()), ("namespaces", Some("blue")));
        for sub in ["status", "finalize"] {
            let namespace = resource(&format!("/api/v1/namespaces/blue/{sub}"));
            assert_eq!((namespace.namespace, namespace.subresource.as_deref()), (None, Some(sub)));
        }
    }

    //
    #[test]
    fn what_follows_a_proxy_is_kept_as_it_was_sent() {
        for (path, name, rest) in [
            ("/api/v1/namespaces/default/services/web:80/proxy", "web:80", ""),
            ("/api/v1/namespaces/default/services/http%3Aweb%3A80/proxy/", "http:web:80", "/"),
            ("/api/v1/namespaces/proxy/pods/proxy/proxy/a%2Fb//c/proxy/", "proxy", "/a%2Fb//c/proxy/"),
            ("/api/v1/nodes/node-1:80/proxy/%ff", "node-1:80", "/%ff"),
        ] {
            let found = resource(path);
            assert_eq!((found.name.as_deref(), found.proxied.as_deref()), (Some(name), Some(rest)), "{path}");
            assert_eq!((found.subresource.as_deref(), found.rest.len()), (Some("proxy"), 0), "{path}");
            let verbs = [Method::POST, Method::OPTIONS].map(|method| Verb::of(&method, &found, &Query::default()));
            assert_eq!(verbs, [Some(Verb::Create), Some(Verb::Other)]);
        }
        for path in ["/api/v1/namespaces/proxy/pods", "/api/v1/pods/a/proxyx", "/api/v1/namespaces/default/pods/proxy"]
        {
            assert_eq!(resource(path).proxied, None, "{path}");
        }
    }

    //
    #[test]
    fn a_trailing_slash_means_nothing() {
        for path in ["/version", "/api", "/apis", "/api/v1", "/apis/apps/v1", "/apis/apps"] {
            assert_ne!(Route::parse(path), Route::Unknown);
            assert_eq!(Route::parse(path), Route::parse(&format!("{path}/")));
        }
    }

    //
    #[test]
    fn other_paths_are_unknown() {
        for path in ["/", "", "/nothing", "/api//pods", "/apis/apps/v1//", "/api/v1/%ff"] {
            let route = Route::parse(path);
            assert!(matches!(route, Route::Unknown | Route::GroupVersion(..)), "{path}: {route:?}");
        }
        assert_eq!(Route::parse("/nothing"), Route::Unknown);
        assert_eq!(Route::parse("/api//pods"), Route::Unknown);
    }

    //
    #[test]
    fn the_legacy_watch_prefix_is_read() {
        let path = resource("/api/v1/watch/namespaces/default/pods/web");
        assert!(path.watch_prefix);
        assert_eq!((path.resource.as_str(), path.name.as_deref()), ("pods", Some("web")));
        assert_eq!(Verb::of(&Method::GET, &path, &Query::default()), Some(Verb::Watch));
    }

    //
    #[test]
    fn queries_with_holes_and_odd_booleans() {
        let query = Query::parse(Some("&&watch=1&a=0&b=False&c=&d&limit=500&"));
        for (name, expected) in [("watch", true), ("a", false), ("b", false), ("c", true), ("d", true), ("e", false)] {
            assert_eq!(query.flag(name), expected, "{name}");
        }
        assert_eq!(query.number::<i64>("limit").unwrap(), Some(500));
    }

    //
    #[test]
    fn version_match_needs_a_version() {
        for (query, legal) in [
            ("resourceVersionMatch=Exact", false),
            ("resourceVersionMatch=NotOlderThan", false),
            ("resourceVersionMatch=Exact&resourceVersion=0", false),
            ("resourceVersionMatch=Exact&resourceVersion=5", true),
            ("resourceVersionMatch=NotOlderThan&resourceVersion=0", true),
        ] {
            let outcome = ListOptions::from_query(&Query::parse(Some(query)), false);
            assert_eq!(outcome.is_ok(), legal, "{query}");
            if let Err(error) = outcome {
                assert_eq!(error.code().as_u16(), 422, "{query}");
            }
        }
    }

    //
    #[test]
    fn initial_events_need_the_match_parameter() {
        let refused = ListOptions::from_query(&Query::parse(Some("sendInitialEvents=true")), true).unwrap_err();
        assert_eq!(refused.code().as_u16(), 422);
        let query = Query::parse(Some("sendInitialEvents=true&resourceVersionMatch=NotOlderThan"));
        assert_eq!(ListOptions::from_query(&query, true).unwrap().send_initial_events, Some(true));
    }

    //
    #[test]
    fn only_all_is_a_dry_run() {
        let parse = |text| WriteOptions::from_query(&Query::parse(Some(text))).map(|o| o.dry_run);
        assert!(parse("dryRun=All").unwrap());
        assert!(!parse("").unwrap());
        assert_eq!(parse("dryRun=Some").unwrap_err().code().as_u16(), 400);
    }

    //
    #[test]
    fn field_managers_are_short() {
        let long = format!("fieldManager={}", "x".repeat(129));
        assert!(WriteOptions::from_query(&Query::parse(Some(&long))).is_err());
        let fits = format!("fieldManager={}", "x".repeat(128));
        assert!(WriteOptions::from_query(&Query::parse(Some(&fits))).is_ok());
    }
}
