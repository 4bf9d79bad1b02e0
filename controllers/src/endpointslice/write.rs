//! Reads and writes slices through the shared cache.

use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};

use super::plan::{Changes, MANAGED_BY, SERVICE_NAME};
use crate::cache::{Cache, Key};
use crate::error::{Error, is_status};

/// See the module.
pub(crate) struct SliceWriter {
    client: Client,
    slices: Arc<Cache<EndpointSlice>>,
}

/// The Service of a slice, if `manager` manages it.
pub(crate) fn service_of(slice: &EndpointSlice, manager: &str) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY).map(String::as_str) != Some(manager) {
        return None;
    }
    Some(Key::new(slice.metadata.namespace.clone()?, labels.get(SERVICE_NAME)?.clone()))
}

/// What slices are filed under: their Service, whoever manages them.
pub(crate) fn files(slice: &EndpointSlice) -> Option<Key> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(Key::new(slice.metadata.namespace.clone()?, service.clone()))
}

impl SliceWriter {
    pub(crate) fn new(client: Client, slices: Arc<Cache<EndpointSlice>>) -> Self {
        Self { client, slices }
    }

    /// The slices of a Service that `manager` manages.
    pub(crate) fn slices_of(&self, service: &Key, manager: &str) -> Vec<Arc<EndpointSlice>> {
        let mut slices = self.slices.filed(service);
        slices.retain(|slice| {
            let labels = slice.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(MANAGED_BY)).map(String::as_str) == Some(manager)
                && slice.metadata.deletion_timestamp.is_none()
        });
        slices
    }

    pub(crate) async fn apply(&self, namespace: &str, changes: Changes) -> Result<(), Error> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), namespace);
        for slice in changes.create {
            let created =
                api.create(&PostParams::default(), &slice).await.map_err(Error::api("creating an EndpointSlice"))?;
            self.slices.wrote(created);
        }
        for slice in changes.update {
            let key = Key::of(&slice.metadata);
            match api.replace(&key.name, &PostParams::default(), &slice).await {
                Ok(updated) => self.slices.wrote(updated),
                Err(source) => {
                    if is_status(&source, 404) {
                        self.slices.gone(&key);
                    }
                    return Err(Error::api("updating an EndpointSlice")(source));
                }
            }
        }
        for name in changes.delete {
            match api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(source) if is_status(&source, 404) => {}
                Err(source) => return Err(Error::api("deleting an EndpointSlice")(source)),
            }
            self.slices.gone(&Key::new(namespace, name));
        }
        Ok(())
    }
}
