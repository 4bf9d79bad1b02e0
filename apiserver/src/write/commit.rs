//! The transaction at the end of a write: the object, and the claims it takes and gives back, all or nothing.

use std::sync::Arc;

use bytes::Bytes;
use minisvc_store::{CommitError, Expectation, Key, Op, Record, Txn};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Writer;
use crate::error::ApiError;
use crate::meta;
use crate::registry::{AllocationPlan, Claim};
use crate::resources::ipaddress;
use crate::server::{address_key, claim_key};
use crate::stored::{self, Encoded};

/// Why nothing was committed.
pub(super) enum Lost {
    /// Somebody was faster with this key: look again and decide again.
    Race(Key),
    /// It cannot be done.
    Failed(ApiError),
}

/// What becomes of the object.
pub(super) enum Outcome<'a> {
    /// It comes into being; `namespace` must still be what was looked at.
    Created { namespace: Option<&'a Record> },
    /// It replaces this record.
    Updated(&'a Record),
    /// This record goes, and `object` is its last state.
    Removed(&'a Record),
}

impl Writer<'_> {
    /// Asks the kind what the write takes from the pools; `new` is completed with what was chosen.
    pub(super) fn allocate(&self, new: Option<&mut Value>, old: Option<&Value>) -> Result<AllocationPlan, ApiError> {
        match self.resource.allocate {
            Some(allocate) => self.server.with_pools(|pools| allocate.plan(new, old, pools, self.dry_run)),
            None => Ok(AllocationPlan::default()),
        }
    }

    /// Commits, unless it is a dry run; the answer is the text of the object as it then is.
    pub(super) async fn commit(
        &self,
        outcome: Outcome<'_>,
        object: &Value,
        plan: &AllocationPlan,
    ) -> Result<Bytes, Lost> {
        let encoded = Arc::new(Encoded::new(object));
        if self.dry_run {
            return Ok(match outcome {
                Outcome::Created { .. } => encoded.unstored(),
                Outcome::Updated(record) | Outcome::Removed(record) => encoded.at(record.revision),
            });
        }
        let (key, mut txn) = self.object_ops(outcome, object, &encoded);
        self.claim_ops(&mut txn, plan, &key);
        let revision = self.server.store.commit(txn).await.map_err(|error| self.lost(error))?;
        Ok(encoded.stored(revision))
    }

    fn object_ops(&self, outcome: Outcome<'_>, object: &Value, encoded: &Arc<Encoded>) -> (Key, Txn) {
        let text = Arc::clone(encoded);
        let encode = move |revision| text.stored(revision);
        let head = |key: &Key| stored::head(key, object);
        match outcome {
            Outcome::Created { namespace } => {
                let key = Key::new(self.resource.storage(), self.namespace, meta::text(object, "name"));
                let mut expect = vec![Expectation::Absent(key.clone())];
                // The namespace must not have begun to terminate in between.
                expect.extend(namespace.map(|record| Expectation::At(record.key.clone(), record.revision)));
                let op = Op::put(key.clone(), encode).with_head(head(&key));
                (key, Txn { expect, ops: vec![op] })
            }
            Outcome::Updated(record) => {
                let expect = vec![Expectation::At(record.key.clone(), record.revision)];
                let op = Op::put(record.key.clone(), encode).with_head(head(&record.key));
                (record.key.clone(), Txn { expect, ops: vec![op] })
            }
            Outcome::Removed(record) => {
                let expect = vec![Expectation::At(record.key.clone(), record.revision)];
                let op = Op::delete(record.key.clone(), encode).with_head(head(&record.key));
                (record.key.clone(), Txn { expect, ops: vec![op] })
            }
        }
    }

    fn claim_ops(&self, txn: &mut Txn, plan: &AllocationPlan, owner: &Key) {
        let text = json!({"resource": &*owner.resource, "namespace": &*owner.namespace, "name": &*owner.name});
        let text = Bytes::from(text.to_string());
        let stays = |claim: &&Claim| plan.take.contains(claim) && plan.give.contains(claim);
        for claim in plan.take.iter().filter(|claim| !stays(claim)) {
            let key = claim_key(claim);
            txn.expect.push(Expectation::Absent(key.clone()));
            let text = text.clone();
            txn.ops.push(Op::put(key, move |_| text));
            self.address_ops(txn, claim, owner);
        }
        for claim in plan.give.iter().filter(|claim| !stays(claim)) {
            // A claim that was never recorded needs no giving back.
            let Some(record) = self.server.store.get(&claim_key(claim)) else { continue };
            let Record { key, revision, value, .. } = Arc::unwrap_or_clone(record);
            txn.expect.push(Expectation::At(key.clone(), revision));
            txn.ops.push(Op::delete(key, move |_| value));
        }
        for key in plan.give.iter().filter(|claim| !stays(claim)).filter_map(address_key) {
            // One that belongs to somebody else, or that somebody has deleted, is not ours to delete.
            let Some(record) = self.server.store.get(&key) else { continue };
            let object = stored::decode(&record.value);
            if ipaddress::is_of_service(&object, &owner.namespace, &owner.name) {
                txn.expect.push(Expectation::At(key.clone(), record.revision));
                let encoded = Encoded::new(&object);
                txn.ops.push(Op::delete(key, move |revision| encoded.at(revision)));
            }
        }
    }

    /// The IPAddress comes in the same transaction as the Service (S-224).
    fn address_ops(&self, txn: &mut Txn, claim: &Claim, owner: &Key) {
        let (Claim::ClusterIp(address), Some(key)) = (claim, address_key(claim)) else { return };
        let (uid, created) = (Uuid::new_v4().to_string(), meta::timestamp(self.now));
        let object = ipaddress::of_service(*address, &owner.namespace, &owner.name, &uid, &created);
        let (encoded, head) = (Encoded::new(&object), stored::head(&key, &object));
        txn.expect.push(Expectation::Absent(key.clone()));
        txn.ops.push(Op::put(key, move |revision| encoded.at(revision)).with_head(head));
    }

    fn lost(&self, error: CommitError) -> Lost {
        Lost::Failed(match error {
            CommitError::Conflict(key) => return Lost::Race(key),
            CommitError::TooLarge { .. } => ApiError::RequestEntityTooLarge(error.to_string()),
            CommitError::Closed => ApiError::ServiceUnavailable("the server is shutting down".to_owned()),
            CommitError::BadKey(_) => ApiError::bad_request("names may not contain NUL"),
            CommitError::Backend(source) => {
                ApiError::internal(format!("the write could not be made durable: {source}"))
            }
            CommitError::Repeated(_) | CommitError::TooManyOps(_) | CommitError::Encode(_) => ApiError::internal(error),
        })
    }
}
