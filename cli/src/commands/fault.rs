//! `fault`: have packets between places come late, wrong or not at all, for a time.

use http::Method;
use serde_json::{Map, Value, json};

use crate::api::LabApi;
use crate::args::{FaultAction, FaultAddArgs, FaultArgs};
use crate::commands::{endpoints, table};
use crate::error::CliError;
use crate::home::LabHome;
use crate::output;

/// Where Faults are in the API.
const FAULTS: &str = "/apis/minisvc.dev/v1/faults";

/// Adds, lists or removes faults.
///
/// # Errors
/// When the lab does not run, or what is asked for makes no sense.
pub(crate) async fn fault(args: &FaultArgs) -> Result<(), CliError> {
    match &args.action {
        FaultAction::Add(add) => {
            let object = object(add)?;
            let api = LabApi::of(&LabHome::of(&add.lab)?)?;
            let made = api.json(Method::POST, FAULTS, "application/json", Some(&object)).await?;
            let name = made["metadata"]["name"].as_str().unwrap_or_default();
            if add.duration.is_none() {
                eprintln!("It lasts until it is removed: minisvc fault remove {name}");
            }
            output::print(&format!("fault.minisvc.dev/{name} created\n"))
        }
        FaultAction::List { lab, output } => {
            let hint = "No faults. Make one: minisvc fault add --to svc/NAME --delay 100ms --for 60s";
            table::show(lab, "faults", "fault", &[], *output, hint).await
        }
        FaultAction::Remove { lab, all, names } => {
            let api = LabApi::of(&LabHome::of(lab)?)?;
            let names = if *all { every_name(&api).await? } else { names.clone() };
            for name in names {
                let name = name.trim_start_matches("fault/").trim_start_matches("fault.minisvc.dev/");
                let gone = api.json(Method::DELETE, &format!("{FAULTS}/{name}"), "application/json", None).await;
                gone.map_err(|error| error.hint("see which there are: minisvc fault list"))?;
                output::print(&format!("fault.minisvc.dev/{name} deleted\n"))?;
            }
            Ok(())
        }
    }
}

async fn every_name(api: &LabApi) -> Result<Vec<String>, CliError> {
    let faults = api.get(FAULTS).await?;
    let names = faults["items"].as_array().into_iter().flatten().filter_map(|item| item["metadata"]["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// The faults of a lab as `status` shows them; empty if there are none.
///
/// # Errors
/// When the lab does not answer.
pub(crate) async fn shown_in_status(api: &LabApi) -> Result<(Value, String), CliError> {
    let faults = api.get(FAULTS).await?["items"].take();
    if faults.as_array().is_none_or(Vec::is_empty) {
        return Ok((json!([]), String::new()));
    }
    let answer = api.json(Method::GET, FAULTS, table::AS_TABLE, None).await?;
    let text = output::Table::from_server(&answer, false, false).render_all();
    Ok((faults, format!("\nFaults that packets suffer now:\n{text}")))
}

fn object(args: &FaultAddArgs) -> Result<Value, CliError> {
    let mut spec = Map::new();
    let mut say = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            spec.insert(name.to_owned(), value);
        }
    };
    let side = |text: &Option<String>| text.as_deref().map(|text| side(text, &args.namespace)).transpose();
    say("from", side(&args.from)?);
    say("to", side(&args.to)?);
    let milliseconds = |text: &Option<String>| text.as_deref().map(|text| duration(text).map(Value::from)).transpose();
    say("delayMilliseconds", milliseconds(&args.delay)?);
    say("jitterMilliseconds", milliseconds(&args.jitter)?);
    let share = |text: &Option<String>| text.as_deref().map(|text| percent(text).map(Value::from)).transpose();
    say("lossPercent", share(&args.loss)?);
    say("duplicatePercent", share(&args.duplicate)?);
    say("reorderPercent", share(&args.reorder)?);
    say("corruptPercent", share(&args.corrupt)?);
    say("rateKilobitsPerSecond", args.rate.as_deref().map(|text| rate(text).map(Value::from)).transpose()?);
    let switch = |on: bool| on.then_some(Value::Bool(true));
    say("refuse", switch(args.refuse));
    say("partition", switch(args.partition));
    say("oneWay", switch(args.one_way));
    let seconds = |text: &Option<String>| {
        text.as_deref().map(|text| duration(text).map(|ms| Value::from(ms.div_ceil(1000)))).transpose()
    };
    say("durationSeconds", seconds(&args.duration)?);
    say("seed", args.seed.map(Value::from));
    let metadata = match &args.fault {
        Some(name) => json!({"name": name}),
        None => json!({"generateName": "fault-"}),
    };
    Ok(json!({"apiVersion": "minisvc.dev/v1", "kind": "Fault", "metadata": metadata, "spec": spec}))
}

/// A place as people type it: `pod/web-1`, `svc/web`, `node/node-1`, `zone/zone-a`, `app=web`, `workstation`, `outside`.
fn side(text: &str, namespace: &str) -> Result<Value, CliError> {
    let mut side = match text.split_once('/') {
        Some(("pod" | "pods" | "po", name)) => json!({"pod": name}),
        Some(("svc" | "service" | "services", _)) => json!({"service": endpoints::service_name(text)?}),
        Some(("node" | "nodes" | "no", name)) => return Ok(json!({"node": name})),
        Some(("zone", name)) => return Ok(json!({"zone": name})),
        None if text == "workstation" || text == "outside" => return Ok(json!({text: true})),
        _ => json!({"matchLabels": labels(text)?}),
    };
    side["namespace"] = namespace.into();
    Ok(side)
}

fn labels(text: &str) -> Result<Map<String, Value>, CliError> {
    let pair = |pair: &str| pair.split_once('=').map(|(key, value)| (key.to_owned(), Value::from(value)));
    text.split(',').map(|part| pair(part).filter(|(key, _)| !key.is_empty())).collect::<Option<_>>().ok_or_else(|| {
        CliError::usage(format!("{text:?} is no place"))
            .hint("type pod/NAME, svc/NAME, node/NAME, zone/NAME, KEY=VALUE for the pods with a label, workstation or outside")
    })
}

/// Milliseconds.
fn duration(text: &str) -> Result<u64, CliError> {
    let unit = |number: &str, factor: f64| number.parse::<f64>().ok().map(|number| number * factor);
    let found = if let Some(number) = text.strip_suffix("ms") {
        unit(number, 1.0)
    } else if let Some(number) = text.strip_suffix('s') {
        unit(number, 1e3)
    } else if let Some(number) = text.strip_suffix('m') {
        unit(number, 60e3)
    } else {
        text.strip_suffix('h').and_then(|number| unit(number, 3600e3))
    };
    let milliseconds = found.and_then(whole);
    milliseconds.ok_or_else(|| {
        CliError::usage(format!("{text:?} is no duration")).hint("type one such as 100ms, 1.5s, 2m or 1h")
    })
}

/// Between 0 and 100, with or without the sign.
fn percent(text: &str) -> Result<f64, CliError> {
    let number = text.trim_end_matches('%').parse::<f64>().ok().filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| CliError::usage(format!("{text:?} is no share")).hint("type one from 0% to 100%, such as 10%"))
}

/// Kilobits per second.
fn rate(text: &str) -> Result<u64, CliError> {
    let units = [("kbit", 1.0), ("mbit", 1e3), ("gbit", 1e6)];
    let lower = text.to_ascii_lowercase();
    let found = units.iter().find_map(|(unit, factor)| Some(lower.strip_suffix(unit)?.parse::<f64>().ok()? * factor));
    let kilobits = found.and_then(whole).filter(|kilobits| *kilobits > 0);
    kilobits.ok_or_else(|| {
        CliError::usage(format!("{text:?} is no rate")).hint("type one such as 500kbit, 10mbit or 1gbit")
    })
}

/// The nearest whole number, of those that a float holds exactly.
fn whole(number: f64) -> Option<u64> {
    let rounded = number.round();
    ((0.0..=9e15).contains(&rounded)).then(|| format!("{rounded:.0}").parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        add: FaultAddArgs,
    }

    fn made(args: &[&str]) -> Result<Value, CliError> {
        object(&Only::try_parse_from(std::iter::once("test").chain(args.iter().copied())).expect("legal flags").add)
    }

    #[test]
    fn what_is_typed_becomes_an_object() {
        let object = made(&[
            "slow",
            "--from",
            "app=web,tier=front",
            "--to",
            "svc/db",
            "-n",
            "shop",
            "--delay",
            "1.5s",
            "--jitter",
            "20ms",
            "--loss",
            "12.5%",
            "--rate",
            "1mbit",
            "--for",
            "2m",
            "--seed",
            "7",
            "--one-way",
        ])
        .expect("legal");
        assert_eq!((&object["kind"], &object["metadata"]["name"]), (&json!("Fault"), &json!("slow")));
        assert_eq!(
            object["spec"],
            json!({
                "from": {"matchLabels": {"app": "web", "tier": "front"}, "namespace": "shop"},
                "to": {"service": "db", "namespace": "shop"},
                "delayMilliseconds": 1500, "jitterMilliseconds": 20, "lossPercent": 12.5, "rateKilobitsPerSecond": 1000,
                "oneWay": true, "durationSeconds": 120, "seed": 7,
            })
        );
        let object = made(&["--from", "workstation", "--to", "zone/zone-a", "--partition"]).expect("legal");
        assert_eq!(object["metadata"], json!({"generateName": "fault-"}));
        assert_eq!(object["spec"], json!({"from": {"workstation": true}, "to": {"zone": "zone-a"}, "partition": true}));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_to_type() {
        for (args, message, hint) in [
            (["--to", "web"], "\"web\" is no place", "svc/NAME"),
            (["--to", "deployment/web"], "\"deployment/web\" is no place", "svc/NAME"),
            (["--delay", "100"], "\"100\" is no duration", "100ms"),
            (["--loss", "101%"], "\"101%\" is no share", "0% to 100%"),
            (["--rate", "fast"], "\"fast\" is no rate", "10mbit"),
        ] {
            let text = made(&args).expect_err("refused").render();
            assert!(text.contains(message) && text.contains(hint), "{args:?}: {text}");
        }
    }
}
