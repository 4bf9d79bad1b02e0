//! Who may do what: roles and their bindings, evaluated for everybody outside of `system:masters`.
//!
//! [`rule`] and [`policy`] are plain functions of objects and questions. [`Authorizer`] keeps the policy that belongs to what
//! the store holds now; [`escalation`] guards the writes, [`aggregate`] fills in the rules of roles that are made of others,
//! and [`defaults`] are the roles that exist from the start.

pub(crate) mod aggregate;
pub(crate) mod defaults;
pub(crate) mod escalation;
mod policy;
mod rule;

use std::sync::{Arc, Mutex, PoisonError};

use minisvc_store::{Revision, Store};
use serde_json::Value;

use crate::attributes::Attributes;
use crate::identity::{Identity, MASTERS};
use crate::stored;
use aggregate::selects_others;
use policy::Policy;
pub(crate) use policy::{Decision, Granted};
pub(crate) use rule::Rule;

/// The API group of roles and bindings.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";

const CLUSTER_ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
const ROLES: &str = "roles.rbac.authorization.k8s.io";
const CLUSTER_BINDINGS: &str = "clusterrolebindings.rbac.authorization.k8s.io";
const BINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";

/// Answers whether somebody may do something.
///
/// The policy is made anew when it is asked for and a role or binding has changed since, so a grant counts from the
/// moment its write was answered. There is one policy, as large as the objects it was made of.
#[derive(Debug, Default)]
pub(crate) struct Authorizer {
    made: Mutex<Option<(Revision, Arc<Policy>)>>,
}

impl Authorizer {
    /// Members of `system:masters` may do everything, whatever the roles say.
    pub(crate) fn decide(&self, store: &Store, identity: &Identity, attributes: &Attributes<'_>) -> Decision {
        if identity.is_in(MASTERS) {
            return Decision { allowed: true, reason: String::new() };
        }
        self.policy(store).decide(identity, attributes)
    }

    /// What somebody may do in a namespace, and everywhere.
    pub(crate) fn granted(&self, store: &Store, identity: &Identity, namespace: &str) -> Granted {
        let mut granted = self.policy(store).granted(identity, namespace);
        if identity.is_in(MASTERS) {
            granted.rules.extend(Rule::everything());
        }
        granted
    }

    /// The rules of a role as they count, or why there are none.
    fn role(&self, store: &Store, kind: &str, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        self.policy(store).role(kind, namespace, name)
    }

    fn policy(&self, store: &Store) -> Arc<Policy> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        // Read before the objects are: what changes meanwhile is noticed the next time.
        let revision = store.changed_at(&[CLUSTER_ROLES, ROLES, CLUSTER_BINDINGS, BINDINGS]);
        match &*made {
            Some((made_at, policy)) if *made_at == revision => Arc::clone(policy),
            _ => {
                let objects = |resource| read(store, resource);
                let policy = Arc::new(Policy::new(
                    &objects(CLUSTER_ROLES),
                    &objects(ROLES),
                    &objects(CLUSTER_BINDINGS),
                    &objects(BINDINGS),
                ));
                *made = Some((revision, Arc::clone(&policy)));
                policy
            }
        }
    }
}

fn read(store: &Store, resource: &str) -> Vec<Value> {
    store.list(resource, None).0.iter().map(|record| stored::decode(&record.value)).collect()
}
