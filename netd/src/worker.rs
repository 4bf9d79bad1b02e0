//! The one thread that moves packets: wait, read, ask the translator, write. No decision is made here.
//!
//! It owns the devices and the translator. Others reach it through a bounded mailbox and wake it by an event descriptor.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use minisvc_translator::{
    Checksum, Counters, Dial, DialAnswer, FlowRecord, PacketBuf, PortId, ServiceTable, Translator, Verdict,
};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::mpsc;

use crate::closers::{Closers, Waste};
use crate::device::{Device, Frame};
use crate::fault::{self, FaultCounts, FaultyLinks, Rule};
use crate::health::Pulse;
use crate::trace::{Onlooker, Onlookers};

/// Packets taken from one device before the others get their turn.
const BATCH: usize = 64;

/// Devices that one wait can report.
const MAX_READY: usize = 64;

/// Commands waiting for the worker; whoever sends one more waits.
const MAILBOX: usize = 1024;

/// Identifies the event descriptor among the devices, whose numbers are 32 bits wide.
const WAKE: u64 = u64::MAX;

/// What somebody wants to know of the worker. Packets wait for it, so it must be quick.
pub(crate) type Look = Box<dyn FnOnce(&Translator, &Stats) + Send>;

/// Flows at one moment.
#[derive(Debug, Clone, Default)]
pub struct Flows {
    /// Those in the table, the oldest first.
    pub current: Vec<FlowRecord>,
    /// The latest that were ended because their client or endpoint has left the network (D-090), the oldest first.
    pub severed: Vec<FlowRecord>,
}

/// What others ask of the worker.
pub(crate) enum Command {
    /// Start reading and writing a device.
    Attach(PortId, OwnedFd),
    /// Let go of a device.
    Detach(PortId),
    /// Let somebody look at the state between two batches of packets.
    Look(Look),
    /// Tell somebody of every decision from now on.
    LookOn(Onlooker),
    /// Have packets suffer these faults from now on.
    Faults(Vec<Rule>),
    /// Hand flows to the outside over to somebody.
    Relay(mpsc::Sender<Dial>),
    /// What has come of such a flow.
    Dialled(Dial, DialAnswer),
    /// Nobody passes this UDP flow on any more.
    Forget(Dial),
    /// Let go of everything and end.
    Stop,
}

/// What the data plane counted.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// What the translator counted: verdicts, drop reasons, flows.
    pub translator: Counters,
    /// Packets lost because the receiver had no room.
    pub receiver_full: u64,
    /// Packets lost because their port was detached just then.
    pub no_such_port: u64,
    /// Devices that failed and were given up.
    pub failed_devices: u64,
    /// What faults have done to packets.
    pub faults: FaultCounts,
}

/// The way to the worker: a bounded mailbox and a bell.
#[derive(Clone)]
pub(crate) struct Mailbox {
    commands: SyncSender<Command>,
    bell: Arc<EventFd>,
    pulse: Arc<Pulse>,
}

impl Mailbox {
    /// Puts a command in; blocks shortly when the mailbox is full. `false` when the worker has ended.
    pub(crate) fn send(&self, command: Command) -> bool {
        let sent = match self.commands.try_send(command) {
            Ok(()) => true,
            Err(TrySendError::Full(command)) => {
                self.ring();
                self.commands.send(command).is_ok()
            }
            Err(TrySendError::Disconnected(_)) => false,
        };
        self.ring();
        sent
    }

    /// Wakes the worker for a new table, which it can see by now.
    pub(crate) fn announce(&self) {
        self.pulse.published();
        self.ring();
    }

    /// Whether the worker keeps up.
    pub(crate) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Wakes the worker.
    pub(crate) fn ring(&self) {
        // It only fails when the counter would overflow, and then the worker is being woken anyway.
        let _ = self.bell.write(1);
    }
}

/// The state of the thread.
pub(crate) struct Worker {
    epoll: Epoll,
    bell: Arc<EventFd>,
    pulse: Arc<Pulse>,
    commands: Receiver<Command>,
    table: Arc<ArcSwap<ServiceTable>>,
    installed: Arc<ServiceTable>,
    translator: Translator,
    devices: HashMap<PortId, Device>,
    /// Whether all devices were opened with offload, or none.
    offload: bool,
    /// Worker → relay. When it is full the flow is forgotten, and its client tries again.
    dial_tx: Option<mpsc::Sender<Dial>>,
    closers: Closers,
    onlookers: Onlookers,
    /// Only while there is a fault.
    faults: Option<Box<FaultyLinks>>,
    stats: Stats,
}

impl Worker {
    /// Makes a worker that takes its tables from `table`, for devices that were opened with offload or not.
    ///
    /// # Errors
    /// When the kernel refuses an epoll or event descriptor.
    pub(crate) fn new(
        translator: Translator,
        table: Arc<ArcSwap<ServiceTable>>,
        offload: bool,
    ) -> io::Result<(Self, Mailbox)> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        epoll.add(&*bell, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let (sender, commands) = sync_channel(MAILBOX);
        let pulse = Arc::new(Pulse::new());
        let mailbox = Mailbox { commands: sender, bell: Arc::clone(&bell), pulse: Arc::clone(&pulse) };
        let worker = Self {
            epoll,
            bell,
            pulse,
            commands,
            installed: table.load_full(),
            table,
            translator,
            devices: HashMap::new(),
            offload,
            dial_tx: None,
            closers: Closers::start()?,
            onlookers: Onlookers::default(),
            faults: None,
            stats: Stats::default(),
        };
        Ok((worker, mailbox))
    }

    /// Moves packets until [`Command::Stop`].
    pub(crate) fn run(mut self) {
        let mut frame = Frame::new();
        let mut events = [EpollEvent::empty(); MAX_READY];
        let first = Arc::clone(&self.installed);
        self.translator.install(first, Instant::now());
        loop {
            let ready = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(ready) => ready,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(error) => {
                    tracing::error!(%error, "the data plane cannot wait for packets and ends");
                    break;
                }
            };
            let now = Instant::now();
            let woken = events.iter().take(ready).any(|event| event.data() == WAKE);
            if woken && !self.obey() {
                break;
            }
            self.take_table(now);
            for event in events.iter().take(ready).filter(|event| event.data() != WAKE) {
                if let Ok(port) = u32::try_from(event.data()) {
                    self.serve(PortId(port), &mut frame, now);
                    self.onlookers.tell(&mut self.translator, now);
                }
            }
            self.translator.handle_timeout(now);
            if self.faults.is_some() {
                self.send_late(&mut frame, now);
            }
            self.dial(now);
            self.flush();
            self.onlookers.tell(&mut self.translator, now);
        }
        let devices = std::mem::take(&mut self.devices);
        self.closers.close_all(devices.into_values());
    }

    /// How long to sleep at most: until the translator's next deadline.
    fn timeout(&self) -> EpollTimeout {
        let late = self.faults.as_ref().and_then(|faults| faults.poll_timeout());
        let Some(deadline) = self.translator.poll_timeout().into_iter().chain(late).min() else {
            return EpollTimeout::NONE;
        };
        let wait = deadline.saturating_duration_since(Instant::now());
        // Rounded up: waking before the deadline would spin. The cap keeps the number in range and is long enough.
        let milliseconds = wait.min(Duration::from_secs(60)).as_nanos().div_ceil(1_000_000);
        EpollTimeout::try_from(milliseconds).unwrap_or(EpollTimeout::MAX)
    }

    /// Empties the mailbox. `false` when it is time to end.
    fn obey(&mut self) -> bool {
        // The count does not matter, only that it is zero again.
        let _ = self.bell.read();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Attach(port, fd) => self.attach(port, fd),
                Command::Detach(port) => self.let_go(port),
                Command::Look(look) => look(&self.translator, &self.stats),
                Command::LookOn(onlooker) => self.onlookers.add(onlooker, &mut self.translator),
                Command::Faults(rules) => self.suffer_from(rules),
                Command::Relay(dial_tx) => self.dial_tx = Some(dial_tx),
                Command::Dialled(dial, answer) => self.translator.answer(&dial, answer, Instant::now()),
                Command::Forget(dial) => self.translator.forget(&dial, Instant::now()),
                Command::Stop => return false,
            }
        }
        true
    }

    fn attach(&mut self, port: PortId, fd: OwnedFd) {
        let device = Device::new(fd, self.offload);
        let interest = EpollEvent::new(EpollFlags::EPOLLIN, u64::from(port.0));
        match self.epoll.add(device.as_fd(), interest) {
            Ok(()) => {
                self.devices.insert(port, device);
            }
            Err(error) => {
                self.stats.failed_devices += 1;
                tracing::error!(port = port.0, %error, "cannot watch a device");
            }
        }
    }

    fn let_go(&mut self, port: PortId) {
        if let Some(device) = self.devices.remove(&port) {
            // Closing the descriptor would remove it too, but that happens later, on another thread.
            let _ = self.epoll.delete(device.as_fd());
            self.closers.dispose(Waste::Device(device));
        }
    }

    fn take_table(&mut self, now: Instant) {
        self.pulse.taken();
        let newest = self.table.load();
        if !Arc::ptr_eq(&newest, &self.installed) {
            self.installed = Arc::clone(&newest);
            let old = self.translator.install(Arc::clone(&newest), now);
            self.closers.dispose(Waste::Table(old));
        }
    }

    fn serve(&mut self, port: PortId, frame: &mut Frame, now: Instant) {
        for _ in 0..BATCH {
            let Some(device) = self.devices.get(&port) else { return };
            let received = match device.receive(frame) {
                Ok(Some(received)) => received,
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(port = port.0, %error, "a device is gone");
                    self.stats.failed_devices += 1;
                    self.let_go(port);
                    return;
                }
            };
            let packet = PacketBuf::new(frame.packet_mut(), received.len, received.checksum);
            let mut packet = packet.in_datagrams(received.datagram);
            let verdict = self.translator.handle(port, &mut packet, now);
            let len = packet.len();
            let target = match verdict {
                Verdict::Forward(target) if self.faults.is_some() => {
                    if !self.survives((port, target), frame, len, received.checksum, now) {
                        continue;
                    }
                    target
                }
                Verdict::Forward(target) => target,
                Verdict::Reply => {
                    frame.clear_header();
                    port
                }
                Verdict::Held | Verdict::Drop(_) => continue,
            };
            let sent = self.devices.get(&target).map(|device| device.send(frame, len));
            note(&mut self.stats, sent);
        }
    }

    /// Lets a forwarded packet suffer its faults; whether it goes on at once. A packet that comes later is kept, and one that is
    /// refused is answered as if from where it went.
    fn survives(
        &mut self,
        way: (PortId, PortId),
        frame: &mut Frame,
        len: usize,
        checksum: Checksum,
        now: Instant,
    ) -> bool {
        let Some(faults) = &mut self.faults else { return true };
        let answer = match faults.pass(way, frame, len, checksum, now) {
            fault::Outcome::Send => return true,
            fault::Outcome::Done => return false,
            fault::Outcome::Answer(answer) => answer,
        };
        let len = frame.put(&answer);
        let mut packet = PacketBuf::new(frame.packet_mut(), len, Checksum::Full);
        if let Verdict::Forward(back) = self.translator.handle(way.1, &mut packet, now) {
            let len = packet.len();
            let sent = self.devices.get(&back).map(|device| device.send(frame, len));
            note(&mut self.stats, sent);
        }
        false
    }

    fn suffer_from(&mut self, rules: Vec<Rule>) {
        let counts = self.stats.faults;
        let faults = self.faults.get_or_insert_with(|| {
            let mut faults = FaultyLinks::default();
            faults.count_from(counts);
            Box::new(faults)
        });
        faults.install(rules);
        self.forget_faults();
    }

    /// Sends what faults have kept and whose time has come.
    fn send_late(&mut self, frame: &mut Frame, now: Instant) {
        while let Some((to, len)) = self.faults.as_mut().and_then(|faults| faults.due(frame, now)) {
            let sent = self.devices.get(&to).map(|device| device.send(frame, len));
            note(&mut self.stats, sent);
        }
        self.forget_faults();
    }

    /// Without faults, and when the last packet they kept is sent, they cost nothing again.
    fn forget_faults(&mut self) {
        if let Some(faults) = &self.faults {
            self.stats.faults = faults.counts();
            if faults.is_idle() {
                self.faults = None;
            }
        }
    }

    /// Has the relay open the other halves of flows to the outside.
    fn dial(&mut self, now: Instant) {
        while let Some(dial) = self.translator.poll_dial() {
            let taken = self.dial_tx.as_ref().is_some_and(|dial_tx| dial_tx.try_send(dial).is_ok());
            if !taken {
                self.translator.answer(&dial, DialAnswer::Silent, now);
            }
        }
    }

    /// Writes what the translator made by itself: held fragments, resets of flows whose end is gone.
    fn flush(&mut self) {
        while let Some((port, packet)) = self.translator.poll_transmit() {
            let sent = self.devices.get(&port).map(|device| device.send_own(&packet));
            note(&mut self.stats, sent);
        }
    }
}

/// Counts a packet that was lost on its way out.
fn note(stats: &mut Stats, sent: Option<io::Result<bool>>) {
    match sent {
        Some(Ok(true)) => {}
        Some(Ok(false)) => stats.receiver_full += 1,
        // A broken device says so again when it is read, and is let go there.
        Some(Err(_)) | None => stats.no_such_port += 1,
    }
}
