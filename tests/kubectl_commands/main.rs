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

//
#[test]
fn every_command_of_kubectl_works() {
    let programs = programs();
    let Some(newest) = programs.last().cloned() else { return };
    let lab = Lab::start("kcommands", &["--nodes", "2"]);
    std::thread::scope(|scope| {
        let (lab, newest) = (&lab, &newest);
        for program in &programs {
            scope.spawn(move || {
                let kubectl = Kubectl::new(program.clone(), lab);
                let version = kubectl.name().replace('.', "-");
                looking::discovery(&kubectl);
                create::run(&kubectl.within(&format!("create-{version}")), &version, program == newest);
                apply::run(&kubectl.within(&format!("apply-{version}")));
            });
        }
        let sections: [(&str, fn(&Kubectl<'_>)); 5] = [
            ("workloads", workloads::run),
            ("nodes", nodes::run),
            ("prune", apply::prune_and_diff),
            ("objects", objects::run),
            ("looking", looking::run),
        ];
        for (name, section) in sections {
            scope.spawn(move || section(&Kubectl::new(newest.clone(), lab).within(name)));
        }
    });
}
