//! Makes objects small for the disk, and for sled, which keeps a copy in memory of all that it wrote (decision 0017).
//!
//! API objects differ in little: most of each is in [`TYPICAL`], to which deflate may refer.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::types::Txn;

/// Objects as the API writes them, one a line, the most frequent last. What is packed can only be unpacked with exactly this text:
/// another one is another encoding of records.
const TYPICAL: &[u8] = include_bytes!("typical.jsonl");

/// Of 9: it takes a tenth of a write's time, and higher ones take longer than what they save.
const EFFORT: Compression = Compression::new(1);

/// Bytes before the deflated text: its length.
const LENGTH: usize = 4;

/// Packs one object after the other; its tables are made once.
pub(crate) struct Packer {
    deflate: Compress,
    room: Vec<u8>,
}

impl Packer {
    pub(crate) fn new() -> Self {
        Self { deflate: Compress::new(EFFORT, true), room: Vec::new() }
    }

    /// The object in less room; `None` when it would not be less.
    pub(crate) fn pack(&mut self, value: &[u8]) -> Option<&[u8]> {
        let length = u32::try_from(value.len()).ok()?;
        self.room.clear();
        // No more room than would be of use.
        self.room.resize(value.len(), 0);
        let (head, body) = self.room.split_at_mut_checked(LENGTH)?;
        head.copy_from_slice(&length.to_be_bytes());
        self.deflate.reset();
        self.deflate.set_dictionary(TYPICAL).ok()?;
        let status = self.deflate.compress(value, body, FlushCompress::Finish).ok()?;
        let written = usize::try_from(self.deflate.total_out()).ok()?;
        if status != Status::StreamEnd {
            return None;
        }
        self.room.get(..LENGTH + written)
    }
}

/// What was packed; `None` when it was not.
pub(crate) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let (length, deflated) = packed.split_first_chunk::<LENGTH>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok().filter(|length| *length <= Txn::MAX_VALUE)?;
    let mut value = vec![0; length];
    let mut inflate = Decompress::new(true);
    // It begins with saying which text it refers to.
    let needs = inflate.decompress(deflated, &mut value, FlushDecompress::Finish).err()?.needs_dictionary();
    let said = usize::try_from(inflate.total_in()).ok()?;
    if needs != Some(inflate.set_dictionary(TYPICAL).ok()?) {
        return None;
    }
    let status = inflate.decompress(deflated.get(said..)?, &mut value, FlushDecompress::Finish).ok()?;
    let whole = status == Status::StreamEnd && usize::try_from(inflate.total_out()) == Ok(length);
    whole.then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Records on disks refer to the text: whoever changes it makes another encoding of records and keeps this one for reading.
    #[test]
    fn the_text_that_records_refer_to_stays_as_it_is() {
        let mut packer = Packer::new();
        let packed = packer.pack(TYPICAL).unwrap();
        // The sum of the text is in the stream.
        assert_eq!(packed[LENGTH + 2..LENGTH + 6], SUM.to_be_bytes());
        assert_eq!(unpack(packed).as_deref(), Some(TYPICAL));
    }

    const SUM: u32 = 0x8094_55fc;

    #[test]
    fn an_ordinary_object_takes_a_quarter_of_its_room() {
        let pod = TYPICAL.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap();
        let mut pod: serde_json::Value = serde_json::from_slice(pod).unwrap();
        pod["metadata"]["name"] = "database-0".into();
        pod["metadata"]["uid"] = "e1658a43-d82e-4859-9b70-7101ea675bc6".into();
        pod["spec"]["containers"][0]["image"] = "somewhere/else:1.2".into();
        let text = pod.to_string();
        let mut packer = Packer::new();
        let packed = packer.pack(text.as_bytes()).unwrap();
        assert!(packed.len() < text.len() / 4, "{} of {}", packed.len(), text.len());
    }

    #[test]
    fn what_was_not_packed_is_not_unpacked() {
        let mut packer = Packer::new();
        let whole = packer.pack(TYPICAL).unwrap().to_vec();
        for damaged in [&whole[..3], &whole[..10], &whole[..whole.len() - 1], b"", b"{\"kind\":\"Pod\"}"] {
            assert_eq!(unpack(damaged), None, "{} bytes", damaged.len());
        }
        let mut longer = whole.clone();
        longer[..LENGTH].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(unpack(&longer), None, "longer than any object");
        let mut other = whole;
        other[LENGTH + 2] ^= 1;
        assert_eq!(unpack(&other), None, "of another text");
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 1..8)) {
            let mut packer = Packer::new();
            for value in values.iter().flat_map(|value| [value.clone(), [TYPICAL, value].concat(), vec![7; value.len()]]) {
                if let Some(packed) = packer.pack(&value) {
                    prop_assert!(packed.len() <= value.len());
                    prop_assert_eq!(unpack(packed), Some(value));
                }
            }
        }
    }
}
