//! `RUN --mount`: what steps share, what they are given, and what of it stays.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use crate::support::{Builder, Lab, Marker, soon, tool};

const CANARY: &str = "cardinal-swordfish-7f3a91c2";

/// Fails if the canary is anywhere below a directory: as it is, in hex, in base64, or inside a compressed file.
#[track_caller]
fn assert_no_canary(dir: &Path) {
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    // Base64 has three shapes of a text, by where it begins.
    let base64 = ["", "x", "xx"].map(|before| {
        let whole = tool("sh", &["-c", &format!("printf %s '{before}{CANARY}' | base64 -w0")]);
        whole[4..whole.len() - 4].to_owned()
    });
    let script = "find \"$0\" -type f | while read -r file; do \
        { cat \"$file\"; gzip -dcq \"$file\" 2>/dev/null; } | grep -aqF -e \"$1\" -e \"$2\" -e \"$3\" -e \"$4\" -e \"$5\" \
        && echo \"$file\"; done; true";
    let patterns = [CANARY, &hex, &base64[0], &base64[1], &base64[2]];
    let found = tool("sh", &[&["-c", script, dir.to_str().unwrap()], &patterns[..]].concat());
    assert_eq!(found, "", "the secret was written down");
}

#[test]
fn a_secret_leaves_no_trace_on_disk_however_its_step_ends() {
    for builder in [Builder::Root, Builder::User] {
        let lab = Lab::of(builder);
        lab.add_busybox();
        // Outside of what is searched, and in no argument.
        let outside = tempfile::tempdir().unwrap();
        fs::set_permissions(outside.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let file = outside.path().join("token");
        fs::write(&file, CANARY).unwrap();
        let secret = format!("id=token,src={}", file.display());
        let context = |name: &str, run: &str| {
            let mounts =
                "--mount=type=secret,id=token,uid=0 --mount=type=secret,id=token,env=TOKEN,target=/other";
            lab.context(
                name,
                &[("Dockerfile", &format!("FROM busybox\nRUN --network=none {mounts} {run}\n"))],
            )
        };
        let sees = "test $(cat /run/secrets/token) = $TOKEN && test $(cat /other) = $TOKEN && \
                    stat -c %a /run/secrets/token > /seen && stat -f -c %T /run/secrets/token >> /seen && \
                    ! (echo x > /run/secrets/token) 2>/dev/null";
        let good = context("good", sees);
        let logs =
            [lab.build(&good, &["--secret", &secret, "-t", "x", "--metadata-file", &lab.at("m.json")])];
        assert_eq!(lab.shell("x", "cat /seen; ls /run /other 2>&1 | grep -c secrets; true"), "400\ntmpfs\n0");
        let bad = context("bad", "cat /run/secrets/token > /stolen; exit 3");
        let failed = lab.build(&bad, &["--secret", &secret]);
        assert_eq!(failed.code, 1, "{failed}");
        let marker = Marker::new();
        let slow = context("slow", &format!("sleep {}", marker.0));
        let mut child = lab.start(&["build", "--secret", &secret, slow.to_str().unwrap()]);
        soon("the step runs", || !marker.processes().is_empty());
        child.send("-KILL");
        child.finish();
        soon("the step is gone", || marker.processes().is_empty());
        let said = logs
            .iter()
            .chain([&failed])
            .any(|log| log.stderr.contains(CANARY) || log.stdout.contains(CANARY));
        assert!(!said, "the secret was said");
        assert_no_canary(&lab.path("home"));
        assert_no_canary(&lab.path("m.json"));
        // What a failed or a killed step wrote itself is swept with its draft by the next command.
        lab.build(&good, &["-q"]).success();
        lab.build_text("FROM busybox\nRUN --network=none true\n", &["-q"]).success();
        assert_no_canary(&lab.path("store"));
    }
}

/// A step that says it is there, and goes on when it is answered.
struct Visitor(TcpStream);

impl Visitor {
    fn of(listener: &TcpListener) -> Self {
        let stream = listener.accept().unwrap().0;
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
        Self(stream)
    }

    fn let_go(mut self) {
        self.0.write_all(b"go\n").unwrap();
        let _ = self.0.read(&mut [0; 1]);
    }
}

/// Two steps that use the same cache at the same time: what the second one finds there while the first is in it.
fn second_sees(sharing: &str) -> String {
    let lab = Lab::with_busybox();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mount = format!("--mount=type=cache,target=/c,id=k,sharing={sharing}");
    let first = format!(
        "FROM busybox\nRUN --network=host {mount} touch /c/first; echo here | nc 127.0.0.1 {port} | grep -q go\n"
    );
    let first = lab.context("first", &[("Dockerfile", &first)]);
    let child = lab.start(&["build", "-q", "--allow", "network.host", first.to_str().unwrap()]);
    let visitor = Visitor::of(&listener);
    let second = format!("FROM busybox\nRUN --network=none {mount} ls -A /c > /seen\n");
    lab.build_text(&second, &["-q", "-t", "second"]).success();
    visitor.let_go();
    child.finish().success();
    lab.shell("second", "cat /seen")
}

#[test]
fn a_shared_cache_is_one_for_all_forges_and_a_private_one_is_not() {
    assert_eq!(second_sees("shared"), "first");
    assert_eq!(second_sees("private"), "");
}

#[test]
fn a_private_cache_is_not_that_of_a_step_which_shares_it() {
    let lab = Lab::with_busybox();
    let mount =
        |sharing: &str, target: &str| format!("--mount=type=cache,id=one,target={target},sharing={sharing}");
    let (shared, private) = (mount("shared", "/s"), mount("private", "/p"));
    let text = format!("FROM busybox\nRUN --network=none {shared} {private} touch /s/x && ls /p > /seen\n");
    lab.build_text(&text, &["-q", "-t", "x"]).success();
    assert_eq!(lab.shell("x", "cat /seen"), "");
}

#[test]
fn a_locked_cache_is_used_by_one_forge_at_a_time() {
    let lab = Lab::with_busybox();
    let builds: Vec<_> = (0..4)
        .map(|n| {
            let run = format!("mkdir /c/busy && sleep 0.2 && rmdir /c/busy && echo {n} >> /c/log");
            let mount = "--mount=type=cache,target=/c,sharing=locked";
            let text = format!("FROM busybox\nRUN --network=none {mount} {run}\n");
            let context = lab.context(&format!("ctx{n}"), &[("Dockerfile", &text)]);
            lab.start(&["build", "-q", context.to_str().unwrap()])
        })
        .collect();
    builds.into_iter().for_each(|build| drop(build.finish().success()));
    let text = "FROM busybox\nRUN --network=none --mount=type=cache,target=/c,ro wc -l < /c/log > /n; ! touch /c/x\n";
    lab.build_text(text, &["-q", "-t", "x"]).success();
    assert_eq!(lab.shell("x", "cat /n"), "4");
}

#[test]
fn caches_of_another_namespace_are_others() {
    let lab = Lab::with_busybox();
    let text = |n: usize| {
        format!("FROM busybox\nRUN --network=none --mount=type=cache,target=/c ls /c > /seen; touch /c/{n}\n")
    };
    let arg = ["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=team"];
    lab.build_text(&text(1), &["-q"]).success();
    lab.build_text(&text(2), &[&arg[..], &["-q", "-t", "x"]].concat()).success();
    assert_eq!(lab.shell("x", "cat /seen"), "");
    lab.build_text(&text(3), &[&arg[..], &["-q", "-t", "x"]].concat()).success();
    assert_eq!(lab.shell("x", "cat /seen"), "2");
    lab.build_text(&text(4), &["-q", "-t", "x"]).success();
    assert_eq!(lab.shell("x", "cat /seen"), "1");
}

#[test]
fn a_tmpfs_holds_what_it_may_and_nothing_of_it_stays() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nRUN --network=none --mount=type=tmpfs,target=/t,size=1m \
        head -c 900k /dev/zero > /t/a && ! head -c 900k /dev/zero > /t/b && df -k /t | awk 'NR==2{print $2}' > /size\n";
    lab.build_text(text, &["-q", "-t", "x"]).success();
    assert_eq!(lab.shell("x", "cat /size; ls -A /t 2>/dev/null; true"), "1024");
}

#[test]
fn a_cache_begins_with_what_it_is_made_from() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox AS one\nRUN --network=none mkdir -p /d/sub && echo base > /d/sub/f\nFROM busybox\n\
        RUN --network=none --mount=type=cache,target=/c,from=one,source=/d cat /c/sub/f > /seen && echo more > /c/sub/f\n\
        RUN --network=none --mount=type=cache,target=/c,from=one,source=/d cat /c/sub/f >> /seen\n\
        RUN --network=none --mount=type=cache,target=/o,uid=7,gid=8,mode=0711 stat -c '%a %u:%g' /o >> /seen\n";
    lab.build_text(text, &["-q", "-t", "x"]).success();
    assert_eq!(lab.shell("x", "cat /seen"), "base\nmore\n711 7:8");
}

#[test]
fn an_agent_is_a_socket_of_its_step_alone() {
    let lab = Lab::with_busybox();
    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().join("agent");
    let agent = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || agent.incoming().for_each(drop));
    let text = "FROM busybox\n\
        RUN --network=none --mount=type=tmpfs,target=/t --mount=type=ssh --mount=type=ssh,id=two,target=/two,mode=0666 \
        echo $SSH_AUTH_SOCK > /seen && test -S /run/buildkit/ssh_agent.0 && test -S /two && \
        stat -c '%a %u' /run/buildkit/ssh_agent.0 /two >> /seen\n\
        RUN --network=none test -z \"$SSH_AUTH_SOCK\" && test ! -e /run/buildkit && test ! -e /two\n\
        RUN --network=none --mount=type=ssh,id=absent test ! -e /run/buildkit/ssh_agent.0\n";
    let of = |id: &str| format!("{id}={}", path.display());
    lab.build_text(text, &["-q", "-t", "x", "--ssh", &of("default"), "--ssh", &of("two")]).success();
    assert_eq!(lab.shell("x", "cat /seen"), "/two\n600 0\n666 0");
    let report = lab.build_text("FROM busybox\nRUN --mount=type=ssh,required true\n", &[]).report(3);
    assert!(report.starts_with("error: ssh agent default: not found"), "{report}");
    assert!(lab.unfinished().is_empty());
}

/// A real agent, asked by OpenSSH's own client inside a step: it lists and signs, and does nothing else.
#[test]
fn an_agent_lists_and_signs_and_no_more() {
    let lab = Lab::with_busybox();
    let outside = tempfile::tempdir().unwrap();
    let (socket, key) = (outside.path().join("agent"), outside.path().join("key"));
    let (socket, key) = (socket.to_str().unwrap(), key.to_str().unwrap());
    let mut agent = Command::new("ssh-agent")
        .args(["-D", "-a", socket])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("install openssh-client");
    soon("the agent listens", || Path::new(socket).exists());
    tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key]);
    let added = Command::new("ssh-add").arg(key).env("SSH_AUTH_SOCK", socket).output().unwrap();
    assert!(added.status.success());
    // The client comes from this machine, with the libraries that it needs.
    let context = lab.context("ctx", &[]);
    let script = "mkdir -p $1/root/usr/bin && for f in ssh-add ssh-keygen; do cp /usr/bin/$f $1/root/usr/bin/; \
        ldd /usr/bin/$f | grep -o '/[^ ]*' | while read -r lib; do mkdir -p $1/root$(dirname $lib); cp -L $lib $1/root$lib; done; done; cp $2 $1/";
    tool("sh", &["-ec", script, "copy", context.to_str().unwrap(), &format!("{key}.pub")]);
    let text = "FROM busybox\nCOPY root /\nCOPY key.pub /key.pub\n\
        RUN --network=none --mount=type=ssh ssh-add -l > /listed && echo text > /text && \
        ssh-keygen -q -Y sign -f /key.pub -n file /text && ! ssh-add -D 2>/dev/null && ! ssh-add -x </dev/null 2>/dev/null && \
        ssh-add -l > /after && cmp /listed /after\n";
    lab.file("ctx/Dockerfile", text);
    let built = lab.build(&context, &["-t", "x", "--ssh", &format!("default={socket}")]);
    agent.kill().unwrap();
    agent.wait().unwrap();
    built.success();
    let signed = lab.forge(&["run", "--network=none", "x", "head", "-n1", "/text.sig"]).success();
    assert_eq!(signed, "-----BEGIN SSH SIGNATURE-----");
}
