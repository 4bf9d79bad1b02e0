//! The command line as its user sees it: help texts and errors word by word, formats, and what is said to a slip.
//!
//! After a change of words: `INSTA_UPDATE=always cargo test -p minisvc --test command_line`, then look at the difference.

mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};

use common::{Beside, Lab, MINISVC, fail, succeed};
use serde_json::Value;

/// A machine of which nothing is known: no variables, no lab, a fixed width.
fn hermetic(args: &[&str]) -> Command {
    let mut command = Command::new(MINISVC);
    command.env_clear().env("COLUMNS", "100").env("MINISVC_STATE_DIR", "/nowhere/labs").args(args).current_dir("/");
    command.stdin(Stdio::null());
    command
}

/// What a command says, with how it ends.
fn said(args: &[&str]) -> String {
    let output = hermetic(args).output().expect("started");
    let code = output.status.code().expect("it exits");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    format!("$ minisvc {}\n{}{}[{code}]\n", args.join(" "), text(&output.stdout), text(&output.stderr))
}

#[test]
fn help_is_as_it_was_agreed() {
    for command in ["get", "describe", "logs", "run", "completions"] {
        insta::assert_snapshot!(format!("help_{command}"), said(&[command, "--help"]));
    }
}

/// What the first page lists, each command with its description.
fn commands() -> Vec<(String, String)> {
    let help = succeed(&mut hermetic(&["--help"]));
    assert!(help.lines().all(|line| line.chars().count() <= 100), "it fits into the width: {help}");
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in listed {
        match (line.strip_prefix("  ").filter(|line| !line.starts_with(' ')), commands.last_mut()) {
            (Some(line), _) => {
                let (name, about) = line.split_once(' ').unwrap_or((line, ""));
                commands.push((name.to_owned(), about.trim().to_owned()));
            }
            (None, Some((_, about))) => *about = format!("{about} {}", line.trim()),
            (None, None) => panic!("{line:?} belongs to no command"),
        }
    }
    commands
}

#[test]
fn every_command_says_in_a_sentence_what_it_does() {
    let commands = commands();
    assert!(commands.len() > 15, "{commands:?}");
    for (name, about) in &commands {
        let imperative = about.starts_with(|c: char| c.is_ascii_uppercase()) && !about.ends_with('.');
        assert!(imperative, "{name}: {about:?}");
        if name != "help" {
            assert!(said(&[name, "--help"]).ends_with("[0]\n") || name == "kubectl", "{name}");
        }
    }
}

#[test]
fn every_error_says_what_to_type_and_ends_with_the_code_of_its_kind() {
    let lines: [&[&str]; 15] = [
        &["gte", "pods"],
        &["get"],
        &["get", "pods", "--outptu", "json"],
        &["get", "pods", "-o", "jsno"],
        &["get", "pods", "-o", "jsonpath={.items"],
        &["get", "pods"],
        &["describe", "pod"],
        &["delete"],
        &["logs", "web", "--since", "5x"],
        &["exec", "web"],
        &["run", "web", "--service", "--", "true"],
        &["up", "--nodes", "0"],
        &["up", "--project", "/nowhere/minisvc.yaml"],
        &["apply", "-f", "/nowhere/web.yaml"],
        &["completions", "tcsh"],
    ];
    let all: Vec<String> = lines.iter().map(|args| said(args)).collect();
    insta::assert_snapshot!("errors", all.join("\n"));
}

#[test]
fn shells_and_man_know_every_command() {
    let commands: Vec<String> = commands().into_iter().map(|(name, _)| name).collect();
    for shell in ["bash", "zsh", "fish"] {
        let script = succeed(&mut hermetic(&["completions", shell]));
        let missing: Vec<_> = commands.iter().filter(|command| !script.contains(command.as_str())).collect();
        assert!(missing.is_empty(), "{shell} does not know {missing:?}");
        // The shell itself must be able to read it.
        if Command::new(shell).arg("--version").output().is_ok() {
            let mut reader = Command::new(shell).arg("-n").stdin(Stdio::piped()).spawn().expect("started");
            reader.stdin.take().expect("piped").write_all(script.as_bytes()).expect("written");
            assert!(reader.wait().expect("ended").success(), "{shell}");
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    succeed(&mut hermetic(&["man", folder.path().to_str().expect("UTF-8")]));
    for page in commands.iter().filter(|command| *command != "help").map(|command| format!("minisvc-{command}.1")) {
        let text = std::fs::read_to_string(folder.path().join(&page)).expect(&page);
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
    assert!(folder.path().join("minisvc.1").is_file());
}

#[test]
fn a_doctor_sees_what_was_killed_and_says_how_to_forget_it() {
    let mut lab = Lab::start("killed", &[]);
    let folder = lab.state_dir().to_owned();
    let doctor = || {
        let mut command = hermetic(&["doctor"]);
        succeed(command.env("MINISVC_STATE_DIR", &folder))
    };
    assert!(!doctor().contains("killed"), "it runs");
    lab.kill();
    let text = doctor();
    let mend = format!("minisvc up --name killed starts it again; rm -r {} forgets it", lab.root().display());
    assert!(text.contains("The lab \"killed\" was killed.") && text.contains(&mend), "{text}");
    let own = format!("{} is left of a test that was killed.", folder.display());
    assert!(text.contains(&own), "a test's folder: {text}");
}

const OBJECTS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: hello-7f9c4-xlcfj, labels: {app: hello}, annotations: {note.example.com/why: "because"}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: minisvc/echo, command: [sh, -c, "echo old; sleep 2; echo new; sleep 1000"]}]
---
apiVersion: v1
kind: Service
metadata: {name: hello, labels: {app: hello}}
spec: {selector: {app: hello}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: prices, namespace: shop}
data: {apple: "1"}
"#;

#[test]
fn objects_are_found_despite_slips_and_shown_in_every_format() {
    let lab = Lab::start("words", &[]);
    lab.apply(OBJECTS);
    lab.ready("hello-7f9c4-xlcfj");
    for (args, hint) in [
        (&["get", "pdos"] as &[_], "did you mean pods?"),
        (&["get", "pod", "helo"], "did you mean hello-7f9c4-xlcfj?"),
        (&["get", "pod/hello-7f9c4-xlcfi"], "did you mean hello-7f9c4-xlcfj?"),
        (&["delete", "svc", "helo"], "did you mean hello?"),
        (&["describe", "svc/hallo"], "did you mean hello?"),
        (&["logs", "helo-7f9c4-xlcfj"], "did you mean hello-7f9c4-xlcfj?"),
        (&["exec", "hello", "--", "true"], "did you mean hello-7f9c4-xlcfj?"),
        (&["get", "cm", "prices"], "add -n shop"),
        (&["get", "pod", "database"], "minisvc get pods -A"),
    ] {
        let text = fail(&mut lab.command(args), 1);
        assert!(text.contains(hint), "{args:?}: {text}");
    }

    let print = |args: &[&str]| lab.run(&[&["get"], args].concat());
    assert_eq!(print(&["svc", "-l", "app=hello", "-o", "name"]), "service/hello\n");
    assert_eq!(print(&["pod", "hello-7f9c4-xlcfj", "-o", "jsonpath={.spec.containers[0].name}"]), "main");
    let ports = print(&["svc,pods", "-l", "app=hello", "-o", r#"jsonpath={range .items[*]}{.kind}{"\n"}{end}"#]);
    assert_eq!(ports, "Service\nPod\n");
    let yaml = print(&["svc/hello", "-o", "yaml"]);
    assert!(yaml.starts_with("kind: Service") || yaml.contains("\nkind: Service"), "{yaml}");
    let json: Value = serde_json::from_str(&print(&["svc", "hello", "-o", "json"])).expect("JSON");
    assert_eq!(json["spec"]["ports"][0]["targetPort"], 8080);
    let wide = print(&["pods", "-A", "-o", "wide"]);
    let header = wide.lines().next().unwrap_or_default();
    assert!(header.starts_with("NAMESPACE") && header.contains("NODE") && !wide.contains('\t'), "{wide}");

    let about = lab.run(&["describe", "pod", "hello-7f9c4-xlcfj"]);
    for part in [
        "pod/hello-7f9c4-xlcfj",
        "app=hello",
        "note.example.com/why=because",
        "\nContainers\n",
        "running",
        "\nConditions\n",
        "\nEvents\n",
        "Started",
    ] {
        assert!(about.contains(part), "{part}: {about}");
    }
    let about = lab.run(&["describe", "svc", "hello"]);
    assert!(about.contains("\nEndpoints\n") && about.contains("hello-7f9c4-xlcfj   node-1"), "{about}");

    let mut log = Beside::start(lab.command(&["logs", "-f", "hello-7f9c4-xlcfj", "--timestamps", "--since", "1h"]));
    let old = log.line("the first line", |line| line.ends_with(" old"));
    let time = old.split(' ').next().unwrap_or_default();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{old}");
    log.line("what comes later", |line| line.ends_with(" new"));
    assert_eq!(lab.run(&["logs", "hello-7f9c4-xlcfj", "--tail", "1"]), "new\n");

    let mut watch = Beside::start(lab.command(&["get", "cm", "-n", "shop", "-w"]));
    watch.line("what is there", |line| line.starts_with("prices"));
    lab.run(&["delete", "cm/prices", "-n", "shop"]);
    watch.line("its end", |line| line.starts_with("prices"));
}
