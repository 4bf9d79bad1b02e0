//! Keeps the status of budgets up to date.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::ReplicationController;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::PostParams;
use kube::{Api, Client};

use super::desired::status;
use crate::cache::{Cache, Key, Object};
use crate::caches::Caches;
use crate::error::{Error, is_status};
use crate::pod::Pod;
use crate::pods;
use crate::queue::{Backoff, Queue, Reason};
use crate::selector::selects;
use crate::worker::{Next, Reconciler};

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_secs(300), retries: 100 };

/// The controller; keys are PodDisruptionBudgets.
pub(crate) struct Budgets {
    client: Client,
    budgets: Arc<Cache<PodDisruptionBudget>>,
    pods: Arc<Cache<Pod>>,
    deployments: Arc<Cache<Deployment>>,
    sets: Arc<Cache<ReplicaSet>>,
    stateful_sets: Arc<Cache<StatefulSet>>,
    replication_controllers: Arc<Cache<ReplicationController>>,
    queue: Arc<Queue<Key>>,
}

/// Makes the controller and has the caches feed its queue.
pub(crate) fn wire(client: Client, caches: &Caches) -> Arc<Budgets> {
    let queue = Arc::new(Queue::new(BACKOFF));
    let to = queue.clone();
    caches.budgets.on_change(move |change| {
        if let Some(budget) = change.states().last() {
            to.add(Key::of(&budget.metadata), "the PodDisruptionBudget changed");
        }
    });
    let (budgets, to) = (caches.budgets.clone(), queue.clone());
    caches.pods.on_change(move |change| {
        let namespace = change.states().find_map(|pod| pod.metadata.namespace.as_deref()).unwrap_or_default();
        for budget in budgets.in_namespace(namespace) {
            if change.states().any(|pod| covers(&budget, pod)) {
                to.add_behind(Key::of(&budget.metadata), "a pod changed");
            }
        }
    });
    feed(&caches.deployments, &caches.budgets, &queue);
    feed(&caches.sets, &caches.budgets, &queue);
    feed(&caches.stateful_sets, &caches.budgets, &queue);
    feed(&caches.replication_controllers, &caches.budgets, &queue);
    Arc::new(Budgets {
        client,
        budgets: caches.budgets.clone(),
        pods: caches.pods.clone(),
        deployments: caches.deployments.clone(),
        sets: caches.sets.clone(),
        stateful_sets: caches.stateful_sets.clone(),
        replication_controllers: caches.replication_controllers.clone(),
        queue,
    })
}

/// A workload that is scaled changes what its namespace's budgets expect.
fn feed<K: Object>(workloads: &Arc<Cache<K>>, budgets: &Arc<Cache<PodDisruptionBudget>>, queue: &Arc<Queue<Key>>) {
    let (budgets, to) = (budgets.clone(), queue.clone());
    workloads.on_change(move |change| {
        let generation = |object: Option<&K>| object.and_then(|object| object.meta().generation);
        if change.before.is_some() && generation(change.before) == generation(change.after) {
            return;
        }
        let namespace = change.states().find_map(|object| object.meta().namespace.as_deref()).unwrap_or_default();
        for budget in budgets.in_namespace(namespace) {
            to.add(Key::of(&budget.metadata), "a workload changed");
        }
    });
}

fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| selects(selector, &pod.labels))
}

impl Reconciler for Budgets {
    const NAME: &'static str = "poddisruptionbudget";
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        for budget in self.budgets.all() {
            self.queue.add(Key::of(&budget.metadata), reason);
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(budget) = self.budgets.get(key) else { return Ok(Next::Wait) };
        let scale = |owner: &OwnerReference| self.scale(&key.namespace, owner);
        let (wanted, again) = status(&budget, &self.pods.in_namespace(&key.namespace), scale, Timestamp::now());
        if budget.status.clone().map(normal).as_ref() != Some(&wanted) {
            // The revision it was read at goes along: an eviction granted meanwhile makes this write fail.
            let updated = PodDisruptionBudget { status: Some(wanted), ..(*budget).clone() };
            let api: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), &key.namespace);
            match api.replace_status(&key.name, &PostParams::default(), &updated).await {
                Ok(written) => self.budgets.wrote(written),
                Err(source) if is_status(&source, 404) => return Ok(Next::Wait),
                Err(source) => return Err(Error::api("writing the status")(source)),
            }
        }
        Ok(again.map_or(Next::Wait, Next::After))
    }
}

/// Zero and absent are the same to the server.
fn normal(mut status: PodDisruptionBudgetStatus) -> PodDisruptionBudgetStatus {
    for field in [
        &mut status.current_healthy,
        &mut status.desired_healthy,
        &mut status.expected_pods,
        &mut status.disruptions_allowed,
    ] {
        field.get_or_insert(0);
    }
    status
}

impl Budgets {
    /// Who decides over the number of an owner's pods, by uid, and the number.
    fn scale(&self, namespace: &str, owner: &OwnerReference) -> Option<(String, i32)> {
        let key = Key::new(namespace, owner.name.clone());
        let ours = |uid: &Option<String>| uid.as_deref() == Some(owner.uid.as_str());
        let number = |replicas: Option<i32>| Some((owner.uid.clone(), replicas.unwrap_or(1)));
        match owner.kind.as_str() {
            "ReplicaSet" => {
                let set = self.sets.get(&key).filter(|set| ours(&set.metadata.uid))?;
                match pods::controller(&set.metadata).filter(|parent| parent.kind == "Deployment") {
                    Some(parent) => {
                        let deployment = self.deployments.get(&Key::new(namespace, parent.name.clone()))?;
                        Some((parent.uid.clone(), deployment.spec.as_ref()?.replicas.unwrap_or(1)))
                    }
                    None => number(set.spec.as_ref()?.replicas),
                }
            }
            "StatefulSet" => {
                let set = self.stateful_sets.get(&key).filter(|set| ours(&set.metadata.uid))?;
                number(set.spec.as_ref()?.replicas)
            }
            "ReplicationController" => {
                let set = self.replication_controllers.get(&key).filter(|set| ours(&set.metadata.uid))?;
                number(set.spec.as_ref()?.replicas)
            }
            _ => None,
        }
    }
}
