//! How the interfaces of a lab are opened: with segmentation offload where the kernel has it, and all of them alike.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use minisvc_sandbox::{Namespace, SandboxError, TunSpec};

/// Names the kind of interface to open, `offload` or `plain`, instead of the best one that works.
const CHOICE: &str = "MINISVC_WIRES";

/// The kind of all interfaces of a lab: packets pass between them as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wires {
    /// The kernel hands over up to 64 KiB of a stream at once, whatever the MTU, and leaves checksums to be completed.
    Offload,
    /// One packet at a time. The MTU is as large as can be, so that the kernel need not cut streams into small ones.
    Plain,
}

impl Wires {
    /// Opens the first interface of a lab, and finds out of which kind all others have to be.
    ///
    /// # Errors
    /// When no kind works, or not the one that the environment asks for.
    pub(crate) async fn open_first(
        namespace: &Namespace,
        addresses: &[IpAddr],
    ) -> Result<(Self, OwnedFd), SandboxError> {
        let open = async |kind: Self| Ok((kind, namespace.open_tun(kind.spec(addresses.to_vec())).await?));
        match std::env::var(CHOICE).as_deref() {
            Ok("plain") => open(Self::Plain).await,
            Ok("offload") => open(Self::Offload).await,
            _ => match open(Self::Offload).await {
                Ok(opened) => Ok(opened),
                // What both kinds need, and the kernel does not give, the first refusal says as well.
                Err(refusal) => open(Self::Plain).await.inspect(|_| {
                    tracing::info!(%refusal, "interfaces without segmentation offload: large transfers take longer");
                }).map_err(|_: SandboxError| refusal),
            },
        }
    }

    /// An interface with these addresses that everything of their families without a better route goes through.
    pub(crate) fn spec(self, addresses: Vec<IpAddr>) -> TunSpec {
        TunSpec { mtu: self.mtu(), offload: self.offload(), ..TunSpec::eth0_with(addresses) }
    }

    /// Whether interfaces are opened with segmentation offload.
    pub(crate) fn offload(self) -> bool {
        self == Self::Offload
    }

    /// MTU of every interface, in bytes.
    pub(crate) fn mtu(self) -> u32 {
        match self {
            Self::Offload => 1500,
            Self::Plain => 65_535,
        }
    }
}
