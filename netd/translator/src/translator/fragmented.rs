//! Datagrams in fragments: the first is decided like any packet, the others follow it.

use std::net::IpAddr;
use std::time::Instant;

use super::{DropReason, Outcome, Packet, PortId, Translator};
use crate::fragments::{DatagramKey, Path};
use crate::packet::Checksum;

impl Translator {
    pub(super) fn first_fragment(&mut self, from: PortId, packet: &mut Packet<'_>, now: Instant) -> Outcome {
        let key = DatagramKey::of(packet);
        let src = packet.src();
        let outcome = self.route(from, packet, now);
        let path = match outcome {
            Outcome::Forward(port) => self.forwarded(packet, src, port),
            // Nobody may say what becomes of another's datagram.
            Outcome::Drop(DropReason::Spoofed) => return outcome,
            // What becomes of it is not known yet, and until then the others are held as if they had overtaken it.
            Outcome::Held => return outcome,
            Outcome::Reset | Outcome::Error(_) | Outcome::Drop(_) => Path::Refused,
        };
        self.decided(key, path, packet.body().len(), now);
        outcome
    }

    /// The path of a first fragment that is on its way, whose source was `src` before.
    pub(super) fn forwarded(&mut self, packet: &mut Packet<'_>, src: IpAddr, port: PortId) -> Path {
        // Identifications are unique among the datagrams of one sender only (RFC 6864 4); those of another that appears as the
        // same one would get mixed up when they are put together.
        if packet.src() != src {
            packet.set_identification(self.next_identification);
            self.next_identification = self.next_identification.wrapping_add(1);
        }
        Path::Forward { src: packet.src(), dst: packet.dst(), identification: packet.identification(), port }
    }

    /// Has the other fragments follow a first one with `len` bytes of payload, those that came before it at once.
    pub(super) fn decided(&mut self, key: DatagramKey, path: Path, len: usize, now: Instant) {
        let evicted = self.fragments.record(key, path, len, now);
        self.counters.fragments_evicted += u64::from(evicted);
        if self.fragments.any_held() {
            self.release(key, now);
        }
    }

    /// A fragment that is not the first.
    pub(super) fn follow_first(&mut self, packet: &mut Packet<'_>, now: Instant) -> Outcome {
        let key = DatagramKey::of(packet);
        match self.fragments.follow(key, packet, now) {
            Some(Path::Forward { src, dst, identification, port }) => {
                packet.rewrite_addresses(src, dst);
                packet.set_identification(identification);
                packet.decrement_ttl();
                Outcome::Forward(port)
            }
            Some(Path::Refused) => Outcome::Drop(DropReason::FragmentRefused),
            None if self.fragments.hold(key, packet.bytes(), now) => Outcome::Held,
            None => Outcome::Drop(DropReason::FragmentLimit),
        }
    }

    /// Sends the fragments that waited for this first one after it.
    fn release(&mut self, key: DatagramKey, now: Instant) {
        for mut held in self.fragments.release(key) {
            let Ok(mut packet) = Packet::parse(&mut held.bytes, Checksum::Full) else { continue };
            if let Outcome::Forward(port) = self.follow_first(&mut packet, now) {
                self.queue(port, held.bytes);
            }
        }
    }
}
