//! Labs that were killed, and what tests that were killed have left in the folder for temporary files.
//!
//! Nothing of a lab runs on or stays mounted after its end, however it ended; what stays are files, and directories of control
//! groups.

use std::path::Path;

use minisvc_sandbox::Problem;

use crate::args::{DoctorArgs, LabArgs};
use crate::error::CliError;
use crate::home::LabHome;

/// How folders begin that tests make.
const OF_TESTS: &str = "minisvc-test-";

/// What is left of labs that do not run any more.
///
/// # Errors
/// When no folder is given and the user has no home.
pub(super) fn find(args: &DoctorArgs) -> Result<Vec<Problem>, CliError> {
    let any = LabHome::of(&LabArgs { name: "default".to_owned(), state_dir: args.state_dir.clone() })?;
    let mut found: Vec<Problem> = any.siblings().iter().filter(|lab| lab.was_killed()).map(killed).collect();
    found.extend(of_tests(&std::env::temp_dir()));
    found.extend(minisvc_sandbox::abandoned_groups().iter().map(|group| abandoned(group)));
    Ok(found)
}

fn killed(lab: &LabHome) -> Problem {
    let (name, root) = (&lab.name, lab.root().display());
    Problem {
        what: format!("The lab {name:?} was killed."),
        why: format!("Nothing of it runs, but its objects and addresses are kept in {root}."),
        mend: format!("minisvc up --name {name} starts it again; rm -r {root} forgets it"),
    }
}

fn abandoned(group: &Path) -> Problem {
    Problem {
        what: format!("The control group {} is left of a lab that was killed.", group.display()),
        why: "Nothing runs in it any more.".to_owned(),
        mend: "The next minisvc up or minisvc down removes it.".to_owned(),
    }
}

/// Folders of tests in which no lab runs any more.
fn of_tests(folder: &Path) -> Vec<Problem> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with(OF_TESTS)).collect();
    names.sort();
    let left = names.into_iter().map(|name| folder.join(name)).filter(|path| {
        let labs = LabHome::at("any", &path.join("any")).siblings();
        !labs.is_empty() && labs.iter().all(|lab| lab.was_killed())
    });
    let problem = |path: std::path::PathBuf| Problem {
        what: format!("{} is left of a test that was killed.", path.display()),
        why: "It holds the objects of a lab that does not run any more.".to_owned(),
        mend: format!("rm -r {}", path.display()),
    };
    left.map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_that_ended_in_order_or_still_starts_is_no_leftover() {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let lab = |test: &str, name: &str| {
            let lab = LabHome::at(name, &temporary.path().join(test).join(name));
            lab.create().expect("made");
            lab
        };
        lab("minisvc-test-starting", "test");
        let dead = lab("minisvc-test-dead", "test");
        std::fs::write(dead.run_dir().join("lab.json"), "{}").expect("written");
        std::fs::write(lab("other", "test").run_dir().join("lab.json"), "{}").expect("written");
        let found = of_tests(temporary.path());
        let [only] = found.as_slice() else { panic!("one is left: {found:?}") };
        assert!(only.mend.starts_with("rm -r ") && only.mend.ends_with("minisvc-test-dead"), "{}", only.mend);
        assert!(killed(&dead).mend.contains("minisvc up --name test"));
    }
}
