//! Whether a project can be: names, ports, dependencies. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_saphyr::Spanned;

use super::file::{Entry, File, Scalar, Service};
use super::{Command, Dependency, Flaw, Ports, Project, Ready, Run};
use crate::suggest;

/// Pods of one command.
const MAX_REPLICAS: u16 = 100;

/// Commands of one project.
const MAX_COMMANDS: usize = 100;

/// Longest name: a pod's name is that and 17 characters more, and a host name has at most 63.
const MAX_NAME: usize = 45;

/// Checks a file and puts its commands into the order of their dependencies.
pub(super) fn project(path: &Path, file: File) -> Result<Project, Flaw> {
    if file.commands.is_empty() || file.commands.len() > MAX_COMMANDS {
        return Err(Flaw::at(1, format!("a project has 1 to {MAX_COMMANDS} commands")));
    }
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    let mut lines: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in &file.commands {
        check_name(&entry.name)?;
        if let Some(first) = lines.insert(&entry.name.value, line(&entry.name)) {
            let message = format!("a command of line {first} has the name {:?} too", entry.name.value);
            return Err(Flaw::at(line(&entry.name), message)
                .hint("give each a name of its own; replicas makes several pods of one"));
        }
    }
    // What others depend on must be known of each before any of them is complete.
    let ports = ports_of(&file.commands)?;
    let commands = file.commands.iter().map(|entry| command(entry, &folder, &ports));
    let commands = commands.collect::<Result<Vec<_>, _>>()?;
    let images = file.images.into_iter().map(|(name, words)| (name, words.value.0)).collect();
    let commands = in_order(commands).map_err(|cycle| Flaw {
        line: cycle.first().and_then(|name| lines.get(name.as_str())).copied().unwrap_or(1),
        message: format!("these commands wait for each other: {}", cycle.join(" → ")),
        hint: Some("remove one of them from dependsOn".to_owned()),
    })?;
    Ok(Project { path: path.to_owned(), images, commands })
}

fn line<T>(spanned: &Spanned<T>) -> u64 {
    spanned.referenced.line()
}

/// It becomes the name of a Service: a DNS label.
fn check_name(name: &Spanned<String>) -> Result<(), Flaw> {
    let text = &name.value;
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
    if starts && text.len() <= MAX_NAME && text.chars().all(legal) && !text.ends_with('-') {
        return Ok(());
    }
    Err(Flaw::at(line(name), format!("{text:?} cannot be the name of a Service"))
        .hint(format!("use up to {MAX_NAME} of a-z, 0-9 and -, a letter first")))
}

/// The port of each command's Service; none for those without one.
fn ports_of(entries: &[Entry]) -> Result<BTreeMap<String, Option<u16>>, Flaw> {
    let port = |entry: &Entry| {
        let (ports, service) = (port(entry)?, service(entry)?);
        Ok((entry.name.value.clone(), ports.filter(|_| service.is_some()).map(|ports| ports.service)))
    };
    entries.iter().map(port).collect()
}

fn command(entry: &Entry, folder: &Path, ports: &BTreeMap<String, Option<u16>>) -> Result<Command, Flaw> {
    let run = match (&entry.command, &entry.image) {
        (Some(words), None) => Run::Words(words.value.0.clone()),
        (None, Some(image)) => Run::Image(image.value.clone()),
        _ => {
            return Err(Flaw::at(
                line(&entry.name),
                format!("{} needs a command or an image, one of both", entry.name.value),
            )
            .hint("write for example command: python3 -m http.server 8080"));
        }
    };
    let replicas = entry.replicas.as_ref().map_or(1, |replicas| replicas.value);
    if replicas > MAX_REPLICAS {
        let at = entry.replicas.as_ref().map_or(1, line);
        return Err(Flaw::at(at, format!("replicas is {replicas}; a command has at most {MAX_REPLICAS} pods")));
    }
    let port = port(entry)?;
    Ok(Command {
        name: entry.name.value.clone(),
        run,
        port,
        replicas,
        env: entry.env.iter().map(|(name, Scalar(value))| (name.clone(), value.clone())).collect(),
        cwd: entry.cwd.as_ref().map_or_else(|| folder.to_owned(), |cwd| folder.join(&cwd.value)),
        depends_on: entry.depends_on.iter().map(|name| dependency(name, ports)).collect::<Result<_, _>>()?,
        service: service(entry)?,
        ready: ready(entry, port)?,
    })
}

fn port(entry: &Entry) -> Result<Option<Ports>, Flaw> {
    let Some(text) = &entry.port else { return Ok(None) };
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|&port| port > 0);
    let (service, command) = text.value.0.split_once(':').unwrap_or((&text.value.0, &text.value.0));
    match (number(service), number(command)) {
        (Some(service), Some(command)) => Ok(Some(Ports { service, command })),
        _ => Err(Flaw::at(line(text), format!("port {:?} is no port", text.value.0))
            .hint("write port: 8080, or port: \"80:8080\" for a Service on 80 in front of a command on 8080")),
    }
}

fn service(entry: &Entry) -> Result<Option<Service>, Flaw> {
    const WORDS: [(&str, Option<Service>); 8] = [
        ("yes", Some(Service::ClusterIP)),
        ("no", None),
        ("true", Some(Service::ClusterIP)),
        ("false", None),
        ("ClusterIP", Some(Service::ClusterIP)),
        ("NodePort", Some(Service::NodePort)),
        ("LoadBalancer", Some(Service::LoadBalancer)),
        ("Headless", Some(Service::Headless)),
    ];
    let Some(asked) = &entry.service else {
        return Ok(entry.port.as_ref().map(|_| Service::ClusterIP));
    };
    let Scalar(text) = &asked.value;
    let Some((_, service)) = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) else {
        let flaw = Flaw::at(line(asked), format!("service {text:?} is no kind of Service"));
        return Err(flaw.hint(match suggest::closest(text, WORDS.iter().map(|(word, _)| *word)) {
            Some(close) => format!("did you mean {close}?"),
            None => "write yes, no, NodePort, LoadBalancer or Headless".to_owned(),
        }));
    };
    if service.is_some() && entry.port.is_none() {
        let message = format!("{} has a Service, but no port", entry.name.value);
        return Err(
            Flaw::at(line(asked), message).hint("write the port that the command listens on, for example port: 8080")
        );
    }
    Ok(*service)
}

fn ready(entry: &Entry, port: Option<Ports>) -> Result<Ready, Flaw> {
    let Some(asked) = &entry.ready else {
        return Ok(port.map_or(Ready::Running, |ports| Ready::Accepts(ports.command)));
    };
    match (asked.value.0.as_str(), port) {
        ("no" | "false", _) => Ok(Ready::Running),
        (path, Some(ports)) if path.starts_with('/') => Ok(Ready::Answers(ports.command, path.to_owned())),
        (path, None) if path.starts_with('/') => Err(Flaw::at(
            line(asked),
            format!("{} has a path that tells when it is ready, but no port", entry.name.value),
        )),
        (other, _) => Err(Flaw::at(line(asked), format!("ready {other:?} is no path"))
            .hint("write a path that answers when the command is ready, such as ready: /healthz, or ready: no")),
    }
}

fn dependency(name: &Spanned<String>, ports: &BTreeMap<String, Option<u16>>) -> Result<Dependency, Flaw> {
    match ports.get(&name.value) {
        Some(Some(port)) => Ok(Dependency { name: name.value.clone(), port: *port }),
        Some(None) => {
            Err(Flaw::at(line(name), format!("{} has no Service, so nobody can see when it is ready", name.value))
                .hint(format!("give {} a port, or remove it from dependsOn", name.value)))
        }
        None => {
            let flaw = Flaw::at(line(name), format!("there is no command {:?} to depend on", name.value));
            Err(flaw.hint(match suggest::closest(&name.value, ports.keys().map(String::as_str)) {
                Some(close) => format!("did you mean {close}?"),
                None => format!("there are {}", ports.keys().cloned().collect::<Vec<_>>().join(", ")),
            }))
        }
    }
}

/// Each after those that it depends on, else in the order of the file. `Err` names a circle, its first command again at the end.
fn in_order(mut waiting: Vec<Command>) -> Result<Vec<Command>, Vec<String>> {
    let mut placed: BTreeSet<String> = BTreeSet::new();
    let mut ordered = Vec::new();
    while !waiting.is_empty() {
        let free = waiting.iter().position(|command| command.depends_on.iter().all(|on| placed.contains(&on.name)));
        let Some(free) = free else { return Err(circle(&waiting, &placed)) };
        let command = waiting.remove(free);
        placed.insert(command.name.clone());
        ordered.push(command);
    }
    Ok(ordered)
}

/// Follows what is not placed until a name comes again. Everything in `waiting` waits for something else in it.
fn circle(waiting: &[Command], placed: &BTreeSet<String>) -> Vec<String> {
    let mut path: Vec<String> = waiting.iter().take(1).map(|command| command.name.clone()).collect();
    while let Some(command) = waiting.iter().find(|command| path.last() == Some(&command.name)) {
        let Some(next) = command.depends_on.iter().find(|on| !placed.contains(&on.name)) else { break };
        if let Some(first) = path.iter().position(|name| *name == next.name) {
            path.drain(..first);
            path.push(next.name.clone());
            break;
        }
        path.push(next.name.clone());
    }
    path
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    fn check(text: &str) -> Result<Project, Flaw> {
        project(Path::new("/shop/minisvc.yaml"), file::parse(text)?)
    }

    #[test]
    fn a_project_is_put_into_the_order_of_its_dependencies() {
        let text = "
commands:
- {name: web, command: ./web, port: '80:8080', dependsOn: [api, db], ready: /healthz}
- {name: api, command: [node, 'a b.js'], port: 3000, dependsOn: [db], env: {A: 1, B: no}, cwd: api, replicas: 2}
- {name: db, image: redis, port: 6379, service: Headless}
- {name: job, command: sleep 10}
";
        let project = check(text).expect("legal");
        let names: Vec<_> = project.commands.iter().map(|command| command.name.as_str()).collect();
        assert_eq!(names, ["db", "api", "web", "job"]);
        let [db, api, web, job] = project.commands.as_slice() else { panic!("four commands") };
        assert_eq!((db.service, &db.run), (Some(Service::Headless), &Run::Image("redis".to_owned())));
        assert_eq!(api.env, [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "no".to_owned())]);
        assert_eq!((api.cwd.as_path(), api.replicas), (Path::new("/shop/api"), 2));
        assert_eq!(api.run, Run::Words(vec!["node".to_owned(), "a b.js".to_owned()]));
        assert_eq!(web.port, Some(Ports { service: 80, command: 8080 }));
        assert_eq!(web.ready, Ready::Answers(8080, "/healthz".to_owned()));
        assert_eq!(web.depends_on[1], Dependency { name: "db".to_owned(), port: 6379 });
        assert_eq!((&job.service, &job.ready), (&None, &Ready::Running));
    }

    #[test]
    fn what_cannot_be_is_named_with_its_line_and_what_to_write() {
        for (text, line, message, hint) in [
            ("commands: []", 1, "1 to 100", ""),
            ("comands: []", 1, "no field \"comands\"", "did you mean commands?"),
            ("commands:\n- name: web\n  comand: x", 3, "no field \"comand\"", "did you mean command?"),
            ("commands:\n- name: web\n  volumes: x", 3, "no field \"volumes\"", "there are name, command, image"),
            ("commands:\n- name: Web\n  command: x", 2, "cannot be the name", "a letter first"),
            ("commands:\n- {name: a, command: x}\n- {name: a, command: y}", 3, "of line 2", "replicas"),
            ("commands:\n- name: web", 2, "needs a command or an image", "python3"),
            ("commands:\n- name: web\n  command: x\n  image: y", 2, "one of both", ""),
            ("commands:\n- name: web\n  command: \"echo 'x\"", 3, "open quote", ""),
            ("commands:\n- name: web\n  command: x\n  port: 80a", 4, "\"80a\" is no port", "80:8080"),
            ("commands:\n- name: web\n  command: x\n  port: 70000", 4, "is no port", ""),
            (
                "commands:\n- name: web\n  command: x\n  port: 80\n  service: nodport",
                5,
                "no kind of Service",
                "NodePort?",
            ),
            ("commands:\n- name: web\n  command: x\n  service: yes", 4, "but no port", "port: 8080"),
            ("commands:\n- name: web\n  command: x\n  port: 80\n  ready: healthz", 5, "is no path", "/healthz"),
            ("commands:\n- name: web\n  command: x\n  ready: /healthz", 4, "but no port", ""),
            ("commands:\n- name: web\n  command: x\n  replicas: 101", 4, "at most 100", ""),
            (
                "commands:\n- {name: db, command: x}\n- name: web\n  command: x\n  dependsOn: [db]",
                5,
                "no Service",
                "a port",
            ),
            (
                "commands:\n- {name: db, command: x, port: 1}\n- name: web\n  command: x\n  dependsOn: [bd]",
                5,
                "no command \"bd\"",
                "did you mean db?",
            ),
        ] {
            let flaw = check(text).expect_err(text);
            assert_eq!(flaw.line, line, "{text}: {flaw:?}");
            assert!(flaw.message.contains(message), "{text}: {flaw:?}");
            assert!(flaw.hint.unwrap_or_default().contains(hint), "{text}: {hint}");
        }
    }

    #[test]
    fn commands_that_wait_for_each_other_are_named() {
        let text = "commands:
- {name: first, command: x, port: 1, dependsOn: [a]}
- {name: a, command: x, port: 1, dependsOn: [b]}
- {name: b, command: x, port: 1, dependsOn: [c]}
- {name: c, command: x, port: 1, dependsOn: [a]}";
        let flaw = check(text).expect_err("a circle");
        assert_eq!((flaw.line, flaw.message.as_str()), (3, "these commands wait for each other: a → b → c → a"));
        let alone = check("commands:\n- {name: a, command: x, port: 1, dependsOn: [a]}").expect_err("a circle");
        assert!(alone.message.ends_with("a → a"), "{alone:?}");
    }
}
