//! `minisvc.yaml`: the commands of a folder as Deployments and Services, from `minisvc up` to Ctrl-C and again.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{Beside, MINISVC, eventually, fail, signal, succeed};
use nix::sys::signal::Signal;
use serde_json::Value;

/// `minisvc` in a project's folder; what it says on standard error comes with its output.
fn minisvc(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$@\" 2>&1", "sh", MINISVC]).args(args).current_dir(folder);
    command.env("MINISVC_STATE_DIR", folder.join("labs")).env("MINISVC_LAB", "project").env_remove("RUST_LOG");
    command.stdin(Stdio::null());
    command
}

fn up(folder: &Path, args: &[&str]) -> Command {
    let mut command = minisvc(folder, &["up", "--api-port", "0", "--dns-upstream", "none"]);
    command.args(args);
    command
}

fn write(folder: &Path, commands: &str) {
    std::fs::write(folder.join("minisvc.yaml"), commands).expect("written");
}

#[test]
fn the_commands_of_a_folder_run_in_order_and_go_with_their_lab() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path().canonicalize().expect("there");
    std::fs::create_dir(folder.join("below")).expect("made");

    let circle =
        "commands:\n- {name: a, command: x, port: 1, dependsOn: [b]}\n- {name: b, command: x, port: 1, dependsOn: [a]}";
    write(&folder, circle);
    let mut refused = up(&folder, &[]);
    let output = refused.output().expect("started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("minisvc.yaml:2: these commands wait for each other: a → b → a"), "{text}");
    assert!(!folder.join("labs").exists(), "nothing was started");

    let db = format!(
        "- {{name: db, command: [sh, -c, 'sleep 1; exec {MINISVC} __echo'], port: 6000, ready: /readyz, env: {{PORT: 6000}}}}"
    );
    let web_entry =
        "- {name: web, image: mine/echo, port: '80:8080', replicas: 2, dependsOn: [db], service: LoadBalancer}";
    let clock_entry = "- {name: clock, command: [sh, -c, 'echo \"tick $(pwd) $COLOUR\"; sleep 1000'], cwd: below, env: {COLOUR: blue}}";
    write(
        &folder,
        &format!("images: {{mine/echo: '{MINISVC} __echo'}}\ncommands:\n{clock_entry}\n{web_entry}\n{db}\n"),
    );
    let mut lab = Beside::start(up(&folder, &[]));
    lab.line("the objects", |line| line.contains("deployment.apps/web created"));
    let tick = lab.line("the output of a command", |line| line.contains("tick"));
    assert!(tick.starts_with("clock-") && tick.ends_with(&format!("| tick {}/below blue", folder.display())), "{tick}");
    lab.line("what is depended on", |line| line.ends_with("db is ready"));
    lab.line("what depends on it", |line| line.ends_with("web is ready, in 2 pods"));
    lab.line("the table", |line| line.starts_with("NAME"));
    let clock = lab.line("no address", |line| line.starts_with("clock "));
    assert!(clock.ends_with("<no service>"), "{clock}");
    let web = lab.line("the addresses", |line| line.starts_with("web "));
    let cells: Vec<&str> = web.split_whitespace().collect();
    assert!(cells[1] == "web:80" && cells[2].starts_with("10.96.") && web.contains(" 127.95.1."), "{web}");
    let answer = succeed(&mut minisvc(&folder, &["exec", "--", MINISVC, "__get", "http://web/x"]));
    assert!(answer.starts_with("200 web-"), "{answer}");
    // A change of the file comes into the lab that runs.
    let one = db.replace("ready: /readyz", "ready: /readyz, service: NodePort");
    write(
        &folder,
        &format!("images: {{mine/echo: '{MINISVC} __echo'}}\ncommands:\n{clock_entry}\n{web_entry}\n{one}\n"),
    );
    let text = succeed(&mut minisvc(&folder, &["apply", "-f", "minisvc.yaml"]));
    assert!(text.contains("service/db configured") && text.contains("service/web unchanged"), "{text}");
    let refused = up(&folder, &[]).output().expect("started");
    let text = String::from_utf8_lossy(&refused.stdout);
    assert!(text.contains("runs already") && text.contains("minisvc apply -f minisvc.yaml"), "{text}");
    signal(lab.pid(), Signal::SIGINT);
    lab.line("the end", |line| line.contains("down: no process"));
    assert!(lab.end().success());

    // What is not in the file any more goes; the rest is as it was.
    write(&folder, &format!("commands:\n{db}\n"));
    let text = succeed(&mut up(&folder, &["--detach"]));
    assert!(text.contains("db     db:6000") && !text.contains("web"), "{text}");
    let deployments: Value =
        serde_json::from_str(&succeed(&mut minisvc(&folder, &["get", "deploy,svc", "-o", "json"]))).expect("JSON");
    let items = deployments["items"].as_array().expect("a list").iter();
    let mut names: Vec<&str> = items.filter_map(|item| item["metadata"]["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["db", "db", "kubernetes"]);
    succeed(&mut minisvc(&folder, &["down"]));

    let mut elsewhere = Command::new(MINISVC);
    elsewhere.args(["up", "--project", "nowhere.yaml"]).env("MINISVC_STATE_DIR", folder.join("labs"));
    assert!(fail(&mut elsewhere, 2).contains("cannot read nowhere.yaml"));
}

#[test]
fn the_example_shop_sells_what_its_stock_has() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let example = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/shop"));
    let mut command = up(example, &[]);
    command.env("MINISVC_STATE_DIR", temporary.path());
    let mut lab = Beside::start(command);
    lab.line("all of it", |line| line.starts_with("customer ") && line.ends_with("<no service>"));
    lab.line("a sale", |line| line.starts_with("customer-") && line.contains(" sells 17 apples"));
    // Whoever it is that answers, from outside of the lab.
    let status = eventually("the shop's address", || {
        let mut status = minisvc(example, &["status", "-o", "json"]);
        let text = succeed(status.env("MINISVC_STATE_DIR", temporary.path()));
        let status: Value = serde_json::from_str(&text).expect("JSON");
        status["published"].as_array()?.iter().find(|row| row["service"] == "shop").cloned()
    });
    let address = status["address"].as_str().expect("an address");
    let got = eventually("an answer", || {
        let got = Command::new(MINISVC).args(["__get", &format!("http://{address}/pears")]).output().expect("started");
        String::from_utf8(got.stdout).ok().filter(|text| text.starts_with("200 "))
    });
    assert!(got.contains(" sells 3 pears"), "{got}");
    signal(lab.pid(), Signal::SIGINT);
    assert!(lab.end().success());
}

/// What a guide types in its `console` blocks.
fn typed(guide: &str) -> Vec<&str> {
    let blocks = guide.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix("$ ")).collect()
}

#[test]
fn what_the_guides_type_does_what_they_say() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = temporary.path();
    let programs = Path::new(MINISVC).parent().expect("a folder");
    let path = std::env::join_paths(
        std::iter::once(programs.to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let path = path.expect("no colon in a name");

    let typed_to_test = typed(include_str!("../docs/guides/test-your-controller.md"));
    let script = typed_to_test.join("\n").replace("your tests", "cat \"$KUBECONFIG\" && minisvc get pods --name ci");
    // Also when a command fails in between.
    let script = format!("trap 'minisvc down --name ci 2>/dev/null || true' EXIT\n{script}");
    std::os::unix::fs::symlink(common::HELLO, folder.join("deploy")).expect("linked");
    let mut shell = Command::new("sh");
    shell.args(["-ec", &script]).current_dir(folder).env("PATH", &path).env("MINISVC_STATE_DIR", folder.join("labs"));
    let text = succeed(shell.env("MINISVC_DNS_UPSTREAM", "none").stdin(Stdio::null()));
    assert!(text.contains("\"kind\": \"Config\"") && text.matches(" 1/1 ").count() == 3, "{text}");

    let [run, cd, up] = typed(include_str!("../docs/guides/run-your-services.md"))[..] else {
        panic!("three commands")
    };
    assert_eq!((cd, up), ("cd examples/shop", "minisvc up"), "another test runs these");
    let lab = common::Lab::start("guide", &[]);
    let mut command = lab.command(&[]);
    let environment: Vec<_> =
        command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    command = Command::new("sh");
    command.args(["-c", &format!("exec 2>&1; exec {run}")]).current_dir(folder).env("PATH", &path).envs(environment);
    let mut running = Beside::start(command);
    let service =
        running.line("the Service", |line| line.starts_with("service/web: http://web.default:8080 is http://10.96."));
    running.line("the pod", |line| line.starts_with("pod/web runs at 10.244.") && line.ends_with("; Ctrl-C ends it"));
    assert!(service.ends_with(":8080"), "{service}");
    eventually("the page", || lab.fetch("http://web:8080").ok().filter(|page| page.starts_with("200 ")));
    signal(running.pid(), Signal::SIGINT);
    running.end();
    fail(&mut lab.command(&["get", "pod", "web"]), 1);
}
