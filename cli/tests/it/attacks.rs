//! Published attacks on builders, tried on forge: each input is first seen to do harm to a judge that falls for it
//! (`support/known_bad.rs`), then to do none here. `cli/tests/README.md` says which attack is tried where.

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;

use crate::support::{Builder, Lab, Outcome, tool, try_tool};

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

#[test]
fn x02_a_link_in_a_cache_leads_nowhere() {
    let lab = Lab::with_busybox();
    let dir = canary(&lab);
    let text = format!(
        "FROM busybox\nRUN --mount=type=cache,id=x,target=/c ln -s {} /c/sel\n\
         RUN --mount=type=cache,id=x,source=sel,target=/d touch /d/X && cat /d/secret\n",
        dir.display()
    );
    for lab in everyone() {
        let outcome = lab.build_text(&text, &[]);
        assert_untouched(&dir, &outcome);
    }
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
    let mut setuid = fs::metadata(lab.path("store")).unwrap().mode();
    assert_eq!(setuid & 0o777, 0o700);
    lab.build_text("FROM busybox\nRUN cp /bin/busybox /su && chmod 4755 /su\n", &[]).success();
    setuid = fs::metadata(lab.path("store/layers")).unwrap().mode();
    assert_eq!(setuid & 0o007, 0, "a set-uid program of a layer can be reached");
    let listed = try_tool("setpriv", &["--reuid=65534", "--clear-groups", "ls", &lab.at("store/layers")]);
    assert!(!listed.status.success());
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
    let uri = format!("binary:///bin/touch?{}/X", dir.display());
    let text = format!(
        "FROM busybox\nLABEL containerd.io/restart.loguri={uri} forge.isolation=none forge.security=insecure\n"
    );
    lab.build_text(&text, &["-t", "labelled"]).success();
    let outcome = lab.build_text("FROM labelled\nRUN grep CapBnd /proc/self/status\n", &["--progress=plain"]);
    assert!(outcome.stderr.contains("00000000a80425fb"), "{outcome}");
    assert_untouched(&dir, &outcome);
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
