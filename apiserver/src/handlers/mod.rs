//! From a request to an answer: who asks, may they, what for, and in which form.

mod access;
mod eviction;
mod impersonate;
mod log;
mod objects;
mod proxy;
mod scale;
mod stream;
mod subresources;
mod token;
mod watch;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;

use crate::error::{ApiError, Target};
use crate::identity::Identity;
use crate::metrics::Asked;
use crate::negotiate::Form;
use crate::registry::{Resource, Subresource};
use crate::render::{self, IncludeObject, Renderer};
use crate::request_info::{Query, ResourcePath, Route, Verb};
use crate::selectors::FieldSelector;
use crate::server::Server;
use crate::{discovery, health, openapi, reviews};

/// Every answer has one of its own.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// Answers any request. The identity is an extension that only the in-memory client or an authenticator sets.
pub(crate) async fn handle(server: Arc<Server>, request: Request<Body>) -> Response {
    // A bug in one handler is that request's misfortune, not that of the controller which shares the task. Nothing that
    // a handler holds outlives it half changed: all lasting change is made by the store's own thread.
    let (parts, body) = request.into_parts();
    let asked = Asked::of(server.registry, &parts);
    let outcome = AssertUnwindSafe(respond(Arc::clone(&server), parts, body)).catch_unwind().await;
    let outcome = outcome.unwrap_or_else(|_| Err(ApiError::internal("the request could not be handled, see the log")));
    let mut response = outcome.unwrap_or_else(IntoResponse::into_response);
    // Names the request in whatever the client writes down.
    if let Ok(id) = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()) {
        response.headers_mut().insert(AUDIT_ID, id);
    }
    server.metrics.answered(asked, response.status());
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    response
}

async fn respond(server: Arc<Server>, mut parts: Parts, body: Body) -> Result<Response, ApiError> {
    let route = Route::parse(parts.uri.path());
    impersonate::apply(&server, &mut parts)?;
    match &route {
        Route::Health(check) => return Ok(health::check(&server, check, &Query::parse(parts.uri.query()))),
        Route::Version => return read_only(&parts).map(|()| discovery::version()),
        _ => {}
    }
    let identity = parts.extensions.get::<Identity>().cloned().ok_or(ApiError::Unauthorized)?;
    if !matches!(route, Route::Resource(_)) {
        access::authorize_path(&server, &identity, &parts)?;
        return outside_of_resources(&server, &parts, &route);
    }
    let Route::Resource(path) = route else { return Err(ApiError::UnknownPath) };
    if let Some(review) = reviews::find(&path) {
        let target = Target { group: review.group, resource: review.plural, name: String::new() };
        access::authorize_resource(&server, &identity, &path, Verb::Create, "", target)?;
        return reviews::handle(&server, review, &path, &identity, &parts, body).await;
    }
    let query = Query::parse(parts.uri.query());
    let verb = Verb::of(&parts.method, &path, &query);
    if let Some(extension) = server.extension().filter(|extension| extension.serves(&path)) {
        let (verb, name) = (verb.unwrap_or(Verb::Other), path.name.as_deref().unwrap_or_default());
        access::authorize_resource(&server, &identity, &path, verb, name, Target::default())?;
        return Ok(extension.answer(parts, body).await);
    }
    let resource = server.registry.find(&path.group, &path.version, &path.resource).ok_or(ApiError::UnknownPath)?;
    let call = Call::new(&server, resource, &path, query, &parts, identity, verb)?;
    let deprecated = call.resource.deprecated;
    let mut response = call.dispatch(body).await;
    if let (Ok(response), Some(text)) = (&mut response, deprecated) {
        render::add_warnings(response, &[text.to_owned()]);
    }
    response
}

fn outside_of_resources(server: &Server, parts: &Parts, route: &Route) -> Result<Response, ApiError> {
    read_only(parts)?;
    let extension = server.extension();
    let offer = discovery::Offer { registry: server.registry, extension: extension.as_deref() };
    match route {
        Route::CoreVersions => Ok(discovery::core_versions(&offer, &parts.headers, &server.options)),
        Route::Groups => Ok(discovery::groups(&offer, &parts.headers)),
        Route::Group(group) => discovery::group(&offer, group),
        Route::GroupVersion(group, version) => discovery::resources(&offer, group, version),
        Route::Metrics => server.metrics.answer(&server.store),
        Route::OpenApi(document) => openapi::answer(&server.openapi, document, &parts.headers),
        Route::Health(_) | Route::Version | Route::Resource(_) | Route::Unknown => Err(ApiError::UnknownPath),
    }
}

/// The one object that the field selector of a collection lets through: who may see that one may ask for it like this.
fn selected_name(resource: &Resource, query: &Query, verb: Verb) -> Option<String> {
    let of_collection = matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection);
    let selector = query.get("fieldSelector").filter(|_| of_collection)?;
    FieldSelector::parse(selector, resource.selectable_names).ok()?.name().map(str::to_owned)
}

fn read_only(parts: &Parts) -> Result<(), ApiError> {
    match parts.method {
        Method::GET | Method::HEAD => Ok(()),
        ref other => Err(ApiError::MethodNotAllowed { verb: other.to_string(), target: Box::default() }),
    }
}

/// One authorised request about a resource.
pub(crate) struct Call<'a> {
    pub(crate) server: &'a Arc<Server>,
    pub(crate) resource: &'a Arc<Resource>,
    pub(crate) subresource: Option<&'static Subresource>,
    pub(crate) path: &'a ResourcePath,
    pub(crate) query: Query,
    pub(crate) headers: &'a HeaderMap,
    /// There if the connection can be upgraded.
    pub(crate) upgrade: Option<OnUpgrade>,
    pub(crate) identity: Identity,
    pub(crate) verb: Verb,
    pub(crate) method: &'a Method,
    /// As it was sent.
    pub(crate) uri: &'a Uri,
    /// One clock reading for the whole request.
    pub(crate) now: Timestamp,
}

impl<'a> Call<'a> {
    fn new(
        server: &'a Arc<Server>,
        resource: &'a Arc<Resource>,
        path: &'a ResourcePath,
        query: Query,
        parts: &'a Parts,
        identity: Identity,
        verb: Option<Verb>,
    ) -> Result<Self, ApiError> {
        if path.namespace.is_some() && !resource.namespaced {
            return Err(ApiError::UnknownPath);
        }
        let subresource = match path.subresource.as_deref() {
            None => None,
            Some(segment) => {
                Some(resource.subresource(segment).ok_or_else(|| subresources::absent(resource, segment))?)
            }
        };
        if !path.rest.is_empty() {
            return Err(ApiError::UnknownPath);
        }
        let not_allowed = || ApiError::MethodNotAllowed {
            verb: parts.method.to_string(),
            target: Box::new(Target { group: resource.group, resource: resource.plural, name: String::new() }),
        };
        let verb = verb.ok_or_else(not_allowed)?;
        let selected = selected_name(resource, &query, verb);
        let name = path.name.as_deref().or(selected.as_deref()).unwrap_or_default();
        access::authorize_resource(server, &identity, path, verb, name, resource.target(name))?;
        // One object of a namespaced kind has no address without its namespace.
        let needs_namespace = path.name.is_some() || matches!(verb, Verb::Create | Verb::DeleteCollection);
        if resource.namespaced && path.namespace.is_none() && needs_namespace {
            return Err(not_allowed());
        }
        let headers = &parts.headers;
        let upgrade = parts.extensions.get::<OnUpgrade>().cloned();
        let now = Timestamp::now();
        Ok(Self {
            server,
            resource,
            subresource,
            path,
            query,
            headers,
            upgrade,
            identity,
            verb,
            method: &parts.method,
            uri: &parts.uri,
            now,
        })
    }

    /// A PUT or an apply of what does not exist is a creation, and needs that right too.
    pub(crate) fn authorize_create(&self) -> Result<(), ApiError> {
        let name = self.path.name.as_deref().unwrap_or_default();
        let target = self.resource.target(name);
        access::authorize_resource(self.server, &self.identity, self.path, Verb::Create, name, target)
    }

    async fn dispatch(self, body: Body) -> Result<Response, ApiError> {
        if self.subresource.is_some() {
            return subresources::dispatch(self, body).await;
        }
        match self.verb {
            Verb::Get => objects::get(&self).await,
            Verb::List => objects::list(&self).await,
            Verb::Watch => watch::watch(&self).await,
            _ if let Some(why) = self.resource.why_none => {
                Err(ApiError::NotServed { target: Box::new(self.resource.target("")), why })
            }
            Verb::Create => objects::create(&self, body).await,
            Verb::Update => objects::update(&self, body).await,
            Verb::Patch => objects::patch(&self, body).await,
            Verb::Delete => objects::delete(&self, body).await,
            Verb::DeleteCollection => objects::delete_collection(&self, body).await,
            // No method is read as it.
            Verb::Other => Err(self.not_allowed()),
        }
    }

    /// The namespace of the URL; empty for cluster-scoped kinds.
    pub(crate) fn namespace(&self) -> &'a str {
        self.path.namespace.as_deref().unwrap_or_default()
    }

    /// The object's name; `dispatch` has made sure that verbs on one object have it.
    pub(crate) fn name(&self) -> Result<&'a str, ApiError> {
        self.path.name.as_deref().ok_or_else(|| self.not_allowed())
    }

    pub(crate) fn not_allowed(&self) -> ApiError {
        ApiError::MethodNotAllowed { verb: self.method.to_string(), target: Box::new(self.resource.target("")) }
    }

    /// How the answer is written; errors do not depend on it.
    pub(crate) fn renderer(&self) -> Result<Renderer, ApiError> {
        Ok(Renderer {
            resource: Arc::clone(self.resource),
            form: Form::negotiate(self.headers)?,
            include: IncludeObject::parse(self.query.get("includeObject"))?,
            now: self.now,
        })
    }

    /// Who is recorded as the manager of the fields this request sets.
    pub(crate) fn manager(&self, stated: Option<&str>) -> String {
        if let Some(stated) = stated {
            return stated.to_owned();
        }
        let agent = self.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let agent = agent.and_then(|agent| agent.split('/').next()).filter(|agent| !agent.is_empty());
        let fallback = self.identity.user.rsplit(':').next().unwrap_or("unknown");
        agent.unwrap_or(fallback).chars().take(128).collect()
    }

    pub(crate) fn created_or_ok(created: bool) -> StatusCode {
        if created { StatusCode::CREATED } else { StatusCode::OK }
    }
}
