//! Networks of this machine, a VPN's above all, that have the same addresses as a lab.

use clap::Parser as _;
use ipnet::IpNet;
use minisvc_sandbox::Problem;

use crate::addresses::{self, AddressPlan, Collision};
use crate::args::{Cli, Command};

/// How interfaces of VPNs are called.
const VPNS: [&str; 6] = ["tun", "tap", "wg", "ppp", "utun", "tailscale"];

/// What a lab with the default ranges collides with.
pub(super) fn find() -> Vec<Problem> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    collisions(&read("/proc/net/route"), &read("/proc/net/ipv6_route"))
}

fn collisions(table: &str, table6: &str) -> Vec<Problem> {
    let Ok(Command::Up(args)) = Cli::try_parse_from(["minisvc", "up", "--ip-family", "dual"]).map(|cli| cli.command)
    else {
        return Vec::new();
    };
    let Ok(plan) = AddressPlan::new(&args.shape) else { return Vec::new() };
    let routes = routes(table, table6);
    let nets: Vec<IpNet> = routes.iter().map(|(net, _)| *net).collect();
    plan.collisions(&nets).iter().map(|collision| explain(collision, &routes)).collect()
}

/// Every route with its interface. A lab that runs with `--network host` has routes of its own, which are in nobody's way.
fn routes(table: &str, table6: &str) -> Vec<(IpNet, String)> {
    let word = |line: &str, last: bool| {
        let mut words = line.split_whitespace();
        if last { words.next_back() } else { words.next() }.unwrap_or_default().to_owned()
    };
    let header = table.lines().next().unwrap_or_default();
    let lines = table.lines().skip(1).filter_map(|line| {
        let net = addresses::parse_routes(&format!("{header}\n{line}")).pop()?;
        Some((net, word(line, false)))
    });
    let lines6 = table6.lines().filter_map(|line| Some((addresses::parse_routes6(line).pop()?, word(line, true))));
    lines.chain(lines6).filter(|(_, interface)| interface != crate::lab::HOST_INTERFACE).collect()
}

fn explain(collision: &Collision, routes: &[(IpNet, String)]) -> Problem {
    let Collision { flag, net, route, free } = collision;
    let interface = routes.iter().find(|(net, _)| net == route).map_or("", |(_, interface)| interface.as_str());
    let vpn = if VPNS.iter().any(|vpn| interface.starts_with(vpn)) { ", a VPN" } else { "" };
    Problem {
        what: format!("This machine has a route to {route} by {interface}{vpn}, and a lab uses {net}."),
        why: "Programs in a lab do not reach that network, and --network host is refused.".to_owned(),
        mend: free.map_or_else(
            || format!("minisvc up {flag} with another range"),
            |free| format!("minisvc up {flag} {free}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vpn_with_the_addresses_of_services_is_named_with_a_range_that_is_free() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t010AFE0A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     wg0\t0000600A\t00000000\t0001\t0\t0\t0\t0000F8FF\t0\t0\t0\n";
        let found = collisions(table, "");
        let [only] = found.as_slice() else { panic!("one collision: {found:?}") };
        assert_eq!(only.what, "This machine has a route to 10.96.0.0/13 by wg0, a VPN, and a lab uses 10.96.0.0/16.");
        assert_eq!(only.mend, "minisvc up --service-cidr 10.200.0.0/16");
        assert!(collisions("", "").is_empty());
        assert!(collisions(&table.replace("wg0", "minisvc0"), "").is_empty(), "a lab's own");
    }
}
