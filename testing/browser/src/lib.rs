//! A headless Chromium with one page, spoken to in its own protocol (DevTools) over two pipes, so that it opens no port.
//!
//! It knows nothing of minisvc, and judges nothing: tests and measurements ask it what the page is like.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Anything that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at the page.
const LOOK: Duration = Duration::from_millis(50);

/// Names of the program, the usual one first.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Keeps it from looking for anybody on the network.
const QUIET: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
];

/// Why the browser did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BrowserError {
    /// A program, pipe or file made trouble.
    #[error("the browser cannot be spoken to")]
    Io(#[from] io::Error),
    /// It said nothing for a minute.
    #[error("the browser did not answer {asked} in time")]
    Silent {
        /// What it was asked.
        asked: String,
    },
    /// It refused, or a script failed.
    #[error("{asked}: {answer}")]
    Refused {
        /// What it was asked.
        asked: String,
        /// What it said.
        answer: String,
    },
    /// Something did not come true in the page.
    #[error("waited for {expression}; the page complains of {complaints:?} and shows {page}")]
    NeverTrue {
        /// What was waited for.
        expression: String,
        /// What the page complained about meanwhile.
        complaints: Vec<String>,
        /// Its text.
        page: String,
    },
}

/// One page. The browser ends when it is dropped.
#[derive(Debug)]
pub struct Browser {
    process: Child,
    to: File,
    answers: Receiver<Value>,
    session: Option<String>,
    number: u64,
    complaints: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Browser {
    /// Starts the browser with a window of this size; `None` where there is no Chromium.
    ///
    /// # Errors
    /// When it does not start or does not answer.
    pub fn start(width: u32, height: u32) -> Result<Option<Self>, BrowserError> {
        let Some(program) = PROGRAMS.into_iter().find_map(in_path) else { return Ok(None) };
        let folder = tempfile::Builder::new().prefix("minisvc-browser-").tempdir_in("/tmp")?;
        let [input, output] = ["in", "out"].map(|name| folder.path().join(name));
        for pipe in [&input, &output] {
            nix::unistd::mkfifo(pipe, nix::sys::stat::Mode::S_IRWXU).map_err(io::Error::from)?;
        }
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 3<in 4>out"]).arg(program).args(QUIET).current_dir(folder.path());
        command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
        command.arg(format!("--window-size={width},{height}")).arg("about:blank");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let process = command.spawn()?;
        // With both ends this waits for nobody; the other one waits, on its own thread, until the browser opens its end.
        let to = File::options().read(true).write(true).open(&input)?;
        let (answer_tx, answers) = channel();
        std::thread::spawn(move || {
            let Ok(from) = File::open(&output) else { return };
            for message in BufReader::new(from).split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { continue };
                if answer_tx.send(message).is_err() {
                    return;
                }
            }
        });
        let complaints = Vec::new();
        let mut browser = Self { process, to, answers, session: None, number: 0, complaints, _folder: folder };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach)?;
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(Some(browser))
    }

    /// Goes to a page, and returns when it begins to come.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn visit(&mut self, url: &str) -> Result<(), BrowserError> {
        self.call("Page.navigate", json!({"url": url})).map(drop)
    }

    /// Runs a script at the beginning of every page from now on, before the page's own.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn before_each_page(&mut self, script: &str) -> Result<(), BrowserError> {
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({"source": script})).map(drop)
    }

    /// Has people's preferences be these, such as `prefers-color-scheme: dark`.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn prefer(&mut self, name: &str, value: &str) -> Result<(), BrowserError> {
        self.call("Emulation.setEmulatedMedia", json!({"features": [{"name": name, "value": value}]})).map(drop)
    }

    /// What an expression is in the page; of a promise, what it becomes.
    ///
    /// # Errors
    /// When the browser does not answer, or the expression throws.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value, BrowserError> {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", asked)?;
        if answer["exceptionDetails"].is_null() {
            return Ok(answer["result"]["value"].clone());
        }
        Err(BrowserError::Refused { asked: expression.to_owned(), answer: answer["exceptionDetails"].to_string() })
    }

    /// Waits until an expression is true in the page.
    ///
    /// # Errors
    /// When that does not happen within a minute.
    pub fn until(&mut self, expression: &str) -> Result<(), BrowserError> {
        let deadline = Instant::now() + PATIENCE;
        while self.evaluate(expression)? != true {
            if Instant::now() > deadline {
                let page = self.evaluate("document.body.innerText")?.to_string();
                let complaints = self.complaints.clone();
                return Err(BrowserError::NeverTrue { expression: expression.to_owned(), complaints, page });
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Presses a key, as `KeyboardEvent.key` names it.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn press(&mut self, key: &str) -> Result<(), BrowserError> {
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "ArrowRight" => 39,
            "Tab" => 9,
            _ => 0,
        };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text});
            self.call("Input.dispatchKeyEvent", event)?;
        }
        Ok(())
    }

    /// Writes a picture of the page.
    ///
    /// # Errors
    /// When the browser does not answer, or the file cannot be written.
    pub fn screenshot(&mut self, path: &Path) -> Result<(), BrowserError> {
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"}))?;
        let picture = STANDARD.decode(answer["data"].as_str().unwrap_or_default()).map_err(io::Error::other)?;
        Ok(std::fs::write(path, picture)?)
    }

    /// What the page has complained about.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Calls a method of the DevTools protocol, and returns its result.
    ///
    /// # Errors
    /// When the browser does not answer, or refuses.
    pub fn call(&mut self, method: &str, parameters: Value) -> Result<Value, BrowserError> {
        self.number += 1;
        let mut message = json!({"id": self.number, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes())?;
        loop {
            let silent = |_| BrowserError::Silent { asked: method.to_owned() };
            let mut answer = self.answers.recv_timeout(PATIENCE).map_err(silent)?;
            if answer["id"] == self.number {
                if answer["error"].is_null() {
                    return Ok(answer["result"].take());
                }
                return Err(BrowserError::Refused { asked: method.to_owned(), answer: answer["error"].to_string() });
            }
            match answer["method"].as_str() {
                Some("Runtime.exceptionThrown") => {
                    self.complaints.push(answer["params"]["exceptionDetails"].to_string());
                }
                Some("Log.entryAdded") => self.complaints.push(answer["params"]["entry"].to_string()),
                _ => {}
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It is the first of a group of its own.
        let group = i32::try_from(self.process.id()).map(nix::unistd::Pid::from_raw);
        if let Ok(group) = group {
            // Already gone is as well.
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        }
        let _ = self.process.wait();
    }
}

/// Where a program is, if it is installed.
fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
