//! As much of the usual test runner as `cargo test` and nextest ask for.

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A test that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(240);
/// Tests at a time.
const PARALLEL: usize = 4;

type Body = fn() -> Pin<Box<dyn Future<Output = ()>>>;

/// A named test.
#[derive(Clone, Copy)]
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) body: Body,
}

/// Names functions as tests.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[$crate::harness::Test] = &[$($crate::harness::Test {
            name: concat!(module_path!(), "::", stringify!($name)),
            body: || Box::pin($name()),
        }),*];
    };
}

/// Runs the tests that the arguments choose.
pub(crate) fn run(groups: &[&'static [Test]]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let chosen = |test: &Test| {
        filters.is_empty()
            || filters.iter().any(|f| if has("--exact") { test.name == **f } else { test.name.contains(*f) })
    };
    let tests: Vec<Test> = groups.iter().flat_map(|group| group.iter()).copied().filter(|test| chosen(test)).collect();
    if has("--list") {
        // There are no ignored tests.
        if !has("--ignored") {
            tests.iter().for_each(|test| println!("{}: test", test.name));
        }
        return ExitCode::SUCCESS;
    }
    if has("--ignored") {
        return ExitCode::SUCCESS;
    }
    let failed = run_all(&tests);
    for name in &failed {
        println!("failed: {name}");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Some at a time, each on a thread and a runtime of its own, so that a panic is a result.
fn run_all(tests: &[Test]) -> Vec<&'static str> {
    let next = AtomicUsize::new(0);
    let take_turns = || {
        let mut failed = Vec::new();
        while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
            let begun = Instant::now();
            let passed = std::thread::spawn({
                let body = test.body;
                move || run_one(body)
            });
            let passed = passed.join().is_ok();
            let verdict = if passed { "ok" } else { "FAILED" };
            println!("test {} ... {verdict} ({:.1} s)", test.name, begun.elapsed().as_secs_f32());
            failed.extend((!passed).then_some(test.name));
        }
        failed
    };
    std::thread::scope(|scope| {
        let turns: Vec<_> = (0..PARALLEL).map(|_| scope.spawn(take_turns)).collect();
        turns.into_iter().flat_map(|turn| turn.join().expect("the runner does not panic")).collect()
    })
}

fn run_one(body: Body) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(LIMIT, body()).await }).expect("the test ends in time");
}
