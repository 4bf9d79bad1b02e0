//! What a user types every day: listing, applying, deleting, logs, shells and commands inside the lab.

mod common;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use common::{Beside, HELLO, Lab, MINISVC, eventually, fail, signal, succeed};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A pod that waits, with one more line in its spec.
fn pod(name: &str, script: &str, extra: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  \
         terminationGracePeriodSeconds: 1\n  containers:\n  - name: main\n    image: x\n    \
         command: [sh, -c, {script:?}]\n{extra}"
    )
}

/// The words of the first line.
fn header(table: &str) -> Vec<&str> {
    table.lines().next().unwrap_or_default().split_whitespace().collect()
}

// S-013
#[test]
fn objects_are_listed_in_every_format() {
    let lab = Lab::start("formats", &["-f", HELLO, "--wait"]);
    let columns = ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"];
    assert_eq!(header(&lab.run(&["get", "svc"])), columns);
    let wide = lab.run(&["get", "services", "-o", "wide"]);
    assert_eq!(header(&wide), [&columns[..], &["SELECTOR"]].concat());
    assert!(wide.contains("app=hello"), "{wide}");
    assert_eq!(header(&lab.run(&["get", "svc", "-A"]))[..2], ["NAMESPACE", "NAME"]);
    assert_eq!(lab.run(&["get", "svc", "hello", "-o", "name"]), "service/hello\n");
    assert_eq!(lab.get("svc", "hello")["spec"]["ports"][0]["port"], 80);
    assert!(lab.run(&["get", "svc", "hello", "-o", "yaml"]).contains("kind: Service\n"));
    let labelled = lab.run(&["get", "pods", "-l", "app in (hello,other)", "-o", "name"]);
    assert_eq!(labelled.lines().count(), 3);

    let all = lab.run(&["get", "all"]);
    for name in ["pod/hello-", "service/hello", "deployment.apps/hello", "replicaset.apps/hello-"] {
        assert!(all.lines().any(|line| line.starts_with(name)), "{name} is missing in\n{all}");
    }
    let list: Value = serde_json::from_str(&lab.run(&["get", "deploy,svc", "-o", "json"])).expect("JSON");
    let kinds: Vec<&str> = list["items"].as_array().expect("items").iter().filter_map(|o| o["kind"].as_str()).collect();
    assert_eq!(kinds, ["Deployment", "Service", "Service"]);

    let mut nothing = lab.command(&["get", "pods", "-l", "app=nobody"]);
    let output = nothing.output().expect("started");
    assert!(output.status.success() && output.stdout.is_empty());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "No resources found in default namespace.\n");
    let text = fail(&mut lab.command(&["get", "pod", "x"]), 1);
    assert_eq!(text, "error: pods \"x\" not found\nhint: see which there are: minisvc get pods -A\n");
    let text = fail(&mut lab.command(&["get", "things"]), 1);
    assert!(text.contains("\"things\"") && text.contains("hint: it knows"), "{text}");
    let text = fail(&mut lab.command(&["get", "all", "-w"]), 2);
    assert!(text.contains("hint: name one kind"), "{text}");
    fail(&mut lab.command(&["get"]), 2);
}

#[test]
fn a_watch_prints_every_change() {
    let lab = Lab::start("watch", &[]);
    let mut watch = Beside::start(lab.command(&["get", "pods", "--watch"]));
    lab.apply(&pod("seen", "exec sleep 1000", ""));
    let head = watch.line("the header", |_| true);
    assert_eq!(header(&head), ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    watch.line("the pod to run", |line| line.starts_with("seen") && line.contains("1/1") && line.contains("Running"));
    lab.run(&["delete", "pod", "seen"]);
    watch.line("the pod to go", |line| line.starts_with("seen") && line.contains("Terminating"));
}

// S-037
#[test]
fn manifests_are_applied_and_deleted_by_what_they_name() {
    let lab = Lab::start("apply", &[]);
    let service = |port: u16| {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{ports: [{{port: {port}}}]}}\n")
    };
    assert_eq!(lab.apply(&service(80)), "service/a created\n");
    let address = lab.get("svc", "a")["spec"]["clusterIP"].clone();
    assert_eq!(lab.apply(&service(80)), "service/a unchanged\n");
    assert_eq!(lab.apply(&service(81)), "service/a configured\n");
    let after = lab.get("svc", "a");
    assert_eq!((&after["spec"]["clusterIP"], after["spec"]["ports"][0]["port"].as_u64()), (&address, Some(81)));

    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let unknown = file("unknown.yaml", &service(80).replace("ports:", "prots:"));
    let text = fail(&mut lab.command(&["apply", "-f", &unknown]), 1);
    assert!(text.contains("prots") && text.contains(&format!("hint: the object stands in {unknown}")), "{text}");
    let illegal = file("illegal.yaml", &service(0));
    let text = fail(&mut lab.command(&["apply", "-f", &illegal]), 1);
    assert!(text.contains("spec.ports[0].port"), "{text}");
    assert_eq!(lab.get("svc", "a"), after, "what is refused changes nothing");
    let strange = file("strange.yaml", "apiVersion: v9\nkind: Thing\nmetadata: {name: x}\n");
    assert!(fail(&mut lab.command(&["apply", "-f", &strange]), 1).contains("Thing of v9"));
    fail(&mut lab.command(&["apply", "-f", "/no/such/file"]), 2);

    let good = file("good.yaml", &service(80));
    assert_eq!(lab.run(&["delete", "-f", &good]), "service/a deleted\n");
    let text = fail(&mut lab.command(&["delete", "svc", "a"]), 1);
    assert_eq!(text, "error: services \"a\" not found\nhint: see which there are: minisvc get services -A\n");
    fail(&mut lab.command(&["delete", "svc"]), 2);
}

// P-120
#[test]
fn logs_are_kept_followed_and_cut() {
    let lab = Lab::start("logs", &[]);
    let scratch =
        "    volumeMounts: [{name: scratch, mountPath: /scratch}]\n  volumes: [{name: scratch, emptyDir: {}}]\n";
    let script = "echo one; echo two >&2; until [ -e /scratch/go ]; do sleep 0.05; done; echo three; exec sleep 1000";
    lab.apply(&(pod("talks", script, scratch) + "---\n" + &pod("dies", "echo I was here; exit 3", "")));
    lab.ready("talks");
    eventually("the first lines", || (lab.run(&["logs", "talks"]).lines().count() == 2).then_some(()));
    let mut following = Beside::start(lab.command(&["logs", "talks", "-f"]));
    following.line("what was written before", |line| line == "two");
    lab.exec_in("talks", &["touch", "/scratch/go"]);
    following.line("what is written now", |line| line == "three");
    assert_eq!(lab.run(&["logs", "talks", "--tail", "1"]), "three\n");
    lab.run(&["delete", "pod", "talks"]);
    assert!(following.end().success(), "the end of the container is the end of its log");

    lab.until("restarted", "pod", "dies", |pod| pod["status"]["containerStatuses"][0]["restartCount"] != 0);
    assert_eq!(lab.run(&["logs", "dies", "--previous"]), "I was here\n");
    assert!(fail(&mut lab.command(&["logs", "nobody"]), 1).contains("pods \"nobody\" not found"));
    let text = fail(&mut lab.command(&["logs", "dies", "-c", "other"]), 1);
    assert!(text.contains("other"), "{text}");
}

#[test]
fn status_and_kubeconfig_lead_to_the_lab() {
    let lab = Lab::start("found", &["-f", HELLO, "--wait"]);
    let status = lab.run(&["status"]);
    assert!(status.contains("1 nodes, 3 pods (3 ready)"), "{status}");
    let json: Value = serde_json::from_str(&lab.run(&["status", "-o", "json"])).expect("JSON");
    let services = json["contents"]["services"].as_array().expect("services");
    let hello = services.iter().find(|service| service["name"] == "hello").expect("it is there");
    assert_eq!((&hello["ready"], &hello["notReady"]), (&3.into(), &0.into()));
    assert!(lab.run(&["status", "-o", "yaml"]).contains("name: hello"));

    let path = lab.run(&["kubeconfig"]);
    let path = path.trim_end();
    let mode = std::fs::metadata(path).expect("it exists").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the file is a key to a shell");
    if Command::new("kubectl").arg("version").arg("--client").output().is_err() {
        // It has a suite of its own, where it must not be missing.
        return;
    }
    let asked = ["get", "svc", "hello", "-o", "name"];
    assert_eq!(succeed(Command::new("kubectl").args(asked).env("KUBECONFIG", path)), "service/hello\n");
    assert_eq!(lab.run(&[&["kubectl", "--"], &asked[..]].concat()), "service/hello\n");
    assert_eq!(lab.exec(&[&["kubectl"], &asked[..]].concat()), "service/hello\n", "it works inside, too");
}

#[test]
fn without_a_lab_every_command_says_how_to_start_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for args in [
        &["get", "pods"][..],
        &["apply", "-f", HELLO],
        &["delete", "pod", "x"],
        &["logs", "x"],
        &["exec", "--", "true"],
        &["shell"],
        &["run", "x", "--", "true"],
        &["kubeconfig"],
        &["kubectl", "--", "get", "pods"],
        &["down"],
    ] {
        let mut command = Command::new(MINISVC);
        command.args(args).env("MINISVC_STATE_DIR", folder.path()).env_remove("MINISVC_LAB").stdin(Stdio::null());
        let text = fail(&mut command, 1);
        assert!(text.contains("no lab named \"default\" runs\nhint: start one: minisvc up"), "{args:?}: {text}");
    }
}

/// Runs a command with something to read, and returns its exit code and what it wrote.
fn feed(mut command: Command, input: &str) -> (Option<i32>, String) {
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    process.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
    let output = process.wait_with_output().expect("ended");
    (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
}

#[test]
fn commands_run_inside_with_the_callers_pipes_signals_and_exit_codes() {
    let lab = Lab::start("inside", &[]);
    lab.apply(&pod(
        "box",
        "exec sleep 1000",
        "    env: [{name: COLOUR, value: blue}]\n  - {name: second, image: minisvc/echo}\n",
    ));
    lab.ready("box");
    for place in [&["exec"][..], &["exec", "box"], &["exec", "pod/box"]] {
        let exec = |command: &[&str]| lab.command(&[place, &["--"], command].concat());
        assert_eq!(feed(exec(&["sh", "-c", "cat; exit 7"]), "to and fro\n"), (Some(7), "to and fro\n".to_owned()));
        let output = exec(&["sh", "-c", "echo out; echo err >&2; kill -9 $$"]).output().expect("started");
        assert_eq!(&output.stdout[..], b"out\n");
        assert!(output.stderr.ends_with(b"err\n"), "after the name of the container that was chosen");
        assert_eq!(output.status.code(), Some(128 + 9), "as shells count");
        let text = fail(&mut exec(&["/no/such/program"]), 1);
        assert!(text.contains("/no/such/program"), "{text}");

        let script = "trap 'echo caught; exit 5' TERM; echo up; while :; do sleep 0.05; done";
        let mut waiting = Beside::start(exec(&["sh", "-c", script]));
        waiting.line("it to be up", |line| line == "up");
        signal(waiting.pid(), Signal::SIGTERM);
        waiting.line("the signal", |line| line == "caught");
        assert_eq!(waiting.end().code(), Some(5));
    }
    let hostname = ["cat", "/proc/sys/kernel/hostname"];
    assert_eq!(lab.exec(&hostname), "workstation\n");
    assert_eq!(lab.exec_in("box", &hostname), "box\n");
    assert_eq!(lab.exec_in("box", &["sh", "-c", "echo $COLOUR"]), "blue\n", "the container's environment");
    assert_eq!(lab.run(&["exec", "box", "-c", "second", "--", "sh", "-c", "echo $COLOUR"]), "\n");
    let output = lab.command(&["exec", "box", "--", "true"]).output().expect("started");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "Defaulted container \"main\" out of: main, second\n");
    let told = lab.run(&["logs", "box", "-c", "second"]);
    assert!(told.contains("listens on port 8080"), "{told}");
    assert_eq!(lab.run(&["logs", "box"]), "", "its first container says nothing");
    assert!(fail(&mut lab.command(&["exec", "nobody", "--", "true"]), 1).contains("nobody"));
    assert!(fail(&mut lab.command(&["exec", "box", "-c", "third", "--", "true"]), 1).contains("third"));

    let (code, text) = feed(
        {
            let mut shell = lab.command(&["shell"]);
            shell.env("SHELL", "/bin/sh");
            shell
        },
        "echo \"lab $MINISVC_LAB\"\ncat /proc/sys/kernel/hostname\nexit 3\n",
    );
    assert_eq!((code, text.as_str()), (Some(3), "lab inside\nworkstation\n"));
}

/// A command on a terminal that the test holds.
struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<String>>,
    process: std::process::Child,
}

impl Terminal {
    fn start(mut command: Command) -> Self {
        let pair = nix::pty::openpty(None, None).expect("a pseudo-terminal");
        let side = || Stdio::from(pair.slave.try_clone().expect("copied"));
        let process = command.stdin(side()).stdout(side()).stderr(side()).spawn().expect("started");
        let keyboard = File::from(pair.master);
        let (mut reader, screen) = (keyboard.try_clone().expect("copied"), Arc::new(Mutex::new(String::new())));
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut chunk) {
                shown.lock().expect("not poisoned").push_str(&String::from_utf8_lossy(&chunk[..length]));
            }
        });
        Self { keyboard, screen, process }
    }

    /// Types, and waits for a text on the screen that what was typed does not contain.
    fn type_and_see(&mut self, keys: &str, expected: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("typed");
        eventually(&format!("{expected:?} on the screen"), || {
            self.screen.lock().expect("not poisoned").contains(expected).then_some(())
        });
    }

    fn resize(&self, rows: u16, columns: u16) {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.keyboard, size).expect("resized");
        // The kernel tells the terminal's own session; this terminal is nobody's.
        signal(self.process.id(), Signal::SIGWINCH);
    }
}

#[test]
fn a_terminal_is_a_terminal_inside_too() {
    let lab = Lab::start("terminal", &[]);
    lab.apply(&pod("box", "exec sleep 1000", ""));
    lab.ready("box");
    for place in [&["exec"][..], &["exec", "box"]] {
        let mut terminal = Terminal::start(lab.command(&[place, &["--", "sh"]].concat()));
        terminal.type_and_see("test -t 0 && echo it-is-$((40 + 2))\n", "it-is-42");
        terminal.type_and_see("tty | tr a-z A-Z\n", "/DEV/PTS/");
        terminal.resize(33, 77);
        // The new size arrives on its own time.
        terminal.type_and_see(
            "until [ \"$(stty size)\" = '33 77' ]; do sleep 0.05; done; echo size-$((1 + 1))\n",
            "size-2",
        );
        // Ctrl-C reaches the command in the foreground, not the shell.
        terminal.type_and_see("echo sleep-$((2 + 1)); sleep 1000\n", "sleep-3");
        terminal.type_and_see("\u{3}echo ended-with-$?\n", "ended-with-130");
        terminal.type_and_see("echo bye-$((3 + 1)); exit 9\n", "bye-4");
        let status = eventually("the shell to end", || terminal.process.try_wait().expect("asked"));
        assert_eq!(status.code(), Some(9));
    }
}

#[test]
fn run_is_a_pod_in_the_foreground() {
    let lab = Lab::start("run", &[]);
    let output =
        lab.command(&["run", "once", "-e", "GREETING=hello", "--", "sh", "-c", "echo $GREETING $HOSTNAME; exit 4"]);
    let (code, text) = feed(output, "");
    assert_eq!((code, text.as_str()), (Some(4), "hello once\n"));
    let text = fail(&mut lab.command(&["run", "missing", "--", "/no/such/program"]), 1);
    assert!(text.contains("cannot be started") && text.contains("/no/such/program"), "{text}");
    assert!(fail(&mut lab.command(&["run", "empty", "--"]), 2).contains("COMMAND"));
    assert!(fail(&mut lab.command(&["run", "x", "-l", "nonsense", "--", "true"]), 2).contains("KEY=VALUE"));
    fail(&mut lab.command(&["run", "x", "--service", "--", "true"]), 2);
    assert!(lab.list("pods").is_empty(), "the pods are gone with their commands");

    let echo = |name: &str, more: &[&str]| {
        lab.command(&[&["run", name, "-p", "8080"], more, &["--", MINISVC, "__echo"]].concat())
    };
    let mut first = Beside::start(echo("web", &["--service"]));
    let mut second = Beside::start(echo("more", &["-l", "app=web"]));
    for (run, name) in [(&mut first, "web"), (&mut second, "more")] {
        run.line("its output", |line| line.starts_with(name) && line.contains("listens on port 8080"));
    }
    let mut answered = std::collections::BTreeSet::new();
    eventually("both pods to answer for the Service", || {
        let answer = lab.fetch("http://web:8080").unwrap_or_default();
        answered.extend(["web", "more"].into_iter().filter(|name| answer.starts_with(&format!("200 {name}"))));
        (answered.len() == 2).then_some(())
    });
    for run in [&mut second, &mut first] {
        signal(run.pid(), Signal::SIGINT);
        assert_eq!(run.end().code(), Some(130));
    }
    assert!(lab.list("pods").is_empty(), "Ctrl-C takes the pods away");
    fail(&mut lab.command(&["get", "svc", "web"]), 1);
}
