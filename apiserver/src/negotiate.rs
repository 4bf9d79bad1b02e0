//! Which form an answer takes, chosen from `Accept`.

use http::{HeaderMap, header};

use crate::error::ApiError;

/// The media types named in a 406.
const SUPPORTED: &str = "application/json, application/yaml";

/// The OpenAPI v2 document as a protobuf message.
pub(crate) const OPENAPI_MESSAGE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// What an object or list is turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As it is.
    Object,
    /// A Table of this version of `meta.k8s.io`.
    Table(&'static str),
    /// Metadata only, of this version of `meta.k8s.io`.
    Metadata(&'static str),
}

/// Shape and encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) shape: Shape,
    pub(crate) yaml: bool,
}

impl Form {
    /// What is served when nothing is asked for.
    pub(crate) const JSON: Self = Self { shape: Shape::Object, yaml: false };

    /// The first clause that can be served; protobuf and unknown ones are passed over.
    pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(accept) = accept(headers) else { return Ok(Self::JSON) };
        clauses(&accept).find_map(|clause| clause.form()).ok_or(ApiError::NotAcceptable(SUPPORTED))
    }
}

/// The version of `apidiscovery.k8s.io` asked for, if aggregated discovery is.
pub(crate) fn discovery_version(headers: &HeaderMap) -> Option<&'static str> {
    let accept = accept(headers)?;
    for clause in clauses(&accept) {
        if !clause.is_json() {
            continue;
        }
        match (clause.parameter("as"), clause.parameter("g"), clause.parameter("v")) {
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => return Some("v2"),
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => return Some("v2beta1"),
            (None, ..) => return None,
            _ => {}
        }
    }
    None
}

/// The OpenAPI v2 document is wanted as a protobuf message, under one name of the type or the other.
pub(crate) fn wants_openapi_message(headers: &HeaderMap) -> bool {
    const OLDER: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let Some(accept) = accept(headers) else { return false };
    let wanted = clauses(&accept).find_map(|clause| {
        let message = [OLDER, OPENAPI_MESSAGE].iter().any(|name| clause.media.eq_ignore_ascii_case(name));
        (message || clause.is_json()).then_some(message)
    });
    wanted.unwrap_or(false)
}

fn accept(headers: &HeaderMap) -> Option<String> {
    let values: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
    let joined = values.join(",");
    if joined.trim().is_empty() { None } else { Some(joined) }
}

struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

fn clauses(accept: &str) -> impl Iterator<Item = Clause<'_>> {
    accept.split(',').map(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameters = parts.filter_map(|p| p.split_once('=')).map(|(k, v)| (k.trim(), v.trim())).collect();
        Clause { media, parameters }
    })
}

impl<'a> Clause<'a> {
    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    fn is_json(&self) -> bool {
        ["application/json", "application/*", "*/*"].iter().any(|m| self.media.eq_ignore_ascii_case(m))
    }

    fn form(&self) -> Option<Form> {
        let yaml = self.media.eq_ignore_ascii_case("application/yaml");
        if !yaml && !self.is_json() {
            return None;
        }
        let Some(wanted) = self.parameter("as") else { return Some(Form { shape: Shape::Object, yaml }) };
        if self.parameter("g").is_some_and(|group| group != "meta.k8s.io") {
            return None;
        }
        let version = match self.parameter("v") {
            Some("v1") | None => "v1",
            Some("v1beta1") => "v1beta1",
            Some(_) => return None,
        };
        let shape = match wanted {
            "Table" => Shape::Table(version),
            "PartialObjectMetadata" | "PartialObjectMetadataList" => Shape::Metadata(version),
            _ => return None,
        };
        Some(Form { shape, yaml })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_str(accept).unwrap())])
    }

    //
    #[test]
    fn the_first_clause_that_can_be_served() {
        let rows = [
            ("application/json", Shape::Object, false),
            ("application/json, */*", Shape::Object, false),
            ("application/vnd.kubernetes.protobuf,application/json", Shape::Object, false),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                Shape::Table("v1"),
                false,
            ),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json", Shape::Table("v1beta1"), false),
            ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", Shape::Metadata("v1"), false),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Shape::Metadata("v1"), false),
            ("application/json;as=Unheard;v=v1;g=meta.k8s.io, application/json", Shape::Object, false),
            ("APPLICATION/JSON ; AS=Table ; V=v1 ; G=meta.k8s.io", Shape::Table("v1"), false),
            ("application/yaml", Shape::Object, true),
        ];
        for (accept, shape, yaml) in rows {
            assert_eq!(Form::negotiate(&headers(accept)).unwrap(), Form { shape, yaml }, "{accept}");
        }
        assert_eq!(Form::negotiate(&HeaderMap::new()).unwrap(), Form::JSON);
    }

    //
    #[test]
    fn nothing_that_fits_is_not_acceptable() {
        for accept in ["application/vnd.kubernetes.protobuf", "application/json;as=Unheard", "text/html"] {
            let error = Form::negotiate(&headers(accept)).unwrap_err();
            assert_eq!(error.code().as_u16(), 406, "{accept}");
        }
    }

    //
    #[test]
    fn openapi_comes_as_a_message_for_those_who_ask_for_nothing_else_first() {
        let message = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
        for (accept, expected) in [
            (message, true),
            (OPENAPI_MESSAGE, true),
            (&format!("{message}, application/json"), true),
            (&format!("application/json, {message}"), false),
            ("*/*", false),
            ("text/html", false),
        ] {
            assert_eq!(wants_openapi_message(&headers(accept)), expected, "{accept}");
        }
        assert!(!wants_openapi_message(&HeaderMap::new()));
    }

    //
    #[test]
    fn aggregated_discovery_versions() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        let both = format!("{v2},{beta},application/json");
        assert_eq!(discovery_version(&headers(&both)), Some("v2"));
        assert_eq!(discovery_version(&headers(&format!("{beta},application/json"))), Some("v2beta1"));
        assert_eq!(discovery_version(&headers("application/json")), None);
        assert_eq!(discovery_version(&HeaderMap::new()), None);
    }
}
