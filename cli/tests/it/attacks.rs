//! Published attacks on builders, tried on forge: each input is first seen to do harm to a judge that falls for it
//! (`support/known_bad.rs`), then to do none here. `cli/tests/README.md` says which attack is tried where.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;

use crate::support::{Builder, Lab, Outcome, soon, tool, try_tool};

/// A directory of the host that no build may touch; it holds a secret.
fn canary(lab: &Lab) -> PathBuf {
    let dir = lab.context("canary", &[("secret", "cardinal-swordfish")]);
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o777)).unwrap();
    dir
}

#[track_caller]
fn assert_untouched(canary: &std::path::Path, outcome: &Outcome) {
    let names: Vec<_> = fs::read_dir(canary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["secret"], "{outcome}");
    assert_eq!(fs::read_to_string(canary.join("secret")).unwrap(), "cardinal-swordfish");
    assert!(!format!("{outcome}").contains("cardinal-swordfish"), "{outcome}");
}

/// As root and as an ordinary user.
fn everyone() -> [Lab; 2] {
    [Builder::Root, Builder::User].map(|builder| {
        let lab = Lab::of(builder);
        lab.add_busybox();
        lab
    })
}

#[test]
fn no_guard_of_what_is_shipped_can_be_left_out() {
    let asks = |program: &str| try_tool("grep", &["-q", "FORGE_WITHOUT", program]).status.success();
    let mut lab = Lab::new();
    assert!(!asks(env!("CARGO_BIN_EXE_forge")));
    lab.leave_out("", "");
    assert!(asks(&lab.at("forge-unguarded")));
}

#[test]
fn x01_a_working_directory_through_a_descriptor_leads_nowhere() {
    let lab = Lab::with_busybox();
    let dir = canary(&lab);
    let leak = format!(
        "exec 8<{}; chroot {} sh -c 'cd /proc/self/fd/8 && cat secret'",
        dir.display(),
        lab.at("bare")
    );
    assert_eq!(lab.without_a_sandbox("echo ready").stdout, b"ready\n");
    let mounted = format!("mount --rbind /proc {}/proc; {leak}", lab.at("bare"));
    let seen = try_tool("unshare", &["--mount", "bash", "-c", &mounted]);
    assert_eq!(seen.stdout, b"cardinal-swordfish", "{seen:?}");

    for fd in [3, 5, 7, 8, 9, 11, 15] {
        let text = format!(
            "FROM busybox\nWORKDIR /proc/self/fd/{fd}\nRUN cat secret ../../../../../../etc/hostname\n"
        );
        let outcome = lab.build_text(&text, &[]);
        assert_ne!(outcome.code, 0, "{outcome}");
        assert_untouched(&dir, &outcome);
    }
    let text =
        "FROM busybox\nRUN ln -s /proc/self/fd/8 /d\nWORKDIR /d\nRUN cat secret ../../../../etc/hostname\n";
    assert_ne!(lab.build_text(text, &[]).code, 0);
}

/// Three stages on one cache: a directory, a link in its place, and a mount of what has the name.
fn three_stages(link_to: &str, last: &str) -> String {
    let cache = "RUN --network=none --mount=type=cache,id=x";
    format!(
        "FROM busybox AS one\n{cache},target=/cache mkdir -p /cache/sel\n\
         FROM one AS two\n{cache},target=/cache rmdir /cache/sel && ln -s {link_to} /cache/sel\n\
         FROM two\n{cache},source=sel,target=/d {last}\n"
    )
}

#[test]
fn x02_a_link_in_a_cache_leads_nowhere() {
    let pod = Lab::in_pod(crate::support::DOCKERS);
    pod.add_busybox();
    for lab in everyone().into_iter().chain([pod]) {
        let dir = canary(&lab);
        let text = three_stages(dir.to_str().unwrap(), "touch /d/X; cat /d/secret");
        let outcome = lab.build_text(&text.replace("--network=none", ""), &[]);
        assert_untouched(&dir, &outcome);
        assert!(outcome.report(3).contains("cannot mount sel of cache x"));
        // A link to what the cache has too stays in the cache.
        let own = "rm /cache/sel; mkdir -p /cache/etc; echo own >/cache/etc/hostname";
        lab.build_text(&format!("FROM busybox\nRUN --mount=type=cache,id=x,target=/cache {own}\n"), &[])
            .success();
        let text = three_stages("/etc", "cat /d/hostname");
        let outcome =
            lab.build_text(&text.replace("--network=none", ""), &["--no-cache", "--progress=plain"]);
        assert!(outcome.stderr.lines().any(|line| line.ends_with(" own")), "{outcome}");
    }
    for mut lab in everyone() {
        let dir = canary(&lab);
        lab.leave_out("InCache", "");
        let text = three_stages(dir.to_str().unwrap(), "touch /d/X; cat /d/secret");
        let fallen = lab.build_text(&text, &["--progress=plain"]);
        assert!(dir.join("X").exists() && fallen.stderr.contains("cardinal-swordfish"), "{fallen}");
    }
}

/// Puts a directory `sel` into a cache, and beside it a link to the canary.
fn cache_with_both(lab: &Lab, canary: &std::path::Path) -> PathBuf {
    let mount = "--mount=type=cache,id=x,target=/c";
    let text = format!(
        "FROM busybox\nRUN --network=none {mount} mkdir /c/sel && ln -s {} /c/link\n",
        canary.display()
    );
    lab.build_text(&text, &[]).success();
    let mut caches = fs::read_dir(lab.path("store/state/caches")).unwrap();
    caches.next().unwrap().unwrap().path()
}

const USE_SEL: &str = "FROM busybox\nRUN --network=none --mount=type=cache,id=x,source=sel,target=/d touch /d/X; cat /d/secret; true\n";

#[test]
fn x08_a_cache_that_changes_at_the_worst_moment_leads_nowhere() {
    for mut lab in everyone() {
        let dir = canary(&lab);
        let cache = cache_with_both(&lab, &dir);
        let at = cache.display();
        lab.leave_out("", &format!("mv {at}/sel {at}/was && mv {at}/link {at}/sel"));
        let outcome = lab.build_text(USE_SEL, &[]);
        assert!(cache.join("sel").is_symlink(), "the swap took place: {outcome}");
        assert_untouched(&dir, &outcome);
        outcome.success();
        assert!(cache.join("was/X").exists(), "the step has what was looked up");
        fs::rename(cache.join("sel"), cache.join("link")).unwrap();
        fs::rename(cache.join("was"), cache.join("sel")).unwrap();
        lab.leave_out("InCache", &format!("mv {at}/sel {at}/was && mv {at}/link {at}/sel"));
        let fallen = lab.build_text(USE_SEL, &["--no-cache"]);
        assert!(dir.join("X").exists(), "{fallen}");
    }
}

#[test]
fn x08_two_builds_that_share_a_cache_cannot_lead_each_other_out() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/sandbox/flip.c");
    for lab in everyone() {
        let dir = canary(&lab);
        let cache = cache_with_both(&lab, &dir);
        let text = "FROM busybox\nCOPY flip /\n\
                    RUN --network=none --mount=type=cache,id=x,target=/c touch /c/begun; /flip /c/sel /c/link /c/enough\n";
        let context = lab.context("flipping", &[("Dockerfile", text)]);
        tool("gcc", &["-static", "-O", "-o", context.join("flip").to_str().unwrap(), source]);
        let flipping = lab.start(&["build", "--progress=plain", context.to_str().unwrap()]);
        soon("names are swapped", || cache.join("begun").exists());
        let attempts: Vec<_> = (0..12).map(|_| lab.build_text(USE_SEL, &["--no-cache"])).collect();
        fs::write(cache.join("enough"), "").unwrap();
        let flipped = flipping.finish();
        assert!(flipped.code == 0 && flipped.stderr.contains("swapped "), "{flipped}");
        for outcome in &attempts {
            assert_untouched(&dir, outcome);
            // The directory was there, or a link that leads nowhere in the cache.
            assert!(matches!(outcome.code, 0 | 3), "{outcome}");
        }
    }
}

#[test]
fn x04_power_is_asked_for_before_anything_runs() {
    let lab = Lab::with_busybox();
    let look = "grep -E 'CapEff|Seccomp:' /proc/self/status";
    let insecure = format!("FROM busybox\nRUN echo ran-early\nRUN --security=insecure {look}\n");
    let network = "FROM busybox\nRUN echo ran-early\nRUN --network=host true\n";
    for text in [insecure.as_str(), network] {
        let report = lab.build_text(text, &["--progress=plain"]).report(3);
        assert!(report.contains("--allow") && report.contains("Dockerfile:3"), "{report}");
        assert!(!report.contains("ran-early"), "{report}");
    }
    for unknown in ["--security=99", "--security=INSECURE", "--network=99", "--network=HOST"] {
        let outcome = lab.build_text(
            &format!("FROM busybox\nRUN echo ran-early\nRUN {unknown} {look}\n"),
            &["--progress=plain", "--allow=security.insecure", "--allow=network.host"],
        );
        assert!(outcome.code == 3 && !outcome.stderr.contains(" ran-early"), "{unknown}: {outcome}");
    }
    // What there is to be afraid of.
    let fallen = lab.build_text(&insecure, &["--progress=plain", "--allow=security.insecure"]);
    assert!(fallen.stderr.contains("Seccomp:\t0") && !fallen.stderr.contains("a80425fb"), "{fallen}");
}

#[test]
fn x05_a_link_of_a_stage_as_the_source_of_a_mount_stays_in_the_stage() {
    let lab = Lab::with_busybox();
    let dir = canary(&lab);
    let text = format!(
        "FROM busybox AS base\nRUN ln -s {} /link\nFROM busybox\n\
         RUN --mount=type=bind,from=base,source=/link,target=/e,rw touch /e/X; cat /e/secret\n",
        dir.display()
    );
    let fallen = lab.podman_builds(&text);
    assert!(dir.join("X").exists(), "podman: {fallen:?}");
    fs::remove_file(dir.join("X")).unwrap();
    for lab in everyone() {
        assert_untouched(&dir, &lab.build_text(&text, &[]));
    }
}

#[test]
fn x06_options_of_a_mount_are_no_flags_of_mount() {
    let lab = Lab::with_busybox();
    for value in ["suid", "dev", "exec", "Z"] {
        let text =
            format!("FROM busybox\nRUN --mount=type=bind,source=.,target=/c,bind-propagation={value} true\n");
        if value == "suid" {
            assert!(lab.podman_builds(&text).status.success(), "podman takes it");
        }
        let report = lab.build_text(&text, &[]).report(3);
        assert!(report.contains("bind-propagation") && report.contains("Dockerfile:2"), "{report}");
    }
}

#[test]
fn x07_names_of_caches_are_no_paths() {
    let lab = Lab::with_busybox();
    let dir = canary(&lab);
    let up = "../".repeat(12);
    let inside = dir.strip_prefix("/").unwrap().display();
    let by_id =
        format!("FROM busybox\nRUN --mount=type=cache,id={up}{inside},target=/c touch /c/X; cat /c/secret\n");
    let by_source = format!(
        "FROM busybox\nRUN --mount=type=cache,id=y,source={up}{inside},target=/c touch /c/Y; cat /c/secret\n"
    );
    let fallen = lab.podman_builds(&by_id);
    assert!(dir.join("X").exists(), "podman: {fallen:?}");
    fs::remove_file(dir.join("X")).unwrap();
    for lab in everyone() {
        for text in [&by_id, &by_source] {
            assert_untouched(&dir, &lab.build_text(text, &[]));
        }
    }
}

#[test]
fn x12_links_of_an_image_in_place_of_mount_points_stay_inside() {
    let lab = Lab::with_busybox();
    let dir = canary(&lab);
    let at = dir.display();
    for text in [
        format!("FROM busybox\nRUN rm -rf /etc && ln -s {at} /etc\nRUN echo x >/etc/new; true\n"),
        format!(
            "FROM busybox\nRUN rm -rf /run; ln -s {at} /run\nRUN --mount=type=secret,id=s,required=false echo x >/run/new; true\n"
        ),
        format!(
            "FROM busybox\nRUN --mount=type=tmpfs,target=/x/y mv /x /x2; ln -s {at} /x\nRUN --mount=type=tmpfs,target=/x/z true\n"
        ),
    ] {
        for pod in [false, true] {
            let poor;
            let place = match pod {
                false => &lab,
                true => {
                    poor = Lab::in_pod(crate::support::DOCKERS);
                    poor.add_busybox();
                    &poor
                }
            };
            let outcome = place.build_text(&text, &[]);
            assert_untouched(&dir, &outcome);
        }
    }
    for mut lab in everyone() {
        let dir = canary(&lab);
        let text = format!(
            "FROM busybox\nRUN mkdir -p {0}; ln -s {0} /x\nRUN --mount=type=tmpfs,target=/x/z true\n",
            dir.display()
        );
        assert_untouched(&dir, &lab.build_text(&text, &[]));
        lab.leave_out("InRoot", "");
        let fallen = lab.build_text(&text, &["--no-cache"]);
        assert!(dir.join("z").exists(), "{fallen}");
    }
}

#[test]
fn x16_a_step_has_no_terminal_to_type_into() {
    let lab = Lab::with_busybox();
    let bare = lab.without_a_sandbox("true");
    assert!(bare.status.success());
    // On a terminal of its own, as a user's shell gives one.
    let on_terminal = |words: &[String]| {
        let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        String::from_utf8_lossy(&try_tool("script", &["-qec", &line, "/dev/null"]).stdout).into_owned()
    };
    let open = "(: </dev/tty) 2>/dev/null && echo has-a-terminal || echo has-none";
    let mount = format!("mount --rbind /dev {0}/dev; chroot {0} sh -c \"{open}\"", lab.at("bare"));
    let fallen = on_terminal(&["unshare", "--mount", "sh", "-c", &mount].map(String::from));
    assert!(fallen.contains("has-a-terminal"), "{fallen}");
    let context = lab.context("ctx", &[("Dockerfile", &format!("FROM busybox\nRUN {open}\n"))]);
    let command = lab.command(&["build", "--progress=plain", context.to_str().unwrap()]);
    let mut words = vec![command.get_program().to_str().unwrap().to_owned()];
    words.extend(command.get_args().map(|word| word.to_str().unwrap().to_owned()));
    let seen = on_terminal(&words);
    assert!(seen.contains("has-none") && !seen.contains("\nhas-a-terminal"), "{seen}");
}

#[test]
fn x19_a_user_is_read_exactly_or_refused() {
    let lab = Lab::with_busybox();
    for user in ["4294967296", "2147483648", "4294967295", "-1", "1", "0x0", "01", "1:", ":1", "app:nobody"] {
        let outcome = lab.build_text(&format!("FROM busybox\nUSER {user}\nRUN id -u\n"), &["--no-cache"]);
        let is_root = outcome.stderr.lines().any(|line| line.ends_with(" 0") && line.starts_with('#'));
        assert!(!is_root, "{user} became root: {outcome}");
        assert!(matches!(outcome.code, 0 | 3), "{user}: {outcome}");
    }
}

#[test]
fn x20_a_hostile_passwd_file_does_not_hold_up_the_build() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nRUN rm /etc/passwd && mkfifo /etc/passwd\nUSER app\nRUN true\n";
    assert!(lab.podman_hangs(text), "podman waits for a writer");
    for lab in everyone() {
        let report = lab.build_text(text, &[]).report(3);
        assert!(report.contains("/etc/passwd") && report.contains("Dockerfile:4:1"), "{report}");
    }
}

#[test]
fn x21_cgroups_of_the_host_cannot_be_written() {
    for lab in everyone() {
        let script = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/forge-x 2>/dev/null && echo made $d; done; true";
        let outcome = lab.build_text(&format!("FROM busybox\nRUN {script}\n"), &["--progress=plain"]);
        assert!(!outcome.stderr.lines().any(|line| line.contains(" made /")), "{outcome}");
        outcome.success();
    }
}

#[test]
fn x23_device_nodes_are_dead() {
    let script = "mknod /v c 1 5 && head -c 1 /v >/dev/null && echo alive";
    let lab = Lab::with_busybox();
    let bare = lab.without_a_sandbox(script);
    assert_eq!(bare.stdout, b"alive\n", "{bare:?}");
    for lab in everyone() {
        let text = format!("FROM busybox\nRUN {script} >/seen; echo \"seen: $(cat /seen)\"\n");
        let outcome = lab.build_text(&text, &["--progress=plain"]);
        assert!(outcome.stderr.contains("seen: \n"), "{outcome}");
    }
}

#[test]
fn x24_abstract_sockets_of_the_host_are_out_of_reach_on_its_network_too() {
    let lab = Lab::with_busybox();
    let name = format!("forge-canary-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/sandbox/abstract.c");
    let context = lab.context("ctx", &[]);
    tool("gcc", &["-static", "-o", context.join("call").to_str().unwrap(), source]);
    assert!(try_tool(context.join("call").to_str().unwrap(), &[&name]).status.success(), "it can be reached");
    let networks: &[&str] = if knows_scopes() { &["none", "default", "host"] } else { &["none", "default"] };
    for network in networks {
        let text = format!("FROM busybox\nCOPY call /\nRUN --network={network} ! /call {name}\n");
        fs::write(context.join("Dockerfile"), text).unwrap();
        lab.build(&context, &["--allow=network.host"]).success();
    }
}

/// Whether this kernel's Landlock has scopes (ABI 6): otherwise the host's network is the host's.
fn knows_scopes() -> bool {
    let doctor = Lab::new().forge(&["doctor"]).success();
    doctor.lines().any(|line| line.starts_with("ok") && line.contains("landlock scopes"))
}

#[test]
fn x26_what_a_step_could_do_to_the_kernel_it_cannot() {
    let files = "/proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname";
    let script =
        format!("for f in {files}; do (: >>$f) 2>/dev/null && echo writable $f; done; ulimit -c 2>&1");
    let lab = Lab::with_busybox();
    let bare = String::from_utf8_lossy(&lab.without_a_sandbox(&script).stdout).into_owned();
    assert!(bare.contains("core_pattern") && bare.contains("hostname"), "{bare}");
    for lab in everyone() {
        let outcome = lab.build_text(&format!("FROM busybox\nRUN {script}\n"), &["--progress=plain"]);
        assert!(!outcome.stderr.contains(" writable /proc"), "{outcome}");
        assert!(outcome.stderr.lines().any(|line| line.ends_with(" 0")), "core dumps: {outcome}");
    }
}

#[test]
fn x27_nobody_else_gets_into_the_store() {
    let lab = Lab::with_busybox();
    assert_eq!(fs::metadata(lab.path("store")).unwrap().mode() & 0o777, 0o700);
    let text = "FROM busybox\nCOPY id /su\nRUN chmod 4755 /su\n";
    let context = lab.context("setuid", &[("Dockerfile", text)]);
    fs::copy("/usr/bin/id", context.join("id")).unwrap();
    lab.build(&context, &[]).success();
    let layers = fs::metadata(lab.path("store/layers")).unwrap().mode();
    assert_eq!(layers & 0o007, 0, "a set-uid program of a layer can be reached");
    let found = tool("find", &[&lab.at("store/layers"), "-name", "su", "-perm", "-4000"]);
    let program = found.trim();
    // By a shell: setpriv(1) itself still has root's capabilities when it looks a program up.
    let identity = ["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", "exec \"$0\" \"$@\""];
    let stranger = |words: &[&str]| try_tool("setpriv", &[&identity[..], words].concat());
    assert!(!stranger(&["ls", &lab.at("store/layers")]).status.success());
    assert!(!stranger(&[program, "-u"]).status.success());
    // As Docker had it: directories that everyone may pass through.
    let root = lab.path("store");
    let way = PathBuf::from(program);
    for dir in way.ancestors().skip(1).take_while(|dir| dir.starts_with(&root)) {
        fs::set_permissions(dir, PermissionsExt::from_mode(0o711)).unwrap();
    }
    assert_eq!(stranger(&[program, "-u"]).stdout, b"0\n", "a stranger becomes root");
}

#[test]
fn x28_a_step_makes_no_user_namespace() {
    let lab = Lab::with_busybox();
    assert!(lab.without_a_sandbox("mount -t tmpfs x /tmp").status.success());
    for lab in everyone() {
        lab.build_text(
            "FROM busybox\nRUN ! unshare -U true && ! unshare -m true && ! mount -t tmpfs x /tmp\n",
            &[],
        )
        .success();
    }
}

#[test]
fn x29_labels_of_an_image_are_data() {
    let lab = Lab::with_busybox();
    let dir = canary(&lab);
    let uri = format!("binary:///usr/bin/touch?{0}/X={0}/X", dir.display());
    let text = format!(
        "FROM busybox\nLABEL containerd.io/restart.status=running containerd.io/restart.loguri={uri} \
         forge.isolation=none forge.security=insecure\n"
    );
    lab.build_text(&text, &["-t", "labelled"]).success();
    let outcome = lab.build_text("FROM labelled\nRUN grep CapBnd /proc/self/status\n", &["--progress=plain"]);
    assert!(outcome.stderr.contains("00000000a80425fb"), "{outcome}");
    let ran =
        lab.forge(&["run", "--rm", "--network=none", "labelled", "grep", "CapBnd", "/proc/self/status"]);
    assert!(ran.stdout.contains("00000000a80425fb"), "{ran}");
    assert_untouched(&dir, &outcome);
    lab.containerd_runs("labelled", || dir.join("X").exists());
}

#[test]
fn x30_side_channels_are_hidden() {
    let files = "/proc/interrupts /proc/kcore /proc/timer_list /proc/keys /proc/sched_debug";
    let script = format!(
        "for f in {files}; do head -c 1 $f 2>/dev/null | grep -q . && echo shows $f; done; \
         ls /sys/devices/virtual/powercap /sys/firmware /sys/dev 2>/dev/null | grep -v : | grep -q . && echo shows $((1+1)); true"
    );
    let lab = Lab::with_busybox();
    let bare = String::from_utf8_lossy(&lab.without_a_sandbox(&script).stdout).into_owned();
    assert!(bare.contains("shows /proc/interrupts") && bare.contains("shows 2"), "{bare}");
    for lab in everyone() {
        let outcome = lab.build_text(&format!("FROM busybox\nRUN {script}\n"), &["--progress=plain"]);
        assert!(
            !outcome.stderr.lines().any(|line| line.contains(" shows /") || line.contains(" shows 2")),
            "{outcome}"
        );
    }
}

#[test]
fn programs_of_32_bits_run_for_their_platform_only() {
    let lab = Lab::new();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/sandbox/entry386.c");
    let context = lab.context("ctx", &[("Dockerfile", "FROM scratch\nCOPY p /\nRUN [\"/p\"]\n")]);
    let program = context.join("p");
    let flags = ["-m32", "-static", "-nostdlib", "-ffreestanding", "-fno-pie", "-no-pie", "-o"];
    tool("gcc", &[&flags[..], &[program.to_str().unwrap(), source]].concat());
    lab.build(&context, &["--platform=linux/386"]).success();
    assert_ne!(lab.build(&context, &[]).code, 0, "the 32-bit entry point is open");
}

#[test]
fn an_image_s_own_dev_is_never_used() {
    let lab = Lab::new();
    let dir = canary(&lab);
    let tree = lab.context("tree/dev/pts", &[]);
    for (name, target) in
        [("null", "/proc/sys/kernel/core_pattern"), ("console", dir.to_str().unwrap()), ("tty", "/canary")]
    {
        symlink(target, tree.parent().unwrap().join(name)).unwrap();
    }
    symlink(dir.join("secret"), tree.join("0")).unwrap();
    let tar = lab.at("rootfs.tar");
    lab.add_busybox();
    tool("tar", &["-C", &lab.at("tree"), "-cf", &tar, "dev"]);
    let text = "FROM busybox\nADD dev.tar /\nRUN echo x >/dev/null && ls -l /dev/null && cat /dev/pts/0; echo x >/dev/pts/0; true\n";
    let context = lab.context("ctx", &[("Dockerfile", text)]);
    fs::copy(&tar, context.join("dev.tar")).unwrap();
    let outcome = lab.build(&context, &["--progress=plain"]);
    assert!(outcome.stderr.contains("crw-rw-rw-"), "{outcome}");
    assert_untouched(&dir, &outcome);
    outcome.success();
}
