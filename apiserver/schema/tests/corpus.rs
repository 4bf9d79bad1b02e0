//! The fuzz corpus, replayed without a fuzzer.

#[path = "../fuzz/src/drive.rs"]
#[allow(unreachable_pub, reason = "the fuzz crate exports it")]
mod drive;

use std::path::Path;

use proptest::prelude::*;

fn replay(target: &str, least: usize, drive: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(corpus).expect("readable");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    assert!(files.len() >= least, "the corpus is there: {files:?}");
    for file in files {
        let data = std::fs::read(&file).expect("readable");
        let result = std::panic::catch_unwind(|| drive(&data));
        assert!(result.is_ok(), "{} fails", file.display());
    }
}

#[test]
fn the_corpus_of_decoders_still_passes() {
    replay("decode", 14, drive::decode);
}

#[test]
fn the_corpus_of_patches_still_passes() {
    replay("patch", 9, drive::patch);
}

proptest! {
    // Random bytes and random texts with the signs of each form, beyond what the corpus has.
    #[test]
    fn random_bodies_pass(
        head in any::<[u8; 2]>(),
        text in "([\\[\\]{}:,\"&*!|> \n-]|[a-z0]|null|\\\\u00|\u{e9}){0,60}",
        bytes in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        drive::decode(&[&head[..], text.as_bytes()].concat());
        drive::decode(&[&head[..], b"k8s\0", &bytes].concat());
        drive::patch(&[&head[..1], text.as_bytes(), b"\0", text.as_bytes()].concat());
    }
}
