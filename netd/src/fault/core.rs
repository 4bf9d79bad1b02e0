//! What happens to packets between places that a fault is for: pure, with a clock and chance of its own.
//!
//! It decides about each packet, and keeps those that come later. It reads no packet and writes none.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use minisvc_translator::PortId;

/// Packets that come later; further ones are lost.
const MAX_WAITING: usize = 16_384;

/// Bytes in them; packets beyond are lost.
const MAX_BYTES: usize = 64 << 20;

/// How much later a packet comes that others are to overtake.
const HELD_BACK: Duration = Duration::from_millis(10);

/// Most time that a rate may have packets wait; further ones are lost, as in a router's queue.
const LONGEST_QUEUE: Duration = Duration::from_secs(1);

/// One fault, with its places looked up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    /// What tells it from an earlier one of the same name: its uid and generation.
    pub(crate) id: Arc<str>,
    pub(crate) from: Side,
    pub(crate) to: Side,
    /// Whether packets the other way are left alone.
    pub(crate) one_way: bool,
    pub(crate) effect: Effect,
    pub(crate) until: Option<Instant>,
    pub(crate) seed: u64,
}

/// Where packets come from or go to: what fits everything that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) links: Option<HashSet<PortId>>,
    /// Addresses and ports, such as those of a Service's endpoints.
    pub(crate) sockets: Option<HashSet<SocketAddr>>,
}

/// What a fault does. Shares are of 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Effect {
    pub(crate) delay: Duration,
    /// The delay differs by up to this much, either way.
    pub(crate) jitter: Duration,
    pub(crate) loss: f64,
    pub(crate) duplicate: f64,
    pub(crate) reorder: f64,
    pub(crate) corrupt: f64,
    /// Bits per second.
    pub(crate) rate: Option<u64>,
    /// New connections and datagrams are refused.
    pub(crate) refuse: bool,
    /// Nothing passes.
    pub(crate) partition: bool,
}

/// A packet on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passing {
    pub(crate) from: PortId,
    pub(crate) to: PortId,
    /// Source and destination as they leave the translator, if it has ports.
    pub(crate) sockets: Option<(SocketAddr, SocketAddr)>,
    pub(crate) len: usize,
    /// Whether it begins something that can be refused.
    pub(crate) begins: bool,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing happens to it.
    Pass,
    /// It is lost.
    Lost,
    /// Its sender is told that nobody listens.
    Refused,
    /// It arrives at these times, with a bit changed or not.
    Arrives { at: Vec<Instant>, corrupt: Option<u64> },
}

/// What faults have done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Packets lost.
    pub lost: u64,
    /// Packets refused.
    pub refused: u64,
    /// Packets that came later.
    pub delayed: u64,
    /// Packets that came twice.
    pub duplicated: u64,
    /// Packets in which a bit was changed.
    pub corrupted: u64,
    /// Packets lost because too many were to come later.
    pub overflowed: u64,
}

/// All faults, and the packets that they keep.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Vec<(Rule, State)>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    bytes: usize,
    next: u64,
    pub(crate) counts: FaultCounts,
}

#[derive(Debug)]
struct State {
    chance: Chance,
    /// When what was sent before has passed, under a rate.
    free: Option<Instant>,
}

/// Ordered by time; packets of one time keep their order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due: Instant,
    number: u64,
    to: PortId,
    frame: Vec<u8>,
}

impl Side {
    fn has(&self, link: PortId, socket: Option<SocketAddr>) -> bool {
        self.links.as_ref().is_none_or(|links| links.contains(&link))
            && self.sockets.as_ref().is_none_or(|sockets| socket.is_some_and(|socket| sockets.contains(&socket)))
    }
}

impl Rule {
    fn is_for(&self, packet: &Passing) -> bool {
        let (src, dst) = packet.sockets.unzip();
        let there = self.from.has(packet.from, src) && self.to.has(packet.to, dst);
        let back = || !self.one_way && self.to.has(packet.from, src) && self.from.has(packet.to, dst);
        there || back()
    }
}

impl Faults {
    /// Puts other rules in place of those there are. A rule that stays keeps its chance and its queue.
    pub(crate) fn install(&mut self, rules: Vec<Rule>) {
        let mut old = std::mem::take(&mut self.rules);
        for rule in rules {
            let known = old.iter().position(|(other, _)| other.id == rule.id).map(|at| old.swap_remove(at).1);
            let state = known.unwrap_or(State { chance: Chance(rule.seed), free: None });
            self.rules.push((rule, state));
        }
    }

    /// Whether there is nothing to do, now and later.
    pub(crate) fn is_idle(&self) -> bool {
        self.rules.is_empty() && self.waiting.is_empty()
    }

    /// What becomes of a packet, by all faults that are for it.
    pub(crate) fn judge(&mut self, packet: &Passing, now: Instant) -> Fate {
        let (mut wait, mut copies, mut corrupt, mut is_touched) = (Duration::ZERO, 1, None, false);
        for (rule, state) in &mut self.rules {
            if rule.until.is_some_and(|until| until <= now) || !rule.is_for(packet) {
                continue;
            }
            is_touched = true;
            let effect = &rule.effect;
            if effect.partition || state.chance.hits(effect.loss) {
                self.counts.lost += 1;
                return Fate::Lost;
            }
            if effect.refuse && packet.begins {
                self.counts.refused += 1;
                return Fate::Refused;
            }
            if let Some(rate) = effect.rate {
                match state.queue(packet.len, rate, now) {
                    Some(queued) => wait += queued,
                    None => {
                        self.counts.lost += 1;
                        return Fate::Lost;
                    }
                }
            }
            wait += state.chance.around(effect.delay, effect.jitter);
            if state.chance.hits(effect.reorder) {
                wait += HELD_BACK;
            }
            if state.chance.hits(effect.duplicate) {
                copies += 1;
            }
            if state.chance.hits(effect.corrupt) {
                corrupt = Some(state.chance.next());
            }
        }
        if !is_touched || wait.is_zero() && copies == 1 && corrupt.is_none() {
            return Fate::Pass;
        }
        self.counts.delayed += u64::from(!wait.is_zero());
        self.counts.duplicated += u64::from(copies > 1);
        self.counts.corrupted += u64::from(corrupt.is_some());
        Fate::Arrives { at: vec![now + wait; copies], corrupt }
    }

    /// Keeps a packet until its time; false if there is no room, and it is lost.
    pub(crate) fn keep(&mut self, due: Instant, to: PortId, frame: Vec<u8>) -> bool {
        if self.waiting.len() >= MAX_WAITING || self.bytes + frame.len() > MAX_BYTES {
            self.counts.overflowed += 1;
            return false;
        }
        self.bytes += frame.len();
        self.waiting.push(Reverse(Waiting { due, number: self.next, to, frame }));
        self.next += 1;
        true
    }

    /// The next packet whose time has come.
    pub(crate) fn due(&mut self, now: Instant) -> Option<(PortId, Vec<u8>)> {
        if self.poll_timeout()? > now {
            return None;
        }
        let Reverse(Waiting { to, frame, .. }) = self.waiting.pop()?;
        self.bytes -= frame.len();
        Some((to, frame))
    }

    /// When the next packet is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse(next)| next.due)
    }
}

impl State {
    /// How long a packet waits until those before it have passed and it has itself; `None` if the queue is too long.
    fn queue(&mut self, len: usize, rate: u64, now: Instant) -> Option<Duration> {
        let bits = u64::try_from(len).unwrap_or(u64::MAX).saturating_mul(8);
        let nanoseconds = u128::from(bits) * 1_000_000_000 / u128::from(rate.max(1));
        let takes = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let begins = self.free.filter(|free| *free > now).unwrap_or(now);
        if begins.duration_since(now) > LONGEST_QUEUE {
            return None;
        }
        let free = begins.checked_add(takes)?;
        self.free = Some(free);
        Some(free.duration_since(now))
    }
}

/// A small seeded generator (SplitMix64), so that a fault does the same to the same packets in every run.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between 0 and 1, without 1.
    fn share(&mut self) -> f64 {
        // The upper half of the bits is exact in a float.
        f64::from(u32::try_from(self.next() >> 32).unwrap_or(u32::MAX)) / (f64::from(u32::MAX) + 1.0)
    }

    /// Whether a share of cases is meant. Draws nothing for none, so that effects that are off change nothing.
    fn hits(&mut self, share: f64) -> bool {
        share > 0.0 && self.share() < share
    }

    /// A duration that differs from `middle` by up to `spread`.
    fn around(&mut self, middle: Duration, spread: Duration) -> Duration {
        if spread.is_zero() {
            return middle;
        }
        (middle + spread.mul_f64(2.0 * self.share())).saturating_sub(spread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PortId = PortId(1);
    const B: PortId = PortId(2);
    const C: PortId = PortId(3);
    const MS: Duration = Duration::from_millis(1);

    fn links(ports: &[PortId]) -> Side {
        Side { links: Some(ports.iter().copied().collect()), sockets: None }
    }

    fn socket(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn rule(effect: Effect) -> Rule {
        Rule { id: "f".into(), from: links(&[A]), to: links(&[B]), one_way: false, effect, until: None, seed: 7 }
    }

    fn packet(from: PortId, to: PortId) -> Passing {
        let sockets = Some((socket("10.244.0.2:4000"), socket("10.244.0.3:8080")));
        Passing { from, to, sockets, len: 1250, begins: true }
    }

    fn faults(rules: &[Rule]) -> Faults {
        let mut faults = Faults::default();
        faults.install(rules.to_vec());
        faults
    }

    #[test]
    fn a_fault_is_for_packets_between_its_places_and_both_ways_unless_told_otherwise() {
        let now = Instant::now();
        let partition = || Effect { partition: true, ..Effect::default() };
        let lost = |rule: Rule, packet: Passing| faults(&[rule]).judge(&packet, now) == Fate::Lost;
        assert!(lost(rule(partition()), packet(A, B)) && lost(rule(partition()), packet(B, A)));
        assert!(!lost(rule(partition()), packet(A, C)) && !lost(rule(partition()), packet(C, B)));
        let one_way = || Rule { one_way: true, ..rule(partition()) };
        assert!(lost(one_way(), packet(A, B)) && !lost(one_way(), packet(B, A)));
        let service = |text: &str| Rule {
            from: Side::default(),
            to: Side { links: None, sockets: Some(HashSet::from([socket(text)])) },
            ..rule(partition())
        };
        assert!(lost(service("10.244.0.3:8080"), packet(C, B)) && !lost(service("10.244.0.3:9000"), packet(C, B)));
        let back = Passing { sockets: packet(B, C).sockets.map(|(src, dst)| (dst, src)), ..packet(B, C) };
        assert!(lost(service("10.244.0.3:8080"), back), "answers of the Service too");
        assert!(
            !lost(service("10.244.0.3:8080"), Passing { sockets: None, ..packet(C, B) }),
            "what has no ports is of no Service"
        );
        let over = Rule { until: Some(now), ..rule(partition()) };
        assert!(!lost(over, packet(A, B)), "its time is over");
        let refuse = rule(Effect { refuse: true, ..Effect::default() });
        assert_eq!(faults(std::slice::from_ref(&refuse)).judge(&packet(A, B), now), Fate::Refused);
        assert_eq!(faults(&[refuse]).judge(&Passing { begins: false, ..packet(A, B) }, now), Fate::Pass);
    }

    #[test]
    fn chance_follows_the_seed_and_the_share() {
        let now = Instant::now();
        let lossy = |seed| Rule { seed, ..rule(Effect { loss: 0.3, ..Effect::default() }) };
        let run = |seed| -> Vec<bool> {
            let mut faults = faults(&[lossy(seed)]);
            (0..2000).map(|_| faults.judge(&packet(A, B), now) == Fate::Lost).collect()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let lost = run(3).into_iter().filter(|lost| *lost).count();
        assert!((500..700).contains(&lost), "{lost} of 2000 at 30 %");
        let mut same = faults(&[lossy(1)]);
        let first: Vec<bool> = (0..10).map(|_| same.judge(&packet(A, B), now) == Fate::Lost).collect();
        same.install(vec![lossy(1)]);
        let rest: Vec<bool> = (0..10).map(|_| same.judge(&packet(A, B), now) == Fate::Lost).collect();
        assert_eq!([first, rest].concat(), run(1)[..20], "a rule that stays goes on where it was");
    }

    #[test]
    fn packets_come_later_twice_or_changed() {
        let now = Instant::now();
        let delay = Effect { delay: 100 * MS, jitter: 20 * MS, ..Effect::default() };
        let mut late = faults(&[rule(delay)]);
        let waits: Vec<Duration> = (0..200)
            .map(|_| match late.judge(&packet(A, B), now) {
                Fate::Arrives { at, corrupt: None } if at.len() == 1 => at[0] - now,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(waits.iter().all(|wait| (80 * MS..=120 * MS).contains(wait)));
        assert!(waits.iter().any(|wait| *wait < 90 * MS) && waits.iter().any(|wait| *wait > 110 * MS));
        let twice = rule(Effect { duplicate: 1.0, corrupt: 1.0, reorder: 1.0, ..Effect::default() });
        let mut faults = faults(&[twice]);
        let fate = faults.judge(&packet(A, B), now);
        assert!(
            matches!(fate, Fate::Arrives { ref at, corrupt: Some(_) } if at[..] == [now + HELD_BACK; 2]),
            "{fate:?}"
        );
        let counts = FaultCounts { delayed: 1, duplicated: 1, corrupted: 1, ..FaultCounts::default() };
        assert_eq!(faults.counts, counts);
    }

    #[test]
    fn a_rate_spaces_packets_out_and_has_a_queue_with_an_end() {
        let now = Instant::now();
        // A packet of 1250 bytes takes 10 ms.
        let mut slow = faults(&[rule(Effect { rate: Some(1_000_000), ..Effect::default() })]);
        for number in 1..=101 {
            let fate = slow.judge(&packet(A, B), now);
            assert_eq!(fate, Fate::Arrives { at: vec![now + number * 10 * MS], corrupt: None });
        }
        assert_eq!(slow.judge(&packet(A, B), now), Fate::Lost, "a second is waited for already");
        let later = now + 500 * MS;
        assert_eq!(slow.judge(&packet(A, B), later), Fate::Arrives { at: vec![now + 1020 * MS], corrupt: None });
    }

    #[test]
    fn what_waits_comes_in_order_and_is_limited() {
        let now = Instant::now();
        let mut faults = Faults::default();
        for (wait, byte) in [(20, 1), (10, 2), (10, 3)] {
            assert!(faults.keep(now + wait * MS, B, vec![byte]));
        }
        assert_eq!((faults.poll_timeout(), faults.due(now)), (Some(now + 10 * MS), None));
        let come: Vec<u8> = std::iter::from_fn(|| faults.due(now + 10 * MS)).map(|(_, frame)| frame[0]).collect();
        assert_eq!(come, [2, 3]);
        assert!(!faults.is_idle());
        assert_eq!(faults.due(now + 20 * MS), Some((B, vec![1])));
        assert!(faults.is_idle());
        for _ in 0..MAX_WAITING {
            assert!(faults.keep(now, B, vec![]));
        }
        assert!(!faults.keep(now, B, vec![]));
        let mut big = Faults::default();
        let kept = (0..2000).filter(|_| big.keep(now, B, vec![0; 65_536])).count();
        assert_eq!((kept, big.counts.overflowed), (1024, 976));
    }
}
