//! What a lab promises to a test: everything that the crate's documentation says, against the real program.

use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::ListParams;
use minisvc_testing::{Error, Lab};

const WEB: &str = include_str!("web.yaml");

/// Labs that run at the same time, each in the process of a test of its own.
const MANY: usize = 20;

/// Set for the processes that the test of many labs starts: this test's own program again.
const ONE_OF_MANY: &str = "MINISVC_TESTING_ONE_OF_MANY";

/// Set for the process that dies with a running lab.
const DIES: &str = "MINISVC_TESTING_DIES";

fn patient() -> minisvc_testing::Builder {
    Lab::builder().patience(Duration::from_secs(120))
}

async fn shop(lab: &Lab) -> Result<(), Error> {
    lab.apply(WEB).await?;
    lab.wait_ready("deployment/web").await?;
    lab.wait_ready("service/web").await?;
    let answer = lab.http_get_until("http://web/hello", |answer| answer.status == 200).await?;
    let pods: Api<Pod> = Api::default_namespaced(lab.client());
    let pods = pods.list(&ListParams::default().labels("app=web")).await?;
    let own = |pod: &Pod| pod.metadata.name.as_ref().is_some_and(|name| answer.body.starts_with(name.as_str()));
    assert!(pods.items.iter().any(own), "{answer:?} is of none of this lab's pods");
    Ok(())
}

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn until(what: &str, mut fits: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !fits() {
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn a_lab_does_what_its_documentation_says() -> Result<(), Error> {
    let lab = patient().nodes(2).image("mine/sleeper", "sleep 1000").start().await?;
    shop(&lab).await?;
    let service = Api::<Service>::default_namespaced(lab.client()).get("web").await?;
    let address = service.spec.and_then(|spec| spec.cluster_ip).expect("an address");
    assert_eq!(lab.http_get(&format!("http://{address}/readyz/fail")).await?.status, 200);

    let created = lab
        .apply("apiVersion: v1\nkind: Pod\nmetadata: {name: sleeper}\nspec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: mine/sleeper}]}")
        .await?;
    assert_eq!(created, "pod/sleeper created\n");
    lab.wait_ready("pod/sleeper").await?;
    assert_eq!(lab.exec_in("sleeper", ["hostname"]).await?, "sleeper\n");
    assert_eq!(lab.exec(["sh", "-c", "echo $MINISVC_LAB"]).await?, "test\n");
    let answer = lab.http_get_in("sleeper", "http://web/x").await?;
    assert!(answer.body.contains("saw 10.244.") && answer.body.ends_with("ask GET /x"), "{answer:?}");
    lab.wait_ready("node/node-2").await?;
    assert!(lab.kubeconfig().is_file());

    let failed = lab.exec(["sh", "-c", "echo why >&2; exit 3"]).await.expect_err("it fails").to_string();
    assert!(failed.contains("exit status: 3") && failed.ends_with("why"), "{failed}");
    let refused = lab.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {container: []}").await;
    assert!(refused.expect_err("no such field").to_string().contains("container"));
    let unknown = lab.wait_ready("gateway/web").await.expect_err("not known").to_string();
    assert!(unknown.contains("deployment"), "{unknown}");
    Ok(())
}

#[tokio::test]
async fn what_is_not_ready_in_time_is_said_with_what_there_was() -> Result<(), Error> {
    let mut lab = patient().start().await?;
    lab.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: lonely}\nspec: {selector: {app: none}, ports: [{port: 80}]}",
    )
    .await?;
    lab.set_patience(Duration::from_millis(500));
    let lonely = lab.wait_ready("service/lonely").await.expect_err("nobody is behind it").to_string();
    assert!(lonely.contains("service/lonely was not ready") && lonely.contains("none of them ready"), "{lonely}");
    let missing = lab.wait_ready("pod/missing").await.expect_err("nobody made it").to_string();
    assert!(missing.ends_with("it does not exist"), "{missing}");
    let refused = lab.http_get_until("http://lonely", |_| true).await.expect_err("nobody answers").to_string();
    assert!(refused.contains("no answer of http://lonely fits") && refused.contains("refused"), "{refused}");
    let missing = lab.http_get("http://missing").await.expect_err("nobody has this name");
    assert!(matches!(missing, Error::Command { .. }), "{missing}");
    let root = lab.root();
    drop(lab);
    assert!(!root.exists(), "the folder goes with the lab");
    Ok(())
}

#[tokio::test]
async fn a_project_is_ready_when_its_lab_is() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("minisvc.yaml");
    let commands = "commands:\n- {name: api, image: minisvc/echo, port: 8080}\n- {name: web, image: minisvc/echo, port: '80:8080', dependsOn: [api]}\n";
    std::fs::write(&path, commands).expect("written");
    let lab = patient().project(&path).start().await?;
    assert_eq!(lab.http_get_until("http://web", |answer| answer.status == 200).await?.status, 200);
    Ok(())
}

#[test]
fn a_lab_goes_with_its_test_also_when_that_panics() {
    let pid = std::sync::Mutex::new(0);
    let panicked = std::panic::catch_unwind(|| {
        let lab = patient().start_blocking().expect("started");
        *pid.lock().expect("not poisoned") = lab.pid();
        std::panic::resume_unwind(Box::new("the test fails"));
    });
    assert!(panicked.is_err());
    let pid = *pid.lock().expect("not poisoned");
    assert!(pid != 0 && !runs(pid), "the lab has gone before the test is over");
}

#[test]
fn a_lab_goes_when_its_test_is_killed() {
    if std::env::var_os(DIES).is_some() {
        let lab = patient().start_blocking().expect("started");
        println!("lab {}", lab.pid());
        loop {
            std::thread::park();
        }
    }
    let mut child = myself("a_lab_goes_when_its_test_is_killed", DIES);
    let output = std::io::BufReader::new(child.stdout.take().expect("piped"));
    let lines = std::io::BufRead::lines(output).map_while(Result::ok);
    let pid = lines.filter_map(|line| line.split("lab ").nth(1)?.parse().ok()).next();
    let pid: u32 = pid.expect("it says so when its lab runs");
    assert!(runs(pid));
    child.kill().expect("killed");
    child.wait().expect("ended");
    until("the lab to follow", || !runs(pid));
}

/// This program again, for one test of it.
fn myself(test: &str, variable: &str) -> std::process::Child {
    let mut again = std::process::Command::new(std::env::current_exe().expect("known"));
    again.args(["--exact", test, "--nocapture"]).env(variable, "1").stdin(std::process::Stdio::null());
    again.stdout(std::process::Stdio::piped()).spawn().expect("started")
}

#[tokio::test]
async fn tests_in_many_processes_do_not_disturb_each_other() -> Result<(), Error> {
    if std::env::var_os(ONE_OF_MANY).is_some() {
        // All of them have the same names and addresses inside.
        return shop(&patient().start().await?).await;
    }
    let children: Vec<_> =
        (0..MANY).map(|_| myself("tests_in_many_processes_do_not_disturb_each_other", ONE_OF_MANY)).collect();
    for child in children {
        let output = child.wait_with_output().expect("ended");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    Ok(())
}

#[tokio::test]
async fn a_lab_that_cannot_start_says_why() {
    let error = Lab::builder().args(["--service-cidr", "10.244.0.0/16"]).start().await.expect_err("ranges overlap");
    assert!(error.to_string().contains("overlap"), "{error}");
    let error = Lab::builder().program("/nowhere/minisvc").start().await.expect_err("no program");
    assert!(matches!(error, Error::Io { .. }), "{error}");
}
