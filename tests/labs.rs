//! The course: every lesson is red when it was started, and green when its solution was done.

#![allow(clippy::print_stdout, reason = "how long each lesson takes is for whoever reads the log")]

mod common;

use std::process::Output;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::{Lab, MINISVC, fail};

/// Lessons that are worked on at once.
const LEARNERS: usize = 3;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn lesson(lab: &Lab, words: &[&str]) -> Output {
    lab.command(&[&["lab"], words].concat()).output().expect("started")
}

/// Starts, checks, solves and checks one lesson; says how long it took.
fn learn(lab: &Lab, number: &str) -> String {
    let started = Instant::now();
    let page = lesson(lab, &["start", number]);
    assert!(page.status.success(), "lesson {number} does not start: {}", text(&page));
    assert!(text(&page).starts_with(&format!("# {number}. ")), "{}", text(&page));
    let before = lesson(lab, &["check", number]);
    assert_eq!(before.status.code(), Some(1), "lesson {number} is done before it was: {}", text(&before));
    let report = text(&before);
    let wrong: Vec<&str> = report.lines().skip_while(|line| !line.starts_with('✗')).take(2).collect();
    assert!(wrong.len() == 2 && wrong[1].starts_with("    "), "lesson {number} does not say what is wrong: {report}");
    assert!(report.contains(&format!("minisvc lab hint {number}")), "{report}");
    // At least half of what is to be done is not done yet.
    assert!(report.matches('✗').count() * 2 >= report.matches('✓').count(), "lesson {number} starts too far: {report}");
    let solved = lesson(lab, &["solve", number]);
    assert!(solved.status.success(), "lesson {number} cannot be solved: {}", text(&solved));
    assert!(text(&solved).contains("$ minisvc "), "lesson {number} does not say what was done: {}", text(&solved));
    let after = lesson(lab, &["check", number]);
    assert!(after.status.success(), "lesson {number} is not done when it is: {}", text(&after));
    assert!(!text(&after).contains('✗'), "{}", text(&after));
    format!("lesson {number}: {:.1} s; at the start: {}", started.elapsed().as_secs_f64(), wrong.join(" "))
}

#[test]
fn every_lesson_is_red_at_its_start_and_green_at_its_end() {
    let lab = Lab::start("course", &["--nodes", "3"]);
    let all = text(&lesson(&lab, &["list"]));
    let mut numbers: Vec<String> =
        all.lines().skip(1).map(|line| line.split_whitespace().next().unwrap_or_default().to_owned()).collect();
    assert!(numbers.len() >= 22, "{all}");
    numbers.reverse();
    let waiting = Mutex::new(numbers);
    std::thread::scope(|scope| {
        for _ in 0..LEARNERS {
            scope.spawn(|| {
                loop {
                    let Some(number) = waiting.lock().expect("no learner panicked").pop() else { return };
                    println!("{}", learn(&lab, &number));
                }
            });
        }
    });
    let all = text(&lesson(&lab, &["list"]));
    assert_eq!(all.lines().skip(1).filter(|line| line.contains(" done ")).count(), all.lines().count() - 1, "{all}");
}

#[test]
fn a_learner_is_led_through_a_lesson() {
    let lab = Lab::start("learner", &[]);
    let list = text(&lesson(&lab, &["list"]));
    assert!(list.lines().skip(1).all(|line| line.contains(" - ")), "nothing was started: {list}");
    let early = fail(&mut lab.command(&["lab", "check", "2"]), 2);
    assert!(early.contains("minisvc lab start 2"), "{early}");
    assert!(fail(&mut lab.command(&["lab", "check"]), 2).contains("minisvc lab start 1"));
    let many = fail(&mut lab.command(&["lab", "start", "13"]), 2);
    assert!(many.contains("needs 3 nodes") && many.contains("--nodes 3"), "{many}");

    assert!(text(&lesson(&lab, &["start", "stable"])).starts_with("# 2. "));
    assert!(text(&lesson(&lab, &["list"])).contains("stable-address"));
    // Without a number the lesson that was started last is meant.
    assert!(text(&lesson(&lab, &["read"])).starts_with("# 2. "));
    let first = text(&lesson(&lab, &["hint"]));
    assert!(first.starts_with("Hint 1 of 2: "), "{first}");
    let second = text(&lesson(&lab, &["hint"]));
    assert!(second.starts_with("Hint 2 of 2: ") && second.contains("minisvc lab solve 2"), "{second}");
    assert!(text(&lesson(&lab, &["hint"])).starts_with("Hint 2 of 2: "), "the last one is said again");

    let before = text(&lesson(&lab, &["check"]));
    assert!(before.contains("there is no service web in namespace lab02"), "{before}");
    lab.run(&["lab", "solve"]);
    let after = text(&lesson(&lab, &["check"]));
    assert!(after.contains("✓ Its endpoints are the three pods") && after.contains("minisvc lab start 3"), "{after}");
    assert!(text(&lesson(&lab, &["list"])).lines().any(|line| line.starts_with('2') && line.contains(" done ")));

    lab.run(&["lab", "reset"]);
    let again = lesson(&lab, &["check"]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
}

#[test]
fn without_a_lab_the_course_says_how_to_start_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let command = |words: &[&str]| {
        let mut command = std::process::Command::new(MINISVC);
        command.arg("lab").args(words).env("MINISVC_STATE_DIR", folder.path()).env_remove("MINISVC_LAB");
        command
    };
    let list = text(&command(&["list"]).output().expect("started"));
    assert!(list.contains("stable-address") && list.contains("minisvc up --nodes 3"), "{list}");
    assert!(fail(&mut command(&["start", "1"]), 1).contains("minisvc up"));
    let started = Instant::now();
    assert!(fail(&mut command(&["start", "quantum"]), 1).contains("minisvc lab list"));
    assert!(started.elapsed() < Duration::from_secs(10));
}
