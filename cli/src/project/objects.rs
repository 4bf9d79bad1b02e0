//! The objects that a project means: a Deployment for each command, and a Service for each that listens. Pure.

use std::path::Path;

use serde_json::{Value, json};

use super::{Command, LABEL, LABEL_VALUE, Project, Ready, Run, Service};
use crate::manifests::Manifest;

/// How often a pod that is not ready yet is asked again, in seconds.
const PROBE_PERIOD: u32 = 1;

/// How long a command gets between SIGTERM and being killed, in seconds.
const GRACE: u32 = 10;

impl Project {
    /// The objects, in the order of the commands. `program` is this program, which waits in pods for what they depend on;
    /// `environment` is what commands get besides their own `env`.
    pub(crate) fn objects(&self, program: &Path, environment: &[(String, String)]) -> Vec<Manifest> {
        let origin = self.path.display().to_string();
        let objects = self.commands.iter().flat_map(|command| {
            let deployment = deployment(command, program, environment);
            std::iter::once(deployment).chain(command.service_object())
        });
        objects.map(|object| Manifest { origin: origin.clone(), object }).collect()
    }
}

impl Command {
    fn service_object(&self) -> Option<Value> {
        let (ports, service) = (self.port?, self.service?);
        let mut spec = json!({
            "type": if service == Service::Headless { Service::ClusterIP } else { service },
            "selector": {"app": self.name},
            "ports": [{"name": "main", "port": ports.service, "targetPort": ports.command}],
        });
        if service == Service::Headless {
            spec["clusterIP"] = json!("None");
        }
        Some(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(&self.name), "spec": spec}))
    }

    /// The readiness probe, if there is something to ask.
    fn probe(&self) -> Option<Value> {
        let action = match &self.ready {
            Ready::Running => return None,
            Ready::Accepts(port) => ("tcpSocket", json!({"port": port})),
            Ready::Answers(port, path) => ("httpGet", json!({"port": port, "path": path})),
        };
        Some(json!({action.0: action.1, "periodSeconds": PROBE_PERIOD}))
    }
}

fn deployment(command: &Command, program: &Path, environment: &[(String, String)]) -> Value {
    let own = |name: &str| command.env.iter().any(|(own, _)| own == name);
    let inherited = environment.iter().filter(|(name, _)| !own(name));
    let env: Vec<Value> =
        inherited.chain(&command.env).map(|(name, value)| json!({"name": name, "value": value})).collect();
    let mut container = json!({"name": "main", "env": env, "workingDir": command.cwd});
    match &command.run {
        Run::Words(words) => {
            container["image"] = json!("minisvc/run");
            // Of the shell's variables a command knows only its own: what Kubernetes would replace is what was typed.
            container["command"] = words.iter().map(|word| word.replace("$(", "$$(")).collect();
        }
        Run::Image(image) => container["image"] = json!(image),
    }
    if let Some(ports) = command.port {
        container["ports"] = json!([{"name": "main", "containerPort": ports.command}]);
    }
    if let Some(probe) = command.probe() {
        container["readinessProbe"] = probe;
    }
    let waits: Vec<Value> = command.depends_on.iter().map(|on| wait_for(&on.name, on.port, program)).collect();
    let mut pod = json!({"terminationGracePeriodSeconds": GRACE, "containers": [container]});
    if !waits.is_empty() {
        pod["initContainers"] = waits.into();
    }
    let mut labels = json!({"app": command.name});
    labels[LABEL] = json!(LABEL_VALUE);
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(&command.name),
        "spec": {
            "replicas": command.replicas,
            "selector": {"matchLabels": {"app": command.name}},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    })
}

fn metadata(name: &str) -> Value {
    let mut metadata = json!({"name": name, "labels": {"app": name}});
    metadata["labels"][LABEL] = json!(LABEL_VALUE);
    metadata
}

/// A container that is over when somebody answers behind a Service: it has a ready endpoint then.
fn wait_for(service: &str, port: u16, program: &Path) -> Value {
    json!({
        "name": format!("wait-for-{service}"),
        "image": "minisvc/run",
        "command": [program, "__await", format!("{service}:{port}")],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
commands:
- {name: web, command: ./web $(x), port: '80:8080', dependsOn: [db], ready: /ok, service: LoadBalancer, env: {A: b}}
- {name: db, image: redis, port: 6379, service: Headless}
- {name: job, command: sleep 10}
";

    fn objects() -> Vec<Value> {
        let project = Project::parse(Path::new("/shop/minisvc.yaml"), TEXT).expect("legal");
        let environment = [("A".to_owned(), "outside".to_owned()), ("PATH".to_owned(), "/bin".to_owned())];
        let manifests = project.objects(Path::new("/bin/minisvc"), &environment);
        manifests.into_iter().map(|manifest| manifest.object).collect()
    }

    #[test]
    fn every_command_is_a_deployment_and_has_a_service_if_it_listens() {
        let named = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]).replace('"', "");
        let names: Vec<String> = objects().iter().map(named).collect();
        assert_eq!(names, ["Deployment db", "Service db", "Deployment web", "Service web", "Deployment job"]);
    }

    #[test]
    fn a_command_runs_in_its_folder_with_its_own_variables_after_those_of_the_user() {
        let web = &objects()[2]["spec"]["template"]["spec"];
        let container = &web["containers"][0];
        assert_eq!(container["workingDir"], "/shop");
        let words: Vec<&str> =
            container["command"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        assert_eq!(words, ["./web", "$$(x)"], "nothing is replaced in it");
        assert_eq!(container["env"], json!([{"name": "PATH", "value": "/bin"}, {"name": "A", "value": "b"}]));
        assert_eq!(container["readinessProbe"]["httpGet"], json!({"port": 8080, "path": "/ok"}));
        assert_eq!(web["initContainers"][0]["command"], json!(["/bin/minisvc", "__await", "db:6379"]));
    }

    #[test]
    fn a_service_is_of_the_type_that_was_asked_for() {
        let all = objects();
        assert_eq!((&all[1]["spec"]["clusterIP"], &all[1]["spec"]["type"]), (&json!("None"), &json!("ClusterIP")));
        assert_eq!(all[3]["spec"]["type"], "LoadBalancer");
        assert_eq!(all[3]["spec"]["ports"][0], json!({"name": "main", "port": 80, "targetPort": 8080}));
    }
}
