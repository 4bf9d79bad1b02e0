//! Tells those who claim what is somebody else's, by an Event on their object (S-164, D-062).

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::claims::{Claimant, Clash};

/// Why the Events are written.
const REASON: &str = "AddressInUse";

/// Writes an Event for each claim that is refused, until `shutdown`. Of claims that come and go while the API is slow only the
/// newest are told.
pub(crate) async fn run(client: Client, mut clashes: watch::Receiver<Arc<Vec<Clash>>>, shutdown: CancellationToken) {
    let reporter = Reporter { controller: "minisvc".to_owned(), instance: None };
    let recorder = Recorder::new(client.clone(), reporter);
    let mut told = HashSet::new();
    loop {
        let now = Arc::clone(&clashes.borrow_and_update());
        for clash in now.iter().filter(|clash| !told.contains(*clash)) {
            tokio::select! {
                () = shutdown.cancelled() => return,
                result = tell(&client, &recorder, clash) => {
                    if let Err(error) = result {
                        tracing::debug!(%error, %clash, "nobody is told of a claim that is refused");
                    }
                }
            }
        }
        told = now.iter().cloned().collect();
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = clashes.changed() => if changed.is_err() { return },
        }
    }
}

async fn tell(client: &Client, recorder: &Recorder, clash: &Clash) -> Result<(), kube::Error> {
    // Whose object has gone meanwhile need not be told.
    let Some(object) = claimant(client, &clash.claimant).await? else { return Ok(()) };
    let (reason, action) = (REASON.to_owned(), "Route".to_owned());
    let event = Event { type_: EventType::Warning, reason, note: Some(clash.to_string()), action, secondary: None };
    recorder.publish(&event, &object).await
}

/// The object itself: its Events are found by its uid, which the data plane does not keep.
async fn claimant(client: &Client, claimant: &Claimant) -> Result<Option<ObjectReference>, kube::Error> {
    Ok(match claimant {
        Claimant::Service(id) => {
            let services = Api::<Service>::namespaced(client.clone(), &id.namespace);
            services.get_opt(&id.service).await?.map(|service| service.object_ref(&()))
        }
        Claimant::Pod(namespace, name) => {
            let pods = Api::<Pod>::namespaced(client.clone(), namespace);
            pods.get_opt(name).await?.map(|pod| pod.object_ref(&()))
        }
    })
}
