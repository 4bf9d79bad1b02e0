//! The fuzz corpus, replayed without a fuzzer.

#[path = "../../fuzz/src/drive.rs"]
#[expect(unreachable_pub, reason = "the fuzz crate exports it")]
mod drive;

use std::path::Path;

#[test]
fn the_corpus_still_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/packet");
    let mut files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "the corpus is there: {files:?}");
    for file in files {
        let data = std::fs::read(&file).unwrap();
        let result = std::panic::catch_unwind(|| drive::packets(&data));
        assert!(result.is_ok(), "{} fails", file.display());
    }
}

proptest::proptest! {
    // Random records, so that the checks are exercised beyond what the corpus has.
    #[test]
    fn random_records_pass(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2000)) {
        drive::packets(&data);
    }
}
