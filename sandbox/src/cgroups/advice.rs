//! What limits are not kept on this machine, why, and what mends it.

use std::path::Path;

use nix::unistd::geteuid;

use super::limits::Controller;
use super::place::{Lack, Machine};
use crate::preflight::Problem;

/// How an ordinary user gets groups of his own from systemd.
const SCOPE: &str = "systemd-run --user --scope -p Delegate=yes minisvc up";
/// The same for root.
const ROOT_SCOPE: &str = "systemd-run --scope -p Delegate=yes minisvc up";
const AS_ROOT: &str = "sudo minisvc up";
/// Gives every user's services and scopes what systemd keeps to itself by default.
const DELEGATE: &str = "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu memory pids\\n' | sudo tee \
                        /etc/systemd/system/user@.service.d/delegate.conf, then log out and in";

/// Which limits are not kept on this machine.
pub(crate) fn remarks() -> Vec<Problem> {
    let machine = Machine::read();
    let root = geteuid().is_root();
    let manager = if root { "/run/systemd/system".to_owned() } else { format!("/run/user/{}/systemd", geteuid()) };
    let surroundings = Surroundings { root, systemd: Path::new(&manager).exists() };
    let lacks =
        Controller::ALL.into_iter().filter_map(|controller| Some((controller, machine.place(controller).err()?)));
    problems(&lacks.collect::<Vec<_>>(), surroundings)
}

#[derive(Debug, Clone, Copy)]
struct Surroundings {
    root: bool,
    /// There is a systemd: for a user, one of his own.
    systemd: bool,
}

fn problems(lacks: &[(Controller, Lack)], surroundings: Surroundings) -> Vec<Problem> {
    // What is missing for one reason is said once.
    if let [(first, lack), (second, same)] = lacks
        && lack == same
        && *lack != Lack::Missing
    {
        let both = format!("{} and {}", first.name(), second.name());
        return vec![problem(&both, lack, *first, surroundings)];
    }
    lacks.iter().map(|(controller, lack)| problem(controller.name(), lack, *controller, surroundings)).collect()
}

fn problem(limits: &str, lack: &Lack, controller: Controller, surroundings: Surroundings) -> Problem {
    let Surroundings { root, systemd } = surroundings;
    let mend = match (lack, controller) {
        (Lack::Missing, Controller::Memory) => {
            "Use a kernel with the controller; some have it switched off until \
                                                cgroup_enable=memory is on their command line."
        }
        (Lack::Missing, Controller::Cpu) => {
            "Use a kernel with the controller, or mount it: sudo mount -t cgroup2 none \
                                             /sys/fs/cgroup"
        }
        (Lack::NotGiven(_), _) if !root => DELEGATE,
        (Lack::NotOurs(_) | Lack::Crowded(_), _) if !root && systemd => SCOPE,
        (Lack::NotOurs(_) | Lack::Crowded(_), _) if !root => AS_ROOT,
        (Lack::NotGiven(_) | Lack::Crowded(_), _) if systemd => ROOT_SCOPE,
        (Lack::NotOurs(_) | Lack::NotGiven(_), _) => "Start the container with --privileged, or minisvc outside of it.",
        (Lack::Crowded(_), _) => "Start minisvc as the container's own command, or outside of it.",
    };
    Problem {
        what: format!("Limits of {limits} are not kept: a container may use more than its manifest allows."),
        why: capitalised(&why(lack, controller)),
        mend: mend.to_owned(),
    }
}

/// The reason, as part of a sentence.
pub(super) fn why(lack: &Lack, controller: Controller) -> String {
    match lack {
        Lack::Missing => format!("no {} controller for control groups is mounted", controller.name()),
        Lack::NotOurs(place) => format!("control groups cannot be made in {}", place.display()),
        Lack::Crowded(place) => {
            format!("processes run in {} itself, so no control groups can be made below it", place.display())
        }
        Lack::NotGiven(place) => format!("{} was made without the {} controller", place.display(), controller.name()),
    }
}

fn capitalised(sentence: &str) -> String {
    let mut rest = sentence.chars();
    let first = rest.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
    format!("{first}{}.", rest.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Surroundings = Surroundings { root: false, systemd: true };

    #[test]
    fn each_lack_has_its_remedy() {
        let place = || "/sys/fs/cgroup/x".into();
        let bare = Surroundings { systemd: false, ..USER };
        let root = Surroundings { root: true, ..USER };
        let container = Surroundings { systemd: false, ..root };
        for (lack, surroundings, mend) in [
            (Lack::NotOurs(place()), USER, SCOPE),
            (Lack::NotOurs(place()), bare, AS_ROOT),
            (Lack::NotOurs(place()), root, "--privileged"),
            (Lack::Crowded(place()), USER, SCOPE),
            (Lack::NotOurs(place()), container, "--privileged"),
            (Lack::Crowded(place()), root, ROOT_SCOPE),
            (Lack::Crowded(place()), container, "own command"),
            (Lack::NotGiven(place()), root, ROOT_SCOPE),
            (Lack::NotGiven(place()), container, "--privileged"),
            (Lack::NotGiven(place()), USER, "Delegate=cpu memory pids"),
            (Lack::Missing, root, "cgroup_enable=memory"),
        ] {
            let [found] = &problems(&[(Controller::Memory, lack)], surroundings)[..] else { panic!("one problem") };
            assert!(found.mend.contains(mend), "{found}");
            assert!(found.what.contains("memory") && found.why.ends_with('.'), "{found}");
        }
    }

    #[test]
    fn one_reason_is_said_once() {
        let both = |lack: Lack| [(Controller::Memory, lack.clone()), (Controller::Cpu, lack)];
        let found = problems(&both(Lack::NotOurs("/x".into())), USER);
        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("memory and cpu"), "{}", found[0]);
        assert_eq!(problems(&both(Lack::Missing), USER).len(), 2, "each has its own remedy");
    }
}
