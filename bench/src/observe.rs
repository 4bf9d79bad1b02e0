//! What looking on costs: requests and connections through a virtual IP while nobody, somebody and somebody curious follows
//! the trace; and how long `minisvc why` takes.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::dataplane;
use crate::figures::{goal, line, median, millis};
use crate::lab::Lab;

/// Rounds; each measures everything once, in turn.
const ROUNDS: usize = 5;

/// Seconds of each measurement.
const SECONDS: &str = "2";

/// How often `why` is asked.
const QUESTIONS: usize = 20;

/// Who looks on.
const ONLOOKERS: [(&str, &[&str]); 2] =
    [("each new flow told", &["trace"]), ("each packet told", &["trace", "--packets"])];

/// What is measured: a hidden command of `load.rs`, and how many clients.
const KINDS: [(&str, &str); 2] = [("requests of 256 bytes", "__requests"), ("connections", "__connections")];

/// Prints the group.
pub(crate) fn measure() -> Result<(), Failure> {
    let lab = dataplane::lab()?;
    for (kind, command) in KINDS {
        let mut alone = Vec::new();
        let mut ratios = vec![Vec::new(); ONLOOKERS.len()];
        for _ in 0..ROUNDS {
            let ask = || -> Result<f64, Failure> {
                Ok(lab.inside(Some("client"), &[command, dataplane::VIP, SECONDS, "16"])?.trim().parse()?)
            };
            let nobody = ask()?;
            alone.push(nobody);
            for ((_, arguments), ratios) in ONLOOKERS.iter().zip(&mut ratios) {
                let mut onlooker = begin(&lab, arguments)?;
                let rate = ask();
                onlooker.kill()?;
                onlooker.wait()?;
                ratios.push(rate? / nobody);
            }
        }
        line(&format!("{kind}, 16 clients, nobody looks on"), &format!("{:.0} /s", median(&alone)), "");
        for ((what, _), ratios) in ONLOOKERS.iter().zip(&ratios) {
            line(&format!("{kind}, {what}"), &format!("{:.2} of that", median(ratios)), "");
        }
    }
    let times: Vec<f64> = (0..QUESTIONS).map(|_| why(&lab)).collect::<Result<_, _>>()?;
    line("minisvc why svc/server, p50", &format!("{:.0} ms", median(&times)), &goal(median(&times) < 300.0, "300 ms"));
    lab.down()?;
    Ok(())
}

/// Follows the trace, and throws it away.
fn begin(lab: &Lab, arguments: &[&str]) -> Result<Child, Failure> {
    let onlooker = lab.command(arguments)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    std::thread::sleep(Duration::from_millis(200));
    Ok(onlooker)
}

fn why(lab: &Lab) -> Result<f64, Failure> {
    let began = Instant::now();
    lab.run(&["why", "svc/server"])?;
    Ok(millis(began.elapsed()))
}
