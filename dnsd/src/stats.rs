//! What the server counts: one place for every verdict, limit and cache, so that nothing it does is invisible.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Something that is counted from the start of the server, or a number of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    Udp,
    Tcp,
    NoError,
    NxDomain,
    ServFail,
    Refused,
    FormErr,
    NotImp,
    BadVers,
    Truncated,
    IgnoredShort,
    IgnoredResponse,
    IgnoredSource,
    Flooded,
    Unsent,
    Forwarded,
    UpstreamFailed,
    Loop,
    Busy,
    CacheHit,
    CacheMiss,
    CacheEvicted,
    TcpRefused,
}

/// Metric, label pair and help of each [`Count`], in its order.
const NAMES: [(&str, &str, &str); 23] = [
    ("minisvc_dns_queries_total", r#"transport="udp""#, "Messages received."),
    ("minisvc_dns_queries_total", r#"transport="tcp""#, ""),
    ("minisvc_dns_answers_total", r#"code="NOERROR""#, "Answers by their code."),
    ("minisvc_dns_answers_total", r#"code="NXDOMAIN""#, ""),
    ("minisvc_dns_answers_total", r#"code="SERVFAIL""#, ""),
    ("minisvc_dns_answers_total", r#"code="REFUSED""#, ""),
    ("minisvc_dns_answers_total", r#"code="FORMERR""#, ""),
    ("minisvc_dns_answers_total", r#"code="NOTIMP""#, ""),
    ("minisvc_dns_answers_total", r#"code="BADVERS""#, ""),
    ("minisvc_dns_truncated_total", "", "Answers that did not fit and say so."),
    ("minisvc_dns_ignored_total", r#"reason="too short""#, "Messages without an answer."),
    ("minisvc_dns_ignored_total", r#"reason="no question but an answer""#, ""),
    ("minisvc_dns_ignored_total", r#"reason="no address to answer to""#, ""),
    ("minisvc_dns_flooded_total", "", "Messages dropped because their sender had too many waiting."),
    ("minisvc_dns_unsent_total", "", "Answers that could not be sent."),
    ("minisvc_dns_forwarded_total", "", "Questions passed on to an upstream."),
    ("minisvc_dns_upstream_failures_total", "", "Times that an upstream did not answer or answered nonsense."),
    ("minisvc_dns_loops_total", "", "Questions of our own that an upstream passed back."),
    ("minisvc_dns_forwarding_refused_total", "", "Questions refused because too many were under way."),
    ("minisvc_dns_cache_hits_total", "", "Questions answered from the cache of upstream answers."),
    ("minisvc_dns_cache_misses_total", "", "Questions that the cache could not answer."),
    ("minisvc_dns_cache_evictions_total", "", "Answers that the cache dropped before their time because it was full."),
    ("minisvc_dns_tcp_refused_total", "", "TCP connections closed at once because too many were open."),
];

/// What the name of a counter ends with.
const TOTAL: &str = "_total";

/// Counters of one server; shared by everything in it, and with whoever shows them.
#[derive(Debug, Default)]
pub struct Counters {
    counts: [AtomicU64; NAMES.len()],
    cached: AtomicU64,
    under_way: AtomicU64,
    connections: AtomicU64,
}

/// One number of [`Counters::stats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Name of the metric, as Prometheus has it.
    pub name: &'static str,
    /// Its label as `name="value"`; empty if it has none.
    pub label: &'static str,
    /// What it says; empty where a line before has said it.
    pub help: &'static str,
    /// Whether it only grows.
    pub counter: bool,
    /// The number.
    pub value: u64,
}

impl Counters {
    pub(crate) fn add(&self, count: Count) {
        self.counts[count as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_cached(&self, entries: usize) {
        self.cached.store(wide(entries), Ordering::Relaxed);
    }

    pub(crate) fn set_under_way(&self, questions: usize) {
        self.under_way.store(wide(questions), Ordering::Relaxed);
    }

    pub(crate) fn set_connections(&self, connections: usize) {
        self.connections.store(wide(connections), Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn of(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Ordering::Relaxed)
    }

    /// All numbers as they are now.
    pub fn stats(&self) -> Vec<Stat> {
        let counters = NAMES.iter().zip(&self.counts).map(|(&(name, label, help), value)| Stat {
            name,
            label,
            help,
            counter: true,
            value: value.load(Ordering::Relaxed),
        });
        let gauges = [
            ("minisvc_dns_cache_entries", "Answers of upstreams that are remembered.", &self.cached),
            ("minisvc_dns_forwarding", "Questions at upstreams right now.", &self.under_way),
            ("minisvc_dns_tcp_connections", "TCP connections open right now.", &self.connections),
        ];
        let gauges = gauges.into_iter().map(|(name, help, value)| Stat {
            name,
            label: "",
            help,
            counter: false,
            value: value.load(Ordering::Relaxed),
        });
        counters.chain(gauges).collect()
    }

    /// Appends the same in the text form of OpenMetrics: whole families, without the closing `# EOF`.
    pub fn openmetrics(&self, text: &mut String) {
        for stat in self.stats() {
            let Stat { name, label, help, counter, value } = stat;
            if !help.is_empty() {
                // A counter's family is its name without the suffix that its samples have.
                let family = name.strip_suffix(TOTAL).unwrap_or(name);
                let kind = if counter { "counter" } else { "gauge" };
                // Writing to a String cannot fail.
                let _ = writeln!(text, "# HELP {family} {help}\n# TYPE {family} {kind}");
            }
            let _ = if label.is_empty() {
                writeln!(text, "{name} {value}")
            } else {
                writeln!(text, "{name}{{{label}}} {value}")
            };
        }
    }
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_explained_once_and_counted_under_its_own_name() {
        let counters = Counters::default();
        counters.add(Count::TcpRefused);
        counters.add(Count::NxDomain);
        counters.set_cached(7);
        let mut text = String::new();
        counters.openmetrics(&mut text);
        assert!(text.contains("\nminisvc_dns_tcp_refused_total 1\n"), "{text}");
        assert!(text.contains("\nminisvc_dns_answers_total{code=\"NXDOMAIN\"} 1\n"), "{text}");
        assert!(text.contains("# TYPE minisvc_dns_cache_entries gauge\nminisvc_dns_cache_entries 7\n"), "{text}");
        assert!(text.contains("# TYPE minisvc_dns_answers counter\n"), "{text}");
        let mut seen = std::collections::BTreeSet::new();
        for stat in counters.stats() {
            assert_eq!(seen.insert(stat.name), !stat.help.is_empty(), "{}", stat.name);
        }
    }
}
