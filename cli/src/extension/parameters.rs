//! What the query of a request says.

use std::str::FromStr;

use minisvc_apiserver::error::ApiError;
use minisvc_netd::observe::NameMatch;

/// What every client of a Kubernetes API may say, and what makes no difference here.
const WITHOUT_EFFECT: [&str; 9] = [
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "includeObject",
    "pretty",
    "timeout",
    "timeoutSeconds",
    "allowWatchBookmarks",
];

/// What such a client may say too, and what would be wrong to ignore.
const NOT_SERVED: [&str; 3] = ["labelSelector", "fieldSelector", "watch"];

/// The parameters of one request.
#[derive(Debug)]
pub(crate) struct Parameters {
    said: Vec<(String, String)>,
    /// From the path.
    pub(crate) namespace: Option<String>,
}

impl Parameters {
    /// Checks that all are known, so that a mistyped filter does not show everything.
    pub(super) fn read(
        plural: &str,
        known: &[&str],
        said: Vec<(String, String)>,
        namespace: Option<String>,
    ) -> Result<Self, ApiError> {
        for (name, value) in &said {
            let name = name.as_str();
            let is_off = matches!(value.as_str(), "" | "0" | "false");
            if known.contains(&name) || WITHOUT_EFFECT.contains(&name) || NOT_SERVED.contains(&name) && is_off {
                continue;
            }
            let why = match (name, known) {
                ("watch", _) => format!("{plural} cannot be watched; list them again, or follow the trace"),
                (_, []) => format!("{plural} has no parameter {name:?}"),
                _ => format!("{plural} has no parameter {name:?}; it has {}", known.join(", ")),
            };
            return Err(ApiError::bad_request(why));
        }
        Ok(Self { said, namespace })
    }

    /// Every value of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.said.iter().filter(move |(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The last value of a parameter, as the last flag of a command holds.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.said.iter().rev().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The same, parsed; `what` it should have been is told if it cannot be.
    pub(super) fn parsed<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, ApiError> {
        self.text(name).map(|text| parse(name, text, what)).transpose()
    }

    /// Whether a switch is on.
    pub(super) fn is_on(&self, name: &str) -> Result<bool, ApiError> {
        match self.text(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => Err(ApiError::bad_request(format!("{name}={other} is neither true nor false"))),
        }
    }

    /// The same as a name, with or without a namespace.
    pub(super) fn name(&self, name: &str) -> Option<NameMatch> {
        self.text(name).map(NameMatch::parse)
    }
}

/// A value of a parameter, or what it should have been.
pub(super) fn parse<T: FromStr>(name: &str, text: &str, what: &str) -> Result<T, ApiError> {
    text.parse().map_err(|_| ApiError::bad_request(format!("{name}={text} is no {what}")))
}
