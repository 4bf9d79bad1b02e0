//! What upstreams said lately, so that they are not asked again at once (N-076). It has no clock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// Answers remembered at once; the oldest makes room (N-076).
const MAX_ENTRIES: usize = 10_000;

/// Records of an answer that is remembered; a larger one is asked for each time. Together with [`MAX_ENTRIES`] this
/// bounds the memory: the usual answer has a handful.
const MAX_RECORDS: usize = 64;

/// Longest and shortest time that an answer is remembered (N-076).
const LONGEST: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_secs(5);

/// How long a failure of an upstream is remembered (N-076).
const FAILURE: Duration = Duration::from_secs(5);

/// A question in lower case.
pub(crate) type Key = (Name, RecordType);

/// Answers of upstreams, each until its time is over.
pub(crate) struct Cache {
    known: HashMap<Key, Entry>,
    /// In the order of arrival. A key that came again stands here twice; its entry knows which place is its own.
    order: VecDeque<(Key, u64)>,
    arrivals: u64,
    limit: usize,
}

struct Entry {
    message: Arc<Message>,
    until: Instant,
    arrival: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self::with_limit(MAX_ENTRIES)
    }
}

impl Cache {
    fn with_limit(limit: usize) -> Self {
        Self { known: HashMap::new(), order: VecDeque::new(), arrivals: 0, limit }
    }

    /// How many answers are remembered.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// The answer to a question, with what is left of its time to live.
    pub(crate) fn get(&self, key: &Key, now: Instant) -> Option<Message> {
        let entry = self.known.get(key)?;
        let left = entry.until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some(with_ttl(&entry.message, left))
    }

    /// Remembers an answer if it may be, and gives it the time to live that it will have here. Answers how many others
    /// had to go before their time.
    pub(crate) fn insert(&mut self, key: Key, message: &mut Message, now: Instant) -> usize {
        let Some(lifetime) = lifetime(message) else { return 0 };
        *message = with_ttl(message, lifetime);
        self.arrivals += 1;
        let entry = Entry { message: Arc::new(message.clone()), until: now + lifetime, arrival: self.arrivals };
        self.order.push_back((key.clone(), self.arrivals));
        self.known.insert(key, entry);
        let mut evicted = 0;
        while let Some((key, arrival)) = self.order.front() {
            let entry = self.known.get(key).filter(|entry| entry.arrival == *arrival);
            let expired = entry.is_none_or(|entry| entry.until <= now);
            // The queue is as long as the map, or longer by what came again; so it bounds both.
            if !expired && self.order.len() <= self.limit {
                break;
            }
            evicted += usize::from(!expired);
            if entry.is_some() {
                self.known.remove(key);
            }
            self.order.pop_front();
        }
        evicted
    }
}

/// How long an answer may be remembered; `None` for what may not: what was cut off, what is no answer, and a "no" that
/// does not say for how long (RFC 2308).
fn lifetime(message: &Message) -> Option<Duration> {
    let records = || message.answers.iter().chain(&message.authorities).chain(&message.additionals);
    if message.metadata.truncation || records().count() > MAX_RECORDS {
        return None;
    }
    match message.metadata.response_code {
        ResponseCode::ServFail => return Some(FAILURE),
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        _ => return None,
    }
    let mut seconds = records().map(|record| record.ttl).min();
    if message.answers.is_empty() || message.metadata.response_code == ResponseCode::NXDomain {
        let minimum = message.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(soa.minimum),
            _ => None,
        })?;
        seconds = seconds.map(|seconds| seconds.min(minimum));
    }
    Some(Duration::from_secs(seconds?.into()).clamp(SHORTEST, LONGEST))
}

/// The same answer with this time to live in every record, in whole seconds (N-077).
fn with_ttl(message: &Message, left: Duration) -> Message {
    let mut message = message.clone();
    let seconds = u32::try_from(left.as_secs()).unwrap_or(u32::MAX);
    let records = message.answers.iter_mut().chain(&mut message.authorities).chain(&mut message.additionals);
    records.for_each(|record: &mut Record| record.ttl = seconds);
    message
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::op::OpCode;
    use hickory_proto::rr::rdata::{A, SOA};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).expect("a legal name")
    }

    fn key(text: &str) -> Key {
        (name(text), RecordType::A)
    }

    fn yes(ttl: u32) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        message.add_answer(Record::from_rdata(name("a."), ttl, RData::A(A(Ipv4Addr::LOCALHOST))));
        message
    }

    fn no(ttl: u32, minimum: u32) -> Message {
        let mut message = Message::error_msg(1, OpCode::Query, ResponseCode::NXDomain);
        let soa = SOA::new(name("ns."), name("admin."), 1, 1, 1, 1, minimum);
        message.add_authority(Record::from_rdata(name("."), ttl, RData::SOA(soa)));
        message
    }

    // N-076
    #[test]
    fn answers_are_remembered_for_five_to_thirty_seconds() {
        let mut cut = yes(60);
        cut.metadata.truncation = true;
        let mut large = yes(60);
        large.answers = vec![large.answers[0].clone(); MAX_RECORDS + 1];
        let failure = Message::error_msg(1, OpCode::Query, ResponseCode::ServFail);
        let refusal = Message::error_msg(1, OpCode::Query, ResponseCode::Refused);
        let endless = Message::error_msg(1, OpCode::Query, ResponseCode::NXDomain);
        let rows: [(&str, Message, Option<u64>); 10] = [
            ("long", yes(3600), Some(30)),
            ("middle", yes(17), Some(17)),
            ("short", yes(0), Some(5)),
            ("no, by its SOA's minimum", no(3600, 9), Some(9)),
            ("no, by its SOA's own time", no(8, 3600), Some(8)),
            ("no without a SOA", endless, None),
            ("failure", failure, Some(5)),
            ("refusal", refusal, None),
            ("cut off", cut, None),
            ("very large", large, None),
        ];
        for (label, message, expected) in rows {
            assert_eq!(lifetime(&message), expected.map(Duration::from_secs), "{label}");
        }
    }

    // N-077
    #[test]
    fn the_time_to_live_counts_down_and_the_answer_goes_with_it() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let mut first = yes(3600);
        cache.insert(key("a."), &mut first, now);
        assert_eq!(first.answers[0].ttl, 30, "the first one is told what the second would be");
        let ttl = |after: u64| Some(cache.get(&key("a."), now + Duration::from_secs(after))?.answers[0].ttl);
        assert_eq!([ttl(0), ttl(1), ttl(29), ttl(30), ttl(31)], [Some(30), Some(29), Some(1), None, None]);
        assert!(cache.get(&(name("a."), RecordType::AAAA), now).is_none(), "another question");
    }

    #[test]
    fn the_oldest_makes_room_and_what_came_again_is_young() {
        let (mut cache, now) = (Cache::with_limit(3), Instant::now());
        for text in ["a.", "b.", "a."] {
            assert_eq!(cache.insert(key(text), &mut yes(60), now), 0);
        }
        assert_eq!(cache.insert(key("c."), &mut yes(60), now), 0, "the place of the first one was free");
        assert_eq!(cache.insert(key("d."), &mut yes(60), now), 1);
        let known = |text: &str| cache.get(&key(text), now).is_some();
        assert_eq!(["a.", "b.", "c.", "d."].map(known), [true, false, true, true]);
        let later = now + Duration::from_secs(31);
        assert_eq!(cache.insert(key("e."), &mut yes(60), later), 0, "nothing is lost that was over");
        assert_eq!((cache.len(), cache.order.len()), (1, 1));
    }
}
