//! `minisvc top`: the lab in a terminal: Services, endpoints, pods, connections, drops and events, as they change.
//!
//! [`model`] is what is known and what a key does, [`rows`] what is shown of it, [`draw`] how; none of them does any I/O.

mod draw;
mod model;
mod rows;

use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt as _;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::api::LabApi;
use crate::error::{CliError, Context as _};
use crate::home::LabHome;
use crate::live;
use model::{Action, Model, Question, Sample};

/// How often figures are asked for.
const EVERY: Duration = Duration::from_secs(1);

/// Connections that are asked for.
const FLOWS: usize = 200;

/// Keys waiting to be handled; who types faster waits.
const KEYS: usize = 64;

/// How long to wait for a key before looking whether anybody still wants one.
const KEY_PATIENCE: Duration = Duration::from_millis(200);

/// Shows the lab until `q`.
///
/// # Errors
/// When the lab does not run, or this is no terminal.
pub(crate) async fn top(home: &LabHome) -> Result<(), CliError> {
    let api = LabApi::of(home)?;
    let mut terminal = ratatui::try_init().map_err(|source| {
        CliError::usage("this is no terminal")
            .because(source)
            .hint("in a script, use minisvc endpoints, flows and status")
    })?;
    let shown = show(&mut terminal, &api, Model::new(&home.name)).await;
    ratatui::restore();
    shown
}

async fn show(terminal: &mut ratatui::DefaultTerminal, api: &LabApi, mut model: Model) -> Result<(), CliError> {
    let mut changes = live::follow(&api.kube());
    let mut keys = keys();
    let (answer_tx, mut answers) = mpsc::channel(1);
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        terminal.draw(|frame| draw::draw(frame, &model)).context(|| "cannot draw".to_owned())?;
        tokio::select! {
            Some(change) = changes.recv() => {
                model.tell(change);
                while let Ok(change) = changes.try_recv() {
                    model.tell(change);
                }
            }
            key = keys.recv() => {
                let Some(key) = key else { return Ok(()) };
                match model.press(key) {
                    Action::Nothing => {}
                    Action::Quit => return Ok(()),
                    Action::Ask(question) => {
                        let (api, answer_tx) = (api.clone(), answer_tx.clone());
                        // A newer question replaces one that nobody waits for any more.
                        tokio::spawn(async move { answer_tx.send(ask(&api, &question).await).await });
                    }
                }
            }
            Some(text) = answers.recv() => model.show(text),
            _ = tick.tick() => match measure(api).await {
                Ok(sample) => model.measure(sample, Instant::now()),
                Err(error) => model.trouble(error.to_string()),
            },
        }
    }
}

/// The keyboard, read on a thread of its own because reading blocks.
fn keys() -> mpsc::Receiver<event::KeyEvent> {
    let (key_tx, keys) = mpsc::channel(KEYS);
    std::thread::spawn(move || {
        while !key_tx.is_closed() {
            match event::poll(KEY_PATIENCE) {
                Ok(false) => {}
                Ok(true) => match event::read() {
                    Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                        if key_tx.blocking_send(key).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(_) => return,
                },
                Err(_) => return,
            }
        }
    });
    keys
}

/// Asks for everything that has no watch.
async fn measure(api: &LabApi) -> Result<Sample, CliError> {
    let items = |list: Value| list["items"].as_array().cloned().unwrap_or_default();
    Ok(Sample {
        service_ports: items(api.get("/apis/minisvc.dev/v1/serviceports").await?),
        flows: items(api.get(&format!("/apis/minisvc.dev/v1/flows?limit={FLOWS}")).await?),
        counters: items(api.get("/apis/minisvc.dev/v1/counters").await?),
        events: items(api.get("/api/v1/events?limit=500").await?),
    })
}

/// An answer in text, or why there is none.
async fn ask(api: &LabApi, question: &Question) -> String {
    let (path, accept) = question.path();
    let answer = async {
        let answer = api.send(Method::GET, &path, &[("accept", accept)], Vec::new()).await?;
        let whole = answer.into_body().collect().await.context(|| "the answer broke off".to_owned())?;
        Ok::<_, CliError>(String::from_utf8_lossy(&whole.to_bytes()).into_owned())
    };
    answer.await.unwrap_or_else(|error| error.render())
}
