//! A limit that leaves everyone something: whoever has much of what is limited gets no more while little is left.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// So many at once, of all clients together.
///
/// A client may have no more than are free after it has taken one: alone half of all, two greedy ones a third each, and
/// so on. However many flood, there is a share left for the next that asks.
pub(crate) struct Shares {
    limit: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// One of the limited things; given back when it is dropped.
pub(crate) struct Share {
    shares: Arc<Shares>,
    client: IpAddr,
}

impl Shares {
    /// Limits to so many at once.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default() })
    }

    /// Takes one for a client; `None` when it has its share already.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr) -> Option<Share> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.limit.saturating_sub(taken.all);
        let own = taken.by_client.get(&client).copied().unwrap_or_default();
        if own >= free {
            return None;
        }
        taken.all += 1;
        taken.by_client.insert(client, own + 1);
        Some(Share { shares: Arc::clone(self), client })
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(own) = taken.by_client.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greedy_leave_something_and_what_is_given_back_is_free() {
        let shares = Shares::new(1000);
        let client = |number: u8| IpAddr::from([10, 244, 0, number]);
        let all_of = |number| std::iter::from_fn(|| shares.take(client(number))).collect::<Vec<_>>();
        let first = all_of(1);
        assert_eq!(first.len(), 500);
        let second = all_of(2);
        assert_eq!(second.len(), 250);
        assert!(shares.take(client(3)).is_some(), "a third one is served");
        assert!(shares.take(client(1)).is_none());
        drop((first, second));
        assert_eq!((shares.taken(), shares.taken.lock().expect("not poisoned").by_client.len()), (0, 0));
        assert_eq!(all_of(2).len(), 500);
    }
}
