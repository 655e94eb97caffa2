//! `forge run`: an image tried where it was built.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Lab, Marker, soon};

#[test]
fn command_entrypoint_and_arguments_combine_as_docker_combines_them() {
    let lab = Lab::with_busybox();
    lab.build_text("FROM busybox\nENTRYPOINT [\"echo\", \"entry\"]\nCMD [\"cmd\"]\n", &["-t", "e"]).success();
    let run = |args: &[&str]| lab.forge(&[&["run", "--network=none"], args].concat()).success();
    assert_eq!(run(&["e"]), "entry cmd");
    assert_eq!(run(&["e", "x", "--rm"]), "entry x --rm");
    assert_eq!(run(&["--entrypoint", "hostname", "e", "-f"]).len(), 12);
    assert_eq!(run(&["--entrypoint", "id", "e"]), "uid=0(root) gid=0(root) groups=0(root)", "CMD is dropped");
}

#[test]
fn flags_change_environment_directory_and_user() {
    let mut lab = Lab::with_busybox();
    lab.build_text("FROM busybox\nENV A=image B=image\nWORKDIR /w\nUSER app\n", &["-t", "i"]).success();
    lab.env.push(("TAKEN".into(), "over".into()));
    let run = |args: &[&str], script: &str| {
        lab.forge(&[&["run", "--network=none"], args, &["i", "sh", "-c", script]].concat()).success()
    };
    assert_eq!(
        run(&[], "pwd; id; echo $HOME"),
        "/w\nuid=1000(app) gid=1000(app) groups=50(staff),1000(app)\n/home"
    );
    let env = ["-e", "A=flag", "-e", "TAKEN", "-e", "ABSENT", "-e", "EMPTY="];
    assert_eq!(run(&env, "echo $A $B $TAKEN ${ABSENT-unset} ${EMPTY-unset}."), "flag image over unset .");
    assert_eq!(run(&["-w", "/tmp", "-u", "0:50"], "pwd; id -u; id -g"), "/tmp\n0\n50");
}

#[test]
fn the_exit_code_is_the_containers() {
    let lab = Lab::with_busybox();
    let code = |args: &[&str]| lab.forge(&[&["run", "--network=none", "busybox"], args].concat()).code;
    assert_eq!(code(&["sh", "-c", "exit 42"]), 42);
    assert_eq!(code(&["sh", "-c", "kill -9 $$"]), 137);
    assert_eq!(code(&["true"]), 0);
}

#[test]
fn a_program_that_cannot_be_run_is_126_or_127_as_with_docker() {
    let lab = Lab::with_busybox();
    let report = lab.forge(&["run", "--network=none", "busybox", "no-such-program"]).report(127);
    assert!(report.contains("no-such-program"), "{report}");
    let report = lab.forge(&["run", "--network=none", "busybox", "/etc/passwd"]).report(126);
    assert!(report.contains("/etc/passwd"), "{report}");
}

#[test]
fn a_user_or_directory_that_is_not_there_is_an_error_of_the_words() {
    let lab = Lab::with_busybox();
    let report = lab.forge(&["run", "--network=none", "-u", "zork", "busybox", "id"]).report(3);
    assert!(report.contains("unable to find user zork"), "{report}");
    lab.build_text("FROM busybox\nRUN touch /file\n", &["-t", "f"]).success();
    let report = lab.forge(&["run", "--network=none", "-w", "/file", "f", "id"]).report(3);
    assert!(report.contains("/file"), "{report}");
}

#[test]
fn standard_streams_stay_apart() {
    let lab = Lab::with_busybox();
    let outcome = lab.forge(&["run", "--network=none", "busybox", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn a_containers_files_are_gone_afterwards() {
    let lab = Lab::with_busybox();
    assert_eq!(lab.shell("busybox", "echo x > /new && cat /new"), "x");
    assert_eq!(lab.shell("busybox", "ls /new 2>/dev/null || echo none"), "none");
    assert!(lab.unfinished().is_empty());
}

#[test]
fn networks_are_apart_unless_the_hosts_is_asked_for() {
    let lab = Lab::with_busybox();
    let namespace = |mode: &str| {
        lab.forge(&["run", "--network", mode, "busybox", "readlink", "/proc/self/ns/net"]).success()
    };
    let host = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    assert_eq!(namespace("host"), host);
    assert_ne!(namespace("none"), host);
    assert_ne!(namespace("default"), host);
    let interfaces = lab.shell("busybox", "ls /sys/class/net");
    assert_eq!(interfaces, "lo");
}

/// A server in a network of its own is reached at its address.
#[test]
fn a_server_in_the_default_network_can_be_reached_from_the_host() {
    let lab = Lab::with_busybox();
    let script = "ip -4 -o addr show scope global | awk '{print $4}'; \
                  printf 'HTTP/1.0 200 OK\\r\\n\\r\\nhello' > /page; nc -l -p 8000 < /page";
    let mut server = lab.start(&["run", "busybox", "sh", "-c", script]);
    let mut address = String::new();
    BufReader::new(server.stdout()).read_line(&mut address).unwrap();
    let host = address.split('/').next().unwrap().to_owned();
    let mut page = String::new();
    soon("the server answers", || {
        let Ok(mut stream) = TcpStream::connect((host.as_str(), 8000)) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.read_to_string(&mut page).is_ok()
    });
    assert_eq!(page, "HTTP/1.0 200 OK\r\n\r\nhello");
    assert_eq!(server.finish().code, 0);
}

#[test]
fn signals_reach_the_container_and_nothing_stays() {
    let lab = Lab::with_busybox();
    let marker = Marker::new();
    let script = format!("trap 'echo got it; exit 7' TERM; echo ready; sleep {} & wait", marker.0);
    let mut child = lab.start(&["run", "--network=none", "busybox", "sh", "-c", &script]);
    let mut out = BufReader::new(child.stdout());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let pid = child.pid();
    child.send("-TERM");
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "got it\n");
    assert_eq!(child.finish().code, 7);
    assert!(marker.processes().is_empty());
    lab.assert_nothing_left(pid);
}
