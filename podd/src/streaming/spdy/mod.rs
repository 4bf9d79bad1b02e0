//! The part of SPDY/3.1 that kubectl uses: frames, header blocks, and the streams of exec and port-forward.

mod connection;
#[cfg(test)]
#[path = "../../../fuzz/src/drive.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod drive;
mod forward;
mod frame;
mod headers;
mod remote;

pub(super) use forward::forward;
pub(super) use remote::remote;

/// The fuzz corpus, replayed without a fuzzer.
#[cfg(test)]
mod corpus_tests {
    use std::path::Path;

    use super::drive;

    //
    #[test]
    fn the_corpus_still_passes() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/spdy");
        let entries = std::fs::read_dir(corpus).expect("readable");
        let mut files: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
        files.sort();
        assert!(files.len() >= 9, "the corpus is there: {files:?}");
        for file in files {
            let data = std::fs::read(&file).expect("readable");
            let result = std::panic::catch_unwind(|| drive::spdy(&data));
            assert!(result.is_ok(), "{} fails", file.display());
        }
    }

    proptest::proptest! {
        // Random bytes behind heads that may be real, beyond what the corpus has.
        #[test]
        fn random_frames_pass(frames in proptest::collection::vec((0_u8..12, 0_u8..40, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)), 0..6)) {
            let mut data = vec![3];
            for (kind, length, body) in frames {
                let control: &[u8] = if kind < 2 { &[0, 0, 0, kind] } else { &[0x80, 3, 0, kind] };
                data.extend([control, &[kind & 1, 0, 0, length], &body].concat());
            }
            drive::spdy(&data);
        }
    }
}
