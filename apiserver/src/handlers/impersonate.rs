//! Acting as somebody else, for those who may.

use std::collections::BTreeMap;

use http::request::Parts;
use http::{HeaderMap, HeaderName};

use super::access;
use crate::attributes::Attributes;
use crate::error::{ApiError, Target};
use crate::identity::{ANONYMOUS, AUTHENTICATED, Identity, UNAUTHENTICATED};
use crate::serve;
use crate::server::Server;

const USER: HeaderName = HeaderName::from_static("impersonate-user");
const GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const UID: HeaderName = HeaderName::from_static("impersonate-uid");
const EXTRA: &str = "impersonate-extra-";
const PREFIX: &str = "impersonate-";
/// Where uids and extras are resources that one may be allowed to impersonate.
const AUTHENTICATION: &str = "authentication.k8s.io";
/// Headers that are looked at. Each is a question to the policy.
const MOST: usize = 256;

/// What the headers wish for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// Makes the request one of the user that its headers name, when its sender may impersonate all of that. The headers go,
/// so that nobody behind this server acts on them again.
pub(super) fn apply(server: &Server, parts: &mut Parts) -> Result<(), ApiError> {
    let Some(wish) = Wish::read(&parts.headers)? else { return Ok(()) };
    let asker = parts.extensions.get::<Identity>().cloned().unwrap_or_else(nobody);
    wish.authorize(server, &asker)?;
    parts.extensions.insert(wish.identity());
    let names: Vec<HeaderName> =
        parts.headers.keys().filter(|name| name.as_str().starts_with(PREFIX)).cloned().collect();
    for name in names {
        parts.headers.remove(name);
    }
    Ok(())
}

/// Whoever has shown no credentials.
fn nobody() -> Identity {
    Identity { user: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..Identity::default() }
}

impl Wish {
    /// `None` when nobody is to be impersonated.
    fn read(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let mut wish = Self::default();
        let wishes = headers.iter().filter(|(name, _)| name.as_str().starts_with(PREFIX));
        let mut count = 0;
        for (name, value) in wishes {
            count += 1;
            let value = value.to_str().map_err(|_| ApiError::BadRequest(format!("the header {name} is not text")))?;
            match name {
                name if name == USER => value.clone_into(&mut wish.user),
                name if name == UID => value.clone_into(&mut wish.uid),
                name if name == GROUP => wish.groups.push(value.to_owned()),
                name => match name.as_str().strip_prefix(EXTRA) {
                    Some(key) => wish.extra.entry(extra_key(key)).or_default().push(value.to_owned()),
                    None => return Err(ApiError::BadRequest(format!("the header {name} is not known"))),
                },
            }
        }
        if count == 0 {
            return Ok(None);
        }
        if count > MOST {
            return Err(ApiError::BadRequest(format!("more than {MOST} headers ask for impersonation")));
        }
        if wish.user.is_empty() {
            return Err(ApiError::bad_request("groups, uid and extra can only be impersonated together with a user"));
        }
        Ok(Some(wish))
    }

    /// Each part is a resource of its own, which the sender must be allowed to `impersonate`.
    fn authorize(&self, server: &Server, asker: &Identity) -> Result<(), ApiError> {
        let check = |group: &'static str, resource: &'static str, subresource: &str, namespace: &str, name: &str| {
            let verb = "impersonate";
            let attributes = Attributes::Resource { verb, group, resource, subresource, namespace, name };
            access::authorize(server, asker, &attributes, Target { group, resource, name: name.to_owned() })
        };
        match serve::account_of_user(&self.user) {
            Some((namespace, name)) => check("", "serviceaccounts", "", namespace, name)?,
            None => check("", "users", "", "", &self.user)?,
        }
        for group in &self.groups {
            check("", "groups", "", "", group)?;
        }
        if !self.uid.is_empty() {
            check(AUTHENTICATION, "uids", "", "", &self.uid)?;
        }
        for (key, value) in self.extra.iter().flat_map(|(key, values)| values.iter().map(move |value| (key, value))) {
            check(AUTHENTICATION, "userextras", key, "", value)?;
        }
        Ok(())
    }

    /// Who the request is then of: an account has its groups, and everybody is known or not, whatever the headers say.
    fn identity(self) -> Identity {
        let Self { user, uid, mut groups, extra } = self;
        if let (true, Some((namespace, _))) = (groups.is_empty(), serve::account_of_user(&user)) {
            groups = serve::account_groups(namespace);
        }
        let known = if user == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
        if !groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED) {
            groups.push(known.to_owned());
        }
        Identity { user, groups, uid, extra }
    }
}

/// The key of an extra as it is compared: decoded, and in lower case as header names are.
fn extra_key(key: &str) -> String {
    percent_encoding::percent_decode_str(key).decode_utf8_lossy().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(pairs: &[(&'static str, &str)]) -> Result<Option<Identity>, ApiError> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        Wish::read(&headers).map(|wish| wish.map(Wish::identity))
    }

    //
    #[test]
    fn headers_name_user_groups_uid_and_extras() {
        let found = wish(&[
            ("impersonate-user", "jane"),
            ("impersonate-group", "dev"),
            ("impersonate-group", "ops"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-example.org%2fscope", "a"),
            ("impersonate-extra-example.org%2fscope", "b"),
        ]);
        let expected = Identity {
            user: "jane".to_owned(),
            groups: ["dev", "ops", AUTHENTICATED].map(str::to_owned).to_vec(),
            uid: "7".to_owned(),
            extra: [("example.org/scope".to_owned(), vec!["a".to_owned(), "b".to_owned()])].into(),
        };
        assert_eq!(found, Ok(Some(expected)));
        assert_eq!(wish(&[("accept", "*/*")]), Ok(None));
        let groups = |user: &str| wish(&[("impersonate-user", user)]).unwrap().unwrap().groups;
        assert_eq!(groups("system:anonymous"), [UNAUTHENTICATED]);
        assert_eq!(
            groups("system:serviceaccount:shop:cart"),
            ["system:serviceaccounts", "system:serviceaccounts:shop", AUTHENTICATED]
        );
    }

    //
    #[test]
    fn half_a_wish_is_refused_and_not_ignored() {
        for pairs in [
            &[("impersonate-group", "system:masters")][..],
            &[("impersonate-uid", "7")],
            &[("impersonate-extra-scope", "x")],
            &[("impersonate-user", "")],
            &[("impersonate-user", "jane"), ("impersonate-shoe-size", "42")],
        ] {
            assert_eq!(wish(pairs).unwrap_err().code().as_u16(), 400, "{pairs:?}");
        }
        assert_eq!(wish(&[("impersonate-user", "jane"); 257]).unwrap_err().code().as_u16(), 400);
    }
}
