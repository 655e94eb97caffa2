//! What a step sees and may do, judged from inside by a probe and from outside by what is left behind.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, Instant};

use forge_runner::spec::{Limits, Mount, MountSource, Network, Rootfs, SandboxSpec, Security, User};
use support::{Builder, Lab, golden};

const PROBE: &str = include_str!("../../testdata/sandbox/probe.sh");

fn named(user: &str) -> User {
    User::Named(user.to_owned())
}

#[test]
fn root_sees_the_baseline() {
    let lab = Lab::new(Builder::Root);
    golden("root.txt", &lab.run(&lab.script(PROBE)).success());
}

#[test]
fn a_hardened_step_has_less() {
    let lab = Lab::new(Builder::Root);
    let mut spec = lab.script(PROBE);
    spec.security = Security::hardened();
    golden("hardened.txt", &lab.run(&spec).success());
}

#[test]
fn an_ordinary_user_sees_the_same() {
    let lab = Lab::new(Builder::User);
    golden("user.txt", &lab.run(&lab.script(PROBE)).success());
}

#[test]
fn one_id_is_enough() {
    let lab = Lab::new(Builder::Single);
    golden("single.txt", &lab.run(&lab.script(PROBE)).success());
}

/// A program of testdata/sandbox, in the rootfs.
fn compile(lab: &Lab, name: &str) {
    let source = format!("{}/../testdata/sandbox/{name}.c", env!("CARGO_MANIFEST_DIR"));
    let program = lab.path("base/bin").join(name);
    support::run_tool("gcc", &["-static", "-o", program.to_str().unwrap(), &source]);
}

/// The lowest rung: another root directory, and everything that can be dropped is.
fn chrooted(lab: &Lab, args: &[&str]) -> SandboxSpec {
    let mut spec = lab.spec(args);
    spec.rootfs = Rootfs::Chroot { path: lab.path("base"), aside: lab.directory("aside") };
    spec.network = Network::Host;
    spec
}

#[test]
fn a_step_that_has_another_root_only_sees_this() {
    let lab = Lab::new(Builder::Root);
    compile(&lab, "status");
    let script = "echo \"cwd $PWD, HOME $HOME\"; status; ls -A / /proc /sys 2>&1; cat /etc/resolv.conf /etc/hosts\n\
        for f in /dev/*; do [ -L $f ] && echo $f to $(readlink $f) || stat -c '%n %F %a %t:%T' $f; done\n\
        mkdir /j && chroot /j /bin/true 2>&1; mknod /n b 8 0 2>&1; mount -t tmpfs none /j 2>&1; rmdir /j";
    let normal = lab.run(&chrooted(&lab, &["sh", "-c", script])).success();
    let mut spec = chrooted(&lab, &["status"]);
    spec.security = Security::hardened();
    let hardened = lab.run(&spec).success();
    golden("chroot.txt", &format!("{normal}== hardened\n{hardened}"));
    assert!(!lab.path("base/dev").exists() && fs::read_dir(lab.path("aside")).unwrap().next().is_none());
}

#[test]
fn system_calls_get_their_verdicts_with_another_root_only() {
    let lab = Lab::new(Builder::Root);
    compile(&lab, "syscalls");
    golden("chroot-syscalls.txt", &lab.run(&chrooted(&lab, &["syscalls"])).success());
}

#[test]
fn a_user_without_subordinate_ids_is_told_what_to_do() {
    let lab = Lab::new(Builder::Root);
    let output = Command::new("runuser")
        .args(["-u", "nobody", "--"])
        .arg(support::builder_program())
        .arg(lab.path("."))
        .arg("subids")
        .output()
        .unwrap();
    let message = support::outcome(&output).failure(125);
    assert!(message.contains("usermod --add-subuids") && message.contains("nobody"), "{message}");
}

#[test]
fn every_namespace_is_new() {
    let lab = Lab::new(Builder::Root);
    let script = "for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done";
    let inside = lab.run(&lab.script(script)).success();
    for (line, name) in inside.lines().zip(["cgroup", "ipc", "mnt", "net", "pid", "uts"]) {
        let outside = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(line, outside.to_str().unwrap());
    }
    assert_eq!(inside.lines().count(), 6);
}

#[test]
fn a_step_that_does_nothing_leaves_nothing() {
    for (name, prepare) in [
        ("an ordinary image", (|lab| drop(lab.file("base/etc/passwd", "root:x:0:0:::\n"))) as fn(&Lab)),
        ("an image without /etc", |_| {}),
        ("resolv.conf as a dangling link", |lab| {
            lab.directory("base/etc");
            symlink("../run/systemd/resolve/stub-resolv.conf", lab.path("base/etc/resolv.conf")).unwrap();
        }),
        ("resolv.conf hidden by a whiteout", |lab| {
            lab.directory("base/etc");
            let whiteout = lab.path("base/etc/resolv.conf");
            support::run_tool("mknod", &[whiteout.to_str().unwrap(), "c", "0", "0"]);
        }),
        ("an opaque /etc", |lab| {
            let etc = lab.directory("base/etc");
            fs::set_permissions(&etc, PermissionsExt::from_mode(0o750)).unwrap();
            support::run_tool(
                "setfattr",
                &["-n", "trusted.overlay.opaque", "-v", "y", etc.to_str().unwrap()],
            );
        }),
    ] {
        let lab = Lab::new(Builder::Root);
        prepare(&lab);
        let seen = lab.run(&lab.script("cat /etc/resolv.conf; [ -d /proc/1 -a -d /sys/class ]")).success();
        assert_eq!(seen, "nameserver 192.0.2.53\n", "{name}");
        assert_eq!(lab.layer(), Vec::<String>::new(), "{name}");
        assert!(!lab.path("work.shadow").exists(), "{name}");
    }
}

#[test]
fn a_rootfs_without_any_layer_works() {
    let lab = Lab::new(Builder::Root);
    let mut spec = lab.spec_over(&[], &["/b/busybox", "ls", "/"]);
    let source = MountSource::Path(lab.path("base/bin"));
    spec.mounts = vec![Mount { target: "/b".into(), source, read_only: true }];
    assert_eq!(lab.run(&spec).success(), "b\ndev\netc\nproc\nsys\n");
    assert_eq!(lab.layer(), Vec::<String>::new());
}

#[test]
fn writing_beside_a_mount_point_brings_the_image_s_directory_and_nothing_else() {
    let lab = Lab::new(Builder::Root);
    let etc = lab.directory("base/etc");
    fs::set_permissions(&etc, PermissionsExt::from_mode(0o751)).unwrap();
    lab.run(&lab.script("touch /etc/new")).success();
    assert_eq!(lab.layer(), ["etc", "etc/new"]);
    assert_eq!(fs::metadata(lab.path("upper/etc")).unwrap().mode() & 0o7777, 0o751);
}

#[test]
fn missing_mount_points_never_reach_the_layer() {
    let lab = Lab::new(Builder::Root);
    let var = lab.directory("base/var");
    fs::set_permissions(&var, PermissionsExt::from_mode(0o1753)).unwrap();
    support::run_tool("touch", &["-d", "2001-02-03 04:05:06", var.to_str().unwrap()]);
    support::run_tool("chown", &["12:34", var.to_str().unwrap()]);
    let data = lab.directory("data");
    lab.file("data/file", "data\n");
    let mount = |target: &str, source, read_only| Mount { target: target.into(), source, read_only };
    let secret = MountSource::File { bytes: b"secret\n".into(), mode: 0o400, uid: 0, gid: 0 };
    let mut spec = lab.script(
        "stat -c '%a %u:%g %Y' /var; cat /run/secrets/s /src/file; touch /var/cache/x/y && ! touch /src/new",
    );
    spec.mounts = vec![
        mount("/var/cache/x", MountSource::Tmpfs { size_bytes: Some(65_536), mode: 0o755 }, false),
        mount("/run/secrets/s", secret, true),
        mount("/src", MountSource::Path(data), true),
    ];
    assert_eq!(lab.run(&spec).success(), "1753 12:34 981173106\nsecret\ndata\n");
    assert_eq!(lab.layer(), Vec::<String>::new());
    assert!(!lab.path("work.shadow").exists());

    // A step that writes there keeps the directory, as it was in the image.
    spec.args[2] = "touch /var/kept".into();
    lab.run(&spec).success();
    assert_eq!(lab.layer(), ["var", "var/kept"]);
    let kept = fs::metadata(lab.path("upper/var")).unwrap();
    assert_eq!((kept.mode() & 0o7777, kept.uid(), kept.gid()), (0o1753, 12, 34));
}

#[test]
fn a_plain_directory_is_left_as_it_was() {
    let lab = Lab::new(Builder::Root);
    let root = lab.path("base");
    support::run_tool("touch", &["-d", "2001-02-03 04:05:06", root.to_str().unwrap()]);
    let mut spec = lab.script("cat /etc/resolv.conf; [ -d /proc/1 ]");
    spec.rootfs = Rootfs::Directory { path: root.clone(), read_only: false };
    assert_eq!(lab.run(&spec).success(), "nameserver 192.0.2.53\n");
    let left: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["bin"]);
    assert_eq!(fs::metadata(&root).unwrap().mtime(), 981_173_106);
}

#[test]
fn links_of_the_image_stay_inside() {
    let lab = Lab::new(Builder::Root);
    let canary = lab.directory("canary");
    lab.file("canary/file", "canary\n");
    symlink(&canary, lab.path("base/etc")).unwrap();
    let mut spec = lab.script("true");
    spec.mounts = vec![Mount {
        target: "/etc/target".into(),
        source: MountSource::Tmpfs { size_bytes: None, mode: 0o755 },
        read_only: false,
    }];
    let _ = lab.run(&spec);
    let left: Vec<_> = fs::read_dir(&canary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["file"]);

    for name in ["proc", "sys", "dev"] {
        let lab = Lab::new(Builder::Root);
        symlink(lab.directory("canary"), lab.path("base").join(name)).unwrap();
        let message = lab.run(&lab.script("true")).failure(127);
        assert!(message.contains("ordinary directory"), "{message}");
        assert_eq!(fs::read_dir(lab.path("canary")).unwrap().count(), 0);
    }
}

#[test]
fn what_cannot_be_started_is_named() {
    let lab = Lab::new(Builder::Root);
    lab.file("base/bin/plain", "data");
    for (name, contents) in [("script", "#!/nowhere/sh\n"), ("garbage", "no program")] {
        let path = lab.file(&format!("base/bin/{name}"), contents);
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    for (program, message) in [
        ("missing", "exec missing: no such file"),
        ("/bin/missing", "exec /bin/missing: no such file"),
        ("plain", "exec plain: permission denied"),
        ("script", "exec /bin/script (its interpreter is missing)"),
        ("garbage", "exec /bin/garbage: exec format error"),
    ] {
        let said = lab.run(&lab.spec(&[program])).failure(127);
        assert!(said.contains(message), "{said}");
    }
    let mut spec = lab.script("true");
    spec.cwd = "/absent".into();
    assert!(lab.run(&spec).failure(127).contains("enter working directory /absent: no such directory"));
    spec.cwd = "/".into();
    spec.args.clear();
    assert!(lab.run(&spec).failure(127).contains("an empty command"));
}

#[test]
fn exit_codes_and_signals_come_through() {
    let lab = Lab::new(Builder::Root);
    assert!(lab.run(&lab.script("exit 42")).failure(42).contains("Code(42)"));
    assert!(lab.run(&lab.script("kill -9 $$")).failure(137).contains("Signal(9)"));
    assert!(lab.run(&lab.script("kill -SEGV $$")).failure(139).contains("Signal(11)"));
}

#[test]
fn what_a_step_leaves_running_ends_with_it() {
    let lab = Lab::new(Builder::Root);
    let start = Instant::now();
    lab.run(&lab.script("sleep 7861 & (sleep 7861 &) ; true")).success();
    assert!(start.elapsed() < Duration::from_secs(60), "the pipes were closed with the step");
    assert_eq!(processes("7861"), 0);
}

/// How many processes have `word` as an argument.
fn processes(word: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())).count()
}

#[test]
fn user_means_what_docker_means() {
    let lab = Lab::new(Builder::Root);
    lab.file("base/etc/passwd", "root:x:0:0::/root:/bin/sh\nwww:x:33:33::/srv/www:/bin/sh\n");
    lab.file("base/etc/group", "root:x:0:\nadm:x:4:www\nwww:x:33:\nroots:x:5:root\n");
    for (user, expected) in [
        ("www", "33 33 33 4 /srv/www\n"),
        ("33", "33 33 33 4 /srv/www\n"),
        ("www:adm", "33 4 4 /srv/www\n"),
        ("1234", "1234 0 0 /\n"),
        ("", "0 0 0 /root\n"),
    ] {
        let mut spec =
            lab.script("echo $(id -u) $(id -g) $(grep ^Groups /proc/self/status | sed s/Groups://) $HOME");
        spec.user = named(user);
        let mut seen: Vec<String> = lab.run(&spec).success().split(' ').map(str::to_owned).collect();
        let groups = seen.len() - 1;
        seen[2..groups].sort_by_key(|group| std::cmp::Reverse(group.parse::<u32>().unwrap()));
        assert_eq!(seen.join(" "), expected, "{user}");
    }
    for user in ["nobody", "4294967296", "-1", ":1", "0x0"] {
        let mut spec = lab.script("id");
        spec.user = named(user);
        let message = lab.run(&spec).failure(127);
        assert!(message.contains("look up USER"), "{message}");
    }
}

#[test]
fn a_hostile_passwd_file_neither_blocks_nor_leaks() {
    let lab = Lab::new(Builder::Root);
    let etc = lab.directory("base/etc");
    support::run_tool("mkfifo", &[etc.join("passwd").to_str().unwrap()]);
    let mut spec = lab.script("id -u");
    spec.user = named("someone");
    let start = Instant::now();
    assert!(lab.run(&spec).failure(127).contains("/etc/passwd"));
    assert!(start.elapsed() < Duration::from_secs(20));

    fs::remove_file(etc.join("passwd")).unwrap();
    symlink("/proc/self/environ", etc.join("passwd")).unwrap();
    lab.run(&spec).failure(127);
    fs::remove_file(etc.join("passwd")).unwrap();
    support::run_tool("truncate", &["-s", "5G", etc.join("passwd").to_str().unwrap()]);
    assert!(lab.run(&spec).failure(127).contains("/etc/passwd"));
}

#[test]
fn a_limit_that_cannot_be_kept_is_an_error() {
    let lab = Lab::new(Builder::User);
    let mut spec = lab.script("true");
    spec.limits = Limits { memory_bytes: Some(64 << 20), ..Limits::default() };
    let message = lab.run(&spec).failure(125);
    assert!(message.contains("limit memory of a step: no writable cgroup"), "{message}");
}

#[test]
fn an_insecure_step_has_what_it_asks_for() {
    let lab = Lab::new(Builder::Root);
    let mut spec =
        lab.script("mount -t tmpfs none /mnt && grep -E '^(CapBnd|CapAmb|Seccomp):' /proc/self/status");
    lab.directory("base/mnt");
    spec.security = Security::insecure();
    let seen = lab.run(&spec).success();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let bounding = own.lines().find(|line| line.starts_with("CapBnd")).unwrap();
    assert!(seen.contains(bounding) && seen.contains("Seccomp:\t0"), "{seen}");
    assert!(!seen.contains("CapAmb:\t0000000000000000"), "{seen}");
}

#[test]
fn many_layers_mount() {
    let lab = Lab::new(Builder::Root);
    let mut lowers = Vec::new();
    for layer in 0..480 {
        let name = format!("layers/{layer:03}-with-a-name-as-long-as-a-digest-would-be-0123456789abcdef");
        lab.file(&format!("{name}/{layer}"), "");
        lowers.push(name);
    }
    lowers.push("base".into());
    let lowers: Vec<&str> = lowers.iter().map(String::as_str).collect();
    let spec = lab.spec_over(&lowers, &["sh", "-c", "[ -e /0 -a -e /479 ]"]);
    lab.run(&spec).success();
}

#[test]
fn without_a_network_there_is_loopback_only() {
    let lab = Lab::new(Builder::Root);
    let mut spec = lab.script("ls /sys/class/net; ip route");
    assert_eq!(lab.run(&spec).success(), "lo\n");
    spec.network = Network::Host;
    spec.args[2] = "ls /sys/class/net | grep -c .".into();
    let host = fs::read_dir("/sys/class/net").unwrap().count();
    assert_eq!(lab.run(&spec).success().trim().parse::<usize>().unwrap(), host);
}
