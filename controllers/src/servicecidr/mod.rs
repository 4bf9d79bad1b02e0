//! ServiceCIDRs that are ready, or wait with going until no address is left in them (S-220, S-221), and IPAddresses that
//! their Service has left behind (S-113).

mod addresses;
mod apply;
mod desired;

pub(crate) use addresses::wire as wire_addresses;
pub(crate) use apply::wire;

/// Marks IPAddresses that the server has made for Services (S-224).
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";

/// Whether the server itself has made this address.
fn is_allocated(address: &k8s_openapi::api::networking::v1::IPAddress) -> bool {
    let label = address.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
    label.is_some_and(|manager| manager == ALLOCATOR)
}
