//! Tells the user when a pod has as many processes as it may.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use minisvc_sandbox::can_limit_processes;
use tracing::debug;

use crate::shared::{Shared, lock};

/// How often it is looked. The kernel keeps the limit at any time; this is only about saying so.
const INTERVAL: Duration = Duration::from_secs(3);

/// Looks until it is aborted.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let Some(limit) = shared.config.process_limit.filter(|_| can_limit_processes()) else { return };
    loop {
        tokio::time::sleep(INTERVAL).await;
        // As long as the whole machine has fewer, no pod needs to be asked.
        if at_limit(on_this_machine(), limit) {
            look(&shared, limit).await;
        }
    }
}

/// Whether it is as good as full: some numbers may be taken by processes that have ended.
fn at_limit(processes: usize, limit: u32) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    processes >= limit - limit / 10
}

/// Processes and threads, which `/proc/loadavg` has after the number of those that run.
fn on_this_machine() -> usize {
    counted(&std::fs::read_to_string("/proc/loadavg").unwrap_or_default())
}

fn counted(loadavg: &str) -> usize {
    let all = loadavg.split_ascii_whitespace().nth(3).and_then(|counts| counts.split_once('/')?.1.parse().ok());
    all.unwrap_or(usize::MAX)
}

async fn look(shared: &Shared, limit: u32) {
    let pods: Vec<_> = lock(&shared.pods).iter().map(|(key, pod)| (key.clone(), Arc::clone(pod))).collect();
    for ((namespace, name), pod) in pods {
        let Some(inside) = pod.namespace() else { continue };
        match inside.count_processes().await {
            Ok(count) if at_limit(count, limit) => {
                let about = ObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    namespace: Some(namespace),
                    name: Some(name),
                    uid: Some(pod.uid.clone()),
                    ..ObjectReference::default()
                };
                let message = format!(
                    "The pod has as many processes as it may ({limit}): it cannot start another, and what tries gets \
                     \"resource temporarily unavailable\""
                );
                shared.recorder.record(about, true, "TooManyProcesses", message);
            }
            Ok(_) => {}
            Err(error) => debug!(%error, namespace, name, "the processes of a pod cannot be counted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_counts_for_us() {
        assert_eq!(counted("0.52 0.48 0.37 2/1043 81234\n"), 1043);
        assert_eq!(counted(""), usize::MAX, "then the pods are asked");
        assert!((1..usize::MAX).contains(&on_this_machine()));
    }

    #[test]
    fn a_tenth_below_the_limit_counts_as_full() {
        assert!(at_limit(4096, 4096) && at_limit(3700, 4096));
        assert!(!at_limit(3000, 4096) && !at_limit(0, 1));
    }
}
