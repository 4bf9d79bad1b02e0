//! Variables that announce Services (P-059 to P-064, P-070).

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;

/// The Service announced in every namespace.
const KUBERNETES: &str = "kubernetes";

/// What is announced of every Service that has a cluster IP, by namespace and name; of the others nothing is kept.
///
/// There may be thousands, and Kubernetes' own type takes some kilobytes of each. Its size is that of the API server's store,
/// which has the limits.
#[derive(Debug, Default)]
pub(crate) struct Announced(BTreeMap<Box<str>, BTreeMap<Box<str>, Announcement>>);

#[derive(Debug)]
struct Announcement {
    address: IpAddr,
    ports: Box<[Port]>,
}

#[derive(Debug)]
struct Port {
    /// Empty where it has none.
    name: Box<str>,
    number: i32,
    protocol: Box<str>,
}

impl Announced {
    /// Takes the present state of a Service.
    pub(crate) fn put(&mut self, service: &Service) {
        let Some(announcement) = Announcement::of(service) else { return self.remove(service) };
        let (namespace, name) = place(service);
        self.0.entry(namespace.into()).or_default().insert(name.into(), announcement);
    }

    /// Forgets a Service.
    pub(crate) fn remove(&mut self, service: &Service) {
        let (namespace, name) = place(service);
        let Some(services) = self.0.get_mut(namespace) else { return };
        services.remove(name);
        if services.is_empty() {
            self.0.remove(namespace);
        }
    }

    /// The variables for a pod of `namespace`. With `links` off only `default/kubernetes` is announced.
    pub(crate) fn variables(&self, namespace: &str, links: bool) -> BTreeMap<String, String> {
        let own = self.0.get(namespace).filter(|_| links);
        let master = self.0.get("default").and_then(|services| services.get(KUBERNETES));
        let own = own.into_iter().flatten().map(|(name, service)| (&**name, service));
        // One of the pod's own namespace takes the master's place.
        let announced: BTreeMap<_, _> = master.map(|service| (KUBERNETES, service)).into_iter().chain(own).collect();
        announced.into_iter().flat_map(|(name, service)| service.variables(name)).collect()
    }
}

/// Namespace and name.
fn place(service: &Service) -> (&str, &str) {
    let metadata = &service.metadata;
    (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

impl Announcement {
    /// Nothing, for a Service without an address or without ports.
    fn of(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let address = spec.cluster_ip.as_deref()?.parse().ok()?;
        let ports = spec.ports.as_ref().filter(|ports| !ports.is_empty())?.iter().map(|port| Port {
            name: port.name.as_deref().unwrap_or_default().into(),
            number: port.port,
            protocol: port.protocol.as_deref().unwrap_or("TCP").into(),
        });
        Some(Self { address, ports: ports.collect() })
    }

    fn variables(&self, name: &str) -> Vec<(String, String)> {
        let (prefix, ip) = (shout(name), self.address);
        let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        let mut out = vec![(format!("{prefix}_SERVICE_HOST"), ip.to_string())];
        for (position, port) in self.ports.iter().enumerate() {
            let Port { name, number, protocol } = port;
            let url = format!("{}://{host}:{number}", protocol.to_lowercase());
            if !name.is_empty() {
                out.push((format!("{prefix}_SERVICE_PORT_{}", shout(name)), number.to_string()));
            }
            if position == 0 {
                out.push((format!("{prefix}_SERVICE_PORT"), number.to_string()));
                out.push((format!("{prefix}_PORT"), url.clone()));
            }
            let long = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
            out.push((format!("{long}_PROTO"), protocol.to_lowercase()));
            out.push((format!("{long}_PORT"), number.to_string()));
            out.push((format!("{long}_ADDR"), ip.to_string()));
            out.push((long, url));
        }
        out
    }
}

/// P-060: upper case, `-` becomes `_`, nothing else.
fn shout(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(namespace: &str, name: &str, ip: &str, ports: serde_json::Value) -> Service {
        serde_json::from_value(json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": ip, "ports": ports},
        }))
        .expect("a Service")
    }

    fn kubernetes(namespace: &str, ip: &str) -> Service {
        service(namespace, "kubernetes", ip, json!([{"name": "https", "port": 443, "protocol": "TCP"}]))
    }

    fn set<'a>(
        services: impl IntoIterator<Item = &'a Service>,
        namespace: &str,
        links: bool,
    ) -> BTreeMap<String, String> {
        let mut announced = Announced::default();
        services.into_iter().for_each(|service| announced.put(service));
        announced.variables(namespace, links)
    }

    // P-060, P-061, P-062
    #[test]
    fn a_service_is_announced_in_both_styles() {
        let ports = json!([{"name": "http-main", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
        let got = set(&[service("shop", "redis-primary", "10.96.7.1", ports)], "shop", true);
        let expected = [
            ("REDIS_PRIMARY_PORT", "tcp://10.96.7.1:80"),
            ("REDIS_PRIMARY_PORT_53_UDP", "udp://10.96.7.1:53"),
            ("REDIS_PRIMARY_PORT_53_UDP_ADDR", "10.96.7.1"),
            ("REDIS_PRIMARY_PORT_53_UDP_PORT", "53"),
            ("REDIS_PRIMARY_PORT_53_UDP_PROTO", "udp"),
            ("REDIS_PRIMARY_PORT_80_TCP", "tcp://10.96.7.1:80"),
            ("REDIS_PRIMARY_PORT_80_TCP_ADDR", "10.96.7.1"),
            ("REDIS_PRIMARY_PORT_80_TCP_PORT", "80"),
            ("REDIS_PRIMARY_PORT_80_TCP_PROTO", "tcp"),
            ("REDIS_PRIMARY_SERVICE_HOST", "10.96.7.1"),
            ("REDIS_PRIMARY_SERVICE_PORT", "80"),
            ("REDIS_PRIMARY_SERVICE_PORT_DNS", "53"),
            ("REDIS_PRIMARY_SERVICE_PORT_HTTP_MAIN", "80"),
        ];
        let got: Vec<_> = got.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(got, expected);
    }

    // P-062
    #[test]
    fn ipv6_is_bracketed_in_urls_only() {
        let got = set(&[service("a", "six", "fd00:96::7", json!([{"port": 80}]))], "a", true);
        assert_eq!(got["SIX_PORT"], "tcp://[fd00:96::7]:80");
        assert_eq!(got["SIX_SERVICE_HOST"], "fd00:96::7");
    }

    // P-059, P-070
    #[test]
    fn only_services_of_the_namespace_with_an_address() {
        let port = json!([{"port": 80}]);
        let mut labelled = service("a", "labelled", "10.96.0.9", port.clone());
        let label = ("service.kubernetes.io/service-proxy-name".to_owned(), "other".to_owned());
        labelled.metadata.labels = Some(BTreeMap::from([label]));
        let services = [
            service("a", "headless", "None", port.clone()),
            service("a", "external", "", port.clone()),
            service("b", "foreign", "10.96.0.8", port),
            labelled,
        ];
        let names: Vec<_> = set(&services, "a", true).into_keys().filter(|k| k.ends_with("_HOST")).collect();
        assert_eq!(names, ["LABELLED_SERVICE_HOST"]);
    }

    #[test]
    fn the_kubernetes_service_is_everywhere() {
        let master = kubernetes("default", "10.96.0.1");
        let own = kubernetes("a", "10.96.5.5");
        let web = service("a", "web", "10.96.0.7", json!([{"port": 80}]));
        // label, links, order of the list, expected host, web announced
        let table: [(&str, bool, Vec<&Service>, &str, bool); 5] = [
            ("P-063", true, vec![&master, &web], "10.96.0.1", true),
            ("P-063", true, vec![&master, &own], "10.96.5.5", false),
            ("P-063", true, vec![&own, &master], "10.96.5.5", false),
            ("P-064", false, vec![&master, &web], "10.96.0.1", false),
            ("P-063", false, vec![&own, &master], "10.96.0.1", false),
        ];
        for (statement, links, services, host, web) in table {
            let got = set(services, "a", links);
            assert_eq!(got["KUBERNETES_SERVICE_HOST"], host, "{statement}");
            assert_eq!(got["KUBERNETES_SERVICE_PORT_HTTPS"], "443", "{statement}");
            assert_eq!(got["KUBERNETES_PORT_443_TCP"], format!("tcp://{host}:443"), "{statement}");
            assert_eq!(got.contains_key("WEB_SERVICE_HOST"), web, "{statement}");
        }
    }

    #[test]
    fn a_service_is_announced_as_it_is_now_and_nothing_is_kept_of_one_that_has_gone() {
        let web = |ip: &str| service("a", "web", ip, json!([{"port": 80}]));
        let mut announced = Announced::default();
        let mut host = |step: &dyn Fn(&mut Announced)| {
            step(&mut announced);
            (announced.variables("a", true).remove("WEB_SERVICE_HOST"), announced.0.len())
        };
        let is = |ip: &str| (Some(ip.to_owned()), 1);
        assert_eq!(host(&|announced| announced.put(&web("10.96.0.7"))), is("10.96.0.7"));
        assert_eq!(host(&|announced| announced.put(&web("10.96.0.8"))), is("10.96.0.8"));
        assert_eq!(host(&|announced| announced.put(&web("None"))), (None, 0), "headless now");
        assert_eq!(host(&|announced| announced.put(&web("10.96.0.9"))), is("10.96.0.9"));
        assert_eq!(host(&|announced| announced.remove(&web("10.96.0.9"))), (None, 0));
        assert_eq!(host(&|announced| announced.remove(&web("10.96.0.9"))), (None, 0), "once more");
    }
}
