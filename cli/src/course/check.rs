//! Looks at the real state of a lesson, objects and traffic, and says of each thing whether it is so yet.

use std::net::IpAddr;
use std::time::Duration;

use futures::future::join_all;
use http::Method;
use minisvc_why::{Outcome, Question};
use serde_json::{Value, json};

use super::lesson::{Check, EnvCheck, FieldCheck, HttpCheck, Lesson, NameCheck, PodsCheck, RolloutCheck, WhyCheck};
use super::place::is_ready;
use super::{Scene, http as answers};
use crate::control::Place;
use crate::why;
use crate::why::inside::{Printed, run_own};

/// How long one look inside may take.
const LOOK_WITHIN: Duration = Duration::from_secs(15);

/// How long an answer may take. Packets that are dropped are waited for so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long a rollout is asked.
const LOAD_SECONDS: &str = "4";

/// Requests that are under way at once.
const AT_ONCE: usize = 4;

/// What was found about one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What must be so.
    pub(crate) what: String,
    /// What is still wrong, if it is not; `None` when it is.
    pub(crate) wrong: Option<String>,
}

/// Checks everything. What depends on the checks before is looked at all the same, but a rollout only when they hold.
pub(crate) async fn check(scene: &Scene, lesson: &Lesson) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = Vec::new();
    for check in &lesson.plan.checks {
        let ready = verdicts.iter().all(|verdict| verdict.wrong.is_none());
        let result = match &check.rollout {
            Some(_) if !ready => Err("tried when all else is done".to_owned()),
            _ => look(scene, check).await,
        };
        verdicts.push(Verdict { what: check.what.clone(), wrong: result.err() });
    }
    verdicts
}

async fn look(scene: &Scene, check: &Check) -> Result<(), String> {
    if let Some(wanted) = &check.field {
        return field(scene, wanted).await;
    }
    if let Some(wanted) = &check.pods {
        return pods(scene, wanted).await;
    }
    if let Some(wanted) = &check.endpoints {
        return endpoints(scene, &wanted.service, wanted.ready).await;
    }
    if let Some(wanted) = &check.http {
        return requests(scene, wanted).await;
    }
    if let Some(wanted) = &check.resolves {
        return name(scene, wanted).await;
    }
    if let Some(wanted) = &check.env {
        return variable(scene, wanted).await;
    }
    if let Some(wanted) = &check.why {
        return answer(scene, wanted).await;
    }
    match &check.rollout {
        Some(wanted) => rollout(scene, wanted).await,
        // Every check has one way to look, which a test makes sure of.
        None => Ok(()),
    }
}

async fn field(scene: &Scene, wanted: &FieldCheck) -> Result<(), String> {
    let object = scene.object(&wanted.object).await?;
    let found = object.pointer(&wanted.path).filter(|value| !value.is_null());
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let name = format!("{} of {}", wanted.path.trim_start_matches('/').replace('/', "."), wanted.object);
    let is = found.map_or_else(|| format!("{name} is not set"), |value| format!("{name} is {}", shown(value)));
    if let Some(value) = &wanted.equals {
        let value = expanded(scene, value).await?;
        return if found == Some(&value) { Ok(()) } else { Err(format!("{is}, not {}", shown(&value))) };
    }
    if let Some(value) = &wanted.not {
        return if found == Some(&expanded(scene, value).await?) { Err(is) } else { Ok(()) };
    }
    found.map(|_| ()).ok_or(is)
}

async fn expanded(scene: &Scene, value: &Value) -> Result<Value, String> {
    match value {
        Value::String(text) => Ok(json!(scene.expand(text).await?)),
        other => Ok(other.clone()),
    }
}

async fn pods(scene: &Scene, wanted: &PodsCheck) -> Result<(), String> {
    let path = format!("/api/v1/namespaces/{}/pods?labelSelector={}", scene.namespace, wanted.labels);
    let list = scene.api.get(&path).await.map_err(|error| error.to_string())?;
    let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    let all: Vec<&Value> = list["items"].as_array().into_iter().flatten().filter(stays).collect();
    let ready = all.iter().filter(|pod| is_ready(pod)).count();
    if all.len() < wanted.count {
        return Err(format!("there are {} pods with {}, not {}", all.len(), wanted.labels, wanted.count));
    }
    if ready < wanted.ready {
        return Err(format!("{ready} pods with {} are ready, not {}", wanted.labels, wanted.ready));
    }
    Ok(())
}

async fn endpoints(scene: &Scene, service: &str, wanted: usize) -> Result<(), String> {
    scene.object(&format!("svc/{service}")).await?;
    let path = format!(
        "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector=kubernetes.io/service-name={service}",
        scene.namespace
    );
    let list = scene.api.get(&path).await.map_err(|error| error.to_string())?;
    let slices = list["items"].as_array().into_iter().flatten();
    let all = slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    let ready = all.filter(|endpoint| endpoint["conditions"]["ready"] != json!(false)).count();
    if ready == wanted {
        return Ok(());
    }
    let more = if wanted > 0 && ready == 0 {
        format!("; minisvc why svc/{service} -n {} says why", scene.namespace)
    } else {
        String::new()
    };
    Err(format!("Service {service} has {ready} ready endpoints, not {wanted}{more}"))
}

async fn run(scene: &Scene, place: Place, words: &[&str]) -> Result<Printed, String> {
    let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    run_own(&scene.home, place, &words, LOOK_WITHIN).await.map_err(|error| error.to_string())
}

async fn requests(scene: &Scene, wanted: &HttpCheck) -> Result<(), String> {
    let url = scene.expand(&wanted.url).await?;
    let (place, _) = scene.place(&wanted.from).await?;
    let client = if wanted.sees.is_empty() { None } else { own_address(scene, &place).await };
    let mut found = Vec::new();
    let all = wanted.times.max(1);
    while found.len() < all {
        let batch = (0..AT_ONCE.min(all - found.len())).map(|_| request(scene, place.clone(), &url));
        found.extend(join_all(batch).await);
        // The others would say the same.
        if found.iter().any(Result::is_err) {
            break;
        }
    }
    answers::judge(wanted, &url, &found, client)
}

async fn request(scene: &Scene, place: Place, url: &str) -> answers::Answer {
    let words = ["__get".to_owned(), url.to_owned()];
    let printed = run_own(&scene.home, place, &words, ANSWER_WITHIN).await;
    let printed = printed.map_err(|_| format!("nothing comes back within {} s", ANSWER_WITHIN.as_secs()))?;
    if printed.code == 0 { Ok(printed.out.trim_end().to_owned()) } else { Err(printed.err.trim_end().to_owned()) }
}

/// The address of a place, as it asks others.
async fn own_address(scene: &Scene, place: &Place) -> Option<IpAddr> {
    let node = scene.object("node/node-1").await.ok()?;
    let towards = node["status"]["addresses"][0]["address"].as_str()?.to_owned();
    let errand = json!({"names": [], "types": [], "connect": null, "towards": towards}).to_string();
    let printed = run(scene, place.clone(), &["__look", &errand]).await.ok()?;
    let seen: Value = serde_json::from_str(&printed.out).ok()?;
    seen["source"].as_str()?.parse().ok()
}

async fn name(scene: &Scene, wanted: &NameCheck) -> Result<(), String> {
    let name = scene.expand(&wanted.name).await?;
    let (place, client) = scene.place(&wanted.from).await?;
    let errand = json!({"names": [name], "types": ["A"], "connect": null, "towards": null}).to_string();
    let printed = run(scene, place, &["__look", &errand]).await?;
    let seen: Value = serde_json::from_str(&printed.out).map_err(|_| "the lookup said nothing".to_owned())?;
    let addresses: Vec<String> = seen["lookups"][0]["addresses"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|address| address.as_str().map(str::to_owned))
        .collect();
    let by = match client {
        minisvc_why::Client::Workstation => "the workstation".to_owned(),
        minisvc_why::Client::Pod((namespace, pod)) => format!("pod {namespace}/{pod}"),
    };
    if addresses.is_empty() {
        return Err(format!("{name} does not resolve, asked by {by}"));
    }
    if wanted.addresses > 0 && addresses.len() != wanted.addresses {
        return Err(format!("{name} has {} addresses, not {}", addresses.len(), wanted.addresses));
    }
    if wanted.is.is_empty() {
        return Ok(());
    }
    let is = scene.expand(&wanted.is).await?;
    if addresses.contains(&is) { Ok(()) } else { Err(format!("{name} is {}, not {is}", addresses.join(", "))) }
}

async fn variable(scene: &Scene, wanted: &EnvCheck) -> Result<(), String> {
    let equals = scene.expand(&wanted.equals).await?;
    let (place, _) = scene.place(&wanted.from).await?;
    let argv = ["sh", "-c", &format!("printf %s \"${}\"", wanted.variable)].map(Into::into).to_vec();
    let printed = why::inside::run(&scene.home, place, argv, LOOK_WITHIN).await.map_err(|error| error.to_string())?;
    if printed.out == equals {
        return Ok(());
    }
    let found = if printed.out.is_empty() { "not set".to_owned() } else { printed.out };
    Err(format!("{} is {found} in the running container, not {equals}", wanted.variable))
}

async fn answer(scene: &Scene, wanted: &WhyCheck) -> Result<(), String> {
    let (_, client) = scene.place(&wanted.from).await?;
    let target = scene.expand(&wanted.target).await?;
    let question = Question::parse(&target, &scene.namespace, client).map_err(|error| error.to_string())?;
    let findings = why::answer(&scene.home, &question).await.map_err(|error| error.to_string())?;
    // A lesson's end is reached when nothing is wrong; that something could be otherwise is no matter here.
    if findings.outcome == Outcome::Broken { Err(findings.sentence) } else { Ok(()) }
}

/// Starts a rollout as `kubectl rollout restart` does, and asks all the while.
async fn rollout(scene: &Scene, wanted: &RolloutCheck) -> Result<(), String> {
    let target = scene.expand(&wanted.ask).await?;
    let now = jiff::Timestamp::now().to_string();
    let patch =
        json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}}}});
    let path = format!("/apis/apps/v1/namespaces/{}/deployments/{}", scene.namespace, wanted.deployment);
    let headers = [("content-type", "application/merge-patch+json"), ("accept", "application/json")];
    let restart = async {
        // The load has to be under way.
        tokio::time::sleep(Duration::from_millis(500)).await;
        scene.api.send(Method::PATCH, &path, &headers, patch.to_string().into_bytes()).await
    };
    let words = ["__load", &target, LOAD_SECONDS];
    let load = run(scene, Place::Workstation, &words);
    let (printed, restarted) = tokio::join!(load, restart);
    restarted.map_err(|error| error.to_string())?;
    let printed = printed?;
    let total: Value = printed.out.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    match (total["failed"].as_u64(), total["answered"].as_u64()) {
        (Some(0), Some(answered)) if answered > 0 => Ok(()),
        (Some(failed), Some(answered)) => Err(format!(
            "while {} was rolled out anew, {failed} requests failed and {answered} were answered",
            wanted.deployment
        )),
        _ => Err("the requests could not be counted".to_owned()),
    }
}
