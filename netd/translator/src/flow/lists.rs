//! Doubly linked lists of slots, in vectors: insertion and removal anywhere at constant cost, without allocation.

/// The place of a flow in the table.
pub(crate) type Slot = u32;

#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    front: Option<Slot>,
    back: Option<Slot>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// The list this slot is in.
    list: Option<u32>,
    before: Option<Slot>,
    after: Option<Slot>,
}

/// A fixed number of lists over the same slots; a slot is in at most one of them.
#[derive(Debug)]
pub(super) struct Lists {
    ends: Vec<Ends>,
    links: Vec<Link>,
}

impl Lists {
    pub(super) fn new(lists: usize) -> Self {
        Self { ends: vec![Ends::default(); lists], links: Vec::new() }
    }

    pub(super) fn front(&self, list: u32) -> Option<Slot> {
        self.ends.get(list as usize)?.front
    }

    pub(super) fn contains(&self, slot: Slot) -> bool {
        self.link(slot).list.is_some()
    }

    /// Puts a slot at the end of a list, out of the one it was in.
    pub(super) fn push_back(&mut self, list: u32, slot: Slot) {
        self.remove(slot);
        let at = slot as usize;
        if self.links.len() <= at {
            self.links.resize(at + 1, Link::default());
        }
        let Some(ends) = self.ends.get_mut(list as usize) else { return };
        let before = ends.back.replace(slot);
        match before {
            Some(last) => self.set(last, |link| link.after = Some(slot)),
            None => ends.front = Some(slot),
        }
        self.set(slot, |link| *link = Link { list: Some(list), before, after: None });
    }

    /// Takes a slot out of the list it is in, if any; returns that list.
    pub(super) fn remove(&mut self, slot: Slot) -> Option<u32> {
        let Link { list, before, after } = self.link(slot);
        let list = list?;
        match before {
            Some(before) => self.set(before, |link| link.after = after),
            None => self.set_ends(list, |ends| ends.front = after),
        }
        match after {
            Some(after) => self.set(after, |link| link.before = before),
            None => self.set_ends(list, |ends| ends.back = before),
        }
        self.set(slot, |link| *link = Link::default());
        Some(list)
    }

    fn link(&self, slot: Slot) -> Link {
        self.links.get(slot as usize).copied().unwrap_or_default()
    }

    fn set(&mut self, slot: Slot, change: impl FnOnce(&mut Link)) {
        if let Some(link) = self.links.get_mut(slot as usize) {
            change(link);
        }
    }

    fn set_ends(&mut self, list: u32, change: impl FnOnce(&mut Ends)) {
        if let Some(ends) = self.ends.get_mut(list as usize) {
            change(ends);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Clone, Debug)]
    enum Step {
        Push(u32, Slot),
        Remove(Slot),
        PopFront(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3u32, 0..12u32).prop_map(|(list, slot)| Step::Push(list, slot)),
            (0..12u32).prop_map(Step::Remove),
            (0..3u32).prop_map(Step::PopFront),
        ]
    }

    proptest! {
        #[test]
        fn lists_behave_like_queues(steps in proptest::collection::vec(step(), 0..200)) {
            let mut lists = Lists::new(3);
            let mut model: Vec<VecDeque<Slot>> = vec![VecDeque::new(); 3];
            for step in steps {
                match step {
                    Step::Push(list, slot) => {
                        lists.push_back(list, slot);
                        model.iter_mut().for_each(|queue| queue.retain(|&other| other != slot));
                        model[list as usize].push_back(slot);
                    }
                    Step::Remove(slot) => {
                        let list = model.iter().position(|queue| queue.contains(&slot));
                        prop_assert_eq!(lists.remove(slot).map(|list| list as usize), list);
                        model.iter_mut().for_each(|queue| queue.retain(|&other| other != slot));
                    }
                    Step::PopFront(list) => {
                        let front = lists.front(list);
                        prop_assert_eq!(front, model[list as usize].pop_front());
                        front.map(|slot| lists.remove(slot));
                    }
                }
                for slot in 0..12 {
                    prop_assert_eq!(lists.contains(slot), model.iter().any(|queue| queue.contains(&slot)));
                }
            }
        }
    }
}
