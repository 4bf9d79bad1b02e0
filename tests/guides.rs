//! What the guide for learners shows is what happens: each of its commands is run, and what it prints is compared. The workflow
//! for CI does with a lab what it says.
//!
//! In a ```` ```console ```` block a line that starts with `$ ` is a command, and the lines after it are what it prints. `…` stands for anything: for
//! lines as a line of its own, for the rest of a line at its end. Addresses, ports of clients, ages and the ends of names may differ.

#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use common::{Lab, MINISVC, PATIENCE, echo, pod, service};
use serde_json::{Value, json};

const GUIDE: &str = include_str!("../docs/guides/learn-services.md");

const WORKFLOW: &str = include_str!("../examples/ci/github-actions.yml");

/// One command of a guide, and the lines that it shall print.
#[derive(Debug, PartialEq, Eq)]
struct Step<'a> {
    command: &'a str,
    prints: Vec<&'a str>,
}

fn steps(guide: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut inside = false;
    for line in guide.lines() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step { command, prints: Vec::new() }),
                (None, Some(step)) => step.prints.push(line),
                (None, None) => panic!("{line:?} is printed by no command"),
            },
            (false, _) => {}
        }
    }
    steps
}

/// Whether what was printed is what the guide says, but for what may differ.
fn fits(wanted: &[&str], printed: &str) -> bool {
    let printed: Vec<String> = printed.trim_end().lines().map(plain).collect();
    let mut rest = printed.as_slice();
    let mut anything = false;
    for line in wanted.iter().rev().skip_while(|line| line.is_empty()).collect::<Vec<_>>().into_iter().rev() {
        if *line == "…" {
            anything = true;
            continue;
        }
        let same = |printed: &String| match line.strip_suffix('…') {
            Some(start) => printed.starts_with(&plain(start)),
            None => *printed == plain(line),
        };
        let reach = if anything { rest.len() } else { rest.len().min(1) };
        let Some(position) = rest[..reach].iter().position(same) else { return false };
        rest = &rest[position + 1..];
        anything = false;
    }
    anything || rest.is_empty()
}

/// A line without what differs from time to time.
fn plain(line: &str) -> String {
    line.split_whitespace().map(plain_word).collect::<Vec<_>>().join(" ")
}

fn plain_word(word: &str) -> String {
    if word.contains(',') {
        let mut parts: Vec<String> = word.split(',').map(plain_word).collect();
        parts.sort();
        return parts.join(",");
    }
    let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let (ip, port) = core.split_once(':').map_or((core, None), |(ip, port)| (ip, Some(port)));
    if ip.parse::<std::net::Ipv4Addr>().is_ok() {
        let high = |port: &str| port.parse().is_ok_and(|port: u16| port > 30_000);
        let port = port.map(|port| if high(port) { "PORT" } else { port });
        return word.replace(core, &port.map_or_else(|| "IP".to_owned(), |port| format!("IP:{port}")));
    }
    if core.starts_with(|c: char| c.is_ascii_digit()) && core.ends_with(['s', 'm', 'h'])
        || core.parse::<f64>().is_ok() && word != core
    {
        return word.replace(core, "TIME");
    }
    let is_id = |part: &&str| part.len() >= 5 && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    match core.split('-').collect::<Vec<_>>()[..] {
        [name, hash, id] if hash.len() >= 8 && is_id(&hash) && id.len() == 5 && is_id(&id) => format!("{name}-ID"),
        // Generated names have no vowels, and so no words in them.
        [name, id] if id.len() == 5 && id.bytes().all(|b| b"bcdfghjklmnpqrstvwxz2456789".contains(&b)) => {
            format!("{name}-ID")
        }
        _ => word.to_owned(),
    }
}

#[test]
fn lines_are_compared_but_for_what_differs() {
    let guide = "text\n```console\n$ a\nhello-j2mcnkkkx8-7ngb6 at 10.244.0.2:8080 since 3s\n…\nend …\n$ b\n```\n";
    let found = steps(guide);
    assert_eq!(found.iter().map(|step| step.command).collect::<Vec<_>>(), ["a", "b"]);
    let printed = "hello-abcdefgh9-xyz12 at 10.244.9.9:8080  since 1m\nmore\nend of it\n";
    assert!(fits(&found[0].prints, printed));
    assert!(!fits(&found[0].prints, &printed.replace(":8080", ":8081")));
    assert!(!fits(&found[0].prints, &printed.replace("end", "and")));
    assert_eq!(plain("hello-rqcwm hello-6q9rz hello-world"), "hello-ID hello-ID hello-world");
    assert!(fits(&found[1].prints, ""));
    assert!(!fits(&found[1].prints, "something"));
}

#[test]
fn the_guide_for_learners_shows_what_happens() {
    if Command::new("kubectl").arg("version").arg("--client").output().is_err() {
        eprintln!("skipped: there is no kubectl, which the guide uses");
        return;
    }
    let lab = Lab::start("guide", &["--nodes", "3"]);
    let path = path();
    for step in steps(GUIDE) {
        let started = Instant::now();
        // Only what looks is repeated: what was just changed may take a moment until it shows.
        let looks = ["get", "exec", "why", "flows", "table", "kubectl get", "lab check 2"];
        let looks = looks.iter().any(|word| step.command.starts_with(&format!("minisvc {word}")));
        loop {
            let mut command = Command::new("sh");
            command.args(["-c", step.command]).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
            command.env("PATH", &path);
            // As a terminal in which the lab is the usual one.
            for (name, value) in lab.command(&[]).get_envs() {
                command.env(name, value.unwrap_or_default());
            }
            let output = command.stdin(Stdio::null()).output().expect("started");
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
            // What a program says of its failure is part of what is seen.
            if step.command.contains("curl") {
                printed += &errors;
            }
            if output.status.success() && fits(&step.prints, &printed) {
                break;
            }
            let late = started.elapsed() > PATIENCE / 3;
            assert!(looks && !late, "{}\nprints {printed}\nand {errors}\nnot {:#?}", step.command, step.prints);
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

/// Where commands are found: this minisvc is the first.
fn path() -> String {
    let folder = Path::new(MINISVC).parent().expect("in a folder");
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default())
}

/// What a step of the workflow runs.
fn script(step: &str) -> String {
    let workflow: Value = serde_saphyr::from_str(WORKFLOW).expect("YAML");
    let steps = workflow["jobs"]["test"]["steps"].as_array().expect("steps");
    let found = steps.iter().find(|one| one["name"] == step).unwrap_or_else(|| panic!("there is no step {step}"));
    found["run"].as_str().expect("a script").to_owned()
}

/// A step as GitHub's runner starts it: `bash -e FILE`.
fn run_step(project: &Path, step: &str) -> (bool, String) {
    std::fs::write(project.join("step.sh"), script(step)).expect("written");
    let mut command = Command::new("bash");
    command.args(["-c", "exec bash -e step.sh 2>&1"]).current_dir(project).stdin(Stdio::null());
    command.env("PATH", path()).env("HOME", project).env("MINISVC_DNS_UPSTREAM", "none");
    // Where it is by itself, if this home were one.
    command.env("MINISVC_STATE_DIR", state_dir(project));
    for name in ["MINISVC_LAB", "KUBECONFIG", "RUST_LOG"] {
        command.env_remove(name);
    }
    let output = command.output().expect("started");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The end of the workflow's lab, if a step has left it running.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let mut down = Command::new(MINISVC);
        // That it is down already is as well.
        let _ = down.args(["down", "--name", "ci"]).env("MINISVC_STATE_DIR", state_dir(self.0)).output();
    }
}

fn state_dir(home: &Path) -> PathBuf {
    home.join(".local/state/minisvc")
}

#[test]
fn the_workflow_for_ci_tests_against_a_lab_and_tells_what_went_wrong() {
    if Command::new("kubectl").arg("version").arg("--client").output().is_err() {
        eprintln!("skipped: there is no kubectl, which the workflow uses");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let project = folder.path();
    let _end = Down(project);
    std::fs::create_dir(project.join("deploy")).expect("made");
    let manifests =
        [pod("web", &json!([echo(8080)]), &json!({})), service("web", &json!({"app": "web"}), 80, &json!(8080))];
    for (number, manifest) in manifests.iter().enumerate() {
        std::fs::write(project.join(format!("deploy/{number}.yaml")), manifest.to_string()).expect("written");
    }
    let tests = |script: String| {
        let file = project.join("integration-tests.sh");
        std::fs::write(&file, script).expect("written");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("set");
    };
    tests(format!("#!/bin/sh\nexec {MINISVC} __get http://web/\n"));
    let (passed, said) = run_step(project, "Test against a lab");
    assert!(passed && said.contains("service/web"), "{said}");
    assert!(said.contains("200 web on node-1"), "the pod has answered: {said}");
    assert!(said.contains("is down"), "{said}");

    tests("#!/bin/sh\necho the test fails\nexit 3\n".to_owned());
    let (passed, said) = run_step(project, "Test against a lab");
    assert!(!passed && said.contains("the test fails"), "{said}");
    let (told, said) = run_step(project, "What the lab said");
    assert!(told && said.contains("The lab is ready") && said.contains("web"), "{said}");
}
