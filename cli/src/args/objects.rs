//! Commands about objects: `get`, `describe`, `apply`, `delete`, `logs`.

use std::path::PathBuf;

use clap::Args;

use super::LabArgs;
use crate::output::GetOutput;

/// Which namespace a listing looks at.
#[derive(Debug, Clone, Args)]
pub(crate) struct ScopeArgs {
    /// Namespace to look in
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,

    /// Look in all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,

    /// Only objects with these labels
    #[arg(short = 'l', long)]
    pub(crate) selector: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    #[command(flatten)]
    pub(crate) scope: ScopeArgs,

    /// Output format: table, wide, json, yaml, name, or jsonpath=TEMPLATE
    #[arg(short, long, value_name = "FORMAT", value_parser = GetOutput::parse, default_value = "table")]
    pub(crate) output: GetOutput,

    /// Go on and print every change
    #[arg(short, long)]
    pub(crate) watch: bool,

    /// Kind, as kubectl names it: pods, svc, deploy …; several with commas between them, or all; or KIND/NAME
    pub(crate) kind: String,

    /// Name of one object
    pub(crate) object: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DescribeArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Namespace of the object
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,

    /// Kind, as kubectl names it, or KIND/NAME
    pub(crate) kind: String,

    /// Name of the object
    pub(crate) object: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Namespace for objects that name none
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,

    /// Files, folders, or - for standard input; a minisvc.yaml is a project
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    pub(crate) filenames: Vec<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Namespace for objects that name none
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,

    /// Delete what these manifests name
    #[arg(short = 'f', long = "filename", value_name = "PATH", conflicts_with_all = ["kind", "object"])]
    pub(crate) filenames: Vec<PathBuf>,

    /// Kind, as kubectl names it: pods, svc, deploy …; or KIND/NAME
    #[arg(required_unless_present = "filenames")]
    pub(crate) kind: Option<String>,

    /// Name of the object
    pub(crate) object: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) lab: LabArgs,

    /// Namespace of the pod
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,

    /// Container of the pod [default: its first]
    #[arg(short, long)]
    pub(crate) container: Option<String>,

    /// Go on as the pod writes
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// The container before its last restart
    #[arg(short, long)]
    pub(crate) previous: bool,

    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    pub(crate) tail: Option<u64>,

    /// Only what is younger than this: 30s, 5m, 2h
    #[arg(long, value_name = "DURATION", value_parser = parse_seconds)]
    pub(crate) since: Option<u64>,

    /// The time in front of each line
    #[arg(long)]
    pub(crate) timestamps: bool,

    /// Name of the pod
    pub(crate) pod: String,
}

/// A duration as kubectl writes it, in seconds: `90`, `30s`, `5m`, `2h`, `1h30m`.
fn parse_seconds(text: &str) -> Result<u64, String> {
    let explain = || "type a duration such as 30s, 5m or 2h".to_owned();
    let mut total: u64 = 0;
    let mut number = String::new();
    for character in text.chars() {
        let factor = match character {
            '0'..='9' => {
                number.push(character);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(explain()),
        };
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(explain)?;
        number.clear();
    }
    let bare = if number.is_empty() { Some(0) } else { number.parse().ok() };
    bare.and_then(|rest: u64| total.checked_add(rest)).filter(|total| *total > 0).ok_or_else(explain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_as_for_kubectl() {
        for (text, seconds) in [("90", 90), ("30s", 30), ("5m", 300), ("1h30m", 5400)] {
            assert_eq!(parse_seconds(text), Ok(seconds), "{text}");
        }
        for text in ["", "0", "s", "5d", "-1", "99999999999999999999s", "9999999999999999999h"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
