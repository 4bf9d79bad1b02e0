//! The fuzz corpus, replayed without a fuzzer.

#[path = "../fuzz/src/drive.rs"]
#[expect(unreachable_pub, reason = "the fuzz crate exports it")]
mod drive;

use std::path::Path;

use rand::RngExt as _;

/// Bytes at random places of the corpus that are changed, so that the checks go beyond what it has.
const CHANGES: usize = 20_000;

// N-066, N-067, N-068
#[test]
fn the_corpus_still_passes_and_so_does_what_is_near_it() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/message");
    let entries = std::fs::read_dir(corpus).expect("the corpus is there");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    assert!(files.len() >= 16, "{files:?}");
    let messages: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).expect("readable")).collect();
    for message in &messages {
        for length in 0..=message.len() {
            drive::message(&message[..length]);
        }
    }
    let mut random = rand::rng();
    for number in 0..CHANGES {
        let mut message = messages[number % messages.len()].clone();
        let place = random.random_range(0..message.len());
        message[place] = random.random();
        // What goes wrong can be put into the corpus from here.
        if std::panic::catch_unwind(|| drive::message(&message)).is_err() {
            panic!("add this to the corpus: {message:02x?}");
        }
    }
}
