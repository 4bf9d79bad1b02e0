//! What a lesson is: a page to read, manifests, and `lab.yaml`, which says what is to be done.

use serde::Deserialize;
use serde_json::Value;

use crate::error::CliError;

/// Folder, then file and text.
type Folder = (&'static str, &'static [(&'static str, &'static str)]);

/// All folders of `examples/labs`, in order; written by `build.rs`.
const FOLDERS: &[Folder] = include!(concat!(env!("OUT_DIR"), "/labs.rs"));

/// One lesson.
#[derive(Debug, Clone)]
pub(crate) struct Lesson {
    /// From 1.
    pub(crate) number: usize,
    /// The folder's name without its number.
    pub(crate) name: &'static str,
    files: &'static [(&'static str, &'static str)],
    pub(crate) plan: Plan,
}

/// `lab.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Plan {
    /// What it is about, in a few words.
    pub(crate) title: String,
    /// How many nodes the lab must have.
    #[serde(default = "one")]
    pub(crate) nodes: usize,
    /// Manifests that are applied at the start, one after another; each waits for the pods of those before.
    #[serde(default)]
    pub(crate) start: Vec<String>,
    /// What must be so at the end, in the order in which one would do it.
    pub(crate) checks: Vec<Check>,
    /// From a nudge to the answer.
    pub(crate) hints: Vec<String>,
    /// How to get there.
    pub(crate) solution: Vec<Move>,
}

fn one() -> usize {
    1
}

/// One thing that must be so: a sentence, and exactly one way to look.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Check {
    /// What must be so.
    pub(crate) what: String,
    /// A field of an object.
    pub(crate) field: Option<FieldCheck>,
    /// Pods with a label.
    pub(crate) pods: Option<PodsCheck>,
    /// The endpoints of a Service.
    pub(crate) endpoints: Option<EndpointsCheck>,
    /// Requests.
    pub(crate) http: Option<HttpCheck>,
    /// A name.
    pub(crate) resolves: Option<NameCheck>,
    /// An environment variable of a running container.
    pub(crate) env: Option<EnvCheck>,
    /// What `minisvc why` says.
    pub(crate) why: Option<WhyCheck>,
    /// A rollout under load.
    pub(crate) rollout: Option<RolloutCheck>,
}

/// A field of an object: there, or equal to something, or different from it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct FieldCheck {
    /// `kind/name`.
    pub(crate) object: String,
    /// JSON pointer; the object itself without it.
    #[serde(default)]
    pub(crate) path: String,
    /// What it must be; text may hold placeholders.
    pub(crate) equals: Option<Value>,
    /// What it must not be.
    pub(crate) not: Option<Value>,
}

/// Pods with a label: how many there are, and how many of them are ready.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct PodsCheck {
    /// `app=web`.
    pub(crate) labels: String,
    /// How many there must be, at the least.
    pub(crate) count: usize,
    /// How many of them must be ready, at the least.
    #[serde(default)]
    pub(crate) ready: usize,
}

/// How many endpoints a Service must have that are ready.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct EndpointsCheck {
    pub(crate) service: String,
    pub(crate) ready: usize,
}

/// Requests from somewhere, and what the answers must be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct HttpCheck {
    /// A pod by label, such as `app=client`; the workstation without it.
    pub(crate) from: String,
    /// May hold placeholders.
    pub(crate) url: String,
    /// How many requests; 1 without it.
    pub(crate) times: usize,
    /// What each answer must hold.
    pub(crate) contains: String,
    /// How many pods must have answered, at the least.
    pub(crate) spread: usize,
    /// One pod must have answered all of them.
    pub(crate) same: bool,
    /// Whose address the pod must have seen: `client`.
    pub(crate) sees: String,
}

/// A name that must lead somewhere.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct NameCheck {
    /// A pod by label; the workstation without it.
    pub(crate) from: String,
    /// May hold placeholders.
    pub(crate) name: String,
    /// One of the addresses; may hold placeholders.
    pub(crate) is: String,
    /// How many addresses there must be.
    pub(crate) addresses: usize,
}

/// A variable of a process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct EnvCheck {
    /// A pod by label.
    pub(crate) from: String,
    pub(crate) variable: String,
    /// May hold placeholders.
    pub(crate) equals: String,
}

/// A question whose answer must be that it works.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct WhyCheck {
    /// As `minisvc why` takes it; may hold placeholders.
    pub(crate) target: String,
    /// A pod by label; the workstation without it.
    #[serde(default)]
    pub(crate) from: String,
}

/// A Deployment is rolled out anew while it is asked all the time: no request may fail.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RolloutCheck {
    pub(crate) deployment: String,
    /// `address:port`; may hold placeholders.
    pub(crate) ask: String,
}

/// One step of a solution.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Move {
    /// A file to apply; its texts may hold placeholders.
    pub(crate) apply: String,
    /// An object to delete, `kind/name` or `kind[label=value]`.
    pub(crate) delete: String,
    /// A page to request from the workstation.
    pub(crate) request: String,
}

impl Lesson {
    /// `03`.
    pub(crate) fn id(&self) -> String {
        format!("{:02}", self.number)
    }

    /// The namespace in which most of it is.
    pub(crate) fn namespace(&self) -> String {
        format!("lab{}", self.id())
    }

    /// The page to read.
    pub(crate) fn page(&self) -> &'static str {
        self.file("README.md").unwrap_or_default()
    }

    /// The text of a file.
    pub(crate) fn file(&self, name: &str) -> Option<&'static str> {
        self.files.iter().find(|(file, _)| *file == name).map(|(_, text)| *text)
    }
}

/// All lessons, in order.
///
/// # Errors
/// When one is malformed, which a test excludes.
pub(crate) fn lessons() -> Result<Vec<Lesson>, CliError> {
    FOLDERS.iter().map(read).collect()
}

fn read((folder, files): &Folder) -> Result<Lesson, CliError> {
    let wrong = |what: &str| CliError::failed(format!("lesson {folder} {what}"));
    let (number, name) = folder.split_once('-').ok_or_else(|| wrong("has no number"))?;
    let number = number.parse().map_err(|_| wrong("has no number"))?;
    let text = files.iter().find(|(file, _)| *file == "lab.yaml").ok_or_else(|| wrong("has no lab.yaml"))?.1;
    let plan = serde_saphyr::from_str(text).map_err(|source| wrong("has a malformed lab.yaml").because(source))?;
    Ok(Lesson { number, name, files, plan })
}

/// The lesson that a user means: by number, by name, or by a part of its name.
///
/// # Errors
/// When there is none, or several.
pub(crate) fn find(word: &str) -> Result<Lesson, CliError> {
    let all = lessons()?;
    if let Ok(number) = word.parse::<usize>() {
        let last = all.len();
        return all.into_iter().find(|lesson| lesson.number == number).ok_or_else(|| {
            CliError::not_found(format!("there is no lesson {number}"))
                .hint(format!("there are 1 to {last}: minisvc lab list"))
        });
    }
    let mut found: Vec<Lesson> = all.into_iter().filter(|lesson| lesson.name.contains(word)).collect();
    match (found.pop(), found.as_slice()) {
        (Some(only), []) => Ok(only),
        (None, _) => {
            Err(CliError::not_found(format!("no lesson is called {word:?}")).hint("see them: minisvc lab list"))
        }
        (Some(last), others) => {
            let names: Vec<&str> = others.iter().chain([&last]).map(|lesson| lesson.name).collect();
            Err(CliError::usage(format!("{word:?} may be {}", names.join(" or "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests;

    #[test]
    fn every_lesson_is_whole() {
        let all = lessons().expect("well formed");
        assert!(all.len() >= 22, "{}", all.len());
        for (lesson, number) in all.iter().zip(1..) {
            let name = lesson.name;
            assert_eq!(lesson.number, number, "{name}");
            assert!(lesson.page().starts_with("# "), "{name} has a page");
            assert!(lesson.page().contains(&format!("minisvc lab check {number}")), "{name} says how to check");
            let Plan { checks, hints, solution, start, .. } = &lesson.plan;
            assert!(!checks.is_empty() && hints.len() >= 2 && !solution.is_empty(), "{name}");
            for check in checks {
                let ways = [
                    check.field.is_some(),
                    check.pods.is_some(),
                    check.endpoints.is_some(),
                    check.http.is_some(),
                    check.resolves.is_some(),
                    check.env.is_some(),
                    check.why.is_some(),
                    check.rollout.is_some(),
                ];
                assert_eq!(ways.iter().filter(|way| **way).count(), 1, "{name}: {}", check.what);
                assert!(!check.what.is_empty() && !check.what.ends_with('.'), "{name}: {}", check.what);
            }
            let applied = solution.iter().map(|step| &step.apply).filter(|file| !file.is_empty());
            for file in start.iter().chain(applied) {
                let text = lesson.file(file).unwrap_or_else(|| panic!("{name} has no {file}"));
                assert!(!manifests::parse(file, text).expect("a manifest").is_empty(), "{name}: {file}");
            }
        }
    }

    #[test]
    fn a_lesson_is_found_by_number_or_name() {
        assert_eq!(find("2").expect("there").number, 2);
        assert_eq!(find("stable").expect("there").number, 2);
        assert!(find("99").expect_err("none").render().contains("there are 1 to"));
        assert!(find("broken").expect_err("several").render().contains(" or "));
        assert!(find("quantum").expect_err("none").render().contains("minisvc lab list"));
    }
}
