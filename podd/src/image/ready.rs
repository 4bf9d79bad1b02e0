//! What well-known images stand for on this machine, if their program is installed.

use super::texts;

/// A well-known image.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Its names, without registry, tag and `library/`.
    pub(crate) names: &'static [&'static str],
    /// What a container of it executes.
    pub(crate) runs: Runs,
}

impl Ready {
    /// Whether this word of a command line means the image's own program.
    pub(crate) fn calls_its_program(&self, word: &str) -> bool {
        match &self.runs {
            Runs::Program(program) => program.is_called(word),
            _ => self.program_names().contains(&word),
        }
    }

    /// What the image calls a program that only it has.
    pub(crate) fn program_names(&self) -> &'static [&'static str] {
        match self.runs {
            Runs::Server(_, called) => called,
            Runs::Program(_) | Runs::Tools(..) | Runs::Pause => &[],
        }
    }
}

/// What an image is for.
#[derive(Debug)]
pub(crate) enum Runs {
    /// Programs of the host: the default words, which a container's own replace.
    Tools(&'static [&'static str], Extras),
    /// One program.
    Program(Program),
    /// A server that is built in: its manner (see `builtin::manner`), and names under which manifests execute it.
    Server(&'static str, &'static [&'static str]),
    /// Nothing: it waits.
    Pause,
}

/// The program of an image.
#[derive(Debug)]
pub(crate) struct Program {
    /// What it may be called here; the first that is found is used.
    pub(crate) candidates: &'static [&'static str],
    /// What it is called in manifests, besides.
    pub(crate) aliases: &'static [&'static str],
    /// The Debian package that has it.
    pub(crate) package: &'static str,
    /// A shell script that prepares what the program needs and then becomes it, with the words as its arguments.
    pub(crate) script: Option<&'static str>,
    /// Words before a container's own: of a program that is several.
    pub(crate) first: &'static [&'static str],
    /// Words when the container has none.
    pub(crate) default: &'static [&'static str],
    /// Words after all others, however it was called: what the image's own build of it has for a default.
    pub(crate) always: &'static [&'static str],
    /// How a container's `args` are taken.
    pub(crate) args: Args,
    /// What comes with it.
    pub(crate) extras: Extras,
}

impl Program {
    /// Whether manifests mean it by this word.
    pub(crate) fn is_called(&self, word: &str) -> bool {
        let name = word.rsplit('/').next().unwrap_or_default();
        self.candidates.contains(&name) || self.aliases.contains(&name)
    }
}

/// How the entry point of an image takes `args`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Args {
    /// As arguments of the program.
    Appended,
    /// As arguments if the first begins with a dash or is a file of settings, else as another command.
    Conventional,
}

/// What an image brings along besides a program.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Extras {
    /// Directories of the container's own.
    pub(crate) trees: &'static [Tree],
    /// Where it runs unless the manifest says otherwise.
    pub(crate) directory: Option<&'static str>,
    /// Programs of the host that appear under another name, if that name is not there: link, program.
    pub(crate) links: &'static [(&'static str, &'static str)],
    /// Users that its settings name. One that the machine lacks is nobody.
    pub(crate) users: &'static [&'static str],
}

/// A directory that a container has for itself, in place of the host's.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) target: &'static str,
    pub(crate) entries: &'static [(&'static str, Content)],
    /// Only where the host has such a directory.
    pub(crate) if_there: bool,
}

/// What is in a file of a tree.
#[derive(Debug)]
pub(crate) enum Content {
    /// A text.
    Text(&'static str),
    /// An empty directory.
    Directory,
    /// A symbolic link.
    Link(&'static str),
    /// What the host has there, if it has it.
    Copy(&'static str),
}

const NOTHING: Extras = Extras { trees: &[], directory: None, links: &[], users: &[] };
const PLAIN: Program = Program {
    candidates: &[],
    aliases: &[],
    package: "",
    script: None,
    first: &[],
    default: &[],
    always: &[],
    args: Args::Conventional,
    extras: NOTHING,
};

const fn tree(target: &'static str, entries: &'static [(&'static str, Content)]) -> Tree {
    Tree { target, entries, if_there: false }
}

const fn tools(names: &'static [&'static str], default: &'static [&'static str]) -> Ready {
    Ready { names, runs: Runs::Tools(default, NOTHING) }
}

const fn program(names: &'static [&'static str], program: Program) -> Ready {
    Ready { names, runs: Runs::Program(program) }
}

const fn server(names: &'static [&'static str], manner: &'static str, called: &'static [&'static str]) -> Ready {
    Ready { names, runs: Runs::Server(manner, called) }
}

/// `/var/log/nginx` and the like are what the images have: the output of the container.
const NGINX_LOGS: Tree = tree(
    "/var/log/nginx",
    &[("access.log", Content::Link("/dev/stdout")), ("error.log", Content::Link("/dev/stderr"))],
);

/// Directories where builds of nginx put bodies that do not fit into memory, and their process id.
const NGINX_WORK: Tree = tree("/var/lib/nginx", &[]);
const NGINX_CACHE: Tree = Tree { target: "/var/cache/nginx", entries: &[], if_there: true };
const NGINX_HTML: Tree = tree(
    "/usr/share/nginx/html",
    &[("index.html", Content::Text(texts::NGINX_INDEX)), ("50x.html", Content::Text(texts::NGINX_ERROR))],
);

const NGINX: Program = Program {
    candidates: &["nginx"],
    aliases: &["nginx-debug"],
    package: "nginx",
    default: &["-g", "daemon off;"],
    extras: Extras {
        trees: &[
            tree(
                "/etc/nginx",
                &[
                    ("nginx.conf", Content::Text(texts::NGINX_CONF)),
                    ("mime.types", Content::Text(texts::NGINX_MIME)),
                    ("conf.d/default.conf", Content::Text(texts::NGINX_SITE)),
                    ("fastcgi_params", Content::Copy("/etc/nginx/fastcgi_params")),
                    ("uwsgi_params", Content::Copy("/etc/nginx/uwsgi_params")),
                    ("scgi_params", Content::Copy("/etc/nginx/scgi_params")),
                ],
            ),
            NGINX_HTML,
            NGINX_LOGS,
            NGINX_WORK,
            NGINX_CACHE,
        ],
        users: &["nginx"],
        ..NOTHING
    },
    ..PLAIN
};

const NGINX_UNPRIVILEGED: Program = Program {
    extras: Extras {
        trees: &[
            tree(
                "/etc/nginx",
                &[
                    ("nginx.conf", Content::Text(texts::NGINX_CONF)),
                    ("mime.types", Content::Text(texts::NGINX_MIME)),
                    ("conf.d/default.conf", Content::Text(texts::NGINX_SITE_8080)),
                ],
            ),
            NGINX_HTML,
            NGINX_LOGS,
            NGINX_WORK,
            NGINX_CACHE,
        ],
        users: &["nginx"],
        ..NOTHING
    },
    ..NGINX
};

const REDIS: Program = Program {
    candidates: &["redis-server", "valkey-server"],
    package: "redis-server",
    // As in the image: whoever reaches the pod may talk to it.
    always: &["--protected-mode", "no"],
    extras: Extras { trees: &[tree("/data", &[])], directory: Some("/data"), ..NOTHING },
    ..PLAIN
};

/// All of them. The order is that of `minisvc images`.
pub(crate) const READY: &[Ready] = &[
    program(&["nginx", "nginx/nginx"], NGINX),
    program(&["nginxinc/nginx-unprivileged"], NGINX_UNPRIVILEGED),
    program(
        &["httpd"],
        Program {
            candidates: &["busybox"],
            aliases: &["httpd-foreground"],
            package: "busybox",
            first: &["httpd", "-f", "-vv", "-p", "80", "-h", "/usr/local/apache2/htdocs"],
            extras: Extras {
                trees: &[tree("/usr/local/apache2", &[("htdocs/index.html", Content::Text(texts::HTTPD_INDEX))])],
                directory: Some("/usr/local/apache2"),
                ..NOTHING
            },
            ..PLAIN
        },
    ),
    program(&["redis", "valkey/valkey"], REDIS),
    program(
        &["google_samples/gb-redis-follower", "google-samples/containers/gke/gb-redis-follower"],
        Program { default: &["--replicaof", "redis-leader", "6379"], ..REDIS },
    ),
    program(
        &["google_samples/gb-redisslave", "google-samples/gb-redisslave"],
        Program { default: &["--replicaof", "redis-master", "6379"], ..REDIS },
    ),
    program(
        &["memcached"],
        // It refuses to run as root; for another user this means nothing.
        Program { candidates: &["memcached"], package: "memcached", always: &["-u", "nobody"], ..PLAIN },
    ),
    program(
        &["postgres"],
        Program {
            candidates: &["postgres"],
            aliases: &["docker-entrypoint.sh"],
            package: "postgresql",
            script: Some(texts::POSTGRES),
            extras: Extras { trees: &[tree("/var/lib/postgresql", &[("data", Content::Directory)])], ..NOTHING },
            ..PLAIN
        },
    ),
    program(
        &["mysql", "mariadb"],
        Program {
            candidates: &["mariadbd", "mysqld"],
            aliases: &["docker-entrypoint.sh"],
            package: "mariadb-server",
            script: Some(texts::MYSQL),
            extras: Extras { trees: &[tree("/var/lib/mysql", &[])], ..NOTHING },
            ..PLAIN
        },
    ),
    tools(&["busybox", "radial/busyboxplus"], &["sh"]),
    tools(&["alpine"], &["sh"]),
    tools(&["debian", "ubuntu", "bash", "fedora", "centos", "rockylinux", "buildpack-deps"], &["bash"]),
    tools(
        &["e2e-test-images/jessie-dnsutils", "e2e-test-images/dnsutils", "tutum/dnsutils", "nicolaka/netshoot"],
        &["sleep", "infinity"],
    ),
    Ready {
        names: &["python"],
        runs: Runs::Tools(
            &["python3"],
            Extras { links: &[("/usr/local/bin/python", "python3"), ("/usr/local/bin/pip", "pip3")], ..NOTHING },
        ),
    },
    program(&["node"], Program { candidates: &["node", "nodejs"], package: "nodejs", ..PLAIN }),
    program(
        &["curlimages/curl", "appropriate/curl"],
        Program { candidates: &["curl"], package: "curl", args: Args::Appended, ..PLAIN },
    ),
    program(
        &["kennethreitz/httpbin"],
        Program {
            candidates: &["gunicorn"],
            package: "gunicorn python3-httpbin",
            default: &["-b", "0.0.0.0:80", "httpbin:app", "-k", "gthread"],
            ..PLAIN
        },
    ),
    server(&["e2e-test-images/agnhost", "e2e-test-images/serve-hostname"], "agnhost", &["/agnhost", "agnhost"]),
    server(&["serve_hostname", "google_containers/serve_hostname"], "serve-hostname", &["/serve_hostname"]),
    server(
        &["google-samples/hello-app", "google_samples/hello-app", "google-samples/containers/gke/hello-app"],
        "hello-app",
        &["/hello-app", "./hello-app"],
    ),
    server(&["hashicorp/http-echo"], "http-echo", &["/http-echo", "http-echo"]),
    server(&["nginxdemos/hello"], "nginx-hello", &[]),
    server(&["nginxdemos/nginx-hello"], "nginx-hello-8080", &[]),
    server(&["traefik/whoami", "containous/whoami"], "whoami", &["/whoami"]),
    server(
        &[
            "echoserver",
            "google_containers/echoserver",
            "google-containers/echoserver",
            "kicbase/echo-server",
            "jmalloc/echo-server",
            "mendhak/http-https-echo",
        ],
        "echo",
        &[],
    ),
    server(&["ealen/echo-server"], "echo-80", &[]),
    server(&["stefanprodan/podinfo"], "echo-9898", &["./podinfo"]),
    Ready { names: &["pause", "google_containers/pause", "google-containers/pause"], runs: Runs::Pause },
];

/// The ready mapping of this name.
pub(crate) fn find(name: &str) -> Option<&'static Ready> {
    READY.iter().find(|ready| ready.names.contains(&name))
}

/// The Debian package of a program that manifests like to execute.
pub(crate) fn package_of(program: &str) -> Option<&'static str> {
    const TOOLS: [(&str, &str); 10] = [
        ("busybox", "busybox"),
        ("dig", "bind9-dnsutils"),
        ("nslookup", "bind9-dnsutils"),
        ("nc", "netcat-openbsd"),
        ("python3", "python3"),
        ("wget", "wget"),
        ("redis-cli", "redis-tools"),
        ("psql", "postgresql-client"),
        ("mysql", "mariadb-client"),
        ("ping", "iputils-ping"),
    ];
    let of_image = READY.iter().find_map(|ready| match &ready.runs {
        Runs::Program(known) if known.first.is_empty() && known.candidates.contains(&program) => Some(known.package),
        _ => None,
    });
    of_image.or_else(|| TOOLS.iter().find(|(name, _)| *name == program).map(|(_, package)| *package))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_taken_twice() {
        let mut names: Vec<&str> = READY.iter().flat_map(|ready| ready.names).copied().collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(find("nginx").is_some() && find("nothing").is_none());
    }

    #[test]
    fn packages_of_programs() {
        assert_eq!(package_of("redis-server"), Some("redis-server"));
        assert_eq!(package_of("nslookup"), Some("bind9-dnsutils"));
        assert_eq!(package_of("sh"), None);
    }
}
