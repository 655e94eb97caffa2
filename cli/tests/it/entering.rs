//! Going back into builds: logs, steps that are repeated, shells in what failed; and containers on a terminal.

use std::fs;
use std::time::Duration;

use crate::support::{Builder, Lab, Marker, soon};

#[test]
fn a_container_on_a_terminal_has_one_of_its_own() {
    let lab = Lab::with_busybox();
    let marker = Marker::new();
    let mut talk = lab.talk(&["run", "--network=none", "-it", "busybox", "sh"]);
    talk.send("echo on $(tty) of $(stty size) as $TERM.\n");
    talk.expect("on /dev/pts/0 of 24 80 as xterm.");
    talk.resize(30, 100);
    soon("the size comes through", || {
        talk.send("stty size\n");
        std::thread::sleep(Duration::from_millis(50));
        talk.said().contains("30 100")
    });
    // Keys are the container's: Ctrl-C ends what runs in it, and not the container.
    talk.send(&format!("sleep {}\n", marker.0));
    soon("the program runs", || marker.processes().iter().any(|line| line.starts_with("sleep ")));
    talk.send("\x03");
    talk.send("echo ended by $?\n");
    talk.expect("ended by 130");
    talk.send("exit 7\n");
    let (code, said) = talk.finish();
    assert_eq!(code, 7, "{said}");
    assert!(lab.unfinished().is_empty());
}

#[test]
fn a_signal_to_forge_reaches_a_container_on_a_terminal_and_the_terminal_is_given_back() {
    let lab = Lab::with_busybox();
    let talk = lab.talk(&[
        "run",
        "--network=none",
        "-it",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 9' TERM; echo ready; while true; do sleep 0.1; done",
    ]);
    talk.expect("ready");
    crate::support::tool("kill", &["-TERM", &talk.pid().to_string()]);
    assert_eq!(talk.finish().0, 9);
}

#[test]
fn input_goes_into_a_container_that_asks_for_it() {
    let lab = Lab::with_busybox();
    let cat = |flags: &[&str]| {
        let args = [&["run", "--network=none"], flags, &["busybox", "cat"]].concat();
        lab.forge_with_input(&args, "a line\nand the rest").success()
    };
    assert_eq!(cat(&["-i"]), "a line\nand the rest");
    assert_eq!(cat(&[]), "");
    let report = lab.forge(&["run", "-it", "busybox"]).report(2);
    assert!(report.contains("the input device is not a TTY"), "{report}");
}

#[test]
fn a_reader_that_goes_away_ends_the_writer() {
    let lab = Lab::with_busybox();
    let mut child = lab.start(&["run", "--network=none", "busybox", "yes"]);
    let pid = child.pid();
    let mut one = [0; 2];
    std::io::Read::read_exact(&mut child.stdout(), &mut one).unwrap();
    assert_eq!(child.finish().code, 141);
    lab.assert_nothing_left(pid);
}

#[test]
fn files_of_the_host_and_memory_are_shown_in_a_container() {
    for builder in [Builder::Root, Builder::User] {
        let lab = Lab::of(builder);
        lab.add_busybox();
        lab.file("data/f", "of the host\n");
        crate::support::tool("chmod", &["-R", "a+rwX", &lab.at("data")]);
        let run = |flags: &[&str], script: &str| {
            lab.forge(&[&["run", "--network=none"], flags, &["busybox", "sh", "-c", script]].concat())
        };
        let volume = format!("{}:/v", lab.at("data"));
        assert_eq!(run(&["-v", &volume], "cat /v/f; echo new > /v/g").success(), "of the host");
        assert_eq!(fs::read_to_string(lab.path("data/g")).unwrap(), "new\n");
        let script = "touch /v/f 2>/dev/null || echo refused";
        assert_eq!(run(&["-v", &format!("{volume}:ro")], script).success(), "refused");
        assert_eq!(run(&["-v", "./data/f:/one"], "cat /one").success(), "of the host");
        let mount = format!("type=bind,source={},target=/v,readonly", lab.at("data"));
        assert_eq!(run(&["--mount", &mount], script).success(), "refused");
        let script =
            "touch /x 2>/dev/null || echo refused; touch /tmp/y && df -k /tmp | awk 'NR==2{print $2}'";
        assert_eq!(run(&["--read-only", "--tmpfs", "/tmp:size=2m"], script).success(), "refused\n2048");
        assert_eq!(fs::read_dir(lab.path("data")).unwrap().count(), 2);
    }
}

#[test]
fn volumes_that_make_no_sense_are_refused() {
    let lab = Lab::with_busybox();
    for (flags, complaint) in [
        (["-v", "/none/such:/v"], "/none/such: No such file or directory"),
        (["-v", "data:/v"], "a volume of forge's own"),
        (["-v", "/tmp:v"], "must be an absolute path"),
        (["-v", "/tmp:/v:shared"], "there is no option `shared`"),
        (["--mount", "type=npipe,target=/v"], "there is no type `npipe`"),
        (["--tmpfs", "/v:exec"], "there is no option `exec`"),
    ] {
        let report = lab.forge(&[&["run"], &flags[..], &["busybox"]].concat()).report(2);
        assert!(report.contains(complaint), "{report}");
    }
}

const FAILING: &str = "FROM busybox AS base\nENV PLACE=here\nRUN --network=none echo below > /below\n\
    FROM base AS work\nWORKDIR /home\nUSER app\n\
    RUN --network=none --mount=type=bind,source=f,target=/f --mount=type=secret,id=token,mode=0444,required \
    cp /f /tmp/copy && echo tried && cat /run/secrets/token | wc -c && exit 5\n";

fn failing(lab: &Lab) -> String {
    lab.context("ctx", &[("Dockerfile", FAILING), ("f", "of the context\n")]);
    lab.file("token", "cardinal-swordfish");
    lab.at("ctx")
}

fn a_failed_step_is_entered(builder: Builder) {
    let lab = Lab::of(builder);
    lab.add_busybox();
    let context = failing(&lab);
    let mut talk = lab.talk(&["build", "--on-error=shell", "--secret", "id=token,src=token", &context]);
    talk.expect("a shell in the failed step");
    talk.send("echo $(id -un) $PWD $PLACE $(cat /below /tmp/copy /f /run/secrets/token) $(tty).\n");
    talk.expect("app /home here below of the context of the context cardinal-swordfish /dev/pts/0.");
    talk.send("exit 3\n");
    let pid = talk.pid();
    let (code, said) = talk.finish();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("did not complete successfully: exit code: 5"), "{said}");
    lab.assert_nothing_left(pid);
}

#[test]
fn a_failed_step_opens_a_shell_for_root() {
    a_failed_step_is_entered(Builder::Root);
}

#[test]
fn a_failed_step_opens_a_shell_for_a_user() {
    a_failed_step_is_entered(Builder::User);
}

#[test]
fn without_a_terminal_the_command_for_a_shell_is_said_and_works() {
    let lab = Lab::with_busybox();
    let context = failing(&lab);
    let failed = lab.forge(&["build", "--on-error=shell", "--secret", "id=token,src=token", &context]);
    let command = format!(
        "a shell in the failed step: forge --root {} replay --shell --secret=id=token,src=token\n",
        lab.at("store")
    );
    assert!(failed.failure(1).ends_with(&command));
    let mut talk = lab.talk(&["replay", "--shell", "--secret=id=token,src=token"]);
    talk.send("echo $(id -un) $PWD $PLACE $(cat /below /f /run/secrets/token; ls /tmp).\n");
    talk.expect("app /home here below of the context cardinal-swordfish.");
    talk.send("exit 4\n");
    assert_eq!(talk.finish().0, 4);
    // What is kept of the build does not hold the secret.
    for entry in fs::read_dir(lab.path("store/state/logs")).unwrap().flatten() {
        assert!(!fs::read_to_string(entry.path()).unwrap().contains("swordfish"), "{entry:?}");
    }
}

#[test]
fn a_step_is_repeated_on_what_it_stood_on() {
    for builder in [Builder::Root, Builder::User] {
        let lab = Lab::of(builder);
        lab.add_busybox();
        let context = failing(&lab);
        lab.forge(&["build", "--secret", "id=token,src=token", &context]).failure(1);
        let again = lab.forge(&["replay", "--secret", "id=token,src=token"]);
        assert_eq!((again.code, again.stdout.as_str()), (1, "tried\n18\n"), "{again}");
        assert!(again.stderr.contains("exit code: 5"), "{again}");
        let report = lab.forge(&["replay"]).report(3);
        assert!(report.contains("secret token: not found"), "{report}");
        assert_eq!(lab.forge(&["replay", "base 2/2"]).success(), "");
        let report = lab.forge(&["replay", "zork"]).report(4);
        assert!(report.contains("no step's name has `zork` in it"), "{report}");
        assert!(report.contains("[base 2/2] RUN --network=none echo below"), "{report}");
        assert!(lab.unfinished().is_empty());
    }
}

#[test]
fn a_step_whose_variable_may_be_secret_asks_for_it_again() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nARG API_TOKEN\nRUN --network=none echo is $API_TOKEN\n";
    lab.build_text(text, &["--build-arg", "API_TOKEN=cardinal-swordfish", "-t", "x"]).success();
    let log = fs::read_dir(lab.path("store/state/logs")).unwrap().flatten().map(|entry| entry.path());
    let kept = log.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    for path in kept {
        assert!(!fs::read_to_string(path).unwrap().contains("swordfish"));
    }
    let without = lab.forge(&["replay", "x", "RUN"]);
    assert!(without.stderr.contains("the value of API_TOKEN was not kept"), "{without}");
    assert_eq!(without.success(), "is");
    assert_eq!(lab.forge(&["replay", "--build-arg", "API_TOKEN=v", "RUN"]).success(), "is v");
}

#[test]
fn the_whole_log_of_a_build_is_kept() {
    let lab = Lab::with_busybox();
    lab.forge(&["logs", "other"]).report(4);
    let text = "FROM busybox\nRUN --network=none seq 30000\n";
    lab.build_text(text, &["-q", "-t", "x"]).success();
    let lines: String = (1..=30000).map(|n| format!("{n}\n")).collect();
    let said = |log: &str| -> String {
        let line = |line: &str| Some(line.strip_prefix("#3 ")?.split_once(' ')?.1.to_owned() + "\n");
        log.lines().filter_map(line).filter(|text| text.trim().parse::<u32>().is_ok()).collect()
    };
    let log = lab.forge(&["logs"]).success();
    assert_eq!(said(&log), lines);
    lab.build_text("FROM busybox\nRUN --network=none echo going; exit 3\n", &[]).failure(1);
    let last = lab.forge(&["logs", "last"]).success();
    assert!(last.contains(" going\n") && last.contains("exit code: 3"), "{last}");
    assert_eq!(lab.forge(&["logs", "x"]).success(), log);
    // A reader that goes away is no error.
    let mut child = lab.start(&["logs", "x"]);
    drop(child.stdout());
    assert_eq!(child.finish().code, 0);
}

#[test]
fn a_shell_opens_in_an_image_or_a_stage() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox AS first\nENV A=1\nWORKDIR /first\nRUN --network=none touch made\n\
        FROM busybox AS second\nUSER app\nCOPY --from=first /first/made /\n";
    lab.build_text(text, &["-t", "img"]).success();
    let ask = |place: &str| {
        lab.forge_with_input(&["shell", "--network=none", place], "echo $(id -un) $PWD $A $(ls)\n")
    };
    assert_eq!(ask("first").success(), "root /first 1 made");
    assert_eq!(ask("last:first").success(), "root /first 1 made");
    assert!(ask("second").success().starts_with("app / bin"));
    assert!(ask("img").success().starts_with("app / bin"));
    let report = ask("last:third").report(4);
    assert!(
        report.contains("the last build has no finished stage third")
            && report.contains("there are first, second"),
        "{report}"
    );
    let mut talk = lab.talk(&["shell", "--network=none", "first"]);
    talk.send("echo $PWD on $(tty).\n");
    talk.expect("/first on /dev/pts/0.");
    talk.send("exit\n");
    assert_eq!(talk.finish().0, 0);
}
