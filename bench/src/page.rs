//! The live page of a lab with 500 pods: how long it takes to be drawn, and whether it moves smoothly while connections are made.
//!
//! Chromium draws without a graphics card, on the processors that the lab and the connections use too.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use minisvc_browser::Browser;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::Failure;
use crate::figures::{goal, line, median, quantile, spread};
use crate::lab::{Lab, myself};
use crate::load::PORT;
use crate::start;

/// Pods that are shown, beside the server.
const PODS: usize = 500;

/// How often the page is loaded.
const LOADS: usize = 7;

/// New connections a second, and how many clients make them.
const CONNECTIONS: &str = "2000";
const CLIENTS: &str = "8";

/// Seconds that the page is watched, and that connections are made: longer, since they begin before and end after.
const WATCHED: usize = 10;
const CONNECTED: &str = "16";

/// Where the server answers behind its virtual IP.
const VIP: &str = "10.96.77.79:5001";

/// Set before the page's own scripts run: the time from the navigation to the end of the first frame in which every pod is.
const LOADED: &str = "
    const look = () => {
        if (document.querySelectorAll('#nodes .pod').length < PODS) return requestAnimationFrame(look);
        // A message comes after the drawing of this frame.
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = () => { window.drawnAfter = performance.now(); };
        port2.postMessage(undefined);
    };
    requestAnimationFrame(look);
";

/// Times between frames, in milliseconds, for some time.
const FRAMES: &str = "
    new Promise((done) => {
        const [frames, began] = [[], performance.now()];
        let last = began;
        const frame = (now) => {
            frames.push(now - last);
            last = now;
            if (now - began < SECONDS * 1000) requestAnimationFrame(frame);
            else done(frames);
        };
        requestAnimationFrame(frame);
    })
";

/// Prints the group.
pub(crate) fn measure() -> Result<(), Failure> {
    let Some(mut browser) = Browser::start(1600, 1000)? else {
        line("the live page", "skipped", "there is no Chromium on this machine");
        return Ok(());
    };
    let (lab, _) = start::crowd(PODS)?;
    lab.apply(&server(&myself()?.to_string_lossy()))?;
    lab.until_ready(PODS + 1)?;
    let (dashboard, url) = dashboard(&lab)?;
    browser.before_each_page(&LOADED.replace("PODS", &(PODS + 1).to_string()))?;
    let mut loads = Vec::new();
    for _ in 0..LOADS {
        loads.push(load(&mut browser, &url)?);
    }
    line(
        &format!("{PODS} pods: page asked for → drawn, p50 / p99"),
        &spread(&loads),
        &goal(median(&loads) < 1000.0, "1 s"),
    );
    frames("nothing happens", &watch(&mut browser)?);
    let connect = ["__connections_at", VIP, CONNECTED, CLIENTS, CONNECTIONS];
    let connecting = lab.inside_in_background(None, &connect)?;
    browser.until("document.getElementById('log').children.length > 0")?;
    let busy = watch(&mut browser)?;
    let during = load(&mut browser, &url)?;
    let made: f64 = String::from_utf8(connecting.wait_with_output()?.stdout)?.trim().parse()?;
    frames(&format!("{made:.0} new connections a second"), &busy);
    line("the same: page asked for → drawn, once", &format!("{during:.0} ms"), "");
    if let Some(complaint) = browser.complaints().first() {
        return Err(format!("the page complains: {complaint}").into());
    }
    end(dashboard)?;
    lab.down()?;
    Ok(())
}

/// Loads the page; milliseconds until it is drawn.
fn load(browser: &mut Browser, url: &str) -> Result<f64, Failure> {
    // Another page between, so that nothing of the earlier one is left.
    browser.visit("about:blank")?;
    browser.visit(url)?;
    browser.until("window.drawnAfter !== undefined")?;
    Ok(browser.evaluate("window.drawnAfter")?.as_f64().ok_or("no time")?)
}

fn watch(browser: &mut Browser) -> Result<Vec<f64>, Failure> {
    let frames = browser.evaluate(&FRAMES.replace("SECONDS", &WATCHED.to_string()))?;
    Ok(frames.as_array().ok_or("no frames")?.iter().filter_map(serde_json::Value::as_f64).collect())
}

/// Frames a second are those of the median frame, which Chromium does not let be more than 60.
fn frames(when: &str, frames: &[f64]) {
    let rate = 1000.0 / median(frames);
    line(&format!("{when}: frames a second, median"), &format!("{rate:.0}"), &goal(rate >= 50.0, "50"));
    let longest = quantile(frames, 100);
    line(
        &format!("{when}: a frame, p99 / longest of {}", frames.len()),
        &format!("{:.0} / {longest:.0} ms", quantile(frames, 99)),
        &goal(longest <= 100.0, "none over 100 ms"),
    );
}

/// `minisvc dashboard`, and its address.
fn dashboard(lab: &Lab) -> Result<(Child, String), Failure> {
    let mut process = lab.command(&["dashboard", "--port", "0"])?.stderr(Stdio::piped()).spawn()?;
    let mut said = String::new();
    BufReader::new(process.stderr.take().ok_or("no pipe")?).read_line(&mut said)?;
    let url = said.split_whitespace().find(|word| word.starts_with("http://"));
    let url = url.ok_or_else(|| format!("minisvc dashboard said: {said}"))?.to_owned();
    Ok((process, url))
}

fn end(mut process: Child) -> Result<(), Failure> {
    nix::sys::signal::kill(Pid::from_raw(i32::try_from(process.id())?), Signal::SIGINT)?;
    process.wait()?;
    Ok(())
}

fn server(program: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: server, labels: {{app: server}}}}\nspec:\n  containers:\n  - name: \
         main\n    image: local\n    command: [{program:?}, __serve]\n    readinessProbe: {{tcpSocket: {{port: {PORT}}}, \
         periodSeconds: 1}}\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: server}}\nspec: {{clusterIP: \
         10.96.77.79, selector: {{app: server}}, ports: [{{port: {PORT}}}]}}\n"
    )
}
