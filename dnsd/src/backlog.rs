//! Questions that wait when more come than can be answered: each client has a queue of its own, and they take turns.
//!
//! A socket is one queue for all, so a flood would leave nobody else a place in it. It is emptied into this one, which is
//! cheaper than answering; whoever floods then waits behind itself. It has no clock and no socket.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// Datagrams that wait at once, of all clients together. A client may have no more waiting than there is room left, so
/// alone half of it; what is beyond is dropped, as a full socket would drop it.
const LIMIT: usize = 4096;

/// Bytes of a datagram that may wait; no question is as long. With [`LIMIT`] it bounds the memory.
const MAX_BYTES: usize = 1232;

/// A datagram and who sent it.
type Datagram = (SocketAddr, Box<[u8]>);

/// See the module.
pub(crate) struct Backlog {
    by_client: HashMap<IpAddr, VecDeque<Datagram>>,
    /// Clients with something waiting, in the order of their turns.
    turns: VecDeque<IpAddr>,
    waiting: usize,
    limit: usize,
}

impl Default for Backlog {
    fn default() -> Self {
        Self::with_limit(LIMIT)
    }
}

impl Backlog {
    fn with_limit(limit: usize) -> Self {
        Self { by_client: HashMap::new(), turns: VecDeque::new(), waiting: 0, limit }
    }

    /// Lets a datagram wait; answers whether there was a place for it.
    pub(crate) fn push(&mut self, client: SocketAddr, bytes: &[u8]) -> bool {
        let own = self.by_client.get(&client.ip()).map_or(0, VecDeque::len);
        if bytes.len() > MAX_BYTES || own >= self.limit - self.waiting {
            return false;
        }
        if own == 0 {
            self.turns.push_back(client.ip());
        }
        self.by_client.entry(client.ip()).or_default().push_back((client, bytes.into()));
        self.waiting += 1;
        true
    }

    /// The datagram whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<Datagram> {
        let client = self.turns.pop_front()?;
        let queue = self.by_client.get_mut(&client)?;
        let next = queue.pop_front();
        if queue.is_empty() {
            self.by_client.remove(&client);
        } else {
            self.turns.push_back(client);
        }
        self.waiting -= usize::from(next.is_some());
        next
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u8) -> SocketAddr {
        ([10, 244, 0, number], 53).into()
    }

    #[test]
    fn whoever_floods_waits_behind_itself() {
        let mut backlog = Backlog::with_limit(100);
        let taken = (0..1000).filter(|_| backlog.push(client(1), b"flood")).count();
        assert_eq!(taken, 50, "half of the places, however much comes");
        for text in [&b"first"[..], b"second"] {
            assert!(backlog.push(client(2), text), "there is room for others");
        }
        let served: Vec<u8> = std::iter::from_fn(|| backlog.pop()).take(5).map(|(client, _)| last(client)).collect();
        assert_eq!(served, [1, 2, 1, 2, 1], "they take turns");
        while backlog.pop().is_some() {}
        assert!(backlog.is_empty() && backlog.by_client.is_empty() && backlog.turns.is_empty());
        assert!(!backlog.push(client(2), &[0; MAX_BYTES + 1]), "nothing so long waits");
    }

    fn last(client: SocketAddr) -> u8 {
        match client.ip() {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(_) => 0,
        }
    }

    proptest::proptest! {
        /// Nothing is lost that was taken, each client is served in its own order, and the limit holds.
        #[test]
        fn what_waits_is_served_in_order(steps in proptest::collection::vec((0_u8..4, proptest::bool::ANY), 0..200)) {
            let mut backlog = Backlog::with_limit(20);
            let mut expected: HashMap<u8, VecDeque<usize>> = HashMap::new();
            for (number, (from, push)) in steps.into_iter().enumerate() {
                if push {
                    if backlog.push(client(from), &number.to_be_bytes()) {
                        expected.entry(from).or_default().push_back(number);
                    }
                } else if let Some((client, bytes)) = backlog.pop() {
                    let first = expected.get_mut(&last(client)).and_then(VecDeque::pop_front);
                    proptest::prop_assert_eq!(first.map(|number| number.to_be_bytes().to_vec()), Some(bytes.to_vec()));
                }
                let all: usize = expected.values().map(VecDeque::len).sum();
                proptest::prop_assert_eq!(all, backlog.waiting);
                proptest::prop_assert!(all <= 20);
            }
        }
    }
}
