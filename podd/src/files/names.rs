//! What a pod is called (N-097 to N-101).

use k8s_openapi::api::core::v1::Pod;
use thiserror::Error;

/// Longest host name the kernel takes.
const KERNEL_LIMIT: usize = 64;
/// Longest label.
const LABEL_LIMIT: usize = 63;

/// The names of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// First label, or the override.
    pub(crate) hostname: String,
    /// `<subdomain>.<ns>.svc.<zone>`, if the pod has one.
    pub(crate) domain: Option<String>,
    /// What the kernel is told.
    pub(crate) kernel: String,
}

/// The pod cannot be named.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("host name {0:?} is longer than the 64 characters the kernel allows (setHostnameAsFQDN)")]
pub(crate) struct TooLong(pub String);

/// Names a pod that has a network of its own; one in its node's network is called as the node.
///
/// # Errors
/// When the kernel cannot hold the name that `setHostnameAsFQDN` asks for (N-099).
pub(crate) fn names(pod: &Pod, zone: &str) -> Result<Names, TooLong> {
    let spec = pod.spec.as_ref();
    if let Some(name) = spec.and_then(|s| s.hostname_override.clone()).filter(|name| !name.is_empty()) {
        return Ok(Names { kernel: name.clone(), hostname: name, domain: None });
    }
    let hostname = spec.and_then(|s| s.hostname.clone()).filter(|name| !name.is_empty());
    let hostname = cut(&hostname.or_else(|| pod.metadata.name.clone()).unwrap_or_default());
    let subdomain = spec.and_then(|s| s.subdomain.as_deref()).filter(|name| !name.is_empty());
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let domain = subdomain.map(|sub| format!("{sub}.{namespace}.svc.{zone}"));
    let as_fqdn = spec.and_then(|s| s.set_hostname_as_fqdn).unwrap_or(false);
    let kernel = match &domain {
        Some(domain) if as_fqdn => format!("{hostname}.{domain}"),
        _ => hostname.clone(),
    };
    if kernel.len() > KERNEL_LIMIT {
        return Err(TooLong(kernel));
    }
    Ok(Names { hostname, domain, kernel })
}

fn cut(name: &str) -> String {
    let short: String = name.chars().take(LABEL_LIMIT).collect();
    if short.len() == name.len() { short } else { short.trim_end_matches(['-', '.']).to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod;
    use serde_json::json;

    fn named(name: &str, spec: serde_json::Value) -> Result<Names, TooLong> {
        let mut pod = pod(spec);
        pod.metadata.name = Some(name.to_owned());
        pod.metadata.namespace = Some("shop".to_owned());
        names(&pod, "cluster.local")
    }

    #[test]
    fn names_follow_the_manifest() {
        let long = format!("{}-.x", "a".repeat(62));
        let cut = "a".repeat(62);
        let fqdn = "web-0.db.shop.svc.cluster.local";
        let table = [
            ("N-097", "web-0", json!({}), "web-0", None, "web-0"),
            ("N-097", "web-0", json!({"hostname": "mail"}), "mail", None, "mail"),
            ("N-097", long.as_str(), json!({}), cut.as_str(), None, cut.as_str()),
            ("N-098", "web-0", json!({"subdomain": "db"}), "web-0", Some("db.shop.svc.cluster.local"), "web-0"),
            (
                "N-099",
                "web-0",
                json!({"subdomain": "db", "setHostnameAsFQDN": true}),
                "web-0",
                Some("db.shop.svc.cluster.local"),
                fqdn,
            ),
            ("N-100", "web-0", json!({"hostnameOverride": "a.b.c", "subdomain": "db"}), "a.b.c", None, "a.b.c"),
        ];
        for (statement, name, spec, hostname, domain, kernel) in table {
            let got = named(name, spec).expect("short enough");
            assert_eq!(
                (got.hostname.as_str(), got.domain.as_deref(), got.kernel.as_str()),
                (hostname, domain, kernel),
                "{statement}"
            );
        }
    }

    // N-099
    #[test]
    fn a_long_fqdn_is_refused() {
        let spec = json!({"subdomain": "s".repeat(60), "setHostnameAsFQDN": true});
        assert!(named("web-0", spec).is_err());
    }
}
