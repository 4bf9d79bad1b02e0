use clap::Parser;

use super::*;

#[derive(Parser)]
struct Only {
    #[command(flatten)]
    shape: ShapeArgs,
}

fn plan(args: &[&str]) -> Result<AddressPlan, CliError> {
    let line = std::iter::once("test").chain(args.iter().copied());
    AddressPlan::new(&Only::try_parse_from(line).expect("legal flags").shape)
}

fn nodes(plan: &AddressPlan) -> Vec<String> {
    let join = |list: Vec<String>| list.join(",");
    let nodes = plan.nodes(2).expect("room").into_iter();
    nodes
        .map(|(addresses, pods)| {
            let addresses = addresses.iter().map(ToString::to_string).collect();
            format!("{} {}", join(addresses), join(pods.iter().map(ToString::to_string).collect()))
        })
        .collect()
}

fn ranges(plan: &AddressPlan) -> Vec<String> {
    plan.each(|family| format!("{} {} {} {}", family.services, family.pods, family.nodes, family.load_balancers))
}

#[test]
fn ipv4_is_the_default() {
    let plan = plan(&[]).expect("legal");
    let all = [FamilyPlan::kubernetes, FamilyPlan::dns, FamilyPlan::workstation, FamilyPlan::control_plane];
    let all: Vec<String> = all.iter().map(|of| of(&plan.primary).to_string()).collect();
    assert_eq!(all, ["10.96.0.1", "10.96.0.10", "10.95.0.1", "10.95.0.2"]);
    let others = [FamilyPlan::host, FamilyPlan::publisher, FamilyPlan::machine];
    let others: Vec<String> = others.iter().map(|of| of(&plan.primary).to_string()).collect();
    assert_eq!(others, ["10.95.0.3", "10.95.0.4", "10.95.0.254"]);
    assert_eq!(ranges(&plan), ["10.96.0.0/16 10.244.0.0/16 10.95.0.0/24 10.95.1.0/24"]);
    assert_eq!(nodes(&plan), ["10.95.0.11 10.244.0.0/24", "10.95.0.12 10.244.1.0/24"]);
}

#[test]
fn ipv6_alone_has_the_same_places() {
    let plan = plan(&["--ip-family", "ipv6"]).expect("legal");
    let all = [FamilyPlan::kubernetes, FamilyPlan::dns, FamilyPlan::workstation, FamilyPlan::control_plane];
    let all: Vec<String> = all.iter().map(|of| of(&plan.primary).to_string()).collect();
    assert_eq!(all, ["fd00:96::1", "fd00:96::a", "fd00:95::1", "fd00:95::2"]);
    assert_eq!(plan.primary.machine().to_string(), "fd00:95::fe");
    assert_eq!(ranges(&plan), ["fd00:96::/112 fd00:244::/56 fd00:95::/64 fd00:95:0:1::/112"]);
    assert_eq!(nodes(&plan), ["fd00:95::11 fd00:244::/64", "fd00:95::12 fd00:244:0:1::/64"]);
}

// S-095
#[test]
fn dual_stack_has_both_and_the_order_of_the_service_ranges_counts() {
    let both = plan(&["--ip-family", "dual"]).expect("legal");
    assert_eq!(
        nodes(&both),
        [
            "10.95.0.11,fd00:95::11 10.244.0.0/24,fd00:244::/64",
            "10.95.0.12,fd00:95::12 10.244.1.0/24,fd00:244:0:1::/64"
        ]
    );
    assert_eq!(both.primary.dns().to_string(), "10.96.0.10");
    let args = ["--ip-family", "dual", "--service-cidr", "fd00:99::/112,10.99.0.0/16", "--pod-cidr", "10.98.0.0/16"];
    assert_eq!(
        ranges(&plan(&args).expect("legal")),
        [
            "fd00:99::/112 fd00:244::/56 fd00:95::/64 fd00:95:0:1::/112",
            "10.99.0.0/16 10.98.0.0/16 10.95.0.0/24 10.95.1.0/24"
        ],
        "a family that a flag leaves out has its default"
    );
}

#[test]
fn what_cannot_be_is_refused_with_what_to_type() {
    for (args, message, hint) in [
        ("--service-cidr 10.244.0.0/16", "overlap", "--pod-cidr 10.200.0.0/16"),
        ("--service-cidr 10.96.0.1/16", "bits set", "--service-cidr 10.96.0.0/16"),
        ("--service-cidr 10.96.0.0/30", "prefix length", "--service-cidr 10.96.0.0/24"),
        ("--service-cidr fd00::/112", "is IPv6, but the lab has only IPv4", "--ip-family dual"),
        ("--pod-cidr 127.0.0.0/8", "unicast", "--pod-cidr 10.0.0.0/8"),
        ("--ip-family ipv6 --node-cidr 10.95.0.0/24", "is IPv4, but the lab has only IPv6", "such as fd00:95::/64"),
        (
            "--ip-family dual --service-cidr fd00:96::/112,fd00:97::/112",
            "two IPv6 ranges",
            "10.96.0.0/16,fd00:96::/112",
        ),
        ("--ip-family dual --service-cidr 10.96.0.0/16,fd00:96::1/112", "bits set", "fd00:96::/112"),
        ("--ip-family dual --service-cidr 10.96.0.0/16,fd00:96::/56", "between 64 and 120", "fd00:96::/120"),
        ("--ip-family ipv6 --pod-cidr fd00:95::/56", "overlap", "--node-cidr fd00:200::/64"),
        ("--ip-family ipv6 --node-cidr fe80::/64", "unicast", "--node-cidr fd00:200::/64"),
        ("--ip-family ipv6 --service-cidr ff02::/112", "unicast", "--service-cidr fd00:200::/112"),
        ("--ip-family ipv6 --service-cidr ::ffff:10.96.0.0/112", "unicast", "--service-cidr fd00:200::/112"),
        ("--ip-family ipv6 --service-cidr ::/64", "unicast", "--service-cidr fd00:200::/64"),
    ] {
        let text = plan(&args.split(' ').collect::<Vec<_>>()).expect_err(args).render();
        assert!(text.contains(message) && text.contains(hint), "{args}: {text}");
    }
}

#[test]
fn each_node_needs_a_range_of_its_own_in_every_family() {
    for (args, message, hint) in [
        ("--pod-cidr 10.244.0.0/24", "room for 1 nodes (a /24 each)", "10.244.0.0/16, or fewer --nodes"),
        ("--ip-family dual --pod-cidr fd00:244::/64", "room for 1 nodes (a /64 each)", "fd00:244::/56, or fewer"),
    ] {
        let plan = plan(&args.split(' ').collect::<Vec<_>>()).expect("legal");
        let text = plan.nodes(2).expect_err(args).render();
        assert!(text.contains(message) && text.contains(hint), "{args}: {text}");
        assert!(plan.nodes(1).is_ok());
    }
}

#[test]
fn ranges_that_the_host_routes_are_refused_with_a_free_one() {
    let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                 eth0\t00000000\t010AFE0A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                 tun0\t0000600A\t00000000\t0001\t0\t0\t0\t00F8FFFF\t0\t0\t0\n\
                 tun1\t0000C80A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
    let routes = parse_routes(table);
    assert_eq!(routes.len(), 3);
    let plan4 = plan(&[]).expect("legal");
    let text = plan4.check_host_routes(&routes[1..]).expect_err("10.96/16 is routed").render();
    assert!(text.contains("--service-cidr 10.96.0.0/16") && text.contains("--service-cidr 10.201.0.0/16"), "{text}");
    assert!(plan4.check_host_routes(&routes[..1]).is_ok(), "a default route collides with nothing");

    let rest =
        "00000000000000000000000000000000 00 00000000000000000000000000000000 00000400 00000001 00000000 00000001";
    let table = [
        format!("00000000000000000000000000000000 00 {rest} wg0\n"),
        format!("fd000095000000000000000000000000 30 {rest} wg0\n"),
        format!("fd000200000000000000000000000000 20 {rest} wg0\n"),
    ];
    let routes = parse_routes6(&table.concat());
    assert_eq!(routes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["::/0", "fd00:95::/48", "fd00:200::/32"]);
    assert!(plan4.check_host_routes(&routes).is_ok(), "routes of another family collide with nothing");
    let both = plan(&["--ip-family", "dual"]).expect("legal");
    let text = both.check_host_routes(&routes).expect_err("fd00:95::/48 is routed").render();
    assert!(text.contains("--node-cidr fd00:95::/64") && text.contains("--node-cidr fd00:201::/64"), "{text}");
}
