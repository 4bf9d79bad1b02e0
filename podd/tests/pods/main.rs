//! Real pods: processes in namespaces, an API server in memory, and a network that goes nowhere.
//!
//! The binary is also the sandbox's helper and the built-in images, which is why it has its own `main`. Traffic between
//! pods is not tested here.

#![expect(clippy::print_stdout, reason = "it reports as a test runner does")]

mod families;
mod harness;
mod health;
mod images;
mod lab;
mod life;
mod logs;
mod nodes;
mod probes;
mod scale;
mod trouble;
mod view;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("__sandbox") => minisvc_sandbox::helper_main(),
        Some("__echo") => minisvc_podd::builtin::echo_main(),
        Some("__health") => health::main(),
        Some("__pause") => minisvc_podd::builtin::pause_main(),
        _ => harness::run(&[
            families::TESTS,
            images::TESTS,
            life::TESTS,
            logs::TESTS,
            nodes::TESTS,
            probes::TESTS,
            scale::TESTS,
            trouble::TESTS,
            view::TESTS,
        ]),
    }
}
