//! What is answered: the checks in their order, one sentence, and the commands that help.

use serde::Serialize;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it should be.
    Fine,
    /// It works, but not as one may expect.
    Odd,
    /// This is why it does not work.
    Broken,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What was looked at, in one word.
    pub check: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found.
    pub found: String,
}

/// A command that helps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Advice {
    /// Program and arguments.
    pub words: Vec<String>,
    /// The same as one line for a shell.
    pub line: String,
    /// Whether it mends what is broken; else it shows more.
    pub mends: bool,
}

impl Advice {
    fn new(words: &[&str], mends: bool) -> Self {
        let line = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        Self { words: words.iter().map(|&word| word.to_owned()).collect(), line, mends }
    }

    /// The same with flags that say which lab is meant, where the surroundings do not.
    #[must_use]
    pub fn with_flags(&self, flags: &[String]) -> Self {
        let mut words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        if words.first() == Some(&"minisvc") {
            // After the subcommand: that is where they are known, and kubectl does not see them.
            let depth = if matches!(words.get(1), Some(&("fault" | "node"))) { 3 } else { 2 };
            let at = words.len().min(depth);
            words.splice(at..at, flags.iter().map(String::as_str));
        }
        Self::new(&words, self.mends)
    }
}

/// A word for a shell. `app=web` needs no quotation marks, whatever its neighbours may need.
fn quoted(word: &str) -> std::borrow::Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-+=:,./@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into();
    }
    // Only a NUL cannot be quoted, and no object of the API holds one.
    shlex::try_quote(word).unwrap_or(std::borrow::Cow::Borrowed(word))
}

/// Why it does not work, as a word for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Nothing is wrong.
    Fine,
    /// There is no such namespace.
    NamespaceMissing,
    /// There is no such Service.
    ServiceMissing,
    /// There is no such pod.
    PodMissing,
    /// Nobody has this address.
    AddressUnknown,
    /// The Service is being deleted, and somebody's finalizer holds it.
    DeletionStuck,
    /// A label leaves the Service to another data plane.
    OtherProxy,
    /// The Service has no such port.
    PortMissing,
    /// The Service has the port for another protocol.
    ProtocolAsked,
    /// A headless Service maps no ports.
    HeadlessPort,
    /// A node was asked on a port that is no nodePort.
    NodePortWrong,
    /// What an ExternalName stands for does not resolve.
    ExternalNameUnresolved,
    /// An ExternalName stands for an address, which is no name.
    ExternalNameIsAddress,
    /// The selector matches no pod.
    NothingSelected,
    /// The selector matches pods of another namespace only.
    OtherNamespace,
    /// What makes the pods was told to make none.
    NoReplicas,
    /// There is neither a selector nor a slice.
    NoSelector,
    /// A hand-made slice does not say whose it is.
    SliceUnlabelled,
    /// A hand-made slice names its port differently.
    SlicePortName,
    /// No node takes the pod.
    Unschedulable,
    /// The node has no free host port for the pod.
    HostPortTaken,
    /// The image is mapped to no command.
    ImageUnmapped,
    /// The container cannot be started.
    CannotStart,
    /// The container ends again and again.
    CrashLoop,
    /// The pod has ended.
    PodEnded,
    /// A container that runs first has not finished.
    InitWaiting,
    /// The startup probe has not succeeded yet.
    StartupProbe,
    /// The readiness probe fails.
    ReadinessProbe,
    /// A readiness gate is not set.
    ReadinessGate,
    /// The pod is not ready, and nothing says why.
    NotReady,
    /// Every pod is going.
    AllTerminating,
    /// The node does not report.
    NodeDown,
    /// No container has a port of that name.
    PortNameMissing,
    /// The process listens on another port.
    WrongTargetPort,
    /// The process listens on the loopback address only.
    LoopbackOnly,
    /// The process listens on another protocol.
    WrongProtocol,
    /// The process listens on one family only.
    OneFamilyOnly,
    /// Nothing listens at all.
    NothingListens,
    /// The slices do not have what they should have yet.
    SlicesBehind,
    /// The load balancer has no address.
    LoadBalancerPending,
    /// The load balancer belongs to another class.
    LoadBalancerClass,
    /// The client is outside of the source ranges.
    SourceRange,
    /// Policy Local, and no endpoint on this node.
    NoLocalEndpoint,
    /// The data plane has no such address.
    NotInTable,
    /// A short name was used in another namespace.
    ShortName,
    /// The name does not resolve.
    NameUnresolved,
    /// A fault is made on purpose.
    FaultActive,
    /// A connection failed although everything looks right.
    Unexplained,
    /// Some pods do not serve.
    PartlyReady,
    /// Session affinity sends a client to one pod.
    Affinity,
    /// Pods that are not ready get traffic.
    NotReadyPublished,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// What was asked about, such as `svc/web in default`.
    pub about: String,
    /// Who asks.
    pub client: String,
    /// The checks in their order.
    pub steps: Vec<Step>,
    /// How it ended over all.
    pub outcome: Outcome,
    /// Why, as a word.
    pub cause: Cause,
    /// Why, as a sentence.
    pub sentence: String,
    /// What helps.
    pub advice: Vec<Advice>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) cause: Cause,
    pub(crate) sentence: String,
    pub(crate) advice: Vec<Advice>,
}

impl Problem {
    pub(crate) fn new(cause: Cause, sentence: impl Into<String>) -> Self {
        Self { cause, sentence: sentence.into(), advice: Vec::new() }
    }

    /// A command that mends it.
    pub(crate) fn mend(mut self, words: &[&str]) -> Self {
        self.advice.push(Advice::new(words, true));
        self
    }

    /// A command that shows more.
    pub(crate) fn look(mut self, words: &[&str]) -> Self {
        self.advice.push(Advice::new(words, false));
        self
    }

    /// A kubectl command that mends it.
    pub(crate) fn kubectl(self, namespace: &str, words: &[&str]) -> Self {
        let scope = ["-n", namespace];
        let scope = if namespace.is_empty() { &[][..] } else { &scope[..] };
        self.mend(&[&["minisvc", "kubectl"], words, scope].concat())
    }

    /// A change of an object by JSON patch.
    pub(crate) fn patch(self, kind: &str, (namespace, name): (&str, &str), patch: &serde_json::Value) -> Self {
        self.kubectl(namespace, &["patch", kind, name, "--type", "json", "-p", &patch.to_string()])
    }

    /// A change of an object by merging.
    pub(crate) fn merge(self, kind: &str, (namespace, name): (&str, &str), patch: &serde_json::Value) -> Self {
        self.kubectl(namespace, &["patch", kind, name, "--type", "merge", "-p", &patch.to_string()])
    }
}

/// Collects the checks; the first problem that breaks ends them, the first that is only odd is told if nothing is broken.
#[derive(Debug, Default)]
pub(crate) struct Report {
    steps: Vec<Step>,
    odd: Option<Problem>,
}

impl Report {
    pub(crate) fn fine(&mut self, check: &'static str, found: impl Into<String>) {
        self.steps.push(Step { check, outcome: Outcome::Fine, found: found.into() });
    }

    pub(crate) fn odd(&mut self, check: &'static str, problem: Problem) {
        self.steps.push(Step { check, outcome: Outcome::Odd, found: problem.sentence.clone() });
        self.odd.get_or_insert(problem);
    }

    /// Ends the report.
    pub(crate) fn finish(
        mut self,
        about: String,
        client: String,
        ended: Result<String, (&'static str, Problem)>,
    ) -> Findings {
        let (outcome, problem) = match ended {
            Err((check, problem)) => {
                self.steps.push(Step { check, outcome: Outcome::Broken, found: problem.sentence.clone() });
                (Outcome::Broken, problem)
            }
            Ok(sentence) => match self.odd.take() {
                Some(odd) => (Outcome::Odd, odd),
                None => (Outcome::Fine, Problem::new(Cause::Fine, sentence)),
            },
        };
        let Problem { cause, sentence, advice } = problem;
        Findings { about, client, steps: self.steps, outcome, cause, sentence, advice }
    }
}

/// How a check may end: everything is fine and was reported, or this is why it does not work.
pub(crate) type Checked<T = ()> = Result<T, (&'static str, Problem)>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_typed_as_it_is_shown() {
        let problem =
            Problem::new(Cause::Fine, "x").merge("svc", ("shop", "web"), &serde_json::json!({"spec": {"a": "b c"}}));
        let advice = &problem.advice[0];
        assert_eq!(shlex::split(&advice.line).as_ref(), Some(&advice.words), "{}", advice.line);
        assert_eq!(advice.words.last().map(String::as_str), Some("shop"));
        let named = advice.with_flags(&["--name".into(), "two".into()]);
        assert!(named.line.starts_with("minisvc kubectl --name two patch svc web"), "{}", named.line);
    }
}
