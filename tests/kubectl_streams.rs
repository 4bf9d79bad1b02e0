//! exec, attach, cp, port-forward and logs, as real kubectl of every version speaks them (SPDY, WebSocket, and one in the
//! other), and the channels that only other clients use.

#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod common;
#[path = "common/kubectl.rs"]
mod kubectl;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use common::{Beside, Lab, PATIENCE, echo, eventually, pod, service, shell};
use kubectl::{Kubectl, programs};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

/// Bytes that are no text and fill every buffer on their way.
fn blob(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index * 31 % 251).expect("below 251")).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A pod with a volume, tools of the host, and a server on 8080.
fn toolbox(name: &str) -> Value {
    let mut container = echo(8080);
    container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    pod(name, &json!([container]), &json!({"volumes": [{"name": "data", "emptyDir": {}}]}))
}

// A-140, A-141, A-143, A-144, A-148
#[test]
fn exec_runs_commands_with_their_streams_and_exit_codes() {
    let programs = programs();
    let lab = Lab::start("kexec", &[]);
    lab.apply_all(&[toolbox("app")]);
    lab.ready("app");
    for program in programs {
        let kubectl = Kubectl::new(program.clone(), &lab);
        let name = program.display();
        let script = "echo out; echo err >&2; exit 7";
        let output = kubectl.command(&["exec", "app", "--", "sh", "-c", script]).output().expect("started");
        let stderr = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(7), "out\n"), "{name}: {stderr}");
        assert!(
            stderr.starts_with("err\n") && stderr.contains("command terminated with exit code 7"),
            "{name}: {stderr}"
        );

        let input = blob(2 << 20);
        let output = kubectl.fed(&["exec", "-i", "app", "--", "cat"], &input);
        assert!(output.status.success() && output.stdout == input, "{name}: {} bytes came back", output.stdout.len());
        let deaf = kubectl.fed(&["exec", "-i", "app", "--", "sh", "-c", "echo done"], &input);
        assert_eq!(
            (deaf.status.code(), text(&deaf.stdout).as_str()),
            (Some(0), "done\n"),
            "{name}: {}",
            text(&deaf.stderr)
        );

        let missing = kubectl.command(&["exec", "app", "--", "/no/such/program"]).output().expect("started");
        let stderr = text(&missing.stderr);
        assert!(!missing.status.success() && stderr.contains("/no/such/program"), "{name}: {stderr}");
        let absent = kubectl.command(&["exec", "nobody", "--", "ls"]).output().expect("started");
        assert!(text(&absent.stderr).contains("pods \"nobody\" not found"), "{name}: {}", text(&absent.stderr));
    }
}

// A-140, A-143, A-148
#[test]
fn exec_with_a_terminal_is_interactive() {
    let programs = programs();
    let lab = Lab::start("ktty", &[]);
    lab.apply_all(&[toolbox("app")]);
    lab.ready("app");
    for program in programs {
        let kubectl = Kubectl::new(program.clone(), &lab);
        let ours = nix::pty::openpty(None, None).expect("a terminal");
        let size = rustix::termios::Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&ours.master, size).expect("resized");
        let end = || Stdio::from(ours.slave.try_clone().expect("a copy"));
        let script = "until [ \"$(stty size)\" = '40 120' ]; do sleep 0.05; done; echo sized; read line; \
                      echo got-$line; tty -s && echo a-terminal; exit 3";
        let mut command = kubectl.command(&["exec", "-it", "app", "--", "sh", "-c", script]);
        let mut process = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("started");
        // The command holds copies of the other end.
        drop((command, ours.slave));
        let mut screen = File::from(ours.master);
        let mut keyboard = screen.try_clone().expect("a copy");
        let mut seen = String::new();
        let mut chunk = [0; 1024];
        let mut typed = false;
        // Ends with an error when kubectl has closed the terminal.
        while let Ok(length @ 1..) = screen.read(&mut chunk) {
            seen += &text(&chunk[..length]);
            if seen.contains("sized") && !typed {
                typed = true;
                keyboard.write_all(b"hello\r").expect("typed");
            }
        }
        let status = process.wait().expect("ended");
        assert!(seen.contains("got-hello") && seen.contains("a-terminal"), "{}: {seen}", program.display());
        assert_eq!(status.code(), Some(3), "{}: {seen}", program.display());
    }
}

// A-152
#[test]
fn cp_copies_files_both_ways() {
    let programs = programs();
    let lab = Lab::start("kcp", &[]);
    lab.apply_all(&[toolbox("app")]);
    lab.ready("app");
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("blob");
    std::fs::write(&source, blob(3 << 20)).expect("written");
    for (number, program) in programs.into_iter().enumerate() {
        let kubectl = Kubectl::new(program.clone(), &lab);
        let there = format!("app:/data/blob{number}");
        let back = folder.path().join(format!("back{number}"));
        kubectl.run(&["cp", source.to_str().expect("text"), &there]);
        kubectl.run(&["cp", &there, back.to_str().expect("text")]);
        let same = std::fs::read(&back).expect("copied") == blob(3 << 20);
        assert!(same, "{}: the file is the same", program.display());
    }
}

/// A page over a forwarded port.
fn page(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(text(&answer))
}

// A-141, A-149, A-151, P-122
#[test]
fn port_forward_reaches_pods_and_services() {
    let programs = programs();
    let lab = Lab::start("kforward", &[]);
    lab.apply_all(&[toolbox("app"), service("web", &json!({"app": "app"}), 80, &json!(8080))]);
    lab.ready("app");
    for program in programs {
        let kubectl = Kubectl::new(program.clone(), &lab);
        let name = program.display().to_string();
        for target in [&["pod/app", ":8080"], &["svc/web", ":80"]] {
            let mut forwarding = Beside::start(kubectl.command(&[&["port-forward"], &target[..]].concat()));
            let line = forwarding.line("a port", |line| line.starts_with("Forwarding from 127.0.0.1:"));
            let port = line.split([':', ' ']).find_map(|word| word.parse::<u16>().ok()).expect("a port");
            // Several connections over one upgraded one, at the same time.
            let asking: Vec<_> =
                (0..4).map(|number| std::thread::spawn(move || page(port, &format!("/page{number}")))).collect();
            for (number, answer) in asking.into_iter().enumerate() {
                let answer = answer.join().expect("asked").expect("an answer");
                assert!(answer.starts_with("HTTP/1.1 200"), "{name}: {answer}");
                assert!(answer.contains(&format!("127.0.0.1 ask GET /page{number}")), "{name}: {answer}");
            }
        }
        let mut command = kubectl.command(&["port-forward", "pod/app", ":9"]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(process.stdout.take().expect("piped")));
        let line = lines.next().expect("a line").expect("text");
        let port = line.split([':', ' ']).find_map(|word| word.parse::<u16>().ok()).expect("a port");
        // It is closed without an answer, or reset.
        assert_eq!(page(port, "/").unwrap_or_default(), "", "{name}");
        let mut stderr = std::io::BufReader::new(process.stderr.take().expect("piped"));
        let mut said = String::new();
        std::io::BufRead::read_line(&mut stderr, &mut said).expect("text");
        assert!(said.contains("cannot connect to port 9 of pod app"), "{name}: {said}");
        process.kill().expect("killed");
        process.wait().expect("ended");
    }
}

// A-140, A-153
#[test]
fn attach_sees_the_output_and_types_into_the_input() {
    let programs = programs();
    let lab = Lab::start("kattach", &[]);
    let script = "while read line; do echo heard $line; done; echo bye";
    for (number, program) in programs.into_iter().enumerate() {
        let kubectl = Kubectl::new(program.clone(), &lab);
        let name = format!("listener{number}");
        let mut container = shell("main", script);
        container["stdin"] = json!(true);
        container["stdinOnce"] = json!(true);
        lab.apply_all(&[pod(&name, &json!([container]), &json!({"restartPolicy": "Never"}))]);
        lab.ready(&name);
        let mut command = kubectl.command(&["attach", "-i", &name]);
        command.stdin(Stdio::piped());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        let mut stdin = process.stdin.take().expect("piped");
        stdin.write_all(b"one\ntwo\n").expect("typed");
        eventually("what was typed to be heard", || lab.run(&["logs", &name]).contains("heard two").then_some(()));
        drop(stdin);
        let output = process.wait_with_output().expect("ended");
        let said = text(&output.stdout);
        assert!(said.contains("heard one\nheard two\n"), "{}: {said}{}", program.display(), text(&output.stderr));
        assert_eq!(lab.output_of(&name), "heard one\nheard two\nbye\n", "its input ended with the first attached");
    }
}

// A-153
#[test]
fn a_shell_can_be_run_with_a_terminal() {
    let programs = programs();
    let lab = Lab::start("krun", &[]);
    for program in programs {
        let kubectl = Kubectl::new(program.clone(), &lab);
        let ours = nix::pty::openpty(None, None).expect("a terminal");
        let end = || Stdio::from(ours.slave.try_clone().expect("a copy"));
        let run = ["run", "guest", "-it", "--rm", "--restart=Never", "--image=any", "--command", "--", "sh"];
        let mut command = kubectl.command(&run);
        let mut process = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("started");
        drop((command, ours.slave));
        let mut screen = File::from(ours.master);
        let mut keyboard = screen.try_clone().expect("a copy");
        keyboard.write_all(b"\recho so-$((40+2)); exit\r").expect("typed");
        let mut seen = String::new();
        let mut chunk = [0; 1024];
        while let Ok(length @ 1..) = screen.read(&mut chunk) {
            seen += &text(&chunk[..length]);
        }
        process.wait().expect("ended");
        assert!(seen.contains("so-42"), "{}: {seen}", program.display());
        eventually("the pod to be gone", || lab.list("pods").is_empty().then_some(()));
    }
}

// A-137
#[test]
fn logs_follow_look_back_and_know_the_run_before() {
    let programs = programs();
    let lab = Lab::start("klogs", &[]);
    let mut twice = shell(
        "main",
        "if [ -e /data/ran ]; then echo second; exec sleep 1000; fi; touch /data/ran; echo first; exit 1",
    );
    twice["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    let volume = json!({"volumes": [{"name": "data", "emptyDir": {}}]});
    let ticking = shell("main", "for n in 1 2 3; do echo tick $n; done; exec sleep 1000");
    let slow = shell("main", "echo early; until [ -e /data/go ]; do sleep 0.05; done; echo late");
    let mut slow = slow;
    slow["volumeMounts"] = twice["volumeMounts"].clone();
    let mut once = volume.clone();
    once["restartPolicy"] = json!("Never");
    lab.apply_all(&[
        pod("twice", &json!([twice]), &volume),
        pod("ticking", &json!([ticking]), &json!({})),
        pod("slow", &json!([slow]), &once),
    ]);
    lab.until("restarted", "pod", "twice", |pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1);
    lab.ready("twice");
    lab.ready("ticking");
    lab.ready("slow");
    let programs_left = programs.len();
    let mut followers = Vec::new();
    for program in &programs {
        let kubectl = Kubectl::new(program.clone(), &lab);
        let name = program.display();
        eventually("the second run to speak", || (kubectl.run(&["logs", "twice"]) == "second\n").then_some(()));
        assert_eq!(kubectl.run(&["logs", "twice", "--previous"]), "first\n", "{name}");
        eventually("three lines", || {
            (kubectl.run(&["logs", "ticking", "--since=1h"]).lines().count() == 3).then_some(())
        });
        assert_eq!(kubectl.run(&["logs", "ticking", "--tail=1"]), "tick 3\n", "{name}");
        assert_eq!(kubectl.run(&["logs", "ticking", "--since-time=2099-01-01T00:00:00Z"]), "", "{name}");
        let stamped = kubectl.run(&["logs", "ticking", "--timestamps", "--tail=1"]);
        assert!(stamped.starts_with("20") && stamped.ends_with("Z tick 3\n"), "{name}: {stamped}");
        let mut follower = Beside::start(kubectl.command(&["logs", "-f", "slow"]));
        follower.line("what was said before", |line| line == "early");
        followers.push(follower);
    }
    if programs_left > 0 {
        lab.exec_in("slow", &["touch", "/data/go"]);
    }
    for mut follower in followers {
        follower.line("what is said later", |line| line == "late");
        assert!(follower.end().success(), "it ends with the container");
    }
}

/// Upgrades a connection to the API's Unix socket.
fn web_socket(lab: &Lab, path: &str, protocol: &str) -> WebSocket<UnixStream> {
    let mut stream = UnixStream::connect(lab.api_socket()).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    )
    .expect("asked");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = text(&head).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    let agreed = protocol.split(", ").next().expect("one");
    assert!(head.contains(&format!("sec-websocket-protocol: {}\r\n", agreed.to_ascii_lowercase())), "{head}");
    WebSocket::from_raw_socket(stream, Role::Client, None)
}

/// All binary messages until the server closes, by channel.
fn channels(socket: &mut WebSocket<UnixStream>) -> Vec<Vec<u8>> {
    let mut heard = vec![Vec::new(); 6];
    loop {
        match socket.read() {
            Ok(Message::Binary(message)) => {
                let (channel, bytes) = message.split_first().expect("a channel");
                heard[usize::from(*channel)].extend_from_slice(bytes);
            }
            Ok(Message::Close(Some(frame))) => {
                assert_eq!(u16::from(frame.code), 1000);
                return heard;
            }
            Ok(_) => {}
            Err(error) => panic!("the connection broke: {error}; heard {heard:?}"),
        }
    }
}

// A-142, A-143, A-144, A-150
#[test]
fn other_clients_use_channels_for_everything() {
    let lab = Lab::start("channels", &[]);
    lab.apply_all(&[toolbox("app")]);
    lab.ready("app");
    let pod = "/api/v1/namespaces/default/pods/app";
    for protocol in ["v5.channel.k8s.io, v4.channel.k8s.io", "v4.channel.k8s.io"] {
        let exec = format!(
            "{pod}/exec?command=sh&command=-c&command=head+-c+4;echo+no+%3E%262;exit+5&stdin=true&stdout=true&stderr=true&tty=false"
        );
        let mut socket = web_socket(&lab, &exec, protocol);
        socket.send(Message::Binary(b"\x00fourty"[..].into())).expect("sent");
        let heard = channels(&mut socket);
        assert_eq!((text(&heard[1]).as_str(), text(&heard[2]).as_str()), ("four", "no\n"));
        let status: Value = serde_json::from_slice(&heard[3]).expect("a Status");
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "5"}));

        let mut socket = web_socket(&lab, &format!("{pod}/portforward?ports=8080&ports=9"), protocol);
        socket
            .send(Message::Binary(b"\x00GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"[..].into()))
            .expect("sent");
        let heard = channels_until_quiet(&mut socket, |heard| {
            heard[0].ends_with(b"GET /x\n") || text(&heard[0]).contains("GET /x")
        });
        assert_eq!((&heard[0][..2], &heard[1][..2]), (&8080_u16.to_le_bytes()[..], &8080_u16.to_le_bytes()[..]));
        assert!(text(&heard[0][2..]).starts_with("HTTP/1.1 200"), "{}", text(&heard[0]));
        assert_eq!(&heard[2][..], &9_u16.to_le_bytes()[..], "nothing comes from a port where nobody listens");
        assert_eq!(&heard[3][..2], &9_u16.to_le_bytes()[..]);
        assert!(text(&heard[3][2..]).contains("cannot connect to port 9"), "{}", text(&heard[3]));
    }
    let mut socket = web_socket(&lab, &format!("{pod}/exec?command=cat&stdin=true&stdout=true"), "v5.channel.k8s.io");
    socket.send(Message::Ping(b"there?"[..].into())).expect("sent");
    assert_eq!(socket.read().expect("an answer"), Message::Pong(b"there?"[..].into()));
    socket.send(Message::Binary(b"\x00all"[..].into())).expect("sent");
    socket.send(Message::Binary(b"\xff\x00"[..].into())).expect("sent");
    let heard = channels(&mut socket);
    assert_eq!(text(&heard[1]), "all", "the input can end by itself");
    assert!(text(&heard[3]).contains("Success"));
}

/// All binary messages until what was heard is enough, by channel.
fn channels_until_quiet(socket: &mut WebSocket<UnixStream>, enough: impl Fn(&[Vec<u8>]) -> bool) -> Vec<Vec<u8>> {
    let mut heard = vec![Vec::new(); 6];
    while !enough(&heard) || heard[3].len() <= 2 {
        if let Message::Binary(message) = socket.read().expect("a message") {
            let (channel, bytes) = message.split_first().expect("a channel");
            heard[usize::from(*channel)].extend_from_slice(bytes);
        }
    }
    heard
}
