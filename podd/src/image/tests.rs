//! What containers of well-known and of the user's own images execute.

use super::*;

type Words = &'static [&'static str];

/// A machine where everything is installed but what `missing` names.
fn made(image: &str, command: &[&str], args: &[&str], missing: &[&str]) -> Result<Recipe, ImageError> {
    let images = [
        ("mine", "/usr/bin/mine"),
        ("reg:5000/app:v2", "/bin/v2"),
        ("reg:5000/app", "/bin/app"),
        ("memcached", "/opt/mc"),
    ];
    let images = images.map(|(name, program)| (name.to_owned(), ImageCommand { command: vec![program.to_owned()] }));
    let find = |name: &str| (!missing.contains(&name)).then(|| PathBuf::from(format!("/usr/bin/{name}")));
    let known = Known { images: &BTreeMap::from(images), builtin: Path::new("/minisvc"), find: &find };
    recipe(&Wanted { image, command: &own(command), args: &own(args) }, &known)
}

fn line(image: &str, command: &[&str], args: &[&str]) -> Vec<String> {
    made(image, command, args, &[]).expect(image).argv
}

#[test]
fn the_users_own_images_stand_for_commands() {
    let table: [(&str, Words, Words, Words); 12] = [
        ("mine", &[], &[], &["/usr/bin/mine"]),
        ("mine:1.27", &[], &["-g", "daemon off;"], &["/usr/bin/mine", "-g", "daemon off;"]),
        ("docker.io/library/mine@sha256:00", &[], &[], &["/usr/bin/mine"]),
        ("reg:5000/app:v2", &[], &[], &["/bin/v2"]),
        ("reg:5000/app:v3", &[], &[], &["/bin/app"]),
        ("mine", &["/bin/sh"], &["-c", "true"], &["/bin/sh", "-c", "true"]),
        ("", &["/bin/true"], &[], &["/bin/true"]),
        ("minisvc/echo:latest", &[], &[], &["/minisvc", "__echo"]),
        ("minisvc/pause", &[], &[], &["/minisvc", "__pause"]),
        // Before what is ready.
        ("memcached:1", &[], &["-m", "64"], &["/opt/mc", "-m", "64"]),
        // Whatever the image calls its program.
        ("memcached:1", &["/usr/local/bin/memcached", "-m"], &["64"], &["/opt/mc", "-m", "64"]),
        ("memcached:1", &["/bin/sh", "-c"], &["true"], &["/bin/sh", "-c", "true"]),
    ];
    for (image, command, args, expected) in table {
        assert_eq!(line(image, command, args), expected, "{image}");
    }
}

#[test]
fn well_known_images_are_run_by_the_programs_of_this_machine() {
    let redis: Words = &["/usr/bin/redis-server", "--protected-mode", "no"];
    let table: [(&str, Words, Words, Words); 22] = [
        ("nginx:1.27", &[], &[], &["/usr/bin/nginx", "-g", "daemon off;"]),
        ("nginx", &[], &["nginx-debug", "-g", "daemon off;"], &["/usr/bin/nginx", "-g", "daemon off;"]),
        ("nginx", &["/bin/sh"], &["-c", "exec nginx"], &["/bin/sh", "-c", "exec nginx"]),
        ("redis:7-alpine", &[], &[], redis),
        ("registry.k8s.io/redis@sha256:00", &["redis-server"], &[], redis),
        (
            "redis",
            &[],
            &["--appendonly", "yes"],
            &["/usr/bin/redis-server", "--appendonly", "yes", "--protected-mode", "no"],
        ),
        ("redis", &[], &["/conf/redis.conf"], &["/usr/bin/redis-server", "/conf/redis.conf", "--protected-mode", "no"]),
        ("redis", &[], &["redis-cli", "ping"], &["redis-cli", "ping"]),
        (
            "us-docker.pkg.dev/google-samples/containers/gke/gb-redis-follower:v2",
            &[],
            &[],
            &["/usr/bin/redis-server", "--replicaof", "redis-leader", "6379", "--protected-mode", "no"],
        ),
        ("busybox", &[], &["wget", "-qO-", "http://web"], &["wget", "-qO-", "http://web"]),
        ("busybox:1.36", &[], &[], &["sh"]),
        ("ubuntu", &["sleep"], &["1"], &["sleep", "1"]),
        ("python:3.12-slim", &["python", "-m"], &["http.server"], &["python", "-m", "http.server"]),
        ("node:22", &[], &["server.js"], &["server.js"]),
        ("curlimages/curl", &[], &["http://web"], &["/usr/bin/curl", "http://web"]),
        (
            "httpd:2.4",
            &[],
            &[],
            &["/usr/bin/busybox", "httpd", "-f", "-vv", "-p", "80", "-h", "/usr/local/apache2/htdocs"],
        ),
        (
            "registry.k8s.io/e2e-test-images/agnhost:2.53",
            &[],
            &["netexec", "--http-port=8080"],
            &["/minisvc", "__echo", "--as", "agnhost", "--tag", "2.53", "--", "netexec", "--http-port=8080"],
        ),
        (
            "registry.k8s.io/e2e-test-images/agnhost:2.53",
            &["/agnhost", "pause"],
            &[],
            &["/minisvc", "__echo", "--as", "agnhost", "--tag", "2.53", "--", "pause"],
        ),
        ("registry.k8s.io/e2e-test-images/agnhost:2.53", &["/bin/sh", "-c"], &["true"], &["/bin/sh", "-c", "true"]),
        (
            "gcr.io/google-samples/hello-app:2.0",
            &[],
            &[],
            &["/minisvc", "__echo", "--as", "hello-app", "--tag", "2.0", "--"],
        ),
        ("hashicorp/http-echo", &[], &["-text=hi"], &["/minisvc", "__echo", "--as", "http-echo", "--", "-text=hi"]),
        ("registry.k8s.io/pause:3.9", &[], &[], &["/minisvc", "__pause"]),
    ];
    for (image, command, args, expected) in table {
        assert_eq!(line(image, command, args), expected, "{image} {command:?} {args:?}");
    }
}

#[test]
fn the_own_program_of_an_image_is_known_to_its_containers() {
    let own = |image| made(image, &["/bin/sh"], &[], &[]).expect(image).own;
    let agnhost = own("registry.k8s.io/e2e-test-images/agnhost:2.53");
    assert_eq!(agnhost.paths, ["/agnhost"]);
    assert_eq!(agnhost.words, ["/minisvc", "__echo", "--as", "agnhost", "--tag", "2.53", "--"]);
    assert!(own("memcached").paths.is_empty() && own("busybox").paths.is_empty());
}

#[test]
fn a_database_is_prepared_by_a_script_that_becomes_it() {
    let line = line("postgres:16", &[], &["-c", "max_connections=5"]);
    let [shell, flag, script, _, words @ ..] = line.as_slice() else { panic!("a script: {line:?}") };
    assert_eq!((shell.as_str(), flag.as_str()), ("/bin/sh", "-c"));
    assert!(script.contains("exec $as postgres"));
    assert_eq!(words, ["-c", "max_connections=5"]);
}

#[test]
fn files_come_along_also_with_another_command() {
    for command in [&[][..], &["/bin/sh", "-c", "exec nginx -g 'daemon off;'"]] {
        let recipe = made("nginx", command, &[], &[]).expect("a recipe");
        assert!(recipe.extras.trees.iter().any(|tree| tree.target == "/etc/nginx"));
    }
    assert!(made("corp.example/nginx", &["nginx"], &[], &[]).expect("a recipe").extras.trees.is_empty());
}

#[test]
fn what_cannot_be_executed_says_what_to_type() {
    let said = |image, missing: &[&str]| made(image, &[], &[], missing).expect_err(image).to_string();
    assert!(said("corp.example/team/web:7", &[]).contains("--image corp.example/team/web=COMMAND"));
    let missing = said("docker.io/library/redis:7", &["redis-server", "valkey-server"]);
    assert!(missing.contains("apt-get install redis-server") && missing.contains("--image redis=COMMAND"), "{missing}");
    assert_eq!(said("", &[]), ImageError::Nothing.to_string());
    assert!(made("redis", &["/bin/sh"], &[], &["redis-server", "valkey-server"]).is_ok(), "the shell is there");
    assert_eq!(
        made("redis", &[], &[], &["redis-server"]).expect("valkey").argv.first().expect("a word"),
        "/usr/bin/valkey-server"
    );
}

#[test]
fn builtin_servers_know_their_pod() {
    assert!(is_echo("minisvc/echo:1") && is_echo("hashicorp/http-echo") && !is_echo("nginx"));
}
