//! Variables that announce Services (P-059 to P-064, P-070).

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;

/// The Service announced in every namespace.
const KUBERNETES: &str = "kubernetes";

/// The variables for a pod of `namespace`, given all Services that exist now.
///
/// With `links` off only `default/kubernetes` is announced. Services without a cluster IP are left out.
pub(crate) fn service_variables<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut announced: BTreeMap<&str, &Service> = BTreeMap::new();
    let mut own_kubernetes = false;
    for service in services {
        let Some(name) = service.metadata.name.as_deref() else { continue };
        let of = service.metadata.namespace.as_deref().unwrap_or_default();
        let own = of == namespace && links;
        let master = of == "default" && name == KUBERNETES;
        if !(own || master) || cluster_ip(service).is_none() {
            continue;
        }
        if own {
            announced.insert(name, service);
            own_kubernetes |= name == KUBERNETES;
        } else if !own_kubernetes {
            announced.insert(name, service);
        }
    }
    announced.into_iter().flat_map(|(name, service)| variables(name, service)).collect()
}

fn cluster_ip(service: &Service) -> Option<IpAddr> {
    service.spec.as_ref()?.cluster_ip.as_deref()?.parse().ok()
}

fn variables(name: &str, service: &Service) -> Vec<(String, String)> {
    let prefix = shout(name);
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let (Some(ip), Some(first)) = (cluster_ip(service), ports.first()) else { return Vec::new() };
    let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
    let mut out = vec![
        (format!("{prefix}_SERVICE_HOST"), ip.to_string()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    for (position, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            out.push((format!("{prefix}_SERVICE_PORT_{}", shout(port_name)), port.port.to_string()));
        }
        if position == 0 {
            out.push((format!("{prefix}_PORT"), url.clone()));
        }
        let long = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        out.push((format!("{long}_PROTO"), protocol.to_lowercase()));
        out.push((format!("{long}_PORT"), port.port.to_string()));
        out.push((format!("{long}_ADDR"), ip.to_string()));
        out.push((long, url));
    }
    out
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

    fn set(services: &[Service], namespace: &str, links: bool) -> BTreeMap<String, String> {
        service_variables(services, namespace, links)
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
            let got = service_variables(services, "a", links);
            assert_eq!(got["KUBERNETES_SERVICE_HOST"], host, "{statement}");
            assert_eq!(got["KUBERNETES_SERVICE_PORT_HTTPS"], "443", "{statement}");
            assert_eq!(got["KUBERNETES_PORT_443_TCP"], format!("tcp://{host}:443"), "{statement}");
            assert_eq!(got.contains_key("WEB_SERVICE_HOST"), web, "{statement}");
        }
    }
}
