//! The live page, as a browser shows it and as its stream tells it.
//!
//! Where there is no Chromium only the stream is tried. `MINISVC_SCREENSHOTS=DIR` keeps pictures.

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use common::{Beside, Lab, MINISVC, PATIENCE, echo, eventually, pod, service};
use minisvc_browser::Browser;
use serde_json::{Value, json};

/// `minisvc dashboard`, and where it listens.
fn dashboard(lab: &Lab) -> (Beside, SocketAddr) {
    let mut command = Command::new("sh");
    // Its words go to standard error; this way they are read as they come.
    command.args(["-c", "exec \"$0\" dashboard --port 0 2>&1", MINISVC]);
    command.env("MINISVC_LAB", "dashboard").env("MINISVC_STATE_DIR", lab.state_dir());
    let mut dashboard = Beside::start(command);
    let line = dashboard.line("the page's address", |line| line.contains("is shown at"));
    let address = line.split_once("http://").and_then(|(_, rest)| rest.split_once('/')).expect("an address").0;
    (dashboard, address.parse().expect("an address"))
}

/// Reads the stream until an event fits.
fn told(address: SocketAddr, what: &str, fits: impl Fn(&str, &Value) -> bool) -> Value {
    let mut socket = TcpStream::connect(address).expect("connected");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    write!(socket, "GET /dashboard/feed HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("sent");
    let mut event = String::new();
    for line in BufReader::new(socket).lines() {
        let line = line.unwrap_or_else(|error| panic!("waited for {what}: {error}"));
        if let Some(name) = line.strip_prefix("event: ") {
            event = name.to_owned();
        }
        if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).expect("JSON");
            if fits(&event, &data) {
                return data;
            }
        }
    }
    panic!("the stream ended before {what}");
}

/// The page in a browser that does what it is asked.
struct Page(Browser);

impl Page {
    fn evaluate(&mut self, expression: &str) -> Value {
        self.0.evaluate(expression).expect("evaluated")
    }

    fn until(&mut self, expression: &str) {
        self.0.until(expression).unwrap_or_else(|error| panic!("{error}"));
    }

    fn press(&mut self, key: &str) {
        self.0.press(key).expect("pressed");
    }
}

fn changed(changes: &Value, key: &str, kind: &str) -> Option<Value> {
    changes.as_array()?.iter().find(|change| change["key"] == key && change["kind"] == kind).cloned()
}

#[test]
fn the_page_shows_what_is_there_what_changes_and_every_connection() {
    let lab = Lab::start("dashboard", &[]);
    lab.apply_all(&[
        pod("web", &json!([echo(8080)]), &json!({})),
        service("web", &json!({"app": "web"}), 80, &json!(8080)),
        service("empty", &json!({"app": "nobody"}), 80, &json!(8080)),
    ]);
    lab.ready("web");
    let (_dashboard, address) = dashboard(&lab);
    let begin = told(address, "the beginning", |event, _| event == "begin");
    assert_eq!(begin, json!({"name": "dashboard"}));
    let is_ready = |event: &str, data: &Value| {
        event == "changes" && changed(data, "default/web", "pod").is_some_and(|pod| pod["ready"] == true)
    };
    told(address, "the ready pod", is_ready);
    let Some(browser) = Browser::start(1280, 720).expect("started") else {
        eprintln!("there is no Chromium: the page itself was not tried");
        return;
    };
    let mut page = Page(browser);
    page.0.visit(&format!("http://{address}/")).expect("visited");
    page.until("!!document.querySelector('[data-id=\"service:default/web\"] .mark.ready')");
    page.until("!!document.querySelector('[data-id=\"pod:default/web\"] .mark.ready')");
    assert_eq!(page.evaluate("document.getElementById('lab').textContent"), "dashboard");
    look_by_keyboard(&mut page);
    connections(&lab, &mut page);
    tell_a_story(&lab, &mut page);
    page.0.prefer("prefers-color-scheme", "dark").expect("preferred");
    page.until("matchMedia('(prefers-color-scheme: dark)').matches");
    keep(&mut page, "dashboard-dark.png");
    leave_and_return(&mut page, address);
    lab.run(&["delete", "pod", "web"]);
    page.until("!document.querySelector('[data-id=\"pod:default/web\"]')");
    page.until("!document.querySelector('[data-id=\"service:default/web\"] .mark')");
    assert_eq!(page.0.complaints(), Vec::<String>::new());
}

/// Every card is reached and left by the keyboard alone.
fn look_by_keyboard(page: &mut Page) {
    page.evaluate("document.querySelector('[data-id=\"service:default/web\"]').focus()");
    page.press("Enter");
    page.until("!document.getElementById('details').hidden");
    page.until("document.getElementById('details').textContent.includes('\"clusterIP\"')");
    page.press("Escape");
    page.until("document.getElementById('details').hidden");
    assert_eq!(page.evaluate("document.activeElement.dataset.id"), "service:default/web", "back where it was");
}

/// The browser keeps a page that was left, and has but six connections to one address.
fn leave_and_return(page: &mut Page, address: SocketAddr) {
    let began = Instant::now();
    for _ in 0..7 {
        for url in ["about:blank".to_owned(), format!("http://{address}/")] {
            page.0.visit(&url).expect("visited");
        }
        page.until("!!document.querySelector('[data-id=\"pod:default/web\"] .mark.ready')");
    }
    assert!(
        began.elapsed() < PATIENCE / 3,
        "none has waited for an earlier one to be forgotten: {:?}",
        began.elapsed()
    );
}

fn connections(lab: &Lab, page: &mut Page) {
    let seen = |page: &mut Page, text: &str| {
        page.evaluate(&format!("document.getElementById('log').textContent.includes('{text}')"))
    };
    eventually("a connection is drawn", || {
        lab.fetch("http://web").expect("answered");
        (seen(page, "default/web") == true).then_some(())
    });
    keep(page, "dashboard-light.png");
    eventually("a refused connection is drawn", || {
        lab.fetch("http://empty").expect_err("nobody answers");
        (seen(page, "refuse") == true).then_some(())
    });
}

fn tell_a_story(lab: &Lab, page: &mut Page) {
    page.evaluate("document.getElementById('story').click()");
    eventually("the story begins", || {
        lab.fetch("http://web").expect("answered");
        let text = page.evaluate("document.getElementById('teller').textContent");
        if text.as_str().is_some_and(|text| text.contains("the Service web")) {
            return Some(());
        }
        // The refused connections may still come.
        page.evaluate("document.querySelector('#teller nav button:last-child')?.click()");
        None
    });
    let mut titles = Vec::new();
    for _ in 0..5 {
        titles.push(page.evaluate("document.querySelector('#teller strong').textContent"));
        keep(page, &format!("story-{}.png", titles.len()));
        page.press("ArrowRight");
    }
    assert_eq!(titles, ["1. The name", "2. The virtual IP", "3. The choice", "4. The rewrite", "5. The reply"]);
    let text = page.evaluate("document.getElementById('teller').textContent");
    assert!(text.as_str().is_some_and(|text| text.contains(":8080")), "{text}");
    page.evaluate("document.getElementById('story').click()");
}

fn keep(page: &mut Page, name: &str) {
    if let Some(folder) = std::env::var_os("MINISVC_SCREENSHOTS") {
        page.0.screenshot(&PathBuf::from(folder).join(name)).expect("written");
    }
}
