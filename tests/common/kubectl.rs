//! Real kubectl against a lab: every version that is on this machine.

#![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this, and none is a library")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::common::{Lab, succeed};

/// The kubectl programs of this machine: those named with their version beside `kubectl`, else that one. Oldest first.
pub fn programs() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("kubectl")).find(|program| program.exists());
    let Some(program) = found else {
        let required = ["CI", "MINISVC_REQUIRE_KUBECTL"].iter().any(|name| std::env::var_os(name).is_some());
        assert!(!required, "kubectl is missing");
        eprintln!("skipped: there is no kubectl on this machine");
        return Vec::new();
    };
    let program = program.canonicalize().expect("readable");
    let versions = (27..50).map(|minor| program.with_file_name(format!("kubectl.1.{minor}")));
    let versions: Vec<PathBuf> = versions.filter(|program| program.exists()).collect();
    if versions.is_empty() { vec![program] } else { versions }
}

/// One kubectl against one lab.
pub struct Kubectl<'a> {
    pub program: PathBuf,
    pub lab: &'a Lab,
    config: String,
    /// The namespace of all its commands.
    namespace: String,
    /// Its cache of what the API offers is in here, and files of the test. It goes with the lab.
    pub home: PathBuf,
}

impl<'a> Kubectl<'a> {
    /// This program against this lab, in the default namespace.
    pub fn new(program: PathBuf, lab: &'a Lab) -> Self {
        let config = lab.run(&["kubeconfig"]).trim().to_owned();
        // Each has one of its own, or they would share what they keep.
        let home = tempfile::Builder::new().prefix("kubectl-").tempdir_in(lab.root()).expect("made").keep();
        Self { program, lab, config, namespace: "default".to_owned(), home }
    }

    /// The same program in a namespace, which is made.
    pub fn within(&self, namespace: &str) -> Self {
        self.run(&["create", "namespace", namespace]);
        self.inside(namespace)
    }

    /// The same program in a namespace that is there.
    pub fn inside(&self, namespace: &str) -> Self {
        let home = self.lab.root().join(namespace);
        std::fs::create_dir_all(&home).expect("made");
        Self {
            program: self.program.clone(),
            lab: self.lab,
            config: self.config.clone(),
            namespace: namespace.to_owned(),
            home,
        }
    }

    /// What tells versions apart in messages.
    pub fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let namespace = format!("--namespace={}", self.namespace);
        // Behind what the command is, and before what another program is to be told.
        let end = args.iter().position(|arg| *arg == "--").unwrap_or(args.len());
        command.args(&args[..end]).arg(namespace).args(&args[end..]);
        command.env("KUBECONFIG", &self.config).env("HOME", &self.home).current_dir(&self.home).stdin(Stdio::null());
        command
    }

    /// Runs it with this input.
    pub fn fed(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("started");
        let mut stdin = process.stdin.take().expect("piped");
        let input = input.to_vec();
        // Beside the reading of what comes back; it may break off.
        let writing = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let output = process.wait_with_output().expect("ended");
        writing.join().expect("written");
        output
    }

    /// Runs it; it must succeed.
    pub fn run(&self, args: &[&str]) -> String {
        succeed(&mut self.command(args))
    }

    /// Runs a line as a shell would split it; it must succeed.
    pub fn ok(&self, line: &str) -> String {
        self.ok_with(line, "")
    }

    /// The same with an input.
    pub fn ok_with(&self, line: &str, input: &str) -> String {
        let output = self.line(line, input);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {line}: {errors}", self.name());
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What a line complains of that must fail.
    pub fn fails(&self, line: &str, input: &str) -> String {
        let output = self.line(line, input);
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{} {line} succeeded: {told}", self.name());
        String::from_utf8(output.stderr).expect("UTF-8")
    }

    /// Runs a line with an input.
    pub fn line(&self, line: &str, input: &str) -> Output {
        let words = shlex::split(line).expect("words");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.fed(&words, input.as_bytes())
    }

    /// What a line shows as JSON.
    pub fn json(&self, line: &str) -> Value {
        let text = self.ok(&format!("{line} -o json"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}"))
    }

    /// A file in the folder that its commands run in.
    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.home.join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).expect("made");
        }
        std::fs::write(&path, content).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }
}
