//! `why`: the whole way from an object to the listening socket, and the first thing on it that is wrong.

use std::process::ExitCode;

use minisvc_why::{Advice, Client, Findings, Outcome, Question};

use crate::args::{LabArgs, Output, WhyArgs};
use crate::error::CliError;
use crate::home::LabHome;
use crate::{output, why};

/// Answers one question. Ends with 1 if it does not work.
///
/// # Errors
/// When the target makes no sense or the lab does not run.
pub(crate) async fn why(args: &WhyArgs) -> Result<ExitCode, CliError> {
    let client = args.from.as_deref().map_or(Client::Workstation, |pod| why::client(pod, &args.namespace));
    let question = Question::parse(&args.target, &args.namespace, client)
        .map_err(|error| CliError::usage(error.to_string()).hint("for example minisvc why svc/web"))?;
    let mut findings = why::answer(&LabHome::of(&args.lab)?, &question).await?;
    let flags = flags(&args.lab);
    findings.advice = findings.advice.iter().map(|advice| advice.with_flags(&flags)).collect::<Vec<Advice>>();
    show(&findings, args.output)?;
    Ok(if findings.outcome == Outcome::Broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(findings: &Findings, format: Output) -> Result<(), CliError> {
    match format {
        Output::Json => output::print_json(&serde_json::json!(findings)),
        Output::Yaml => output::print_yaml(&serde_json::json!(findings)),
        Output::Name => output::print(&format!("{}\n", serde_json::json!(findings.cause).as_str().unwrap_or_default())),
        Output::Table | Output::Wide => output::print(&why::render(findings)),
    }
}

/// What a proposed command needs to find the same lab, unless the environment says it already.
fn flags(lab: &LabArgs) -> Vec<String> {
    let set = |variable: &str, value: &str| std::env::var(variable).is_ok_and(|set| set == value);
    let mut flags = Vec::new();
    if lab.name != "default" && !set("MINISVC_LAB", &lab.name) {
        flags.extend(["--name".to_owned(), lab.name.clone()]);
    }
    if let Some(dir) = lab.state_dir.as_ref().map(|dir| dir.display().to_string())
        && !set("MINISVC_STATE_DIR", &dir)
    {
        flags.extend(["--state-dir".to_owned(), dir]);
    }
    flags
}
