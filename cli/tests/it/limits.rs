//! What steps and containers may use: limits, hosts, devices.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Builder, Lab, Marker, NetNs, soon, tool};

#[test]
fn an_added_host_is_known_and_no_part_of_the_key() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nRUN --network=none grep -c db.example /etc/hosts; cat /etc/hosts > /seen\n";
    let flags = ["--add-host", "db.example:192.0.2.7", "--add-host", "six=2001:db8::1", "-t", "x"];
    lab.build_text(text, &flags).success();
    let seen = lab.shell("x", "cat /seen");
    assert!(seen.contains("192.0.2.7\tdb.example") && seen.contains("2001:db8::1\tsix"), "{seen}");
    let again = lab.build_text(text, &["--add-host", "db.example:192.0.2.8"]);
    assert_eq!(again.steps().1, [""; 0], "{again}");
    let run = ["run", "--network=none", "--add-host", "db:192.0.2.9", "busybox", "cat", "/etc/hosts"];
    assert!(lab.forge(&run).success().contains("192.0.2.9\tdb"));
}

#[test]
fn ulimits_and_shm_size_are_what_was_asked_for_and_part_of_the_key() {
    for builder in [Builder::Root, Builder::User] {
        let lab = Lab::of(builder);
        lab.add_busybox();
        let text = "FROM busybox\nRUN --network=none (ulimit -n; ulimit -Hn; df -k /dev/shm | awk 'NR==2{print $2}') > /seen\n";
        lab.build_text(text, &["--ulimit", "nofile=100:200", "--shm-size", "8m", "-t", "x"]).success();
        assert_eq!(lab.shell("x", "cat /seen"), "100\n200\n8192");
        let other = lab.build_text(text, &["--ulimit", "nofile=101:200", "--shm-size", "8m", "-t", "x"]);
        assert!(other.stderr.contains("ulimit nofile 100:200→101:200\n"), "{other}");
        assert_eq!(lab.shell("x", "head -n1 /seen"), "101");
        let run = ["run", "--network=none", "--ulimit", "nofile=64", "busybox", "sh", "-c", "ulimit -n"];
        assert_eq!(lab.forge(&run).success(), "64");
    }
}

/// A hard limit above forge's own needs CAP_SYS_RESOURCE: without it the step gets what there is, and is told.
#[test]
fn root_without_cap_sys_resource_copes() {
    let mut lab = Lab::with_busybox();
    lab.wrapper =
        ["prlimit", "--nofile=4096:4096", "setpriv", "--bounding-set=-sys_resource"].map(String::from).into();
    let text = "FROM busybox\nRUN --network=none ulimit -Hn > /seen\n";
    let built = lab.build_text(text, &["--ulimit", "nofile=9000:9000", "-t", "x"]);
    assert!(built.stderr.contains("--ulimit nofile: without CAP_SYS_RESOURCE no more than 4096"), "{built}");
    built.success();
    assert_eq!(lab.shell("x", "cat /seen"), "4096");
}

#[test]
fn a_step_that_meets_its_memory_limit_is_told_so() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nRUN --network=none head -c 200m /dev/zero | tail -c 199m > /dev/null\n";
    for flags in [["--memory", "32m"], ["-m", "32m"], ["--resource", "memory=32m,memory-swap=32m"]] {
        let report = lab.build_text(text, &flags).report(1);
        assert!(report.contains("exit code: 137 (out of memory: its limit is 33554432 bytes)"), "{report}");
    }
    let script = "head -c 200m /dev/zero | tail -c 199m > /dev/null";
    let run = ["run", "--network=none", "-m", "32m", "busybox", "sh", "-c", script];
    assert!(lab.forge(&run).stderr.contains("out of memory; its limit is 33554432 bytes"));
    lab.build_text(text, &["-m", "1g"]).success();
}

#[test]
fn a_step_that_meets_its_limit_on_processes_is_told_so() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nRUN --network=none for i in $(seq 40); do sleep 5 & done; exit 4\n";
    let report = lab.build_text(text, &["--resource", "pids=10"]).report(1);
    assert!(report.contains("(it reached its limit of 10 processes)"), "{report}");
    let report = lab.build_text(text, &["--pids-limit", "200"]).report(1);
    assert!(report.contains("exit code: 4\n") && !report.contains("limit"), "{report}");
}

/// The directories of cgroups of sandboxes of the process `owner`, in whatever hierarchy.
fn cgroups(owner: u32) -> Vec<PathBuf> {
    fn walk(dir: &Path, prefix: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with(prefix) {
                    found.push(entry.path());
                }
                walk(&entry.path(), prefix, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), &format!("{owner}."), &mut found);
    found
}

#[test]
fn limits_are_those_of_the_kernels_own_files() {
    let lab = Lab::with_busybox();
    let marker = Marker::new();
    lab.context("ctx", &[("Dockerfile", &format!("FROM busybox\nRUN --network=none sleep {}\n", marker.0))]);
    let limits = "memory=64m,memory-swap=96m,cpus=0.5,cpu-shares=512,cpuset-cpus=0,pids=50";
    let parent = format!("forge-test-{}", std::process::id());
    let parent_flag = format!("/{parent}/below");
    let mut build =
        lab.start(&["build", "--resource", limits, "--cgroup-parent", &parent_flag, &lab.at("ctx")]);
    let pid = build.pid();
    soon("the step runs", || !marker.processes().is_empty());
    let cgroups_now = cgroups(pid);
    assert!(cgroups_now.iter().all(|path| path.to_string_lossy().contains(&parent_flag)), "{cgroups_now:?}");
    let read = |name: &str| {
        let mut files = cgroups_now.iter().map(|cgroup| cgroup.join(name));
        files.find_map(|file| fs::read_to_string(file).ok()).map(|text| text.trim().to_owned())
    };
    let is = |v1: (&str, &str), v2: (&str, &str)| {
        let found = (read(v1.0), read(v2.0));
        assert!(
            found.0.as_deref() == Some(v1.1) || found.1.as_deref() == Some(v2.1),
            "{v1:?} {v2:?}: {found:?}"
        );
    };
    is(("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864"));
    is(("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000"));
    is(("cpu.shares", "512"), ("cpu.weight", "20"));
    is(("cpuset.cpus", "0"), ("cpuset.cpus", "0"));
    is(("pids.max", "50"), ("pids.max", "50"));
    build.send("-INT");
    build.finish().report(130);
    lab.assert_nothing_left(pid);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points =
        mounts.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    let left: Vec<PathBuf> =
        points.map(|point| Path::new(point).join(&parent)).filter(|path| path.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Cgroups that a test made by hand; removed with the value.
struct Cgroups(String);

impl Drop for Cgroups {
    fn drop(&mut self) {
        for controller in ["memory", "pids"] {
            let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(controller).join(&self.0));
        }
    }
}

#[test]
fn a_user_is_told_which_limits_there_are_not_and_the_command_that_gives_them() {
    let lab = Lab::of(Builder::User);
    lab.add_busybox();
    let built = lab.build_text("FROM busybox\nRUN --network=none true\nRUN --network=none echo 2\n", &[]);
    assert_eq!(built.stderr.matches("warning: steps have no limit on processes").count(), 1, "{built}");
    let is_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let remedy = if is_v2 { "systemd-run --user --scope -p Delegate=yes" } else { "as root: install -d -o " };
    assert!(built.stderr.contains(&format!("to have one: {remedy}")), "{built}");
    built.success();
    let said = lab.forge(&["doctor"]).success();
    assert!(said.contains("missing limit on memory") && said.contains(remedy), "{said}");

    // What a limit that was asked for needs is a command that works.
    let cgroups = Cgroups(format!("forge-user-{}", std::process::id()));
    let parent = format!("/{}", cgroups.0);
    let text = "FROM busybox\nRUN --network=none head -c 200m /dev/zero | tail -c 199m > /dev/null\n";
    let limited = || lab.build_text(text, &["--memory=32m", "--cgroup-parent", &parent]);
    for controller in ["pids", "memory"] {
        let report = limited().report(7);
        assert!(report.contains(&format!("no writable cgroup with the {controller} controller")), "{report}");
        let help = report.lines().find_map(|line| line.trim().strip_prefix("= help: ")).unwrap();
        if is_v2 {
            assert!(help.starts_with(remedy), "{help}");
            return;
        }
        assert!(tool("sh", &["-c", help.strip_prefix("as root: ").unwrap()]).is_empty());
    }
    let report = limited().report(1);
    assert!(report.contains("out of memory: its limit is 33554432 bytes"), "{report}");
}

#[test]
fn a_limit_that_the_machine_cannot_keep_is_an_error() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nRUN --network=none true\n";
    let report = lab.build_text(text, &["--cpuset-cpus", "4000"]).report(7);
    assert!(report.contains("the kernel does not take 4000 for cpuset.cpus"), "{report}");
    for (flags, complaint) in [
        (["--memory", "many"], "--memory: invalid size: 'many'"),
        (["--ulimit", "nofiles=1"], "there is no limit `nofiles`"),
        (["--add-host", "x:1.2.3"], "--add-host x:1.2.3"),
        (["--resource", "disk=1g"], "there is no resource `disk`"),
        (["--allow", "devices"], "there is no entitlement `devices`"),
    ] {
        let report = lab.build_text(text, &flags).report(2);
        assert!(report.contains(complaint), "{report}");
    }
    let report = lab.build_text(text, &["--cgroup-parent", "../up"]).report(7);
    assert!(report.contains("use cgroup parent ../up"), "{report}");
}

/// `host-gateway` is the machine: a service of it answers there, and only there.
#[test]
fn the_host_is_reached_by_its_gateway_only_if_asked_for() {
    let mut lab = Lab::with_busybox();
    let netns = NetNs::new();
    let serve = |address: &str, port: u16| {
        let server = ["python3", "-m", "http.server", "--bind", address, &port.to_string()].map(String::from);
        let words = [&netns.enter()[..], &server].concat();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(lab.path("home")).stdin(Stdio::null()).stderr(Stdio::null());
        let child = Killed(command.stdout(Stdio::null()).spawn().unwrap());
        soon("the server answers", || netns.get(port).contains("200 OK"));
        child
    };
    let _everywhere = serve("0.0.0.0", 8001);
    let _loopback = serve("127.0.0.1", 8002);
    lab.wrapper = netns.enter();
    // This busybox cannot look names up.
    let script = "box=$(awk '$2==\"box\"{print $1}' /etc/hosts); for p in 8001 8002; do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 5 nc -w 3 $box $p | grep -q '200 OK' && echo hello || echo refused; done > /seen";
    let text = format!("FROM busybox\nRUN {script}\n");
    lab.build_text(&text, &["--add-host", "box:host-gateway", "-t", "x"]).success();
    assert_eq!(lab.shell("x", "cat /seen"), "hello\nrefused");
    let text = "FROM busybox\nRUN gw=$(ip route | awk '/default/{print $3}'); printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 5 nc -w 3 $gw 8001 | grep -q '200 OK' || echo refused > /seen\n";
    lab.build_text(text, &["-t", "x"]).success();
    assert_eq!(lab.shell("x", "cat /seen"), "refused");
}

struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_device_comes_by_its_cdi_name_if_it_is_allowed() {
    let mut lab = Lab::with_busybox();
    let specification = format!(
        r#"{{"cdiVersion": "0.6.0", "kind": "example.org/thing", "devices": [{{"name": "one", "containerEdits":
            {{"env": ["THING=one"], "deviceNodes": [{{"path": "/dev/thing", "hostPath": "/dev/zero"}}],
             "mounts": [{{"hostPath": "{}", "containerPath": "/opt/thing", "options": ["ro", "bind"]}}]}}}}]}}"#,
        lab.file("thing.txt", "of the thing").display()
    );
    lab.file("thing.json", &specification);
    // A /run of its own, so that the machine's devices and this one do not meet.
    let script = format!(
        "mount -t tmpfs none /run && mkdir /run/cdi && cp {} /run/cdi/ && exec \"$@\"",
        lab.at("thing.json")
    );
    lab.wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh"].map(String::from).into();
    let text = "FROM busybox\nRUN --network=none --device=example.org/thing=one,required \
        echo $THING $(head -c 3 /dev/thing | wc -c) $(cat /opt/thing) > /seen\n\
        RUN --network=none test ! -e /dev/thing && test ! -e /opt/thing && test -z \"$THING\"\n";
    let report = lab.build_text(text, &[]).report(3);
    assert!(report.contains("entitlement device for example.org/thing=one is not allowed"), "{report}");
    lab.build_text(text, &["--allow", "device=example.org/other"]).failure(3);
    lab.build_text(text, &["--allow", "device=example.org/thing=one", "-t", "x"]).success();
    assert_eq!(lab.shell("x", "cat /seen"), "one 3 of the thing");
    let missing = |flag: &str| {
        lab.build_text(
            &format!("FROM busybox\nRUN --network=none --device={flag} true\n"),
            &["--allow", "device"],
        )
    };
    let report = missing("example.org/thing=two,required").report(4);
    assert!(
        report.contains("no specification names it") && report.contains("there are example.org/thing=one"),
        "{report}"
    );
    let optional = missing("example.org/thing=two");
    assert!(
        optional.stderr.contains("device example.org/thing=two is not there, and not required"),
        "{optional}"
    );
    optional.success();
}

/// `--security=insecure` is as powerful as BuildKit's, and has to be granted.
#[test]
fn an_insecure_step_has_everything_once_it_is_allowed() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nRUN --security=insecure --network=none \
        (grep -E 'Cap(Inh|Bnd|Amb)|^Seccomp:' /proc/self/status; mkdir /m && mount -t tmpfs none /m && echo mounted && umount /m; \
         hostname other && hostname; [ -w /sys/kernel ] && echo writable; cat /proc/kcore 2>&1 | head -c 1 | wc -c) > /seen\n\
        RUN --network=none grep -E 'CapBnd|^Seccomp:' /proc/self/status > /after\n";
    let report = lab.build_text(text, &[]).report(3);
    assert!(report.contains("entitlement security.insecure is not allowed"), "{report}");
    lab.build_text(text, &["--allow", "security.insecure", "-t", "x"]).success();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let all = own.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    let seen = lab.shell("x", "cat /seen");
    for line in [
        &format!("CapInh:\t{all}"),
        &format!("CapBnd:\t{all}"),
        &format!("CapAmb:\t{all}"),
        "Seccomp:\t0",
        "mounted",
        "other",
        "writable",
    ] {
        assert!(seen.lines().any(|seen| seen == line), "{line}: {seen}");
    }
    assert_eq!(lab.shell("x", "cat /after"), "CapBnd:\t00000000a80425fb\nSeccomp:\t2");
}
