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
#[path = "request_info_tests.rs"]
mod tests;
