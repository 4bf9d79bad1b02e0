//! Which flows may be over: a timer wheel.
//!
//! A flow's deadline moves with every packet, so the wheel is lazy: a flow stays where it was put when its deadline
//! moves away, and is looked at again when its slot comes up. Only a deadline that comes nearer moves it. Each flow is in
//! the wheel once, so that its size is bounded by the flow table's.

use std::time::{Duration, Instant};

use super::lists::{Lists, Slot};

const TICK: Duration = Duration::from_millis(250);
/// The horizon is 128 s: later deadlines wait in its last slot and are put in anew when it comes up.
const SLOTS: u64 = 512;

#[derive(Debug)]
pub(super) struct Wheel {
    lists: Lists,
    /// The tick each flow waits for; only meaningful for those in a list.
    ticks: Vec<u64>,
    occupied: Vec<u32>,
    /// When tick 0 was; the first deadline starts the wheel.
    origin: Option<Instant>,
    /// The last tick that was handled.
    cursor: u64,
}

impl Wheel {
    pub(super) fn new() -> Self {
        let slots = usize::try_from(SLOTS).unwrap_or_default();
        Self { lists: Lists::new(slots), ticks: Vec::new(), occupied: vec![0; slots], origin: None, cursor: 0 }
    }

    /// Makes sure that the flow comes up at its deadline or before.
    pub(super) fn schedule(&mut self, slot: Slot, deadline: Instant, now: Instant) {
        let origin = *self.origin.get_or_insert(now);
        // Round up: a flow must not come up just before its deadline.
        let wanted = ticks_between(origin, deadline) + 1;
        let tick = wanted.clamp(self.cursor + 1, self.cursor + SLOTS - 1);
        let at = slot as usize;
        if self.ticks.len() <= at {
            self.ticks.resize(at + 1, 0);
        }
        let Some(place) = self.ticks.get_mut(at) else { return };
        if self.lists.contains(slot) && *place <= tick {
            return;
        }
        *place = tick;
        self.remove(slot);
        let list = list_of(tick);
        self.lists.push_back(list, slot);
        if let Some(count) = self.occupied.get_mut(list as usize) {
            *count += 1;
        }
    }

    /// Takes the flow out.
    pub(super) fn remove(&mut self, slot: Slot) {
        if let Some(list) = self.lists.remove(slot)
            && let Some(count) = self.occupied.get_mut(list as usize)
        {
            *count -= 1;
        }
    }

    /// When the next flow comes up.
    pub(super) fn next(&self) -> Option<Instant> {
        let origin = self.origin?;
        let tick = (self.cursor + 1..self.cursor + SLOTS)
            .find(|&tick| self.occupied.get(list_of(tick) as usize).is_some_and(|&count| count > 0))?;
        Some(origin + TICK.saturating_mul(u32::try_from(tick).unwrap_or(u32::MAX)))
    }

    /// Moves to `now` and takes out the flows that have come up.
    pub(super) fn advance(&mut self, now: Instant, due: &mut Vec<Slot>) {
        let Some(origin) = self.origin else { return };
        let tick = ticks_between(origin, now);
        // After a long sleep every slot is looked at once.
        for passed in (self.cursor + 1..=tick).take(usize::try_from(SLOTS).unwrap_or_default()) {
            while let Some(slot) = self.lists.front(list_of(passed)) {
                self.remove(slot);
                due.push(slot);
            }
        }
        self.cursor = self.cursor.max(tick);
    }
}

fn ticks_between(origin: Instant, then: Instant) -> u64 {
    let ticks = then.saturating_duration_since(origin).as_millis() / TICK.as_millis();
    u64::try_from(ticks).unwrap_or(u64::MAX / 2)
}

fn list_of(tick: u64) -> u32 {
    u32::try_from(tick % SLOTS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(wheel: &mut Wheel, now: Instant) -> Vec<Slot> {
        let mut due = Vec::new();
        wheel.advance(now, &mut due);
        due
    }

    #[test]
    fn a_flow_comes_up_at_its_deadline_and_not_before() {
        let start = Instant::now();
        let mut wheel = Wheel::new();
        let deadline = start + Duration::from_secs(10);
        wheel.schedule(3, deadline, start);
        assert_eq!(due(&mut wheel, deadline - TICK), []);
        let next = wheel.next().unwrap();
        assert!(next >= deadline && next <= deadline + 2 * TICK);
        assert_eq!(due(&mut wheel, next), [3]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_deadline_beyond_the_horizon_comes_up_early_and_waits_again() {
        let start = Instant::now();
        let mut wheel = Wheel::new();
        let deadline = start + Duration::from_secs(24 * 3600);
        wheel.schedule(1, deadline, start);
        let mut looks = 0;
        let mut now = start;
        while now < deadline {
            now = wheel.next().unwrap();
            assert_eq!(due(&mut wheel, now), [1]);
            looks += 1;
            if now < deadline {
                wheel.schedule(1, deadline, now);
            }
        }
        assert!((600..800).contains(&looks), "about one look in 128 s, not {looks}");
    }

    #[test]
    fn a_nearer_deadline_moves_a_flow_and_a_later_one_does_not() {
        let start = Instant::now();
        let mut wheel = Wheel::new();
        wheel.schedule(1, start + Duration::from_secs(60), start);
        wheel.schedule(1, start + Duration::from_secs(90), start);
        assert!(wheel.next().unwrap() < start + Duration::from_secs(61));
        wheel.schedule(1, start + Duration::from_secs(10), start);
        assert!(wheel.next().unwrap() < start + Duration::from_secs(11));
        wheel.remove(1);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_long_sleep_brings_everything_up_once() {
        let start = Instant::now();
        let mut wheel = Wheel::new();
        for slot in 0..100 {
            wheel.schedule(slot, start + Duration::from_secs(u64::from(slot)), start);
        }
        let mut all = due(&mut wheel, start + Duration::from_secs(100_000));
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert_eq!(due(&mut wheel, start + Duration::from_secs(100_001)), []);
    }
}
