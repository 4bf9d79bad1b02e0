//! What becomes of a ServiceCIDR: a plain function of it, the others, the addresses in use and the time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::is_allocated;

pub(crate) const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// So long after the request a range goes at the earliest: an allocation that did not know of it must have become visible.
const GRACE: SignedDuration = SignedDuration::from_secs(10);

/// What to do about the finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    Keep,
    /// It is not there yet.
    Take,
    /// Nothing is left in the range: it may go.
    Release,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) hold: Hold,
    /// The Ready condition if it is to change.
    pub(crate) condition: Option<Condition>,
    pub(crate) again: Option<Duration>,
}

/// Plans one round.
pub(crate) fn desired(
    cidr: &ServiceCIDR,
    all: &[Arc<ServiceCIDR>],
    addresses: &[Arc<IPAddress>],
    now: Timestamp,
) -> Plan {
    let is_held = cidr.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
    let Some(deleted) = &cidr.metadata.deletion_timestamp else {
        let condition = condition("True", "", "Kubernetes Service CIDR is ready", now);
        let hold = if is_held { Hold::Keep } else { Hold::Take };
        return Plan { hold, condition: changed(cidr, condition), again: None };
    };
    let message =
        "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
    let terminating = changed(cidr, condition("False", "Terminating", message, now));
    let left = GRACE - now.duration_since(deleted.0);
    match (is_held, is_needed(cidr, all, addresses)) {
        (false, _) => Plan { hold: Hold::Keep, condition: None, again: None },
        (true, true) => Plan { hold: Hold::Keep, condition: terminating, again: None },
        (true, false) if left.is_positive() => {
            Plan { hold: Hold::Keep, condition: terminating, again: Some(left.unsigned_abs()) }
        }
        (true, false) => Plan { hold: Hold::Release, condition: None, again: None },
    }
}

/// Whether an address lies only inside this range.
fn is_needed(cidr: &ServiceCIDR, all: &[Arc<ServiceCIDR>], addresses: &[Arc<IPAddress>]) -> bool {
    let own = ranges(cidr);
    let others: Vec<IpNet> = all
        .iter()
        .filter(|other| other.metadata.name != cidr.metadata.name && other.metadata.deletion_timestamp.is_none())
        .flat_map(|other| ranges(other))
        .collect();
    addresses
        .iter()
        .filter(|address| is_allocated(address))
        .filter_map(|address| address.metadata.name.as_deref()?.parse::<IpAddr>().ok())
        .any(|address| {
            own.iter().any(|range| range.contains(&address)) && !others.iter().any(|range| range.contains(&address))
        })
}

/// The ranges of a ServiceCIDR; what is none is left out.
pub(crate) fn ranges(cidr: &ServiceCIDR) -> Vec<IpNet> {
    let texts = cidr.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default();
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

fn condition(status: &str, reason: &str, message: &str, now: Timestamp) -> Condition {
    Condition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: None,
        last_transition_time: Time(now),
    }
}

/// The condition, unless the object has it already.
fn changed(cidr: &ServiceCIDR, wanted: Condition) -> Option<Condition> {
    let conditions = cidr.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is_known = conditions
        .iter()
        .any(|known| known.type_ == wanted.type_ && known.status == wanted.status && known.message == wanted.message);
    (!is_known).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1000;

    fn cidr(name: &str, range: &str, deleted_before: Option<i64>) -> ServiceCIDR {
        let mut metadata = json!({"name": name, "finalizers": [FINALIZER]});
        if let Some(seconds) = deleted_before {
            metadata["deletionTimestamp"] = json!(Timestamp::from_second(NOW - seconds).unwrap().to_string());
        }
        serde_json::from_value(json!({"metadata": metadata, "spec": {"cidrs": [range]}})).unwrap()
    }

    fn address(name: &str, manager: &str) -> Arc<IPAddress> {
        let labels: Value = json!({"ipaddress.kubernetes.io/managed-by": manager});
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap())
    }

    fn run(cidr: &ServiceCIDR, others: Vec<ServiceCIDR>, addresses: &[Arc<IPAddress>]) -> Plan {
        let all: Vec<_> = others.into_iter().chain([cidr.clone()]).map(Arc::new).collect();
        desired(cidr, &all, addresses, Timestamp::from_second(NOW).unwrap())
    }

    // S-220, S-221
    #[test]
    fn a_range_is_ready_and_held() {
        let mut cidr = cidr("extra", "10.97.0.0/24", None);
        let plan = run(&cidr, vec![], &[]);
        let ready = plan.condition.unwrap();
        assert_eq!((ready.status.as_str(), ready.message.as_str()), ("True", "Kubernetes Service CIDR is ready"));
        assert_eq!(plan.hold, Hold::Keep);
        cidr.metadata.finalizers = None;
        assert_eq!(run(&cidr, vec![], &[]).hold, Hold::Take);
        cidr.status = Some(serde_json::from_value(json!({"conditions": [ready]})).unwrap());
        assert_eq!(run(&cidr, vec![], &[]).condition, None, "nothing is written twice");
    }

    #[test]
    fn a_range_goes_when_nothing_is_left_in_it() {
        let used = || vec![address("10.97.0.7", "ipallocator.k8s.io")];
        let going = |seconds| cidr("extra", "10.97.0.0/24", Some(seconds));
        for (label, cidr, others, addresses, hold) in [
            ("S-221: empty", going(10), vec![], vec![], Hold::Release),
            ("S-221: within the grace", going(9), vec![], vec![], Hold::Keep),
            ("S-221: in use", going(99), vec![], used(), Hold::Keep),
            (
                "S-221: by an address that is no Service's",
                going(99),
                vec![],
                vec![address("10.97.0.7", "me")],
                Hold::Release,
            ),
            ("S-221: elsewhere", going(99), vec![], vec![address("10.96.0.7", "ipallocator.k8s.io")], Hold::Release),
            ("S-221: another contains it", going(99), vec![cidr("big", "10.97.0.0/16", None)], used(), Hold::Release),
            ("S-221: one that goes too", going(99), vec![cidr("big", "10.97.0.0/16", Some(1))], used(), Hold::Keep),
        ] {
            let plan = run(&cidr, others, &addresses);
            assert_eq!(plan.hold, hold, "{label}");
            if hold == Hold::Keep {
                assert_eq!(plan.condition.unwrap().reason, "Terminating", "S-220 {label}");
            }
        }
        assert_eq!(run(&going(9), vec![], &[]).again, Some(Duration::from_secs(1)));
    }
}
