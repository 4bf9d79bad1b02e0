//! How the model looks in a terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, Table, TableState};

use super::model::{Model, TABS, View};
use super::rows::{self, Rows};
use crate::live::Kind;

/// Blanks between two columns.
const GAP: u16 = 2;

const HELP: &str = "\
1 … 5      Services, Pods, Flows, Drops, Events
↑ ↓ j k    move; PageUp and PageDown move further
Enter      the endpoints of a Service
d          describe: the object
l          logs of a pod, or of an endpoint's pod
/          show only rows that contain …; Esc shows all again
Esc        back
?          this page
q          quit";

/// Draws one picture.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let areas = Layout::vertical([Constraint::Length(1), Constraint::Min(3), Constraint::Length(1)]);
    let [head, body, foot] = areas.areas(frame.area());
    frame.render_widget(headline(model), head);
    match &model.view {
        View::Help => frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(" Keys ")), body),
        View::Text(title) => lines(frame, body, title, model),
        View::Services | View::Endpoints(_) | View::Pods | View::Flows | View::Drops | View::Events => {
            table(frame, body, model);
        }
    }
    frame.render_widget(footline(model), foot);
}

fn headline(model: &Model) -> Line<'static> {
    let count = |kind: Kind, what: &str| {
        let number = model.objects.keys().filter(|(of, _)| *of == kind).count();
        format!("{number} {what}{}", if number == 1 { "" } else { "s" })
    };
    let mut spans = vec![Span::styled(format!("minisvc {}  ", model.lab), Style::new().add_modifier(Modifier::BOLD))];
    for (key, title, view) in TABS {
        let here = view == model.view;
        let style = if here { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        spans.push(Span::styled(format!(" {key} {title} "), style));
    }
    let counts = [count(Kind::Node, "node"), count(Kind::Service, "Service"), count(Kind::Pod, "pod")];
    spans.push(Span::raw(format!("  {}", counts.join(", "))));
    Line::from(spans)
}

fn footline(model: &Model) -> Line<'static> {
    if let Some(why) = &model.trouble {
        return Line::styled(why.clone(), Style::new().add_modifier(Modifier::REVERSED));
    }
    if model.typing || !model.filter.is_empty() {
        let cursor = if model.typing { "▏" } else { "" };
        return Line::raw(format!("/{}{cursor}", model.filter));
    }
    Line::raw("Enter endpoints   d describe   l logs   / filter   ? help   q quit")
}

fn table(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let Rows { header, rows } = rows::of(model);
    let widths = widths(&header, &rows);
    let title = match &model.view {
        View::Endpoints(service) => format!(" Endpoints of {service} "),
        _ => String::new(),
    };
    let block = Block::bordered().title(title);
    if rows.is_empty() {
        let nothing = if model.filter.is_empty() { "nothing yet" } else { "no row contains the filter" };
        frame.render_widget(Paragraph::new(nothing).block(block), area);
        return;
    }
    let body = rows.into_iter().map(|(_, cells)| Row::new(cells));
    let table = Table::new(body, widths)
        .header(Row::new(header).style(Style::new().add_modifier(Modifier::BOLD)))
        .column_spacing(GAP)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(block);
    frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(model.cursor));
}

/// As wide as the widest cell; the last column takes what is left.
fn widths(header: &[&str], rows: &[(Option<String>, Vec<String>)]) -> Vec<Constraint> {
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|(_, cells)| cells.get(column)).map(|cell| cell.chars().count());
        let width = cells.chain(header.get(column).map(|name| name.len())).max().unwrap_or_default();
        u16::try_from(width).unwrap_or(u16::MAX)
    };
    let last = header.len().saturating_sub(1);
    let width =
        |column| if column == last { Constraint::Min(widest(column)) } else { Constraint::Length(widest(column)) };
    (0..header.len()).map(width).collect()
}

fn lines(frame: &mut Frame<'_>, area: Rect, title: &str, model: &Model) {
    let from = u16::try_from(model.cursor).unwrap_or(u16::MAX);
    let text: Vec<Line<'_>> = model.text.iter().map(|line| Line::raw(line.as_str())).collect();
    frame.render_widget(
        Paragraph::new(text).scroll((from, 0)).block(Block::bordered().title(format!(" {title} "))),
        area,
    );
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use serde_json::json;

    use super::super::model::{Action, Question, Sample};
    use super::*;
    use crate::live::records::{Endpoint, NodeRecord, Port, SliceRecord};
    use crate::live::{Change, PodRecord, Record, ServiceRecord};

    fn endpoint(address: &str, ready: bool) -> Endpoint {
        let target = Some("web-1".to_owned());
        Endpoint { address: address.into(), ready, terminating: false, node: Some("node-1".into()), target }
    }

    fn pod(name: &str, ready: bool) -> Change {
        let record = PodRecord {
            namespace: "default".into(),
            name: name.into(),
            node: Some("node-1".into()),
            addresses: vec!["10.244.0.2".into()],
            phase: "Running".into(),
            ready,
            terminating: false,
            host_network: false,
            restarts: if ready { 0 } else { 4 },
            reason: (!ready).then(|| "CrashLoopBackOff".to_owned()),
        };
        Change::Put(format!("default/{name}"), Record::Pod(record))
    }

    fn sample(bytes: u64) -> Sample {
        let at = json!({"kind": "Pod", "name": "default/web-1"});
        let endpoint = json!({"address": "10.244.0.2:8080", "at": at, "node": "node-1", "zone": "zone-a", "ready": true,
            "terminating": false, "flows": 3, "bytes": [bytes, 0]});
        let port =
            json!({"metadata": {"namespace": "default"}, "service": "web", "port": "http", "endpoints": [endpoint]});
        let flow = json!({"protocol": "TCP", "client": "10.95.0.1:4000", "service": "default/web:http",
            "destination": "10.96.0.9:80", "endpoint": "10.244.0.2:8080", "state": "Established"});
        let drop = json!({"name": "packets_dropped", "label": ["reason", "no_service"], "value": bytes / 1000});
        let event = json!({"lastTimestamp": "2026-01-01T00:00:00Z", "type": "Warning", "reason": "BackOff",
            "involvedObject": {"kind": "Pod", "name": "web-2"}, "message": "Back-off restarting failed container"});
        Sample { service_ports: vec![port], flows: vec![flow], counters: vec![drop], events: vec![event] }
    }

    fn model() -> Model {
        let mut model = Model::new("default");
        let port = Port { name: None, port: 80, protocol: "TCP".into(), target: "8080".into(), node_port: None };
        let service = ServiceRecord {
            namespace: "default".into(),
            name: "web".into(),
            kind: "ClusterIP".into(),
            addresses: vec!["10.96.0.9".into()],
            external_name: None,
            ports: vec![port],
        };
        let node = NodeRecord { addresses: vec!["10.95.0.11".into()], zone: None, ready: true };
        let endpoints = vec![endpoint("10.244.0.2", true), endpoint("10.244.0.3", false)];
        let slice = SliceRecord { service: "default/web".into(), endpoints };
        for change in [
            Change::Put("node-1".into(), Record::Node(node)),
            Change::Put("default/web".into(), Record::Service(service)),
            Change::Put("default/web-x".into(), Record::Slice(slice)),
            pod("web-1", true),
            pod("web-2", false),
        ] {
            model.tell(change);
        }
        let start = Instant::now();
        model.measure(sample(0), start);
        model.measure(sample(250_000), start + Duration::from_secs(2));
        model
    }

    fn press(model: &mut Model, code: KeyCode) -> Action {
        model.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn picture(model: &Model) -> String {
        let mut terminal = Terminal::new(TestBackend::new(110, 9)).expect("a terminal");
        terminal.draw(|frame| draw(frame, model)).expect("drawn");
        terminal.backend().to_string()
    }

    #[test]
    fn services_show_their_endpoints_connections_and_traffic() {
        insta::assert_snapshot!(picture(&model()));
    }

    #[test]
    fn enter_shows_the_endpoints_of_a_service_and_escape_leads_back() {
        let mut model = model();
        press(&mut model, KeyCode::Enter);
        insta::assert_snapshot!(picture(&model));
        press(&mut model, KeyCode::Esc);
        assert_eq!(model.view, View::Services);
    }

    #[test]
    fn pods_can_be_filtered_described_and_their_logs_read() {
        let mut model = model();
        press(&mut model, KeyCode::Char('2'));
        for key in ['/', 'w', 'e', 'b', '-', '2'] {
            press(&mut model, KeyCode::Char(key));
        }
        press(&mut model, KeyCode::Enter);
        insta::assert_snapshot!(picture(&model));
        let asked = press(&mut model, KeyCode::Char('l'));
        assert_eq!(asked, Action::Ask(Question::Logs("default/web-2".into())));
        model.show("first\nsecond\n".to_owned());
        assert!(picture(&model).contains("second"));
        press(&mut model, KeyCode::Esc);
        assert_eq!(model.view, View::Pods);
    }

    #[test]
    fn every_tab_shows_its_rows() {
        let mut model = model();
        for (key, expected) in [('3', "Established"), ('4', "no service"), ('5', "Back-off restarting")] {
            press(&mut model, KeyCode::Char(key));
            let picture = picture(&model);
            assert!(picture.contains(expected), "{picture}");
        }
        press(&mut model, KeyCode::Char('4'));
        assert!(picture(&model).contains("125"), "a second: {}", picture(&model));
        press(&mut model, KeyCode::Char('?'));
        assert!(picture(&model).contains("the endpoints of a Service"));
        assert_eq!(press(&mut model, KeyCode::Char('q')), Action::Quit);
    }

    #[test]
    fn trouble_is_told_and_forgotten_when_it_is_over() {
        let mut model = model();
        model.trouble("cannot reach the lab".into());
        assert!(picture(&model).contains("cannot reach the lab"));
        model.measure(sample(0), Instant::now() + Duration::from_secs(9));
        assert!(!picture(&model).contains("cannot reach the lab"));
    }

    #[test]
    fn the_cursor_stays_on_the_rows_there_are() {
        let mut model = model();
        press(&mut model, KeyCode::Char('2'));
        press(&mut model, KeyCode::PageDown);
        assert_eq!(model.cursor, 1);
        model.tell(Change::Delete(Kind::Pod, "default/web-2".into()));
        assert_eq!(model.cursor, 0);
    }
}
