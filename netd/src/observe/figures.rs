//! Everything that is counted and every limit, for the API and for Prometheus alike.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{Netd, RelayStats, Stats};

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum FigureKind {
    /// Only grows.
    Counter,
    /// How much there is now.
    Gauge,
    /// How much there may be.
    Limit,
}

/// One number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    /// Its name, such as `packets_dropped`; several that differ in their label have one.
    pub name: &'static str,
    /// What tells it from others of its name, such as `reason` and `no_service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<(&'static str, &'static str)>,
    /// What kind of number.
    pub kind: FigureKind,
    /// The number.
    pub value: u64,
    /// What is counted.
    pub help: &'static str,
}

impl Figure {
    const fn of(kind: FigureKind, name: &'static str, value: u64, help: &'static str) -> Self {
        Self { name, label: None, kind, value, help }
    }
}

/// Everything that the data plane counts, and its limits; those of one name are together. Blocks until it has answered.
pub fn figures(netd: &Netd) -> Vec<Figure> {
    let stats = netd.stats();
    let mut all = packets(&stats);
    all.extend(flows(&stats));
    all.extend(relay(netd.relay_stats()));
    all.extend(tables(netd));
    all.extend(limits(netd));
    all
}

/// Writes figures in the text form of OpenMetrics, as families with `minisvc_netd_` in front of their names.
pub fn open_metrics(figures: &[Figure], out: &mut String) {
    let mut last = "";
    for Figure { name, label, kind, value, help } in figures {
        let (kind, suffix) = match kind {
            FigureKind::Counter => ("counter", "_total"),
            FigureKind::Gauge | FigureKind::Limit => ("gauge", ""),
        };
        // Writing to a String cannot fail.
        if last != *name {
            let _ = writeln!(out, "# HELP minisvc_netd_{name} {help}\n# TYPE minisvc_netd_{name} {kind}");
        }
        last = name;
        let _ = match label {
            Some((key, of)) => writeln!(out, "minisvc_netd_{name}{suffix}{{{key}=\"{of}\"}} {value}"),
            None => writeln!(out, "minisvc_netd_{name}{suffix} {value}"),
        };
    }
}

fn count(name: &'static str, value: u64, help: &'static str) -> Figure {
    Figure::of(FigureKind::Counter, name, value, help)
}

fn gauge(name: &'static str, value: usize, help: &'static str) -> Figure {
    Figure::of(FigureKind::Gauge, name, u64::try_from(value).unwrap_or(u64::MAX), help)
}

fn limit(name: &'static str, value: usize, help: &'static str) -> Figure {
    Figure::of(FigureKind::Limit, name, u64::try_from(value).unwrap_or(u64::MAX), help)
}

fn packets(stats: &Stats) -> Vec<Figure> {
    let counters = &stats.translator;
    let mut figures = vec![
        count("packets", counters.packets, "packets that came from a pod, a node or the workstation"),
        count("packets_forwarded", counters.forwarded, "packets that were passed on"),
        count("packets_answered", counters.replied, "packets that were answered with a RST or an ICMP error"),
        count("packets_held", counters.held, "packets that waited: for their first fragment, or for the relay"),
    ];
    figures.extend(counters.drops().map(|(reason, value)| Figure {
        label: Some(("reason", reason.as_str())),
        ..count("packets_dropped", value, "packets that were dropped, by reason")
    }));
    let lost = |why, value| Figure {
        label: Some(("reason", why)),
        ..count("packets_lost", value, "packets that could not be delivered, by reason")
    };
    let fault = |effect, value| Figure {
        label: Some(("effect", effect)),
        ..count("faults", value, "packets that suffered a Fault, by what it did to them")
    };
    figures.extend([
        lost("receiver_full", stats.receiver_full),
        lost("no_such_port", stats.no_such_port),
        lost("pending_limit", counters.pending_limit),
        fault("lost", stats.faults.lost),
        fault("refused", stats.faults.refused),
        fault("delayed", stats.faults.delayed),
        fault("duplicated", stats.faults.duplicated),
        fault("corrupted", stats.faults.corrupted),
        fault("overflowed", stats.faults.overflowed),
        count("devices_failed", stats.failed_devices, "interfaces that failed and were given up"),
        count("resets", counters.resets, "RSTs that were made"),
        count("icmp_errors", counters.icmp_errors, "ICMP errors that were made"),
        count("fragments_evicted", counters.fragments_evicted, "fragmented datagrams forgotten because of the limit"),
        count("fragments_expired", counters.fragments_expired, "held fragments whose first one never came"),
    ]);
    figures
}

fn flows(stats: &Stats) -> Vec<Figure> {
    let counters = &stats.translator;
    let ended = |why, value| Figure {
        label: Some(("reason", why)),
        ..count("flows_ended", value, "flows that ended, by reason")
    };
    vec![
        count("flows_created", counters.flows_created, "flows that began"),
        ended("expired", counters.flows_expired),
        ended("evicted", counters.flows_evicted),
        ended("cleared", counters.flows_cleared),
        ended("severed", counters.flows_severed),
        count("flows_untracked", counters.untracked, "direct packets passed on without a record because of the limit"),
        count("ports_changed", counters.ports_changed, "flows whose source port was taken and had to change"),
        count(
            "affinity_unrecorded",
            counters.affinity_limit,
            "clients not recorded for session affinity because of the limit",
        ),
        gauge("flows", counters.flows, "flows in the table"),
        gauge("affinities", counters.affinities, "records of session affinity in the table"),
        gauge("fragmented", counters.fragmented, "fragmented datagrams under way"),
        gauge("dials", counters.dials, "flows to the outside that wait for the relay"),
        gauge("pending", counters.pending, "packets of the data plane's own that wait to be sent"),
    ]
}

fn relay(stats: RelayStats) -> Vec<Figure> {
    let RelayStats { connections, sessions, connections_now, sessions_now, refused, unreachable, turned_away, evicted } =
        stats;
    let now = |name, value, help| Figure::of(FigureKind::Gauge, name, value, help);
    vec![
        count("relay_connections", connections, "TCP connections to the outside that were opened"),
        count("relay_sessions", sessions, "UDP flows to the outside that were opened"),
        now("relay_connections_open", connections_now, "TCP connections to the outside that are open"),
        now("relay_sessions_open", sessions_now, "UDP flows to the outside that are open"),
        count("relay_refused", refused, "connections that the other side outside refused"),
        count("relay_unreachable", unreachable, "connections and flows to which there was no way, or not in time"),
        count(
            "relay_turned_away",
            turned_away,
            "connections turned away because of the limit, or for want of descriptors",
        ),
        count("relay_evicted", evicted, "UDP flows ended early to make room for others"),
    ]
}

fn tables(netd: &Netd) -> Vec<Figure> {
    let table = netd.table();
    vec![
        gauge("routes", table.routes().count(), "addresses that somebody in the lab has"),
        gauge("frontends", table.frontends().count(), "addresses and ports at which Services are reached"),
        gauge("clashes", netd.clashes().len(), "addresses and ports that were claimed and are somebody else's"),
        gauge("links", netd.places().iter().count(), "interfaces of pods, nodes, workstation and control plane"),
    ]
}

fn limits(netd: &Netd) -> Vec<Figure> {
    let limits = netd.limits();
    let per_second = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    vec![
        limit("flows_limit", limits.max_flows, "flows at once; then unproven ones are evicted, else new ones refused"),
        limit("affinities_limit", limits.max_affinities, "session affinity records; then new clients are not recorded"),
        limit("fragmented_limit", limits.max_fragmented, "fragmented datagrams at once; then the oldest is forgotten"),
        limit(
            "held_fragments_limit",
            limits.max_held,
            "fragments that overtook their first one; then they are dropped",
        ),
        limit("held_bytes_limit", limits.max_held_bytes, "bytes in such fragments; then they are dropped"),
        limit("dials_limit", limits.max_dials, "flows to the outside that wait for the relay; then they are dropped"),
        limit("held_per_dial_limit", limits.max_held_per_dial, "packets held for each of them; then they are dropped"),
        limit("pending_limit", limits.max_pending, "packets of the data plane's own that wait; then they are dropped"),
        limit("icmp_per_second_limit", per_second(limits.icmp_per_second), "ICMP errors a second; then none is made"),
        limit("icmp_burst_limit", per_second(limits.icmp_burst), "ICMP errors that may be made at once"),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn figures_are_told_as_prometheus_reads_them() {
        let dropped = |reason, value| Figure {
            label: Some(("reason", reason)),
            ..count("packets_dropped", value, "packets that were dropped, by reason")
        };
        let figures =
            [dropped("spoofed", 1), dropped("no_room", 2), gauge("flows", 3, "now"), limit("flows_limit", 4, "most")];
        let mut text = String::new();
        open_metrics(&figures, &mut text);
        let expected = "\
# HELP minisvc_netd_packets_dropped packets that were dropped, by reason
# TYPE minisvc_netd_packets_dropped counter
minisvc_netd_packets_dropped_total{reason=\"spoofed\"} 1
minisvc_netd_packets_dropped_total{reason=\"no_room\"} 2
# HELP minisvc_netd_flows now
# TYPE minisvc_netd_flows gauge
minisvc_netd_flows 3
# HELP minisvc_netd_flows_limit most
# TYPE minisvc_netd_flows_limit gauge
minisvc_netd_flows_limit 4
";
        assert_eq!(text, expected);
    }

    #[test]
    fn figures_of_one_name_are_together_and_differ_in_their_label() {
        let netd = Netd::start(crate::Config::new(vec![], vec![])).expect("started");
        let all = figures(&netd);
        let mut names: Vec<&str> = all.iter().map(|figure| figure.name).collect();
        names.dedup();
        assert_eq!(names.len(), names.iter().collect::<HashSet<_>>().len(), "{names:?}");
        assert_eq!(all.len(), all.iter().map(|figure| (figure.name, figure.label)).collect::<HashSet<_>>().len());
        let reason = |name: &str| {
            all.iter().any(|figure| figure.name == "packets_dropped" && figure.label == Some(("reason", name)))
        };
        assert!(reason("no_service") && reason("source_range"));
        let limit = all.iter().find(|figure| figure.name == "flows_limit").expect("listed");
        assert!(limit.value >= 131_072);
        netd.shutdown();
    }
}
