//! The tokens of ServiceAccounts: JSON web tokens (RFC 7519) signed with ECDSA on P-256 (ES256, RFC 7518 section 3.4).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};

/// Who issues tokens, and the audience of those that are meant for the API itself.
pub(super) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Longest token that is looked at. Ours are below 1 KiB; headers end at some ten.
const MAX_TOKEN: usize = 8 << 10;
/// How far clocks may disagree about the beginning of a token's life, in seconds.
const LEEWAY: i64 = 10;

/// Why a token could not be made or is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It has not the form of a token, or one of another kind.
    #[error("this is not a token of a ServiceAccount")]
    Malformed,
    /// It was signed with another key, or changed.
    #[error("the token was not signed by this server")]
    Signature,
    /// Its time is over or has not come.
    #[error("the token is not valid at this time")]
    Expired,
    /// The key for signing cannot be used.
    #[error("the key for tokens cannot be used")]
    Key,
}

/// What a new token is to say.
#[derive(Clone, Debug)]
pub struct TokenRequest<'a> {
    /// The ServiceAccount's namespace.
    pub namespace: &'a str,
    /// The ServiceAccount.
    pub service_account: &'a str,
    /// Its uid: a namesake that is created later does not inherit the token.
    pub uid: &'a str,
    /// Name and uid of the pod that it is bound to.
    pub pod: Option<(&'a str, &'a str)>,
    /// Whom the token may be shown to; empty means this API.
    pub audiences: &'a [String],
    /// When it ends.
    pub expires: Timestamp,
}

/// What a valid token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whom it may be shown to.
    pub aud: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// When it was made.
    pub iat: i64,
    /// Who made it.
    pub iss: String,
    /// The ServiceAccount and what the token is bound to.
    #[serde(rename = "kubernetes.io")]
    pub bound: Bound,
    /// When it begins.
    pub nbf: i64,
    /// The user name.
    pub sub: String,
}

/// The objects that a token depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The namespace of all of them.
    pub namespace: String,
    /// The pod, if it is bound to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// The ServiceAccount.
    pub serviceaccount: Reference,
}

/// An object that may be replaced by a namesake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl Claims {
    /// Whether it may be shown to this API.
    #[must_use]
    pub fn is_for_this_api(&self) -> bool {
        self.aud.iter().any(|audience| audience == ISSUER)
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

/// Signs tokens and checks them.
pub struct TokenSigner {
    key: EcdsaKeyPair,
    random: SystemRandom,
    /// Tells which key signed a token.
    key_id: String,
}

impl std::fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSigner").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl TokenSigner {
    /// A signer with a P-256 key in PKCS #8 form.
    ///
    /// # Errors
    /// [`TokenError::Key`] when it is something else.
    pub(super) fn new(pkcs8: &[u8]) -> Result<Self, TokenError> {
        let random = SystemRandom::new();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random).map_err(|_| TokenError::Key)?;
        let key_id = URL_SAFE_NO_PAD.encode(digest(&SHA256, key.public_key().as_ref()));
        Ok(Self { key, random, key_id })
    }

    /// A new token.
    ///
    /// # Errors
    /// [`TokenError::Key`] when it cannot be signed.
    pub fn issue(&self, request: &TokenRequest<'_>, now: Timestamp) -> Result<String, TokenError> {
        let reference = |name: &str, uid: &str| Reference { name: name.to_owned(), uid: uid.to_owned() };
        let audiences = if request.audiences.is_empty() { vec![ISSUER.to_owned()] } else { request.audiences.to_vec() };
        let claims = Claims {
            aud: audiences,
            exp: request.expires.as_second(),
            iat: now.as_second(),
            iss: ISSUER.to_owned(),
            bound: Bound {
                namespace: request.namespace.to_owned(),
                pod: request.pod.map(|(name, uid)| reference(name, uid)),
                serviceaccount: reference(request.service_account, request.uid),
            },
            nbf: now.as_second(),
            sub: user_name(request.namespace, request.service_account),
        };
        let header = Header { alg: "ES256".to_owned(), kid: self.key_id.clone() };
        let signed = format!("{}.{}", encode(&header)?, encode(&claims)?);
        let signature = self.key.sign(&self.random, signed.as_bytes()).map_err(|_| TokenError::Key)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// What `token` says, if it was signed with this key and is valid at `now`. Whom it is for, and whether its objects
    /// still exist, is for the caller to check.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header: Header = decode(header)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
        // The token does not choose how it is checked.
        if header.alg != "ES256" {
            return Err(TokenError::Malformed);
        }
        let public_key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key());
        public_key.verify(signed.as_bytes(), &signature).map_err(|_| TokenError::Signature)?;
        let claims: Claims = decode(claims)?;
        if claims.iss != ISSUER {
            return Err(TokenError::Malformed);
        }
        let now = now.as_second();
        if now >= claims.exp || now + LEEWAY < claims.nbf {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}

/// The user name of a ServiceAccount.
pub(crate) fn user_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

fn encode(part: &impl Serialize) -> Result<String, TokenError> {
    serde_json::to_vec(part).map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|_| TokenError::Malformed)
}

fn decode<T: for<'a> Deserialize<'a>>(part: &str) -> Result<T, TokenError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn signer() -> TokenSigner {
        TokenSigner::new(rcgen::KeyPair::generate().unwrap().serialized_der()).unwrap()
    }

    fn request(audiences: &[String]) -> TokenRequest<'_> {
        TokenRequest {
            namespace: "shop",
            service_account: "cart",
            uid: "u-1",
            pod: Some(("cart-0", "p-1")),
            audiences,
            expires: NOW + SignedDuration::from_secs(60),
        }
    }

    #[test]
    fn a_token_says_what_it_was_asked_to() {
        let signer = signer();
        let claims = signer.verify(&signer.issue(&request(&[]), NOW).unwrap(), NOW).unwrap();
        assert_eq!(claims.sub, "system:serviceaccount:shop:cart");
        assert_eq!((claims.bound.namespace.as_str(), claims.bound.serviceaccount.uid.as_str()), ("shop", "u-1"));
        assert_eq!(claims.bound.pod, Some(Reference { name: "cart-0".to_owned(), uid: "p-1".to_owned() }));
        assert!(claims.is_for_this_api());
        let others = ["vault".to_owned()];
        let claims = signer.verify(&signer.issue(&request(&others), NOW).unwrap(), NOW).unwrap();
        assert_eq!(claims.aud, others);
        assert!(!claims.is_for_this_api());
    }

    #[test]
    fn a_token_is_valid_only_in_its_time() {
        let signer = signer();
        let token = signer.issue(&request(&[]), NOW).unwrap();
        let at = |seconds| signer.verify(&token, NOW + SignedDuration::from_secs(seconds)).err();
        assert_eq!((at(59), at(60), at(-60)), (None, Some(TokenError::Expired), Some(TokenError::Expired)));
    }

    #[test]
    fn a_changed_or_foreign_token_is_worth_nothing() {
        let signer = signer();
        let token = signer.issue(&request(&[]), NOW).unwrap();
        let other = TokenSigner { key_id: signer.key_id.clone(), ..self::signer() };
        assert_eq!(other.verify(&token, NOW).unwrap_err(), TokenError::Signature);

        let parts: Vec<&str> = token.split('.').collect();
        let claims = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
        let raised = String::from_utf8(claims).unwrap().replace("cart", "root");
        let forged = format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(raised), parts[2]);
        assert_eq!(signer.verify(&forged, NOW).unwrap_err(), TokenError::Signature);

        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":""}"#);
        let unsigned = format!("{none}.{}.", parts[1]);
        for nonsense in [unsigned.as_str(), "", ".", "..", "a.b.c", "Bearer", &"x".repeat(100_000)] {
            assert_eq!(signer.verify(nonsense, NOW).unwrap_err(), TokenError::Malformed, "{nonsense:.40}");
        }
    }
}
