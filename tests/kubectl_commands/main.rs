//! Every command of kubectl against a real lab, with what it prints and what it does. Discovery, create, apply and explain,
//! where versions differ, run with each kubectl of this machine; the others with the newest. Exec, attach, cp, port-forward
//! and logs are in `kubectl_streams.rs`.

#![allow(clippy::print_stderr, reason = "a skipped test says so, and a lab's words belong into the log")]

mod apply;
mod create;
mod looking;
mod nodes;
mod objects;
mod workloads;

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/kubectl.rs"]
mod kubectl;

use common::Lab;
use kubectl::{Kubectl, programs};

/// A group of commands, in a namespace of its own.
type Commands = fn(&Kubectl<'_>);

//
#[test]
fn every_command_of_kubectl_works() {
    let programs = programs();
    let Some(newest) = programs.last() else { return };
    let lab = Lab::start("kcommands", &["--nodes", "2"]);
    // The first column is the statement that would break the commands first.
    let of_each: [(&str, &str, Commands); 3] =
        [("A-031", "discovery", looking::discovery), ("A-038", "create", create::run), ("A-030", "apply", apply::run)];
    let of_newest: [(&str, &str, Commands); 10] = [
        ("A-056", "dry", create::dry_runs),
        ("A-026", "prune", apply::prune_and_diff),
        ("A-069", "objects", objects::run),
        ("A-157", "workloads", workloads::run),
        ("A-139", "proxies", nodes::proxies),
        ("A-132", "drains", nodes::drains),
        ("A-025", "cluster", nodes::cluster),
        ("P-041", "requests", nodes::requests),
        ("A-159", "describes", looking::describes),
        ("A-127", "gets", looking::gets),
    ];
    std::thread::scope(|scope| {
        let lab = &lab;
        for program in &programs {
            scope.spawn(move || {
                let kubectl = Kubectl::new(program.clone(), lab);
                let version = kubectl.name().replace('.', "-");
                for (statement, name, commands) in of_each {
                    eprintln!("{statement}: {name} with {version}");
                    commands(&kubectl.within(&format!("{name}-{version}")));
                }
            });
        }
        for (statement, name, commands) in of_newest {
            scope.spawn(move || {
                eprintln!("{statement}: {name}");
                commands(&Kubectl::new(newest.clone(), lab).within(name));
            });
        }
        scope.spawn(move || looking::configuration(&Kubectl::new(newest.clone(), lab)));
    });
}
