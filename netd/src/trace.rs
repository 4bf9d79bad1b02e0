//! Decisions on their way from the worker to those who look on.
//!
//! The worker never waits for them: who does not keep up loses decisions, and is told how many. It decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use minisvc_translator::{TraceLevel, Traced, Translator};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::worker::{Command, Mailbox};

/// Decisions on their way to one onlooker; further ones are lost and counted.
const CHANNEL: usize = 4096;

/// Bytes of packets on their way to one onlooker; decisions with further ones are lost and counted.
const ROOM: usize = 16 << 20;

/// Decisions handed over at once.
const BATCH: usize = 1024;

/// Between two batches, unless one is full. While the onlooker rests, the worker has nobody to wake: waking it for each decision
/// took more of the processors than all the rest of telling.
const BEAT: Duration = Duration::from_millis(10);

/// Whether an onlooker wants to know of a decision. Runs on the worker, so it must be quick.
pub(crate) type Wanted = Box<dyn Fn(&Traced) -> bool + Send>;

/// What became of a packet, and when.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    pub(crate) at: Instant,
    pub(crate) traced: Arc<Traced>,
}

impl Decision {
    fn bytes(&self) -> usize {
        self.traced.frames.as_ref().map_or(0, |frames| frames.before.len() + frames.after.len())
    }
}

/// The worker's end.
pub(crate) struct Onlooker {
    level: TraceLevel,
    wanted: Wanted,
    decision_tx: mpsc::Sender<Decision>,
    lost: Arc<AtomicU64>,
    room: Arc<AtomicUsize>,
}

/// The onlooker's end.
pub(crate) struct Decisions {
    decision_rx: mpsc::Receiver<Decision>,
    lost: Arc<AtomicU64>,
    room: Arc<AtomicUsize>,
    mailbox: Mailbox,
    beat: Duration,
    rests_until: Instant,
    /// Makes room for another onlooker.
    _permit: OwnedSemaphorePermit,
}

/// What comes next.
pub(crate) struct Batch {
    /// So many decisions were lost since the last batch.
    pub(crate) lost: u64,
    /// What was decided, in order.
    pub(crate) decisions: Vec<Decision>,
}

/// Has the worker tell what is wanted from now on.
pub(crate) fn look_on(mailbox: &Mailbox, level: TraceLevel, wanted: Wanted, permit: OwnedSemaphorePermit) -> Decisions {
    let (decision_tx, decision_rx) = mpsc::channel(CHANNEL);
    let (lost, room) = (Arc::default(), Arc::new(AtomicUsize::new(ROOM)));
    let onlooker = Onlooker { level, wanted, decision_tx, lost: Arc::clone(&lost), room: Arc::clone(&room) };
    mailbox.send(Command::LookOn(onlooker));
    // Packets are large, so that there is room for few.
    let beat = if level.frames { Duration::ZERO } else { BEAT };
    Decisions { decision_rx, lost, room, mailbox: mailbox.clone(), beat, rests_until: Instant::now(), _permit: permit }
}

impl Decisions {
    /// Waits for decisions, and takes those that there are. The first one after a quiet time is taken at once. `None` when the
    /// worker has ended.
    pub(crate) async fn next(&mut self) -> Option<Batch> {
        if self.rests_until > Instant::now() {
            tokio::time::sleep_until(self.rests_until.into()).await;
        }
        let mut decisions = Vec::new();
        let count = self.decision_rx.recv_many(&mut decisions, BATCH).await;
        if count == 0 {
            return None;
        }
        if count < BATCH {
            self.rests_until = Instant::now() + self.beat;
        }
        let bytes = decisions.iter().map(Decision::bytes).sum();
        self.room.fetch_add(bytes, Ordering::Relaxed);
        Some(Batch { lost: self.lost.swap(0, Ordering::Relaxed), decisions })
    }
}

impl Drop for Decisions {
    fn drop(&mut self) {
        self.decision_rx.close();
        // The worker sees it when it wakes, and stops telling.
        self.mailbox.ring();
    }
}

/// All onlookers, on the worker.
#[derive(Default)]
pub(crate) struct Onlookers(Vec<Onlooker>);

impl Onlookers {
    /// Takes another one on.
    pub(crate) fn add(&mut self, onlooker: Onlooker, translator: &mut Translator) {
        self.0.push(onlooker);
        self.set_level(translator);
    }

    /// Passes on what was decided since the last call. Costs nothing when nobody looks on.
    pub(crate) fn tell(&mut self, translator: &mut Translator, now: Instant) {
        if self.0.is_empty() {
            return;
        }
        let (traced, lost) = translator.take_traced();
        let before = self.0.len();
        self.0.retain(|onlooker| !onlooker.decision_tx.is_closed());
        for traced in traced.into_iter().map(Arc::new) {
            for onlooker in self.0.iter().filter(|onlooker| onlooker.wants(&traced)) {
                onlooker.tell(Decision { at: now, traced: onlooker.share(&traced) });
            }
        }
        for onlooker in &self.0 {
            onlooker.lost.fetch_add(lost, Ordering::Relaxed);
        }
        if self.0.len() != before {
            self.set_level(translator);
        }
    }

    fn set_level(&self, translator: &mut Translator) {
        let levels = self.0.iter().map(|onlooker| onlooker.level);
        let both =
            |a: TraceLevel, b: TraceLevel| TraceLevel { packets: a.packets || b.packets, frames: a.frames || b.frames };
        translator.set_trace(levels.reduce(both));
    }
}

impl Onlooker {
    fn wants(&self, traced: &Traced) -> bool {
        (self.level.packets || !is_routine(traced)) && (self.wanted)(traced)
    }

    /// Frames are there if anybody wants them, and go to nobody else.
    fn share(&self, traced: &Arc<Traced>) -> Arc<Traced> {
        if self.level.frames || traced.frames.is_none() {
            return Arc::clone(traced);
        }
        let Traced { from, packet, len, end, ref flow, frames: _ } = **traced;
        Arc::new(Traced { from, packet, len, end, flow: flow.clone(), frames: None })
    }

    fn tell(&self, decision: Decision) {
        let bytes = decision.bytes();
        // Only the worker takes from the room, so what is there stays there.
        let fits = self.room.load(Ordering::Relaxed) >= bytes;
        if fits && self.decision_tx.try_send(decision).is_ok() {
            self.room.fetch_sub(bytes, Ordering::Relaxed);
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether only those want to know of it who want every packet.
fn is_routine(traced: &Traced) -> bool {
    use minisvc_translator::{DropReason, TraceEnd};
    match traced.end {
        TraceEnd::Answered(_) => false,
        // What hosts say to their link without being asked.
        TraceEnd::Dropped(reason) => matches!(reason, DropReason::LinkLocal | DropReason::Unroutable),
        TraceEnd::Forwarded(_) | TraceEnd::Held | TraceEnd::Made => !traced.flow.opened,
    }
}
