//! `/etc/resolv.conf` of a pod (N-079 to N-089).

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec};

/// glibc reads no more (N-085).
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;
/// Longest name DNS has; a longer search entry is left out.
const MAX_NAME: usize = 253;

/// What the node knows.
#[derive(Clone, Debug)]
pub(crate) struct Cluster<'a> {
    /// Namespace of the pod.
    pub(crate) namespace: &'a str,
    /// Cluster domain.
    pub(crate) zone: &'a str,
    /// Address of the cluster DNS, if there is one.
    pub(crate) dns: Option<IpAddr>,
    /// The host's resolv.conf.
    pub(crate) host: &'a str,
}

/// A warning for the user: event reason and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    /// `DNSConfigForming` or `MissingClusterDNS`.
    pub(crate) reason: &'static str,
    /// A sentence.
    pub(crate) message: String,
}

/// A resolver configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Resolver {
    nameservers: Vec<String>,
    searches: Vec<String>,
    /// Name and value.
    options: Vec<(String, Option<String>)>,
}

/// The text of the file, and what to warn about.
pub(crate) fn resolv_conf(spec: &PodSpec, cluster: &Cluster<'_>) -> (String, Vec<Warning>) {
    let mut warnings = Vec::new();
    let host = parse(cluster.host);
    let host_network = spec.host_network.unwrap_or(false);
    let mut resolver = match (spec.dns_policy.as_deref().unwrap_or("ClusterFirst"), host_network, cluster.dns) {
        ("None", _, _) => Resolver::default(),
        ("ClusterFirst", false, Some(dns)) | ("ClusterFirstWithHostNet", _, Some(dns)) => {
            cluster_first(cluster, dns, &host)
        }
        ("ClusterFirst", false, None) | ("ClusterFirstWithHostNet", _, None) => {
            let message = "there is no cluster DNS, falling back to the node's resolver".to_owned();
            warnings.push(Warning { reason: "MissingClusterDNS", message });
            host
        }
        _ => host,
    };
    if let Some(config) = &spec.dns_config {
        merge(&mut resolver, config);
    }
    limit(&mut resolver, &mut warnings);
    (text(&resolver), warnings)
}

fn cluster_first(cluster: &Cluster<'_>, dns: IpAddr, host: &Resolver) -> Resolver {
    let Cluster { namespace, zone, .. } = cluster;
    let mut searches = vec![format!("{namespace}.svc.{zone}"), format!("svc.{zone}"), (*zone).to_owned()];
    for search in &host.searches {
        // Without the final dot, unless the dot is all there is.
        let bare = if search == "." { search } else { search.trim_end_matches('.') };
        add(&mut searches, bare);
    }
    Resolver { nameservers: vec![dns.to_string()], searches, options: vec![("ndots".to_owned(), Some("5".to_owned()))] }
}

/// N-084.
fn merge(resolver: &mut Resolver, config: &PodDNSConfig) {
    for server in config.nameservers.iter().flatten() {
        add(&mut resolver.nameservers, server);
    }
    for search in config.searches.iter().flatten() {
        add(&mut resolver.searches, search);
    }
    for option in config.options.iter().flatten() {
        let Some(name) = option.name.clone() else { continue };
        let value = option.value.clone().filter(|value| !value.is_empty());
        match resolver.options.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => resolver.options.push((name, value)),
        }
    }
}

/// N-085.
fn limit(resolver: &mut Resolver, warnings: &mut Vec<Warning>) {
    let mut warn = |message: String| warnings.push(Warning { reason: "DNSConfigForming", message });
    if resolver.nameservers.len() > MAX_NAMESERVERS {
        resolver.nameservers.truncate(MAX_NAMESERVERS);
        warn(format!("some nameservers were left out, these are used: {}", resolver.nameservers.join(" ")));
    }
    let before = resolver.searches.len();
    resolver.searches.retain(|search| search.len() <= MAX_NAME);
    if resolver.searches.len() < before {
        warn(format!("search entries longer than {MAX_NAME} characters were left out"));
    }
    let before = resolver.searches.len();
    resolver.searches.truncate(MAX_SEARCHES);
    while resolver.searches.join(" ").len() > MAX_SEARCH_CHARACTERS {
        resolver.searches.pop();
    }
    if resolver.searches.len() < before {
        warn(format!("some search entries were left out, these are used: {}", resolver.searches.join(" ")));
    }
}

fn add(list: &mut Vec<String>, entry: &str) {
    if !entry.is_empty() && !list.iter().any(|known| known == entry) {
        list.push(entry.to_owned());
    }
}

fn parse(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => resolver.nameservers.extend(words.next().map(str::to_owned)),
            // The last line counts, as with every resolver.
            Some("search" | "domain") => resolver.searches = words.map(str::to_owned).collect(),
            Some("options") => {
                let options = words.map(|word| match word.split_once(':') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (word.to_owned(), None),
                });
                resolver.options.extend(options);
            }
            _ => {}
        }
    }
    resolver
}

/// N-089.
fn text(resolver: &Resolver) -> String {
    let mut out = String::new();
    if !resolver.searches.is_empty() {
        out.push_str(&format!("search {}\n", resolver.searches.join(" ")));
    }
    for server in &resolver.nameservers {
        out.push_str(&format!("nameserver {server}\n"));
    }
    if !resolver.options.is_empty() {
        let options = resolver.options.iter().map(|(name, value)| match value {
            Some(value) => format!("{name}:{value}"),
            None => name.clone(),
        });
        out.push_str(&format!("options {}\n", options.collect::<Vec<_>>().join(" ")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const HOST: &str =
        "# made by hand\nnameserver 192.168.1.1\nsearch corp.example. cluster.local\noptions edns0 ndots:1\n";

    fn file(spec: Value, dns: Option<&str>) -> (String, Vec<Warning>) {
        let mut full = json!({"containers": []});
        full.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
        let spec = serde_json::from_value(full).expect("a pod spec");
        let dns = dns.map(|dns| dns.parse().expect("an address"));
        resolv_conf(&spec, &Cluster { namespace: "shop", zone: "cluster.local", dns, host: HOST })
    }

    #[test]
    fn policies() {
        let cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\n\
            nameserver 10.96.0.10\noptions ndots:5\n";
        let host = "search corp.example. cluster.local\nnameserver 192.168.1.1\noptions edns0 ndots:1\n";
        let custom = json!({"nameservers": ["1.1.1.1"], "searches": ["resolv.conf.local"]});
        let table = [
            ("N-079", json!({}), cluster),
            ("N-080", json!({"hostNetwork": true, "dnsPolicy": "ClusterFirst"}), host),
            ("N-081", json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), cluster),
            ("N-082", json!({"dnsPolicy": "Default"}), host),
            (
                "N-083",
                json!({"dnsPolicy": "None", "dnsConfig": custom}),
                "search resolv.conf.local\nnameserver 1.1.1.1\n",
            ),
        ];
        for (statement, spec, expected) in table {
            let (text, warnings) = file(spec, Some("10.96.0.10"));
            assert_eq!(text, expected, "{statement}");
            assert_eq!(warnings, [], "{statement}");
        }
    }

    // N-084, N-089
    #[test]
    fn dns_config_is_merged_in() {
        let config = json!({
            "nameservers": ["10.96.0.10", "1.1.1.1"],
            "searches": ["svc.cluster.local", "extra"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}],
        });
        let (text, _) = file(json!({"dnsConfig": config}), Some("10.96.0.10"));
        let expected = "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example extra\n\
            nameserver 10.96.0.10\nnameserver 1.1.1.1\noptions ndots:2 rotate\n";
        assert_eq!(text, expected);
    }

    // N-085
    #[test]
    fn the_surplus_is_cut_with_a_warning() {
        let searches: Vec<String> = (0..40).map(|n| format!("d{n}.example")).collect();
        let config = json!({"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"], "searches": searches});
        let (text, warnings) = file(json!({"dnsPolicy": "None", "dnsConfig": config}), None);
        assert_eq!(text.matches("nameserver").count(), 3);
        assert_eq!(text.lines().next().expect("a line").split(' ').count(), 1 + 32);
        assert_eq!(warnings.iter().map(|w| w.reason).collect::<Vec<_>>(), ["DNSConfigForming", "DNSConfigForming"]);

        let long: Vec<String> = (0..12).map(|n| format!("{n}{}", ".abcdefghi".repeat(20))).collect();
        let config = json!({"nameservers": ["1.1.1.1"], "searches": long});
        let (text, warnings) = file(json!({"dnsPolicy": "None", "dnsConfig": config}), None);
        assert!(text.lines().next().expect("a line").len() <= "search ".len() + 2048);
        assert_eq!(warnings.len(), 1);

        let config = json!({"nameservers": ["1.1.1.1"], "searches": ["x".repeat(254), "ok"]});
        let (text, warnings) = file(json!({"dnsPolicy": "None", "dnsConfig": config}), None);
        assert_eq!(text, "search ok\nnameserver 1.1.1.1\n");
        assert_eq!(warnings.len(), 1);
    }

    // N-086
    #[test]
    fn without_cluster_dns_the_host_answers() {
        let (text, warnings) = file(json!({}), None);
        assert!(text.contains("nameserver 192.168.1.1"));
        assert_eq!(warnings.first().map(|w| w.reason), Some("MissingClusterDNS"));
    }
}
