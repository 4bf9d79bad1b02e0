//! What the data plane knows, as people and programs are shown it: flows, Service ports with their endpoints, tables,
//! figures.
//!
//! Each function reads and returns plain values that become JSON; none changes anything. Names of fields are those of
//! the API (`docs/extension-api.md`).

mod figures;
mod flows;
mod places;
mod service_ports;
mod tables;
mod trace;

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

pub use figures::{Figure, FigureKind, figures, open_metrics};
pub use flows::{AddressMatch, FlowQuery, FlowView, NameMatch, flows};
pub use places::{Place, PlaceKind, Places};
pub use service_ports::{EndpointView, FrontendView, ServicePortQuery, ServicePortView, service_ports};
pub use tables::{AffinityView, ClashView, RouteView, ServedFrontend, affinities, clashes, frontends, routes};
pub use trace::{Chosen, MAX_TRACES, Trace, TraceLine, TraceQuery, trace};

/// What two readings of the same clocks may differ by.
const APART: SignedDuration = SignedDuration::from_micros(50);

/// What both clocks said at one moment, to tell times of the one in terms of the other.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    time: Timestamp,
    instant: Instant,
}

impl Clocks {
    /// Reads both. Another thread may get the processor between two readings, and then times would be told with an error of
    /// many milliseconds; so the pair that was read fastest is taken.
    #[must_use]
    pub fn read() -> Self {
        let read = |_| {
            let instant = Instant::now();
            let time = Timestamp::now();
            (instant.elapsed(), Self { time, instant })
        };
        let fastest = (0..8).map(read).min_by_key(|(took, _)| *took);
        fastest.map_or_else(|| Self { time: Timestamp::now(), instant: Instant::now() }, |(_, pair)| pair)
    }

    /// The pair that was read before, unless the clocks have moved apart since: so that one moment is told as one time.
    #[must_use]
    pub(crate) fn or_newer(self) -> Self {
        let newest = Self::read();
        let apart = self.time(newest.instant).duration_since(newest.time).abs();
        if apart > APART { newest } else { self }
    }

    /// The wall-clock time of a moment before or after.
    #[must_use]
    pub fn time(&self, moment: Instant) -> Timestamp {
        let told = match moment.checked_duration_since(self.instant) {
            Some(ahead) => self.time.checked_add(ahead),
            None => self.time.checked_sub(self.instant.saturating_duration_since(moment)),
        };
        told.unwrap_or(self.time)
    }

    /// The moment itself.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.instant
    }
}
