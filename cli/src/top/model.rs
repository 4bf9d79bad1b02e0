//! What is known of the lab, what is shown of it, and what a key does. Pure.

use std::collections::BTreeMap;
use std::time::Instant;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value;

use super::rows;
use crate::live::{Change, Key, Kind, Record};

/// The longest filter that can be typed.
const MAX_FILTER: usize = 100;

/// One view of the lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum View {
    /// Every Service with its endpoints and traffic.
    Services,
    /// The endpoints of one.
    Endpoints(Key),
    /// Every pod.
    Pods,
    /// Connections, the newest first.
    Flows,
    /// What was dropped or refused, and why.
    Drops,
    /// Events, the newest first.
    Events,
    /// An answer in text.
    Text(String),
    /// What the keys do.
    Help,
}

/// The views that have a number.
pub(super) const TABS: [(char, &str, View); 5] = [
    ('1', "Services", View::Services),
    ('2', "Pods", View::Pods),
    ('3', "Flows", View::Flows),
    ('4', "Drops", View::Drops),
    ('5', "Events", View::Events),
];

/// What the lab is asked because of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// An object, as YAML.
    Describe(Kind, Key),
    /// The last lines of a pod.
    Logs(Key),
}

impl Question {
    /// Where to ask, and for which form.
    pub(super) fn path(&self) -> (String, &'static str) {
        let of = |key: &str| match key.split_once('/') {
            Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
            None => (String::new(), key.to_owned()),
        };
        match self {
            Self::Describe(kind, key) => {
                let (namespace, name) = of(key);
                let path = match kind {
                    Kind::Node => format!("/api/v1/nodes/{name}"),
                    Kind::Service => format!("/api/v1/namespaces/{namespace}/services/{name}"),
                    Kind::Pod => format!("/api/v1/namespaces/{namespace}/pods/{name}"),
                    Kind::Slice => format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/{name}"),
                };
                (path, "application/yaml")
            }
            Self::Logs(key) => {
                let (namespace, name) = of(key);
                (format!("/api/v1/namespaces/{namespace}/pods/{name}/log?tailLines=500"), "*/*")
            }
        }
    }
}

/// What is to be done because of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    Quit,
    Ask(Question),
}

/// Figures of one moment, as the API gives them.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample {
    pub(super) service_ports: Vec<Value>,
    pub(super) flows: Vec<Value>,
    pub(super) counters: Vec<Value>,
    pub(super) events: Vec<Value>,
}

/// The whole state.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) lab: String,
    pub(super) objects: BTreeMap<(Kind, Key), Record>,
    pub(super) now: Sample,
    /// Bytes a second of each Service, in both directions together.
    pub(super) rates: BTreeMap<Key, f64>,
    /// Drops and refusals a second, by reason.
    pub(super) drop_rates: BTreeMap<String, f64>,
    measured: Option<Instant>,
    pub(super) view: View,
    /// Where `Esc` leads.
    back: Vec<View>,
    pub(super) filter: String,
    /// Whether keys go into the filter.
    pub(super) typing: bool,
    pub(super) cursor: usize,
    pub(super) text: Vec<String>,
    pub(super) trouble: Option<String>,
}

impl Model {
    /// Nothing is known yet.
    pub(super) fn new(lab: &str) -> Self {
        Self {
            lab: lab.to_owned(),
            objects: BTreeMap::new(),
            now: Sample::default(),
            rates: BTreeMap::new(),
            drop_rates: BTreeMap::new(),
            measured: None,
            view: View::Services,
            back: Vec::new(),
            filter: String::new(),
            typing: false,
            cursor: 0,
            text: Vec::new(),
            trouble: None,
        }
    }

    /// An object has changed.
    pub(super) fn tell(&mut self, change: Change) {
        match change {
            Change::Put(key, record) => {
                self.objects.insert((record.kind(), key), record);
            }
            Change::Delete(kind, key) => {
                self.objects.remove(&(kind, key));
            }
        }
        self.keep_cursor();
    }

    /// New figures.
    pub(super) fn measure(&mut self, sample: Sample, at: Instant) {
        let seconds = self.measured.map(|before| at.saturating_duration_since(before).as_secs_f64());
        // The first figures have nothing to be compared with.
        if let Some(seconds) = seconds.filter(|seconds| *seconds > 0.0) {
            self.rates = rates(&rows::bytes_by_service(&self.now), &rows::bytes_by_service(&sample), seconds);
            self.drop_rates = rates(&rows::drops_by_reason(&self.now), &rows::drops_by_reason(&sample), seconds);
        }
        self.measured = Some(at);
        self.now = sample;
        self.trouble = None;
        self.keep_cursor();
    }

    /// The lab does not answer.
    pub(super) fn trouble(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// The answer to a question has come.
    pub(super) fn show(&mut self, text: String) {
        if matches!(self.view, View::Text(_)) {
            self.text = text.lines().map(str::to_owned).collect();
        }
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: KeyEvent) -> Action {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Action::Quit } else { Action::Nothing };
        }
        if self.typing {
            self.type_filter(key.code);
            return Action::Nothing;
        }
        match key.code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('?') => self.go(View::Help),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('d') => return self.describe(),
            KeyCode::Char('l') => return self.logs(),
            KeyCode::Enter => self.enter(),
            KeyCode::Esc => self.leave(),
            KeyCode::Down | KeyCode::Char('j') => self.move_cursor(1),
            KeyCode::Up | KeyCode::Char('k') => self.move_cursor(-1),
            KeyCode::PageDown => self.move_cursor(20),
            KeyCode::PageUp => self.move_cursor(-20),
            KeyCode::Char(number) => {
                if let Some((_, _, view)) = TABS.into_iter().find(|(key, _, _)| *key == number) {
                    self.back.clear();
                    self.open(view);
                }
            }
            _ => {}
        }
        Action::Nothing
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) if self.filter.len() < MAX_FILTER => self.filter.push(letter),
            _ => {}
        }
        self.keep_cursor();
    }

    fn open(&mut self, view: View) {
        self.view = view;
        self.cursor = 0;
        self.filter.clear();
    }

    fn go(&mut self, view: View) {
        if self.view != view {
            let before = std::mem::replace(&mut self.view, view);
            self.back.push(before);
            self.cursor = 0;
            self.filter.clear();
        }
    }

    fn leave(&mut self) {
        if self.filter.is_empty()
            && let Some(before) = self.back.pop()
        {
            self.open(before);
        }
        self.filter.clear();
    }

    fn enter(&mut self) {
        if let (View::Services, Some(key)) = (&self.view, self.chosen()) {
            self.go(View::Endpoints(key));
        }
    }

    /// The object in the chosen row.
    fn chosen(&self) -> Option<Key> {
        rows::keys(self).into_iter().nth(self.cursor).flatten()
    }

    fn describe(&mut self) -> Action {
        let kind = match self.view {
            View::Services => Kind::Service,
            View::Pods | View::Endpoints(_) => Kind::Pod,
            View::Flows | View::Drops | View::Events | View::Text(_) | View::Help => return Action::Nothing,
        };
        let Some(key) = self.chosen() else { return Action::Nothing };
        self.ask(format!("describe {key}"), Question::Describe(kind, key))
    }

    fn logs(&mut self) -> Action {
        if !matches!(self.view, View::Pods | View::Endpoints(_)) {
            return Action::Nothing;
        }
        let Some(key) = self.chosen() else { return Action::Nothing };
        self.ask(format!("logs {key}"), Question::Logs(key))
    }

    fn ask(&mut self, title: String, question: Question) -> Action {
        self.text = vec!["…".to_owned()];
        self.go(View::Text(title));
        Action::Ask(question)
    }

    fn move_cursor(&mut self, by: isize) {
        self.cursor = self.cursor.saturating_add_signed(by);
        self.keep_cursor();
    }

    fn keep_cursor(&mut self) {
        let last = rows::length(self).saturating_sub(1);
        self.cursor = self.cursor.min(last);
    }
}

/// How much each has grown in a second. What has shrunk has not grown: finished connections leave the table.
fn rates<K: Ord + Clone>(before: &BTreeMap<K, u64>, now: &BTreeMap<K, u64>, seconds: f64) -> BTreeMap<K, f64> {
    let grown = |key: &K, value: u64| value.saturating_sub(before.get(key).copied().unwrap_or(value));
    // Far below 2^52, so nothing is lost.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let rate = |key: &K, value: u64| grown(key, value) as f64 / seconds;
    now.iter().map(|(key, value)| (key.clone(), rate(key, *value))).collect()
}
