//! The fuzz corpus, replayed without a fuzzer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "../fuzz/src/drive.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod drive;

use std::path::Path;

use proptest::prelude::*;

fn corpus() -> Vec<(String, Vec<u8>)> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/request");
    let mut files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| (path.display().to_string(), std::fs::read(path).unwrap());
    files.iter().map(read).collect()
}

//
#[test]
fn the_corpus_still_passes() {
    let corpus = corpus();
    assert!(corpus.len() >= 30, "the corpus is there");
    for (name, data) in corpus {
        let result = std::panic::catch_unwind(|| drive::request(&data));
        assert!(result.is_ok(), "{name} fails");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // Requests of the corpus with bytes of others in them, beyond what the corpus has.
    #[test]
    fn mixed_requests_pass(first in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), length in 0_usize..40) {
        let corpus = corpus();
        let (mut data, other) = (first.get(&corpus).1.clone(), &other.get(&corpus).1);
        let (at, from) = (at.index(data.len() + 1), at.index(other.len()));
        let end = (at + length / 2).min(data.len());
        data.splice(at..end, other[from..(from + length).min(other.len())].iter().copied());
        drive::request(&data);
    }
}
