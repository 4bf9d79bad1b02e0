//! A sandbox as its users see it: real namespaces, mounts, TUN devices and processes.
//!
//! The helper is this binary again, so there is a `main` instead of the usual harness. As root every check runs twice, the second
//! time as an ordinary user (`test_everything_holds_without_root`).
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod death;
mod limits;
mod mounts;
mod network;
mod processes;
mod programs;
mod rootless;
mod support;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

/// A check that hangs fails. Far beyond what any takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

type Check = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()> + Send>>);

macro_rules! checks {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), || Box::pin($module::$name()))),*]
    };
}

const CHECKS: &[Check] = checks![
    processes::test_exit_codes_and_signals_are_reported,
    processes::test_start_failures_are_told_apart,
    processes::test_an_environment_of_128_kib_arrives,
    processes::test_too_long_requests_are_refused,
    processes::test_a_program_starts_with_clean_descriptors_and_signals,
    processes::test_programs_are_looked_up_in_the_new_path,
    processes::test_many_processes_start_at_the_same_time,
    processes::test_a_terminal_becomes_the_controlling_terminal,
    processes::test_a_process_runs_as_the_user_that_was_asked_for,
    processes::test_a_container_ends_with_its_first_process,
    processes::test_a_signal_reaches_the_first_process_alone,
    processes::test_what_forks_without_end_is_bounded_and_ends_with_its_container,
    processes::test_a_start_that_nobody_waits_for_is_undone,
    mounts::test_each_namespace_has_its_own_hostname_and_process_list,
    mounts::test_files_are_replaced_for_one_container_only,
    mounts::test_missing_mount_points_appear_in_the_container_only,
    mounts::test_a_link_that_leads_nowhere_is_a_mount_point,
    mounts::test_read_only_mounts_refuse_writes,
    mounts::test_an_exec_sees_the_mounts_of_its_container,
    mounts::test_what_is_hidden_looks_empty,
    mounts::test_a_tmpfs_is_limited,
    mounts::test_sockets_beside_a_new_mount_point_still_answer,
    mounts::test_later_mounts_of_the_host_follow,
    mounts::test_impossible_mounts_are_named,
    network::test_two_namespaces_listen_on_the_same_ports,
    network::test_packets_leave_and_enter_through_the_tun,
    network::test_only_what_is_routed_leaves,
    network::test_offload_prepends_a_header,
    network::test_ipv6_is_there_if_asked_for,
    network::test_impossible_interfaces_are_refused,
    network::test_reflected_ports_of_an_own_address_leave,
    network::test_a_host_has_a_tun_and_routes_while_it_is_open,
    network::test_kernel_settings_suit_pods,
    death::test_removing_a_namespace_kills_daemons_too,
    death::test_killing_the_helper_kills_the_lab,
    death::test_killing_the_main_process_kills_the_lab,
    death::test_dropping_the_last_handle_kills,
    death::test_a_lost_namespace_says_so,
    death::test_nothing_is_left_of_a_lab_of_many_namespaces,
    death::test_a_helper_that_is_none_is_reported,
    limits::test_a_container_gets_no_more_memory_than_its_limit,
    limits::test_limits_of_the_pod_hold_for_all_its_containers,
    limits::test_a_container_gets_no_more_processor_time_than_its_limit,
    limits::test_no_directory_outlives_the_main_process,
    limits::test_what_both_have_left_is_removed_by_the_next_start,
    rootless::test_this_machine_lacks_nothing,
    rootless::test_what_this_machine_lacks_is_explained,
    rootless::test_everything_holds_without_root,
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = programs::run(&args) {
        return code;
    }
    if args.iter().any(|arg| arg == "--list") {
        for (name, _) in CHECKS {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let chosen = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let chosen: Vec<&Check> = CHECKS.iter().filter(|(name, _)| chosen(name)).collect();
    println!("\nrunning {} tests", chosen.len());
    let failed = chosen.iter().filter(|check| !passes(check)).count();
    let passed = chosen.len() - failed;
    let filtered = CHECKS.len() - chosen.len();
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {filtered} filtered out\n"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a check in a runtime of its own, so that nothing of it is left for the next.
fn passes((name, check): &Check) -> bool {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let outcome = runtime.block_on(async { tokio::time::timeout(LIMIT, tokio::spawn(check())).await });
    let verdict = match &outcome {
        Ok(Ok(())) => "ok",
        Ok(Err(_)) => "FAILED",
        Err(_) => "FAILED (no end in sight)",
    };
    println!("test {name} ... {verdict}");
    runtime.shutdown_timeout(Duration::from_secs(5));
    matches!(outcome, Ok(Ok(())))
}
