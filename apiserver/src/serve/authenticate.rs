//! Who asks: a client certificate, a token, the uid behind a Unix socket, or nobody.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use tracing::debug;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::token::{Claims, ISSUER, TokenSigner, user_name};
use crate::error::{ApiError, Target};
use crate::identity::{AUTHENTICATED, Identity, MASTERS};

/// The uid of a ServiceAccount by namespace and name, `None` when there is no such account.
pub type FindServiceAccount = dyn Fn(&str, &str) -> Option<String> + Send + Sync;

/// The group of all ServiceAccounts.
const ACCOUNTS: &str = "system:serviceaccounts";
/// Where an identity tells the pod that its token is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// How a browser hands over a token with a WebSocket, where it cannot set headers.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// Who is at the other end of a connection, known before the first request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// Nobody yet: each request brings its own credentials or none.
    Unknown,
    /// The holder of a client certificate, or of a uid that may use the socket.
    Known(Identity),
    /// A uid that may not use the socket.
    Stranger {
        /// Its uid.
        uid: u32,
    },
}

impl Peer {
    /// The holder of a certificate that the TLS library has verified: CN is the user, O the groups.
    pub(super) fn of_certificate(certificate: &CertificateDer<'_>) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Self::Unknown };
        let subject = certificate.subject();
        let Some(user) = subject.iter_common_name().find_map(|name| name.as_str().ok()) else { return Self::Unknown };
        let groups: Vec<&str> = subject.iter_organization().filter_map(|group| group.as_str().ok()).collect();
        Self::Known(Identity::new(user, &groups))
    }

    /// The process at the other end of a Unix socket, by its uid as the host sees it: root and the allowed may everything.
    pub(super) fn of_uid(uid: u32, allowed: &[u32]) -> Self {
        if uid != 0 && !allowed.contains(&uid) {
            return Self::Stranger { uid };
        }
        Self::Known(Identity::new(format!("system:minisvc:uid:{uid}"), &[MASTERS]))
    }
}

/// What a token is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenReview {
    /// It tells who holds it.
    Valid {
        /// Who that is.
        identity: Identity,
        /// Whom it may be shown to, of those that were asked about.
        audiences: Vec<String>,
    },
    /// Nothing.
    Worthless {
        /// Why.
        why: String,
    },
}

/// Finds out who sent a request.
#[derive(Clone)]
pub struct Authenticator {
    tokens: Arc<TokenSigner>,
    find_service_account: Arc<FindServiceAccount>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// An authenticator for tokens of `tokens`, which are worth nothing once `find_service_account` no longer knows the
    /// account or knows another one of that name.
    #[must_use]
    pub fn new(tokens: Arc<TokenSigner>, find_service_account: Arc<FindServiceAccount>) -> Self {
        Self { tokens, find_service_account }
    }

    /// The identity behind a token.
    ///
    /// # Errors
    /// [`ApiError::Unauthorized`] when it is worth nothing.
    pub fn check_token(&self, token: &str, now: Timestamp) -> Result<Identity, ApiError> {
        match self.review_token(token, &[], now) {
            TokenReview::Valid { identity, .. } => Ok(identity),
            TokenReview::Worthless { why } => {
                debug!(%why, "a token was refused");
                Err(ApiError::Unauthorized)
            }
        }
    }

    /// Whose token it is, and which of the `audiences` it may be shown to: at least one. None stands for this API.
    pub(crate) fn review_token(&self, token: &str, audiences: &[String], now: Timestamp) -> TokenReview {
        let this_api = [ISSUER.to_owned()];
        let wanted = if audiences.is_empty() { &this_api } else { audiences };
        match self.read_token(token, now) {
            Err(why) => TokenReview::Worthless { why },
            Ok((identity, claimed)) => {
                let audiences: Vec<String> = wanted.iter().filter(|one| claimed.contains(one)).cloned().collect();
                if audiences.is_empty() {
                    return TokenReview::Worthless { why: "the token is for another audience".to_owned() };
                }
                TokenReview::Valid { identity, audiences }
            }
        }
    }

    /// Who holds a token, and whom it may be shown to.
    fn read_token(&self, token: &str, now: Timestamp) -> Result<(Identity, Vec<String>), String> {
        let Claims { bound, aud, .. } = self.tokens.verify(token, now).map_err(|error| error.to_string())?;
        let account = bound.serviceaccount;
        if (self.find_service_account)(&bound.namespace, &account.name).as_ref() != Some(&account.uid) {
            return Err("the ServiceAccount of the token is gone".to_owned());
        }
        let extra = bound.pod.into_iter().flat_map(|pod| [(POD_NAME, pod.name), (POD_UID, pod.uid)]);
        let identity = Identity {
            user: user_name(&bound.namespace, &account.name),
            groups: account_groups(&bound.namespace),
            uid: account.uid,
            extra: extra.map(|(key, value)| (key.to_owned(), vec![value])).collect(),
        };
        Ok((identity, aud))
    }

    /// Who sent this request; `None` for nobody, who may ask for this path all the same.
    ///
    /// Takes a token out of the WebSocket protocols, so that it is neither selected nor repeated.
    pub(super) fn identify(
        &self,
        peer: &Peer,
        path: &str,
        headers: &mut HeaderMap,
        now: Timestamp,
    ) -> Result<Option<Identity>, ApiError> {
        let protocol_token = take_protocol_token(headers)?;
        if let Peer::Stranger { uid } = peer {
            let target = Target { group: "", resource: "users", name: uid.to_string() };
            return Err(forbidden(target, format!("uid {uid} is neither root nor the owner of this lab")));
        }
        let identity = match peer {
            Peer::Known(identity) => Some(identity.clone()),
            Peer::Unknown | Peer::Stranger { .. } => match bearer_token(headers)?.or(protocol_token) {
                Some(token) => Some(self.check_token(&token, now)?),
                None if is_public(path) => None,
                None => return Err(ApiError::Unauthorized),
            },
        };
        Ok(identity)
    }
}

/// What is answered without credentials.
fn is_public(path: &str) -> bool {
    let path = path.trim_matches('/');
    let first = path.split('/').next().unwrap_or_default();
    matches!(first, "healthz" | "livez" | "readyz") || path == "version"
}

/// The groups of every ServiceAccount of a namespace.
pub(crate) fn account_groups(namespace: &str) -> Vec<String> {
    let own = format!("{ACCOUNTS}:{namespace}");
    vec![ACCOUNTS.to_owned(), own, AUTHENTICATED.to_owned()]
}

/// Namespace and name of the ServiceAccount that this is the user name of.
pub(crate) fn account_of_user(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

fn forbidden(target: Target, why: String) -> ApiError {
    ApiError::Forbidden { target: Box::new(target), why, causes: Vec::new() }
}

/// The token of an `Authorization` header. Another scheme is a bad credential, not a missing one.
fn bearer_token(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().map_err(|_| ApiError::Unauthorized)?;
    match text.trim().split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim().to_owned())),
        _ => Err(ApiError::Unauthorized),
    }
}

/// Removes the token from the offered WebSocket protocols.
fn take_protocol_token(headers: &mut HeaderMap) -> Result<Option<String>, ApiError> {
    let mut token = None;
    let mut others: Vec<String> = Vec::new();
    for value in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        let offered = value.to_str().map_err(|_| ApiError::bad_request("Sec-WebSocket-Protocol is not text"))?;
        for protocol in offered.split(',').map(str::trim) {
            match protocol.strip_prefix(TOKEN_PROTOCOL) {
                Some(encoded) => token = Some(decode_protocol_token(encoded)?),
                None => others.push(protocol.to_owned()),
            }
        }
    }
    if token.is_none() {
        return Ok(None);
    }
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if let (false, Ok(rest)) = (others.is_empty(), HeaderValue::from_str(&others.join(", "))) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, rest);
    }
    Ok(token)
}

fn decode_protocol_token(encoded: &str) -> Result<String, ApiError> {
    let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| ApiError::Unauthorized)?;
    String::from_utf8(bytes).map_err(|_| ApiError::Unauthorized)
}

#[cfg(test)]
mod tests {
    use super::super::token::TokenRequest;
    use super::*;
    use jiff::SignedDuration;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn signer() -> Arc<TokenSigner> {
        Arc::new(TokenSigner::new(rcgen::KeyPair::generate().unwrap().serialized_der()).unwrap())
    }

    fn authenticator(tokens: &Arc<TokenSigner>) -> Authenticator {
        let find = |namespace: &str, name: &str| (namespace == "shop" && name == "cart").then(|| "u-1".to_owned());
        Authenticator::new(Arc::clone(tokens), Arc::new(find))
    }

    fn token(tokens: &TokenSigner, service_account: &str, uid: &str, audiences: &[String]) -> String {
        let expires = NOW + SignedDuration::from_secs(60);
        let request = TokenRequest { namespace: "shop", service_account, uid, pod: None, audiences, expires };
        tokens.issue(&request, NOW).unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    //
    #[test]
    fn a_token_tells_the_service_account_and_its_groups() {
        let tokens = signer();
        let bearer = format!("bearer {}", token(&tokens, "cart", "u-1", &[]));
        let found = authenticator(&tokens)
            .identify(&Peer::Unknown, "/api", &mut headers(&[("authorization", &bearer)]), NOW)
            .unwrap()
            .unwrap();
        assert_eq!(found.user, "system:serviceaccount:shop:cart");
        assert_eq!(found.groups, ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"]);
    }

    //
    #[test]
    fn a_bad_credential_is_refused_even_where_none_is_needed() {
        let tokens = signer();
        let authenticator = authenticator(&tokens);
        let bearer = |token: String| format!("Bearer {token}");
        for credential in [
            bearer("nonsense".to_owned()),
            bearer(token(&signer(), "cart", "u-1", &[])),
            bearer(token(&tokens, "cart", "another uid", &[])),
            bearer(token(&tokens, "gone", "u-1", &[])),
            bearer(token(&tokens, "cart", "u-1", &["vault".to_owned()])),
            "Basic YTpi".to_owned(),
            "Bearer".to_owned(),
        ] {
            let mut headers = headers(&[("authorization", &credential)]);
            let refused = authenticator.identify(&Peer::Unknown, "/version", &mut headers, NOW);
            assert_eq!(refused, Err(ApiError::Unauthorized), "{credential}");
        }
    }

    //
    #[test]
    fn nobody_may_only_ask_for_health_and_version() {
        let authenticator = authenticator(&signer());
        for (path, open) in [
            ("/healthz", true),
            ("/livez/ping", true),
            ("/readyz", true),
            ("/version/", true),
            ("/", false),
            ("/api", false),
            ("/versions", false),
            ("/version/x", false),
            ("/api/v1/pods", false),
        ] {
            let found = authenticator.identify(&Peer::Unknown, path, &mut HeaderMap::new(), NOW);
            assert_eq!(found, if open { Ok(None) } else { Err(ApiError::Unauthorized) }, "{path}");
        }
    }

    //
    #[test]
    fn a_certificate_comes_before_a_token() {
        let admin = Identity::new("kubernetes-admin", &[MASTERS]);
        let mut headers = headers(&[("authorization", "Bearer nonsense")]);
        let found = authenticator(&signer()).identify(&Peer::Known(admin.clone()), "/api", &mut headers, NOW);
        assert_eq!(found, Ok(Some(admin)));
    }

    //
    #[test]
    fn a_token_among_websocket_protocols_is_used_and_removed() {
        let tokens = signer();
        let encoded = URL_SAFE_NO_PAD.encode(token(&tokens, "cart", "u-1", &[]));
        let offered = format!("v5.channel.k8s.io, {TOKEN_PROTOCOL}{encoded},v4.channel.k8s.io");
        let mut headers = headers(&[("sec-websocket-protocol", &offered)]);
        let found = authenticator(&tokens).identify(&Peer::Unknown, "/api", &mut headers, NOW).unwrap().unwrap();
        assert_eq!(found.user, "system:serviceaccount:shop:cart");
        assert_eq!(headers["sec-websocket-protocol"], "v5.channel.k8s.io, v4.channel.k8s.io");
    }

    #[test]
    fn a_socket_is_for_root_and_the_owner() {
        assert_eq!(Peer::of_uid(1001, &[1000]), Peer::Stranger { uid: 1001 });
        for uid in [0, 1000] {
            let Peer::Known(identity) = Peer::of_uid(uid, &[1000]) else { panic!("{uid} is refused") };
            assert!(identity.is_in(MASTERS));
        }
        let refused =
            authenticator(&signer()).identify(&Peer::Stranger { uid: 7 }, "/version", &mut HeaderMap::new(), NOW);
        assert_eq!(refused.unwrap_err().code().as_u16(), 403);
    }
}
