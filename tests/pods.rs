//! What a pod sees and what becomes of it, in whole labs.

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Beside, Lab, MINISVC, echo, eventually, is_ready, pod, service, shell, succeed};
use serde_json::{Value, json};

/// The first container's status.
fn container(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

fn address(pod: &Value) -> &str {
    pod["status"]["podIP"].as_str().expect("an address")
}

// P-003, P-076, N-079, N-091, N-092
#[test]
fn a_pod_sees_a_machine_of_its_own() {
    let lab = Lab::start("view", &[]);
    // An ordinary user's server on port 80, twice.
    let user = json!({"securityContext": {"runAsUser": 65534}});
    lab.apply_all(&[pod("one", &json!([echo(80)]), &user), pod("two", &json!([echo(80)]), &user)]);
    let (one, two) = (lab.ready("one"), lab.ready("two"));
    assert_ne!(address(&one), address(&two));
    for (name, pod) in [("one", &one), ("two", &two)] {
        let url = format!("http://{}", address(pod));
        let answer = lab.fetch(&url).expect("an answer");
        assert!(answer.starts_with(&format!("200 {name} ")), "{answer}");
        assert!(lab.fetch_in("one", &url).expect("an answer").contains(address(&one)), "the client is seen as it is");
    }
    let see = |script: &str| lab.exec_in("one", &["sh", "-c", script]);
    let hosts = see("cat /etc/hosts");
    assert!(hosts.starts_with("# Kubernetes-managed hosts file.\n"), "{hosts}");
    assert!(hosts.contains(&format!("\n{}\tone\n", address(&one))), "{hosts}");
    let search = "search default.svc.cluster.local svc.cluster.local cluster.local";
    let resolv = see("cat /etc/resolv.conf");
    assert!(resolv.starts_with(search) && resolv.contains("\nnameserver 10.96.0.10\noptions ndots:5\n"), "{resolv}");
    assert!(see("cat /etc/nsswitch.conf").contains("hosts: files dns\n"));
    assert_eq!(see("cat /proc/sys/kernel/hostname; echo $HOSTNAME"), "one\none\n");
    assert_eq!(see("ls -A /run/systemd/resolve /run/nscd /var/run/nscd 2>/dev/null | grep -v : | grep . || true"), "");
    let links = see("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' | sort");
    assert_eq!(links, "eth0\nlo\n");
    let processes = see("cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'");
    assert!(processes.contains("__echo") && !processes.contains("--dns-upstream"), "{processes}");
    if nix::unistd::geteuid().is_root() {
        assert_eq!(see("id -u"), "65534\n");
    }
    // The short turns that the lab asks the kernel for are not for pods. Empty where the kernel tells nobody.
    let turn = |process: &str| format!("sed -n 's/^se.slice *: *//p' /proc/{process}/sched");
    let here = |process: &str| {
        let said = Command::new("sh").args(["-c", &turn(process)]).output().expect("a shell").stdout;
        String::from_utf8(said).expect("text")
    };
    assert_eq!(see(&turn("self")), here("self"));
    assert!(here("self").is_empty() || here(&lab.pid().to_string()) == "100000\n");
}

// P-076, A-005, A-119
#[test]
fn a_pod_asks_the_api_with_its_own_token() {
    let lab = Lab::start("token", &[]);
    lab.apply_all(&[pod("app", &json!([echo(8080)]), &json!({}))]);
    lab.ready("app");
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    let files = lab.exec_in("app", &["sh", "-c", &format!("cd {account}; cat namespace; echo; tr -cd . < token; ls")]);
    assert_eq!(files, "default\n..ca.crt\nnamespace\ntoken\n");
    assert!(lab.fetch_in("app", "https://kubernetes.default.svc/api").expect("an answer").starts_with("200 "));
    let refused = lab.fetch_in("app", "https://kubernetes/api/v1/namespaces/default/secrets").expect("an answer");
    let reason = "system:serviceaccount:default:default\\\" cannot list resource \\\"secrets\\\"";
    assert!(refused.starts_with("403 ") && refused.contains(reason), "{refused}");
}

// P-005, P-009, P-059, P-061, P-071
#[test]
fn containers_of_a_pod_share_its_network_and_volumes_and_get_what_the_manifest_says() {
    let lab = Lab::start("share", &[]);
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let mut side = shell("side", "echo from-side > /data/note; pwd; exec sleep 1000");
    side["workingDir"] = json!("/usr");
    side["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    let mut main = echo(8080);
    main["volumeMounts"] = json!([
        {"name": "data", "mountPath": "/no/such/place"},
        {"name": "conf", "mountPath": "/conf"},
        {"name": "key", "mountPath": "/key", "readOnly": true},
    ]);
    main["env"] = json!([
        {"name": "PORT", "value": "8080"},
        {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "mode"}}},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "key", "key": "password"}}},
        {"name": "POD", "valueFrom": field("metadata.name")},
        {"name": "IP", "valueFrom": field("status.podIP")},
        {"name": "NODE", "valueFrom": field("spec.nodeName")},
        {"name": "URL", "value": "http://$(EARLY_SERVICE_HOST):$(EARLY_SERVICE_PORT)"},
    ]);
    let volumes = json!({"volumes": [
        {"name": "data", "emptyDir": {}},
        {"name": "conf", "configMap": {"name": "conf"}},
        {"name": "key", "secret": {"secretName": "key"}},
    ]});
    lab.apply_all(&[
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"mode": "fast"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"password": "s3cret"}}),
        service("early", &json!({"app": "both"}), 80, &json!(8080)),
        pod("both", &json!([main, side]), &volumes),
    ]);
    let ready = lab.ready("both");
    let see = |script: &str| lab.run(&["exec", "both", "-c", "echo", "--", "sh", "-c", script]);
    eventually("the other container's note", || {
        (see("cat /no/such/place/note 2>/dev/null || true") == "from-side\n").then_some(())
    });
    assert!(!std::path::Path::new("/no/such/place").exists(), "the host's tree is untouched");
    assert_eq!(
        see("cat /conf/mode /key/password; touch /key/x 2>/dev/null || echo ' read-only'"),
        "fasts3cret read-only\n"
    );
    let vip = lab.get("svc", "early")["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    assert_eq!(
        see("echo $MODE $PASSWORD $POD $IP $NODE $URL $KUBERNETES_SERVICE_HOST"),
        format!("fast s3cret both {} node-1 http://{vip}:80 10.96.0.1\n", address(&ready))
    );
    let local = ["exec", "both", "-c", "side", "--", MINISVC, "__get", "http://127.0.0.1:8080/hi"];
    assert!(lab.run(&local).contains("both on node-1 saw 127.0.0.1 ask GET /hi"), "one loopback for both");
    assert_eq!(lab.run(&["logs", "both", "-c", "side"]), "/usr\n");

    // A Service made later has a name for this pod, but variables only for later ones.
    lab.apply_all(&[service("late", &json!({"app": "both"}), 80, &json!(8080))]);
    lab.apply_all(&[pod("after", &json!([shell("main", "env")]), &json!({"restartPolicy": "Never"}))]);
    assert!(lab.output_of("after").contains("LATE_SERVICE_HOST=10.96."));
    assert_eq!(see("echo -$LATE_SERVICE_HOST-"), "--\n");
    eventually("the late Service to answer by its name", || lab.fetch_in("both", "http://late").ok());
}

// P-012, P-020, P-033, P-035, P-037
#[test]
fn what_ends_is_told_and_started_again_as_its_policy_says() {
    let lab = Lab::start("ends", &["--image", "say=echo said:"]);
    let once = |policy: &str| json!({"restartPolicy": policy});
    lab.apply_all(&[
        pod("good", &json!([shell("main", "exit 0")]), &once("Never")),
        pod("bad", &json!([shell("main", "exit 7")]), &once("Never")),
        // Two dollars of a command mean one.
        pod("killed", &json!([shell("main", "kill -9 $$$$")]), &once("Never")),
        pod("again", &json!([shell("main", "exit 3")]), &once("Always")),
        pod("missing", &json!([{"name": "main", "image": "any", "command": ["/no/such/program"]}]), &once("Always")),
        pod("unmapped", &json!([{"name": "main", "image": "shop/cart:7"}]), &once("Always")),
        pod("mapped", &json!([{"name": "main", "image": "say:1", "args": ["hello"]}]), &once("Never")),
    ]);
    let ended = |name: &str, phase: &str, code: i64| {
        let pod = lab.until(phase, "pod", name, |pod| pod["status"]["phase"] == phase);
        assert_eq!(container(&pod)["state"]["terminated"]["exitCode"], code, "{name}");
        assert_eq!(container(&pod)["restartCount"], 0, "{name}");
    };
    ended("good", "Succeeded", 0);
    ended("bad", "Failed", 7);
    ended("killed", "Failed", 137);
    assert_eq!(lab.output_of("mapped"), "said: hello\n");
    let waits = |name: &str, reason: &str| {
        lab.until(reason, "pod", name, |pod| container(pod)["state"]["waiting"]["reason"] == reason)
    };
    let again = waits("again", "CrashLoopBackOff");
    assert!(container(&again)["restartCount"].as_i64() >= Some(1), "the first restart is at once");
    assert_eq!(container(&again)["lastState"]["terminated"]["exitCode"], 3);
    let more = container(&again)["restartCount"].as_i64().expect("a count");
    let later =
        lab.until("restarted once more", "pod", "again", |pod| container(pod)["restartCount"].as_i64() > Some(more));
    assert_eq!((&later["metadata"]["uid"], address(&later)), (&again["metadata"]["uid"], address(&again)));
    let unmapped = waits("unmapped", "ErrImageNeverPull");
    let hint = container(&unmapped)["state"]["waiting"]["message"].as_str().expect("a message");
    assert!(hint.contains("--image shop/cart=COMMAND"), "{hint}");
    let missing = lab.until("told", "pod", "missing", |pod| pod.to_string().contains("/no/such/program: "));
    assert!(container(&missing).to_string().contains("StartError"), "{missing:#}");
    let table = lab.run(&["get", "pods"]);
    for (name, status) in [("good", "Completed"), ("bad", "Error"), ("unmapped", "ErrImageNeverPull")] {
        assert!(table.lines().any(|line| line.starts_with(name) && line.contains(status)), "{name}: {table}");
    }
}

/// Whether limits are kept on this machine. Where not, the user is told so by `doctor`, and by an Event of the first pod that has any.
fn keeps(lab: &Lab, limit: &str) -> bool {
    let text = succeed(lab.command(&["doctor"]).env("MINISVC_STATE_DIR", lab.state_dir()));
    let remark = text.lines().find(|line| line.starts_with("Limits of ") && line.contains(limit));
    let told = |event: &Value| {
        event["reason"] == "LimitsNotKept" && event["message"].as_str().is_some_and(|said| said.contains(limit))
    };
    if remark.is_some() {
        assert!(text.contains("mend: "), "{text}");
        eventually("the user to be told", || lab.list("events").iter().any(told).then_some(()));
    } else {
        assert!(!lab.list("events").iter().any(told), "{text}");
    }
    remark.is_none()
}

// P-020
#[test]
fn limits_are_kept_and_their_victims_are_told_and_started_again() {
    let lab = Lab::start("limits", &[]);
    let limited = |mut container: Value, limits: &Value| {
        container["resources"]["limits"] = limits.clone();
        container
    };
    let memory = json!({"memory": "32Mi"});
    // Takes 200 MiB at once.
    let greedy = shell("main", "exec dd if=/dev/zero of=/dev/null bs=200M count=1");
    lab.apply_all(&[
        pod(
            "greedy",
            &json!([limited(greedy, &memory), limited(shell("beside", "exec sleep 1000"), &memory)]),
            &Value::Null,
        ),
        pod("neighbour", &json!([limited(shell("main", "exec sleep 1000"), &memory)]), &Value::Null),
        pod("busy", &json!([limited(shell("main", "while :; do :; done"), &json!({"cpu": "200m"}))]), &Value::Null),
    ]);
    lab.ready("neighbour");
    if keeps(&lab, "memory") {
        let is_waiting = |pod: &Value| container(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff";
        let told = lab.until("told and started again", "pod", "greedy", |pod| {
            // The containers are in the order of the manifest.
            container(pod)["restartCount"].as_i64() >= Some(1) && is_waiting(pod)
        });
        let end = &container(&told)["lastState"]["terminated"];
        assert_eq!((&end["reason"], &end["exitCode"]), (&json!("OOMKilled"), &json!(137)), "{told:#}");
        for (name, position) in [("greedy", 1), ("neighbour", 0)] {
            let status = &lab.get("pod", name)["status"]["containerStatuses"][position];
            assert_eq!(
                (&status["restartCount"], status["state"].get("running").is_some()),
                (&json!(0), true),
                "{name}"
            );
        }
    }
    lab.ready("busy");
    if keeps(&lab, "cpu") {
        // The time that this shell, which is in the container too, and its children get, in hundredths of a second.
        let script = "(timeout 2 sh -c 'while :; do :; done'; :) 2>/dev/null; read -r stat </proc/$$/stat; set -- ${stat##*)}; \
                      echo $((${14} + ${15}))";
        let used: u32 = lab.exec_in("busy", &["sh", "-c", script]).trim().parse().expect("a number");
        assert!(used < 100, "{used} hundredths of a second in two seconds");
    }
}

// P-023, P-026, P-027, P-028, P-030
#[test]
fn probes_decide_who_is_ready_and_who_is_restarted() {
    let lab = Lab::start("probes", &[]);
    let often = |mut probe: Value| {
        probe["periodSeconds"] = json!(1);
        probe["failureThreshold"] = json!(1);
        // The default of one second is short for a machine that runs every test at once.
        probe["timeoutSeconds"] = json!(10);
        probe
    };
    let exec = |script: &str| often(json!({"exec": {"command": ["sh", "-c", script]}}));
    let with = |mut container: Value, kind: &str, probe: Value| {
        container[kind] = probe;
        json!([container])
    };
    let waits = "exec sleep 1000";
    let http = often(json!({"httpGet": {"path": "/readyz", "port": 8080}}));
    let tcp = often(json!({"tcpSocket": {"port": 8080}}));
    let closed = often(json!({"tcpSocket": {"port": 9}}));
    let mut guarded = shell("main", "sleep 1; touch /scratch/started; exec sleep 1000");
    guarded["startupProbe"] = json!({"exec": {"command": ["test", "-e", "/scratch/started"]}, "periodSeconds": 1,
                                     "failureThreshold": 60, "timeoutSeconds": 10});
    guarded["livenessProbe"] = exec("test -e /scratch/started");
    guarded["volumeMounts"] = json!([{"name": "scratch", "mountPath": "/scratch"}]);
    let mut by_file = shell("main", waits);
    by_file["volumeMounts"] = guarded["volumeMounts"].clone();
    let scratch = json!({"volumes": [{"name": "scratch", "emptyDir": {}}]});
    let none = json!({});
    lab.apply_all(&[
        pod("by-command", &with(by_file, "readinessProbe", exec("test -e /scratch/ready")), &scratch),
        pod("by-page", &with(echo(8080), "readinessProbe", http), &none),
        pod("by-port", &with(echo(8080), "readinessProbe", tcp), &none),
        pod("closed", &with(echo(8080), "readinessProbe", closed), &none),
        pod("dying", &with(shell("main", waits), "livenessProbe", exec("exit 1")), &none),
        pod("slow", &json!([guarded]), &scratch),
    ]);
    lab.until("restarted", "pod", "dying", |pod| container(pod)["restartCount"].as_i64() >= Some(1));
    lab.ready("by-port");
    lab.ready("by-page");
    assert!(!is_ready(&lab.get("pod", "by-command")), "its file is not there yet");
    lab.exec_in("by-command", &["touch", "/scratch/ready"]);
    lab.ready("by-command");
    lab.exec_in("by-command", &["rm", "/scratch/ready"]);
    lab.until("not ready again", "pod", "by-command", |pod| !is_ready(pod));
    let ask = |path: &str| lab.fetch_in("by-page", &format!("http://127.0.0.1:8080{path}")).expect("an answer");
    ask("/readyz/fail");
    let unready = lab.until("not ready", "pod", "by-page", |pod| !is_ready(pod));
    assert_eq!(container(&unready)["restartCount"], 0, "readiness restarts nothing");
    ask("/readyz/ok");
    lab.ready("by-page");
    assert!(!is_ready(&lab.get("pod", "closed")), "nobody listens there");
    let slow = lab.ready("slow");
    assert_eq!(container(&slow)["restartCount"], 0, "liveness waits for the start");
    let events = lab.run(&["get", "events"]);
    assert!(events.contains("Unhealthy") && events.contains("Killing"), "{events}");
}

// P-046, P-048, P-052, P-055
#[test]
fn a_pod_that_is_deleted_may_finish_what_it_does() {
    let lab = Lab::start("grace", &[]);
    let script = "trap 'echo asked; until [ -e /scratch/done ]; do sleep 0.05; done; echo finished; exit 0' TERM; \
                  echo working; while :; do sleep 0.05; done";
    let mut patient = shell("main", script);
    patient["volumeMounts"] = json!([{"name": "scratch", "mountPath": "/scratch"}]);
    let spec = json!({"terminationGracePeriodSeconds": 60, "volumes": [{"name": "scratch", "emptyDir": {}}]});
    let deaf = json!([shell("main", "trap '' TERM; while :; do sleep 0.1; done")]);
    lab.apply_all(&[pod("patient", &json!([patient]), &spec), pod("deaf", &deaf, &json!({}))]);
    lab.ready("patient");
    lab.ready("deaf");
    let mut log = Beside::start(lab.command(&["logs", "patient", "-f"]));
    log.line("its work", |line| line == "working");
    let started = Instant::now();
    lab.run(&["delete", "pod", "deaf"]);
    lab.run(&["delete", "pod", "patient"]);
    log.line("its answer to TERM", |line| line == "asked");
    let leaving = lab.get("pod", "patient");
    assert_eq!(leaving["metadata"]["deletionGracePeriodSeconds"], 60);
    assert!(leaving["metadata"]["deletionTimestamp"].is_string());
    eventually("who does not listen to be killed", || {
        (!lab.command(&["get", "pod", "deaf"]).stderr(Stdio::null()).status().expect("asked").success()).then_some(())
    });
    assert!(started.elapsed() >= Duration::from_secs(1), "not before its grace has ended");
    assert!(lab.run(&["get", "pod", "patient"]).contains("Terminating"), "its own has not");
    lab.exec_in("patient", &["touch", "/scratch/done"]);
    log.line("the end of its work", |line| line == "finished");
    assert!(log.end().success());
    eventually("the pod to be gone", || lab.list("pods").is_empty().then_some(()));
}

// P-006, N-101
#[test]
fn a_pod_in_its_nodes_network_has_the_nodes_address() {
    let lab = Lab::start("hostnet", &["--nodes", "2"]);
    let on = |name: &str, node: &str| {
        let mut pod = pod(name, &json!([echo(9000)]), &json!({"hostNetwork": true, "nodeName": node}));
        pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 9000}]);
        pod
    };
    lab.apply_all(&[on("first", "node-1"), on("second", "node-2")]);
    for (name, node, ip) in [("first", "node-1", "10.95.0.11"), ("second", "node-2", "10.95.0.12")] {
        let pod = lab.ready(name);
        assert_eq!((&pod["status"]["podIP"], &pod["status"]["hostIP"]), (&json!(ip), &json!(ip)));
        let answer = lab.fetch(&format!("http://{ip}:9000/x")).expect("an answer");
        assert!(answer.contains("saw 10.95.0.1 ask GET /x"), "{answer}");
        assert_eq!(lab.exec_in(name, &["cat", "/proc/sys/kernel/hostname"]), format!("{node}\n"));
    }
}
