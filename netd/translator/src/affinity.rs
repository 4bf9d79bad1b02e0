//! ClientIP session affinity: which endpoint a client was sent to last.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::service_port::ServicePortId;

/// Where a client's next new flow to a Service port will go, as shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AffinityRecord {
    /// The client.
    pub client: IpAddr,
    /// The Service port.
    pub service: Arc<ServicePortId>,
    /// Where its last new flow went.
    pub endpoint: SocketAddr,
    /// How long that counts if no other flow comes.
    pub remaining: Duration,
}

/// One endpoint per client and Service port (D-070, D-078). Bounded; when full, nothing new is recorded.
#[derive(Debug)]
pub(crate) struct Affinities {
    records: HashMap<(IpAddr, Arc<ServicePortId>), Record>,
    limit: usize,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Record {
    endpoint: SocketAddr,
    /// The client's last new flow (D-072).
    seen: Instant,
    timeout: Duration,
}

/// A full table is searched for stale records at most this often: the search costs a look at every record.
const SWEEP: Duration = Duration::from_secs(1);

impl Affinities {
    pub(crate) fn new(limit: usize) -> Self {
        Self { records: HashMap::new(), limit, swept: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Where the client was sent, if that is less than `timeout` ago.
    pub(crate) fn get(
        &self,
        client: IpAddr,
        service: &Arc<ServicePortId>,
        timeout: Duration,
        now: Instant,
    ) -> Option<SocketAddr> {
        let record = self.records.get(&(client, Arc::clone(service)))?;
        (now.saturating_duration_since(record.seen) < timeout).then_some(record.endpoint)
    }

    /// Records where the client is sent now; false if there is no room.
    pub(crate) fn put(
        &mut self,
        client: IpAddr,
        service: &Arc<ServicePortId>,
        endpoint: SocketAddr,
        timeout: Duration,
        now: Instant,
    ) -> bool {
        let key = (client, Arc::clone(service));
        let record = Record { endpoint, seen: now, timeout };
        if let Some(old) = self.records.get_mut(&key) {
            *old = record;
            return true;
        }
        if self.records.len() >= self.limit {
            self.sweep(now);
        }
        let room = self.records.len() < self.limit;
        if room {
            self.records.insert(key, record);
        }
        room
    }

    /// Every record that still counts, in no order.
    pub(crate) fn iter(&self, now: Instant) -> impl Iterator<Item = AffinityRecord> + '_ {
        self.records.iter().filter_map(move |((client, service), record)| {
            let remaining = record.timeout.checked_sub(now.saturating_duration_since(record.seen))?;
            let (client, service) = (*client, Arc::clone(service));
            (!remaining.is_zero()).then_some(AffinityRecord { client, service, endpoint: record.endpoint, remaining })
        })
    }

    fn sweep(&mut self, now: Instant) {
        if self.swept.is_none_or(|then| now.saturating_duration_since(then) >= SWEEP) {
            self.swept = Some(now);
            self.records.retain(|_, record| now.saturating_duration_since(record.seen) < record.timeout);
        }
    }
}
