//! Deletes IPAddresses whose Service is gone, and tells of those whose Service has another address (S-113).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::IPAddress;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client};

use super::is_allocated;
use crate::cache::{Cache, Key};
use crate::caches::Caches;
use crate::error::{Error, is_status};
use crate::events::Recorder;
use crate::queue::{Backoff, Queue, Reason};
use crate::worker::{Next, Reconciler};

const BACKOFF: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(60), retries: 1000 };

/// A Service that is being created may become visible so much later than its address.
const YOUNG: SignedDuration = SignedDuration::from_secs(60);

/// What is wrong with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing, or nothing that is ours to judge.
    Fine,
    /// To be judged when it is older.
    Young(Duration),
    /// Its Service does not exist.
    Leaked,
    /// Its Service exists and has other addresses.
    WrongReference,
}

fn judge(address: &IPAddress, service: impl FnOnce(&Key) -> Option<Arc<Service>>, now: Timestamp) -> Verdict {
    let spec = &address.spec;
    let parent = &spec.parent_ref;
    let is_service = parent.resource == "services" && parent.group.as_deref().unwrap_or_default().is_empty();
    if !is_allocated(address) || !is_service {
        return Verdict::Fine;
    }
    let key = Key::new(parent.namespace.clone().unwrap_or_default(), parent.name.clone());
    let found = service(&key);
    let own = address.metadata.name.as_deref().and_then(|name| name.parse::<IpAddr>().ok());
    let has_it = |service: &Service| {
        let spec = service.spec.as_ref();
        let addresses = spec.and_then(|spec| spec.cluster_ips.as_deref()).unwrap_or_default();
        addresses.iter().any(|text| text.parse::<IpAddr>().ok() == own)
    };
    if found.as_ref().is_some_and(|service| has_it(service)) {
        return Verdict::Fine;
    }
    let age = address.metadata.creation_timestamp.as_ref().map_or(YOUNG, |time| now.duration_since(time.0));
    match (YOUNG - age, found) {
        (left, _) if left.is_positive() => Verdict::Young(left.unsigned_abs()),
        (_, None) => Verdict::Leaked,
        (_, Some(_)) => Verdict::WrongReference,
    }
}

/// The controller; keys are IPAddresses.
pub(crate) struct Addresses {
    client: Client,
    addresses: Arc<Cache<IPAddress>>,
    services: Arc<Cache<Service>>,
    queue: Arc<Queue<Key>>,
    recorder: Recorder,
}

/// Makes the controller and has the caches feed its queue.
pub(crate) fn wire(client: Client, caches: &Caches, recorder: &Recorder) -> Arc<Addresses> {
    let queue = Arc::new(Queue::new(BACKOFF));
    let to = queue.clone();
    caches.ip_addresses.on_change(move |change| {
        if let Some(address) = change.after {
            to.add(Key::of(&address.metadata), "the IPAddress changed");
        }
    });
    let (addresses, to) = (caches.ip_addresses.clone(), queue.clone());
    caches.services.on_change(move |change| {
        let texts = |service: Option<&Service>| {
            service.and_then(|service| service.spec.as_ref()?.cluster_ips.clone()).unwrap_or_default()
        };
        let kept = texts(change.after);
        for text in texts(change.before).into_iter().filter(|text| !kept.contains(text)) {
            let key = Key::new("", text);
            if addresses.get(&key).is_some() {
                to.add(key, "a Service has given its address up");
            }
        }
    });
    let recorder = recorder.named("ipallocator-repair-controller");
    Arc::new(Addresses {
        client,
        addresses: caches.ip_addresses.clone(),
        services: caches.services.clone(),
        queue,
        recorder,
    })
}

impl Reconciler for Addresses {
    const NAME: &'static str = "ipaddress";
    type Key = Key;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    fn add_all(&self, reason: Reason) {
        for key in self.addresses.keys() {
            self.queue.add(key, reason);
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(address) = self.addresses.get(key) else { return Ok(Next::Wait) };
        match judge(&address, |service| self.services.get(service), Timestamp::now()) {
            Verdict::Fine => Ok(Next::Wait),
            Verdict::Young(left) => Ok(Next::After(left)),
            Verdict::WrongReference => {
                let message = format!("IPAddress {} is not an address of the Service it refers to", key.name);
                self.recorder.warning(&*address, "IPAddressWrongReference", message);
                Ok(Next::Wait)
            }
            Verdict::Leaked => {
                let message = format!("IPAddress {} has no Service and is deleted", key.name);
                self.recorder.warning(&*address, "IPAddressNotAllocated", message);
                self.delete(&address).await?;
                Ok(Next::Wait)
            }
        }
    }
}

impl Addresses {
    async fn delete(&self, address: &IPAddress) -> Result<(), Error> {
        let key = Key::of(&address.metadata);
        let api: Api<IPAddress> = Api::all(self.client.clone());
        let only_it = Preconditions {
            uid: address.metadata.uid.clone(),
            resource_version: address.metadata.resource_version.clone(),
        };
        match api.delete(&key.name, &DeleteParams::default().preconditions(only_it)).await {
            Ok(_) => self.addresses.gone(&key),
            Err(source) if is_status(&source, 404) => self.addresses.gone(&key),
            Err(source) => return Err(Error::api("deleting an IPAddress")(source)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn address(manager: &str, resource: &str, created: i64) -> IPAddress {
        serde_json::from_value(json!({
            "metadata": {
                "name": "10.96.0.7", "labels": {"ipaddress.kubernetes.io/managed-by": manager},
                "creationTimestamp": Timestamp::from_second(created).unwrap().to_string(),
            },
            "spec": {"parentRef": {"group": "", "resource": resource, "namespace": "default", "name": "web"}},
        }))
        .unwrap()
    }

    fn service(ip: &str) -> Option<Arc<Service>> {
        Some(Arc::new(
            serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"clusterIPs": [ip]}})).unwrap(),
        ))
    }

    #[test]
    fn an_address_without_its_service_goes_after_a_minute() {
        let ours = |created| address("ipallocator.k8s.io", "services", created);
        for (label, address, service, expected) in [
            ("S-113: in use", ours(0), service("10.96.0.7"), Verdict::Fine),
            ("S-113: leaked", ours(940), None, Verdict::Leaked),
            ("S-113: young", ours(950), None, Verdict::Young(Duration::from_secs(10))),
            ("S-113: the Service has another", ours(0), service("10.96.0.8"), Verdict::WrongReference),
            ("S-113: a user's", address("me", "services", 0), None, Verdict::Fine),
            ("S-113: of something else", address("ipallocator.k8s.io", "gateways", 0), None, Verdict::Fine),
        ] {
            let asked = |key: &Key| {
                assert_eq!(key, &Key::new("default", "web"), "{label}");
                service
            };
            assert_eq!(judge(&address, asked, Timestamp::from_second(1000).unwrap()), expected, "{label}");
        }
    }
}
