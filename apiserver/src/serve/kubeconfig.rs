//! The text of a kubeconfig.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::ClientCertificate;

/// A kubeconfig in which everything is called `lab` and embedded. It is JSON, which every YAML reader understands,
/// so that no name can break out of its quotes.
pub(super) fn render(server_url: &str, lab: &str, ca: &str, user: &ClientCertificate) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": lab,
        "clusters": [{"name": lab, "cluster": {
            "server": server_url,
            "certificate-authority-data": STANDARD.encode(ca),
        }}],
        "users": [{"name": lab, "user": {
            "client-certificate-data": STANDARD.encode(&user.certificate),
            "client-key-data": STANDARD.encode(&user.key),
        }}],
        "contexts": [{"name": lab, "context": {"cluster": lab, "user": lab}}],
        "preferences": {},
    });
    format!("{config:#}\n")
}
