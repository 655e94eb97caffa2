//! Published attacks on sandboxes, each tried twice: on a sandbox without the guard that it is aimed at (`cli/unguarded`),
//! where it must succeed, and on ours, where it must not; as root and as an ordinary user. The table is in
//! `cli/tests/README.md`.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use forge_runner::spec::{Limits, Mount, MountSource, Rootfs, SandboxSpec, Security, User};
use support::{Builder, Lab, Outcome};

const BUILDERS: [Builder; 2] = [Builder::Root, Builder::User];
const SECRET: &str = "cardinal-swordfish";

/// A directory of the machine that no step may touch, although anybody may.
fn canary(lab: &Lab) -> PathBuf {
    let dir = lab.directory("canary");
    let secret = lab.file("canary/secret", SECRET);
    fs::set_permissions(secret, PermissionsExt::from_mode(0o666)).unwrap();
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o777)).unwrap();
    dir
}

/// What is in the canary, and what the step said, give no sign of each other.
#[track_caller]
fn assert_untouched(canary: &Path, outcome: &Outcome) {
    assert_eq!(names(canary), ["secret"], "{outcome:?}");
    assert_eq!(fs::read_to_string(canary.join("secret")).unwrap(), SECRET, "{outcome:?}");
    assert!(!format!("{outcome:?}").contains(SECRET), "{outcome:?}");
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn tmpfs(target: &str) -> Mount {
    Mount {
        target: target.into(),
        source: MountSource::Tmpfs { size_bytes: None, mode: 0o755 },
        read_only: false,
    }
}

/// Runs `spec` in our sandbox.
fn safely(lab: &mut Lab, spec: &SandboxSpec) -> Outcome {
    (lab.program, lab.env) = (None, Vec::new());
    lab.run(spec)
}

/// Runs `spec` without these guards.
fn without(lab: &mut Lab, guards: &str, spec: &SandboxSpec) -> Outcome {
    lab.leave_out(guards, "");
    lab.run(spec)
}

/// Starts what follows with descriptor 9 open on a directory of the machine.
fn leak(lab: &mut Lab, dir: &Path) {
    let script = format!("exec 9<'{}'; exec \"$@\"", dir.display());
    lab.wrapper = ["sh", "-c", &script, "sh"].map(str::to_owned).into();
}

#[test]
fn x01_a_working_directory_through_a_leaked_descriptor_leads_nowhere() {
    for builder in BUILDERS {
        let mut lab = Lab::new(builder);
        let dir = canary(&lab);
        symlink("/proc/self/fd/9", lab.path("base/d")).unwrap();
        leak(&mut lab, &dir);
        for cwd in ["/proc/self/fd/9", "/d"] {
            let mut spec = lab.script("cat secret");
            spec.cwd = cwd.into();
            let fallen = without(&mut lab, "ClosedDescriptors,DirectoryInside", &spec);
            assert_eq!(fallen.success(), SECRET, "{builder:?} {cwd}");
            // The second wall holds alone.
            let message = without(&mut lab, "ClosedDescriptors", &spec).failure(127);
            assert!(message.contains("outside the root"), "{message}");
            let outcome = safely(&mut lab, &spec);
            assert_ne!(outcome.code, 0);
            assert_untouched(&dir, &outcome);
        }
        for cwd in (3..20).map(|fd| format!("/proc/self/fd/{fd}")) {
            let mut spec = lab.script("cat secret ../../../../etc/hostname");
            spec.cwd = cwd.clone();
            let outcome = safely(&mut lab, &spec);
            assert!(outcome.code != 0 && outcome.stdout.is_empty(), "{builder:?} {cwd}: {outcome:?}");
        }
    }
}

/// What BuildKit did before it looked twice: mount points are made and removed by their path.
fn naively_cleaned(lab: &Lab, target: &str, script: &str) {
    let judge = "mkdir -p \"$1$2\"; unshare --mount sh -c 'mount -t tmpfs none \"$1$2\"; \
                 exec chroot \"$1\" /bin/sh -c \"PATH=/bin; $3\"' sh \"$@\"; rmdir \"$1$2\"";
    let root = lab.path("base");
    support::run_tool("sh", &["-c", judge, "sh", root.to_str().unwrap(), target, script]);
}

#[test]
fn x03_moving_a_mount_point_away_leads_nobody_astray() {
    let attack = |canary: &Path| format!("mv /x /x2 && ln -s {} /x", canary.display());
    let lab = Lab::new(Builder::Root);
    lab.directory("canary/y");
    naively_cleaned(&lab, "/x/y", &attack(&lab.path("canary")));
    assert!(!lab.path("canary/y").exists(), "a naive cleaner removes a directory of the machine");
    for builder in BUILDERS {
        for plain in [false, true] {
            let lab = Lab::new(builder);
            lab.directory("canary/y");
            // Of a tree that the step may rename: a plain directory, and what is in the upper one already.
            lab.directory("upper/x/y");
            if builder == Builder::User {
                let owner = format!("{}:", support::USER);
                for dir in ["canary", "upper", "base"] {
                    support::run_tool("chown", &["-R", &owner, lab.path(dir).to_str().unwrap()]);
                }
            }
            let mut spec = lab.script(&attack(&lab.path("canary")));
            if plain {
                spec.rootfs = Rootfs::Directory { path: lab.path("base"), read_only: false };
            }
            spec.mounts = vec![tmpfs("/x/y")];
            lab.run(&spec).success();
            assert!(lab.path("canary/y").is_dir(), "{builder:?}, plain directory: {plain}");
        }
    }
}

#[test]
fn x09_masks_do_not_come_from_the_image_s_dev() {
    for builder in BUILDERS {
        let mut lab = Lab::new(builder);
        let dir = canary(&lab);
        lab.directory("base/dev");
        symlink(dir.join("secret"), lab.path("base/dev/null")).unwrap();
        let spec = lab.script("cat /proc/interrupts; echo x >>/proc/interrupts; true");
        let outcome = safely(&mut lab, &spec);
        assert_untouched(&dir, &outcome);
        assert_eq!(outcome.success(), "");
        assert_eq!(without(&mut lab, "OwnDev", &spec).success(), SECRET, "{builder:?}");
        assert_ne!(fs::read_to_string(dir.join("secret")).unwrap(), SECRET, "{builder:?}");
    }
}

#[test]
fn x10_terminals_are_not_the_image_s() {
    for builder in BUILDERS {
        let mut lab = Lab::new(builder);
        let dir = canary(&lab);
        lab.directory("base/dev/pts");
        symlink(dir.join("secret"), lab.path("base/dev/pts/0")).unwrap();
        symlink(dir.join("new"), lab.path("base/dev/console")).unwrap();
        let mut spec = lab.script("cat /dev/pts/0; echo x >/dev/console; true");
        let outcome = safely(&mut lab, &spec);
        assert_untouched(&dir, &outcome);
        assert_eq!(outcome.success(), "");
        spec.terminal = true;
        spec.args[2] = "[ -c /dev/pts/0 -a -c /dev/tty ]".into();
        let outcome = safely(&mut lab, &spec);
        assert_untouched(&dir, &outcome);
        outcome.success();
        spec.terminal = false;
        without(&mut lab, "OwnDev,InRoot", &spec);
        assert_eq!(names(&dir), ["new", "secret"], "{builder:?}");
    }
}

#[test]
fn x11_a_proc_of_the_image_is_not_believed() {
    for builder in BUILDERS {
        for name in ["proc", "sys", "dev"] {
            let mut lab = Lab::new(builder);
            let dir = lab.directory("canary");
            // Where the link leads on the machine there is a directory; where it leads in the image, a fake.
            let fake = format!("base{}", dir.display());
            lab.file(&format!("{fake}/self/attr/current"), "fake\n");
            symlink(&dir, lab.path("base").join(name)).unwrap();
            let spec = lab.script(&format!("cat /{name}/self/attr/current"));
            let fallen = without(&mut lab, "InRoot,OrdinaryDirectories", &spec);
            assert_eq!(fallen.success(), "fake\n", "{builder:?} /{name}");
            let message = safely(&mut lab, &spec).failure(127);
            assert!(message.contains("ordinary directory"), "{message}");
            assert_eq!(names(&dir), [""; 0]);
        }
    }
}

#[test]
fn x12_links_of_the_image_in_place_of_mount_points_stay_inside() {
    for builder in BUILDERS {
        for (link, target) in [("etc", "/etc/target"), ("run", "/run/a/b")] {
            let mut lab = Lab::new(builder);
            let dir = canary(&lab);
            symlink(&dir, lab.path("base").join(link)).unwrap();
            // The image has the directory too; there is where the mount point belongs.
            lab.directory(&format!("base{}", dir.display()));
            let mut spec = lab.script("true");
            (spec.resolv_conf, spec.hosts) = (None, None);
            spec.mounts = vec![tmpfs(target)];
            let outcome = safely(&mut lab, &spec);
            assert_untouched(&dir, &outcome);
            without(&mut lab, "InRoot", &spec);
            assert_ne!(names(&dir), ["secret"], "{builder:?} {target}");
        }
    }
}

#[test]
fn x13_forge_s_own_program_cannot_be_written_through_a_process() {
    for builder in BUILDERS {
        let mut lab = Lab::new(builder);
        symlink("/proc/self/exe", lab.path("base/bin/self")).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/sandbox/loader.c");
        let loader = lab.directory("base/lib64").join("ld-linux-x86-64.so.2");
        let flags =
            ["-nostdlib", "-static-pie", "-fpie", "-ffreestanding", "-fno-stack-protector", "-O1", "-o"];
        support::run_tool("gcc", &[&flags[..], &[loader.to_str().unwrap(), source]].concat());
        let spec = lab.spec(&["self"]);
        let mut run = |guarded: bool| {
            let original = if guarded { support::builder_program() } else { support::unguarded_program() };
            let program = lab.path("forge");
            support::run_tool("install", &["-m755", original.to_str().unwrap(), program.to_str().unwrap()]);
            if builder == Builder::User {
                let (uid, gid) = support::test_user();
                chown(&program, Some(uid), Some(gid)).unwrap();
            }
            lab.leave_out(if guarded { "" } else { "SealedProgram" }, "");
            lab.program = Some(program.clone());
            let seen = lab.run(&spec).success();
            let same = fs::read(original).unwrap() == fs::read(&program).unwrap();
            (seen, same, fs::metadata(program).unwrap().mode() & 0o7777)
        };
        assert_eq!(run(true), ("running\n".into(), true, 0o755), "{builder:?}");
        let (seen, _, mode) = run(false);
        assert!(seen.contains("changed self"), "{builder:?}: {seen}");
        assert_eq!(mode, 0o777, "{builder:?}");
    }
}

/// A cache of two builds: the other one, at any moment, swaps the directory `a` and a link to the canary.
fn shared_cache(lab: &Lab, dir: &Path) -> (SandboxSpec, PathBuf) {
    let cache = lab.directory("cache");
    lab.directory("cache/a");
    lab.directory("base/c");
    symlink(dir, cache.join("l")).unwrap();
    for path in [cache.clone(), cache.join("a")] {
        fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
    }
    let mut spec = lab.script("true");
    let source = MountSource::Path(cache.clone());
    spec.mounts = vec![Mount { target: "/c".into(), source, read_only: false }, tmpfs("/c/a/b")];
    (spec, cache)
}

#[test]
fn x14_a_race_on_the_parents_of_a_mount_point_makes_nothing_on_the_machine() {
    for builder in BUILDERS {
        let mut lab = Lab::new(builder);
        let dir = canary(&lab);
        let (spec, cache) = shared_cache(&lab, &dir);
        let at = cache.display();
        let swap = format!("mv {at}/a {at}/a2 && mv {at}/l {at}/a");
        let back = format!("rm -rf {at}/l && mv {at}/a {at}/l && mv {at}/a2 {at}/a");
        // At the worst moment, with every guard in place.
        lab.leave_out("", &swap);
        let outcome = lab.run(&spec);
        assert!(cache.join("a").is_symlink(), "the swap took place: {outcome:?}");
        assert_untouched(&dir, &outcome);
        support::run_tool("sh", &["-c", &back]);
        // At the same moment, where the path is walked once more.
        lab.leave_out("ByDescriptor", &swap);
        let outcome = lab.run(&spec);
        assert_eq!(names(&dir), ["b", "secret"], "{builder:?}: {outcome:?}");
    }
}

#[test]
fn x14_a_race_that_runs_freely_is_lost_too() {
    for builder in BUILDERS {
        let mut lab = Lab::new(builder);
        let dir = canary(&lab);
        let (spec, cache) = shared_cache(&lab, &dir);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                while !over.load(Ordering::Relaxed) {
                    let (one, other) = (cache.join("a"), cache.join("l"));
                    rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, other, flags).unwrap();
                }
            });
            for _ in 0..25 {
                let outcome = safely(&mut lab, &spec);
                let untouched = names(&dir) == ["secret"];
                if !untouched {
                    over.store(true, Ordering::Relaxed);
                    panic!("{builder:?}: {outcome:?}");
                }
            }
            over.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn x15_the_processes_of_forge_are_closed_to_the_step() {
    for builder in BUILDERS {
        let mut lab = Lab::new(builder);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/sandbox/seize.c");
        let program = lab.path("base/bin/seize");
        support::run_tool("gcc", &["-static", "-o", program.to_str().unwrap(), source]);
        let look = "readlink /proc/1/exe; for fd in 0 1 2 3 4; do readlink /proc/1/fd/$fd; done | grep -q . && echo descriptors; \
                    cat /proc/1/environ /proc/1/maps 2>/dev/null | grep -q . && echo memory; seize";
        let spec = lab.script(look);
        assert_eq!(safely(&mut lab, &spec).success(), "refused\n", "{builder:?}");
        let seen = without(&mut lab, "NotDumpable,Scope", &spec).success();
        assert!(["descriptors", "memory", "traced"].iter().all(|word| seen.contains(word)), "{seen}");

        let dir = canary(&lab);
        leak(&mut lab, &dir);
        let spec = lab.script("ls /proc/self/fd; cat /proc/self/fd/9/secret; true");
        let seen = without(&mut lab, "ClosedDescriptors", &spec).success();
        assert!(seen.contains(SECRET), "{builder:?}: {seen}");
        let outcome = safely(&mut lab, &spec);
        assert_untouched(&dir, &outcome);
        // The third is the directory that is being listed.
        assert_eq!(outcome.success(), "0\n1\n2\n3\n", "{builder:?}");
    }
}

#[test]
fn x17_no_capability_is_inheritable() {
    for builder in BUILDERS {
        let mut lab = Lab::new(builder);
        let spec = lab.script("grep -E '^Cap(Inh|Amb)' /proc/self/status");
        let none = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n";
        assert_eq!(safely(&mut lab, &spec).success(), none, "{builder:?}");
        let seen = without(&mut lab, "NotInheritable", &spec).success();
        assert!(seen.starts_with("CapInh:\t00000000a80425fb"), "{builder:?}: {seen}");
    }
}

#[test]
fn x18_a_user_has_its_own_groups_and_never_root_s() {
    for builder in BUILDERS {
        let mut lab = Lab::new(builder);
        lab.file("base/etc/passwd", "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/sh\n");
        lab.file("base/etc/group", "root:x:0:root\nadm:x:4:www-data\nsudo:x:27:root\nwww-data:x:33:\n");
        if builder == Builder::Root {
            lab.wrapper = vec!["setpriv".into(), "--groups=0,27".into()];
        }
        for (user, expected) in
            [("www-data", "33 4\n"), ("33", "33 4\n"), ("www-data:adm", "4\n"), ("7:33", "33\n")]
        {
            let mut spec = lab.script("id -G");
            spec.user = User::Named(user.into());
            assert_eq!(safely(&mut lab, &spec).success(), expected, "{builder:?} {user}");
            let seen = without(&mut lab, "ExactGroups", &spec).success();
            assert_ne!(seen, expected, "{builder:?} {user}");
            if builder == Builder::Root {
                assert!(seen.contains("27"), "root's groups are kept: {seen}");
            }
        }
    }
}

#[test]
fn x19_a_user_is_read_exactly_or_refused() {
    for builder in BUILDERS {
        let mut lab = Lab::new(builder);
        let mut became_root = Vec::new();
        for user in ["4294967296", "2147483648", "4294967295", "-1", "1", "0x0", "01", "1:", ":1", "+0"] {
            let mut spec = lab.script("id -u");
            spec.user = User::Named(user.into());
            let outcome = safely(&mut lab, &spec);
            match user {
                "1" | "01" => assert_eq!(outcome.success(), "1\n", "{builder:?} {user}"),
                _ => assert!(outcome.failure(127).contains("look up USER"), "{builder:?} {user}"),
            }
            if without(&mut lab, "ExactIds", &spec).stdout == "0\n" {
                became_root.push(user);
            }
        }
        assert_eq!(became_root, ["4294967296", "4294967295", "-1", "0x0", "+0"], "{builder:?}");
    }
}

#[test]
fn x21_cgroups_of_the_machine_cannot_be_written() {
    for builder in BUILDERS {
        let mut lab = Lab::new(builder);
        let own = format!("forge-x21-{}", std::process::id());
        let spec = lab
            .script(&format!("for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/{own}; done 2>&1; true"));
        let seen = safely(&mut lab, &spec).success();
        // Where the machine has cgroups of the first version, none are shown at all.
        let refused = |line: &str| {
            ["Read-only file system", "No such file or directory"].iter().any(|end| line.ends_with(end))
        };
        assert!(seen.lines().count() > 0 && seen.lines().all(refused), "{seen}");
        let seen = without(&mut lab, "OwnSys", &spec).success();
        let made = Command::new("find").args(["/sys/fs/cgroup", "-name", &own]).output().unwrap().stdout;
        for dir in String::from_utf8(made.clone()).unwrap().lines() {
            fs::remove_dir(dir).unwrap();
        }
        // An ordinary user is held back by nothing but the owners of the machine's files.
        match builder {
            Builder::Root => assert!(!made.is_empty(), "{seen}"),
            _ => assert!(seen.contains("Permission denied"), "{seen}"),
        }
    }
}

#[test]
fn x22_system_calls_that_the_kernel_would_take_are_refused() {
    for builder in BUILDERS {
        let mut lab = Lab::new(builder);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/sandbox/syscalls.c");
        let program = lab.path("base/bin/syscalls");
        support::run_tool("gcc", &["-static", "-o", program.to_str().unwrap(), source]);
        let spec = lab.spec(&["syscalls"]);
        support::golden("syscalls.txt", &safely(&mut lab, &spec).success());
        let seen = without(&mut lab, "Seccomp,Capabilities", &spec).success();
        // Calls that every kernel has; what it says to the others depends on how it was made.
        for call in ["keyctl", "mount", "umount2", "unshare NEWUSER", "setns", "clone3"] {
            let verdict = seen.lines().find_map(|line| line.strip_prefix(call)).unwrap().trim();
            assert!(matches!(verdict, "ok" | "other"), "{builder:?} {call}: {verdict}\n{seen}");
        }
        let reached =
            seen.lines().filter(|line| !line.ends_with("EPERM") && !line.ends_with("ENOSYS")).count();
        let refused = include_str!("../../testdata/sandbox/syscalls.txt");
        let allowed = refused.lines().filter(|line| line.ends_with("ok") || line.ends_with("other")).count();
        assert!(reached >= allowed + 8, "{builder:?}: {seen}");
    }
}

#[test]
fn x23_device_nodes_are_dead_unless_bound() {
    let mut lab = Lab::new(Builder::Root);
    let script = "for place in / /dev/ /dev/shm/ /tmpfs/ /cache/; do \
                    mknod ${place}node c 1 5 || exit 9; \
                    if head -c 1 ${place}node >/dev/null 2>&1; then echo ${place}; fi; rm ${place}node; \
                  done; head -c 1 /dev/zero >/dev/null";
    let mut spec = lab.script(script);
    let cache = Mount {
        target: "/cache".into(),
        source: MountSource::Path(lab.directory("cache")),
        read_only: false,
    };
    spec.mounts = vec![tmpfs("/tmpfs"), cache];
    assert_eq!(safely(&mut lab, &spec).success(), "", "nodes that could be opened");
    let alive = without(&mut lab, "Nodev", &spec).success();
    assert_eq!(alive, "/\n/dev/\n/dev/shm/\n/tmpfs/\n/cache/\n");
    // In a user namespace there is no making them.
    let mut lab = Lab::new(Builder::User);
    for guards in ["", "Nodev"] {
        let spec = lab.script("mknod /node c 1 5");
        assert_ne!(without(&mut lab, guards, &spec).code, 0);
    }
}

#[test]
fn x25_limits_hold_and_are_named() {
    let lab = Lab::new(Builder::Root);
    let mut spec = lab.script("i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; echo survived");
    spec.limits = Limits::none();
    assert!(lab.run(&spec).success().contains("survived"), "forty processes are no trouble");
    spec.limits = Limits { pids: Some(12), ..Limits::default() };
    let outcome = lab.run(&spec);
    assert!(!outcome.stdout.contains("survived"), "{outcome:?}");

    let mut spec = lab.script("head -c 300000000 /dev/zero | tail -c 299999999 >/dev/null");
    spec.limits = Limits::none();
    lab.run(&spec).success();
    spec.limits = Limits { memory_bytes: Some(64 << 20), ..Limits::default() };
    let message = lab.run(&spec).failure(137);
    assert!(message.contains("OutOfMemory { limit_bytes: 67108864, code: 137 }"), "{message}");

    // What fills a disk fills its own.
    let mut spec = lab.script("mkdir -p /t; dd if=/dev/zero of=/t/f bs=64k count=32");
    lab.run(&spec).success();
    let source = MountSource::Tmpfs { size_bytes: Some(1 << 20), mode: 0o755 };
    spec.mounts = vec![Mount { target: "/t".into(), source, read_only: false }];
    let message = lab.run(&spec).failure(1);
    assert!(message.contains("No space left"), "{message}");
}

#[test]
fn x26_x30_files_of_the_kernel_are_closed() {
    for builder in BUILDERS {
        let mut lab = Lab::new(builder);
        let spec = lab.script(
            "for f in $(ls /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname 2>/dev/null); do \
               if (: >>$f) 2>/dev/null; then echo open $f; fi; done; \
             for f in /proc/interrupts /proc/timer_list /proc/keys; do \
               head -c 1 $f 2>/dev/null | grep -q . && echo shows $f; done; true",
        );
        assert_eq!(safely(&mut lab, &spec).success(), "", "{builder:?}");
        let seen = without(&mut lab, "Masks", &spec).success();
        assert!(seen.contains("shows /proc/interrupts"), "{builder:?}: {seen}");
        // What is left to an ordinary user are the files' own permissions.
        assert_eq!(seen.contains("open /proc/sys/kernel/core_pattern"), builder == Builder::Root, "{seen}");
    }
}

#[test]
fn x28_a_step_makes_no_user_namespace() {
    for builder in BUILDERS {
        let mut lab = Lab::new(builder);
        let spec = lab.script("busybox unshare -Urm mount -t tmpfs none /mnt && echo made");
        lab.directory("base/mnt");
        assert_ne!(safely(&mut lab, &spec).code, 0, "{builder:?}");
        assert_eq!(without(&mut lab, "Seccomp", &spec).success(), "made\n", "{builder:?}");
    }
}

#[test]
fn an_insecure_step_cannot_write_forge_s_program_either() {
    let lab = Lab::new(Builder::Root);
    let before = fs::read(support::builder_program()).unwrap();
    let mut spec =
        lab.script("echo x >/proc/1/exe; echo x >>/proc/1/exe; chmod 777 /proc/1/exe; ls /proc/1/fd");
    spec.security = Security::insecure();
    assert_ne!(lab.run(&spec).code, -1);
    assert!(before == fs::read(support::builder_program()).unwrap(), "the program on disk is as before");
    assert_eq!(fs::metadata(support::builder_program()).unwrap().mode() & 0o777, 0o755);
}
