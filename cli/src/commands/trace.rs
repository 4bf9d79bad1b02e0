//! `trace`: follow what the data plane decides, as it decides it.

mod pcapng;

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::{Stream, StreamExt as _};
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::Value;

use crate::api::LabApi;
use crate::args::{TraceArgs, TraceOutput};
use crate::commands::{endpoints, table};
use crate::error::{CliError, Context as _};
use crate::home::LabHome;
use crate::output;
use pcapng::{Capture, Direction};

/// Follows the decisions of a lab until Ctrl-C, or until as many as were asked for have come.
///
/// # Errors
/// When the lab does not run or goes down, or a filter makes no sense.
pub(crate) async fn trace(args: &TraceArgs) -> Result<(), CliError> {
    let api = LabApi::of(&LabHome::of(&args.lab)?)?;
    let answer = api.send(Method::GET, &table::path("trace", &query(args)?), &[], Vec::new()).await?;
    let lines = lines(answer.into_body());
    let interrupted = async {
        // Without a handler the signal ends the process, which is as well.
        let _ = tokio::signal::ctrl_c().await;
    };
    let print = async {
        match &args.pcap {
            Some(file) => capture(file, lines, args.count).await,
            None => print(args, lines).await,
        }
    };
    tokio::select! {
        result = print => result,
        () = interrupted => Ok(()),
    }
}

fn query(args: &TraceArgs) -> Result<Vec<(&'static str, String)>, CliError> {
    let in_namespace = |name: &str| format!("{}/{name}", args.namespace);
    let mut query = vec![("watch", "true".to_owned())];
    if let Some(service) = &args.service {
        query.push(("service", in_namespace(endpoints::service_name(service)?)));
    }
    query.extend(args.pod.iter().map(|pod| ("pod", in_namespace(pod.trim_start_matches("pod/")))));
    query.extend(args.node.iter().map(|node| ("node", node.clone())));
    query.extend(args.port.iter().map(|port| ("port", port.to_string())));
    let frames = args.pcap.is_some();
    let switches = [("packets", args.packets || frames), ("drops", args.drops), ("frames", frames)];
    query.extend(switches.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name, "true".to_owned())));
    Ok(query)
}

/// The lines of an answer as they come: as many whole ones as there are, at least one.
fn lines(body: hyper::body::Incoming) -> impl Stream<Item = Result<String, CliError>> + Unpin {
    let state = (body.into_data_stream(), Vec::new());
    Box::pin(futures::stream::unfold(state, |(mut chunks, mut pending): (_, Vec<u8>)| async move {
        loop {
            match chunks.next().await? {
                Ok(chunk) => pending.extend_from_slice(&chunk),
                Err(source) => {
                    let error = CliError::failed("the trace broke off").because(source);
                    return Some((Err(error), (chunks, Vec::new())));
                }
            }
            if let Some(end) = pending.iter().rposition(|byte| *byte == b'\n') {
                let rest = pending.split_off(end + 1);
                return Some((Ok(String::from_utf8_lossy(&pending).into_owned()), (chunks, rest)));
            }
        }
    }))
}

async fn print(
    args: &TraceArgs,
    mut lines: impl Stream<Item = Result<String, CliError>> + Unpin,
) -> Result<(), CliError> {
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(some) = lines.next().await else {
            return Err(CliError::failed("the lab has ended"));
        };
        let some = some?;
        let mut text = String::with_capacity(some.len());
        for line in some.lines() {
            if left == 0 {
                break;
            }
            left -= 1;
            match args.output {
                TraceOutput::Json => text += line,
                TraceOutput::Text => text += &sentence(&parse(line)?),
            }
            text.push('\n');
        }
        output::print(&text)?;
    }
    Ok(())
}

fn parse(line: &str) -> Result<Value, CliError> {
    serde_json::from_str(line).context(|| "the lab sent a broken line".to_owned())
}

/// One decision on one line:
/// `12:00:01.234  TCP workstation 10.95.0.1:4000 -> default/web:http 10.96.0.9:80 -> pod/default/web-1 10.244.0.2:8080  at random of 3 endpoints`.
fn sentence(line: &Value) -> String {
    let text = |name: &str| line[name].as_str().unwrap_or_default();
    // 2026-01-01T12:00:01.234567Z: the date is the reader's own.
    let time = text("time").get(11..).unwrap_or_default().trim_end_matches('Z');
    let time: String = time.chars().chain(".000".chars().filter(|_| !time.contains('.'))).take(12).collect();
    if text("event") == "lost" {
        return format!("{time}  {}", text("why"));
    }
    let (from, to, length) = (place(&line["from"]), place(&line["to"]), format!("{} bytes", line["length"]));
    let (source, destination, endpoint) = (text("source"), text("destination"), text("endpoint"));
    let is_reply = line["isReply"] == true;
    let service = if is_reply { "" } else { text("service") };
    let mut words = vec![text("protocol"), &from, source, "->", service, destination];
    match text("event") {
        "refused" | "dropped" | "made" => {}
        _ if is_reply || endpoint == destination => words.push(&to),
        _ => words.extend(["->", &to, endpoint]),
    }
    if matches!(text("event"), "packet" | "made") {
        words.extend([text("flags"), &length]);
    }
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let verdict = match text("event") {
        "refused" => "refused: ",
        "dropped" => "dropped: ",
        "made" => "sent: ",
        _ => "",
    };
    format!("{time}  {}  {verdict}{}", words.join(" "), text("why"))
}

/// `pod/default/web-1`, `node/node-1`, `workstation`.
fn place(place: &Value) -> String {
    let name = place["name"].as_str().unwrap_or_default();
    match place["kind"].as_str() {
        Some(kind @ ("Pod" | "Node")) => format!("{}/{name}", kind.to_lowercase()),
        _ => name.to_owned(),
    }
}

async fn capture(
    path: &Path,
    mut lines: impl Stream<Item = Result<String, CliError>> + Unpin,
    count: Option<u64>,
) -> Result<(), CliError> {
    let cannot = || format!("cannot write {}", path.display());
    let file = File::create(path).context(cannot)?;
    let mut capture = Capture::begin(BufWriter::new(file)).context(cannot)?;
    eprintln!("Writing packets to {} until Ctrl-C", path.display());
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(some) = lines.next().await else { return Err(CliError::failed("the lab has ended")) };
        for line in some?.lines() {
            if left == 0 {
                break;
            }
            left -= 1;
            write_frames(&mut capture, &parse(line)?).context(cannot)?;
        }
        // Whoever opens the file meanwhile sees whole packets, up to the latest ones.
        capture.flush().context(cannot)?;
    }
    Ok(())
}

/// The packet where it came from, and what became of it where it went.
fn write_frames<W: std::io::Write>(capture: &mut Capture<W>, line: &Value) -> std::io::Result<()> {
    let frame = |name: &str| BASE64_STANDARD.decode(line[name].as_str().unwrap_or_default()).unwrap_or_default();
    let (before, after) = (frame("before"), frame("after"));
    let nanoseconds = line["time"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
    let time = nanoseconds.and_then(|time| u64::try_from(time.as_nanosecond()).ok()).unwrap_or_default();
    let (from, to) = (place(&line["from"]), place(&line["to"]));
    let event = line["event"].as_str().unwrap_or_default();
    let service = line["service"].as_str().map(|service| format!("{service}: ")).unwrap_or_default();
    let comment = format!("{event}: {service}{}", line["why"].as_str().unwrap_or_default());
    // Of a packet that was answered or dropped, and of one of the data plane's own, only one place is known.
    let to = if to.is_empty() { &from } else { &to };
    if !before.is_empty() {
        capture.packet(&from, Direction::FromIt, time, &before, &comment)?;
    }
    if !after.is_empty() {
        capture.packet(to, Direction::ToIt, time, &after, &comment)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
