//! What a write of a Service takes from the pools of addresses and ports (S-103 to S-124), written into the Service.
//!
//! The choice itself is in `pools`; that two writes cannot both win is the transaction's business: what is decided here
//! is taken in the same commit as the object.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::super::address::lenient_ip;
use super::super::check::Errors;
use super::super::json::{at, child, integer, list, list_mut, set, text, texts};
use super::families::{self, Family};
use super::pools::{AddressPool, PortPool};
use super::{
    health_check_port, is_headless, may_have_node_ports, needs_cluster_ip, needs_health_check_port, needs_node_ports,
    node_port, node_ports,
};
use crate::registry::{Allocate, AllocationPlan, ApiError, Claim, FieldError, Pools};

const TAKEN: &str = "provided port is already allocated";

/// The [`Allocate`] of Services.
pub(super) struct Allocator;

impl Allocate for Allocator {
    fn plan(
        &self,
        new: Option<&mut Value>,
        old: Option<&Value>,
        pools: &Pools<'_>,
        dry_run: bool,
    ) -> Result<AllocationPlan, ApiError> {
        let held = old.map(claims).unwrap_or_default();
        let Some(new) = new else {
            return Ok(AllocationPlan { take: Vec::new(), give: held });
        };
        let write = Write { held: &held, is_create: old.is_none(), pools, dry_run };
        let cluster: Vec<Family> = pools.config.service_cidrs.iter().map(|range| Family::of(range.addr())).collect();
        families::fill(new, old, &cluster).map_err(|errors| invalid(new, errors))?;
        write.cluster_ips(new)?;
        write.node_ports(new)?;
        write.health_check_port(new)?;
        if dry_run {
            return Ok(AllocationPlan::default());
        }
        let wanted = claims(new);
        let take = wanted.iter().filter(|claim| !held.contains(claim)).copied().collect();
        let give = held.iter().filter(|claim| !wanted.contains(claim)).copied().collect();
        Ok(AllocationPlan { take, give })
    }
}

/// What a stored Service holds.
fn claims(service: &Value) -> Vec<Claim> {
    let mut claims = BTreeSet::new();
    if needs_cluster_ip(service) {
        claims.extend(texts(service, "/spec/clusterIPs").into_iter().filter_map(lenient_ip).map(Claim::ClusterIp));
    }
    if may_have_node_ports(service) {
        let ports = node_ports(service).into_iter().chain(health_check_port(service));
        claims.extend(ports.filter_map(|port| u16::try_from(port).ok()).map(Claim::NodePort));
    }
    claims.into_iter().collect()
}

fn invalid(service: &Value, errors: Vec<FieldError>) -> ApiError {
    ApiError::Invalid { group: "", kind: "Service", name: text(service, "/metadata/name").to_owned(), errors }
}

/// One write: what the Service held before it, and the pools it may draw from.
struct Write<'a> {
    held: &'a [Claim],
    is_create: bool,
    pools: &'a Pools<'a>,
    /// Nothing is taken, so addresses and ports in the answer are placeholders (S-017).
    dry_run: bool,
}

impl Write<'_> {
    /// Somebody else has it.
    fn is_taken(&self, claim: Claim) -> bool {
        !self.held.contains(&claim) && self.pools.is_taken(&claim)
    }

    /// Nobody has it: a number given up in this very write is not handed out again by it.
    fn is_free(&self, claim: Claim) -> bool {
        !self.held.contains(&claim) && !self.pools.is_taken(&claim)
    }

    fn cluster_ips(&self, new: &mut Value) -> Result<(), ApiError> {
        if !needs_cluster_ip(new) || is_headless(new) {
            return Ok(());
        }
        let given: Vec<String> = texts(new, "/spec/clusterIPs").into_iter().map(str::to_owned).collect();
        let families: Vec<Family> = texts(new, "/spec/ipFamilies").into_iter().filter_map(Family::parse).collect();
        let mut addresses = Vec::new();
        for (index, family) in families.into_iter().enumerate() {
            match given.get(index).filter(|text| !text.is_empty()) {
                Some(text) => {
                    self.check_address(text).map_err(|why| {
                        let mut errors = Errors::default();
                        let why = format!("failed to allocate IP {text}: {why}");
                        errors.invalid("spec.clusterIPs", given.clone(), why);
                        invalid(new, errors.into_list())
                    })?;
                    addresses.push(text.clone());
                }
                None => addresses.push(self.choose_address(family)?.to_string()),
            }
        }
        if let Some(spec) = child(new, "spec")
            && let Some(first) = addresses.first()
        {
            set(spec, "clusterIP", first.as_str());
            set(spec, "clusterIPs", addresses);
        }
        Ok(())
    }

    /// Whether an address that was asked for can be had (S-104).
    fn check_address(&self, text: &str) -> Result<(), String> {
        // Validation has seen the text before.
        let Some(address) = lenient_ip(text) else { return Ok(()) };
        let claim = Claim::ClusterIp(address);
        if self.held.contains(&claim) {
            return Ok(());
        }
        let mut ranges = self.pools.ranges.iter().filter(|range| range.contains(&address));
        let Some(range) = ranges.clone().next() else {
            return Err("the provided network does not match the current range".to_owned());
        };
        // Ranges may overlap: what one leaves out another may have (S-222).
        if !ranges.any(|range| AddressPool::new(*range).is_usable(address)) {
            return Err(format!(
                "the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}"
            ));
        }
        // A dry run does not look whether the address is taken (S-017).
        if !self.dry_run && self.is_taken(claim) {
            return Err("provided IP is already allocated".to_owned());
        }
        Ok(())
    }

    fn choose_address(&self, family: Family) -> Result<IpAddr, ApiError> {
        let ranges = self.pools.ranges.iter();
        let ours = ranges.filter(|range| Family::of(range.addr()) == family).map(|range| AddressPool::new(*range));
        for pool in ours {
            if self.dry_run {
                return Ok(pool.network());
            }
            let taken = |address: IpAddr| !self.is_free(Claim::ClusterIp(address));
            if let Some(address) = pool.choose(|bound| self.pools.random(bound), taken) {
                return Ok(address);
            }
        }
        Err(ApiError::internal("failed to allocate a serviceIP: range is full"))
    }

    fn node_ports(&self, new: &mut Value) -> Result<(), ApiError> {
        if !may_have_node_ports(new) {
            return Ok(());
        }
        self.check_node_ports(new).map_err(|errors| invalid(new, errors))?;
        if !needs_node_ports(new) {
            return Ok(());
        }
        let count = list(new, "/spec/ports").len();
        for index in 0..count {
            let ports = list(new, "/spec/ports");
            if node_port(&ports[index]).is_some() {
                continue;
            }
            let number = match shared_port(ports, index).filter(|_| self.is_create) {
                Some(number) => number,
                None => self.choose_port(new, "failed to allocate a nodePort: range is full")?.into(),
            };
            if let Some(port) = list_mut(new, "/spec/ports").nth(index) {
                set(port, "nodePort", number);
            }
        }
        Ok(())
    }

    /// Whether the node ports that were asked for can be had (S-117, S-119).
    fn check_node_ports(&self, new: &Value) -> Result<(), Vec<FieldError>> {
        let pool = PortPool::new(self.pools.config.node_ports.clone());
        let mut errors = Errors::default();
        let ports = list(new, "/spec/ports");
        for (index, port) in ports.iter().enumerate() {
            let Some(number) = node_port(port) else { continue };
            let field = format!("spec.ports[{index}].nodePort");
            let claim = u16::try_from(number).map(Claim::NodePort).ok();
            if claim.is_some_and(|claim| self.held.contains(&claim)) {
                continue;
            }
            let other_port_has_it = || {
                ports[..index]
                    .iter()
                    .any(|earlier| node_port(earlier) == Some(number) && earlier["port"] != port["port"])
            };
            if !pool.contains(number) {
                let why =
                    format!("provided port is not in the valid range. The range of valid ports is {}", pool.describe());
                errors.invalid(field, number, why);
            } else if claim.is_some_and(|claim| self.is_taken(claim)) || self.is_create && other_port_has_it() {
                errors.invalid(field, number, TAKEN);
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors.into_list()) }
    }

    /// A free port that this Service does not use elsewhere.
    fn choose_port(&self, new: &Value, when_full: &str) -> Result<u16, ApiError> {
        let own: BTreeSet<i64> = node_ports(new).into_iter().chain(health_check_port(new)).collect();
        let pool = PortPool::new(self.pools.config.node_ports.clone());
        pool.choose(
            |bound| self.pools.random(bound),
            |port| own.contains(&i64::from(port)) || !self.is_free(Claim::NodePort(port)),
        )
        .ok_or_else(|| ApiError::internal(when_full))
    }

    /// S-124, S-134
    fn health_check_port(&self, new: &mut Value) -> Result<(), ApiError> {
        if !needs_health_check_port(new) {
            return Ok(());
        }
        if let Some(number) = integer(new, "/spec/healthCheckNodePort").filter(|number| *number > 0) {
            return self.check_health_check_port(new, number).map_err(|why| {
                ApiError::internal(format!("failed to allocate requested HealthCheck NodePort {number}: {why}"))
            });
        }
        if health_check_port(new).is_some() {
            // Negative: validation says so.
            return Ok(());
        }
        let number = self.choose_port(new, "failed to allocate a HealthCheck NodePort: range is full")?;
        if let Some(spec) = child(new, "spec") {
            set(spec, "healthCheckNodePort", json!(number));
        }
        Ok(())
    }

    fn check_health_check_port(&self, new: &Value, number: i64) -> Result<(), String> {
        let claim = u16::try_from(number).map(Claim::NodePort).ok();
        let unchanged = claim.is_some_and(|claim| self.held.contains(&claim));
        let own_port = node_ports(new).contains(&number);
        if own_port || !unchanged && claim.is_some_and(|claim| self.is_taken(claim)) {
            return Err(TAKEN.to_owned());
        }
        let pool = PortPool::new(self.pools.config.node_ports.clone());
        if !unchanged && !pool.contains(number) {
            let range = pool.describe();
            return Err(format!("provided port is not in the valid range. The range of valid ports is {range}"));
        }
        Ok(())
    }
}

/// On create, TCP and UDP of one port number share a node port, unless it is used for this protocol already (S-119).
fn shared_port(ports: &[Value], index: usize) -> Option<i64> {
    let port = &ports[index];
    let partner = |other: &&Value| other["port"] == port["port"] && other["protocol"] != port["protocol"];
    let shared = ports.iter().filter(partner).find_map(node_port)?;
    let clash =
        ports.iter().any(|other| node_port(other) == Some(shared) && at(other, "/protocol") == at(port, "/protocol"));
    (!clash).then_some(shared)
}

#[cfg(test)]
#[path = "allocation_tests.rs"]
mod tests;
