//! The ladder of isolation: on every rung the same Dockerfile gives the same layers, or says what cannot be had.

use std::fs;
use std::path::Path;

use crate::support::{Builder, DOCKERS, Lab, Marker, Outcome, UserNs, busybox_rootfs, json, soon, tool};

/// All that a step can do to a layer.
const EVERYTHING: &str = r#"FROM busybox
COPY --chown=1000:50 src /src
RUN mkdir -p /d/e /old/in && echo x >/d/e/x && echo y >/old/in/y && echo z >/z && ln /z /hard && ln -s z /link \
    && mkfifo /fifo && chmod 4711 /z && chmod 1753 /d
RUN echo more >>/src/a && rm /src/b /link && rm -r /old && mkdir /old && echo new >/old/new && chmod 600 /d/e/x
RUN true
RUN touch -d '2001-02-03 04:05:06' /d/e/x && mv /fifo /pipe && rm -r /d/e && cat /etc/resolv.conf >/dev/null
RUN cat /src/a >/dev/null && mkdir /tmp/gone && rmdir /tmp/gone
WORKDIR /work
RUN pwd >here
"#;

/// What only somebody with many ids can.
const OWNERS: &str = "RUN chown 33:44 /src/a && chown -h app:staff /pipe && echo me >/mine && chown app /mine\n\
    USER app\nRUN id -u >/tmp/id\n";

/// Builds in a lab; gives what every layer holds, as GNU tar lists it (without times), the base's among them.
fn layers(lab: &Lab, dockerfile: &str) -> Vec<Vec<String>> {
    let context = lab.context("ctx", &[("Dockerfile", dockerfile), ("src/a", "a\n"), ("src/b", "b\n")]);
    lab.build(&context, &["-q", "-t", "x", "-o", "type=oci,dest=x.tar"]).success();
    listed(lab)
}

fn listed(lab: &Lab) -> Vec<Vec<String>> {
    let dir = lab.context("image", &[]);
    tool("tar", &["-C", dir.to_str().unwrap(), "-xf", &lab.at("x.tar")]);
    let blob = |digest: &str| dir.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
    let read = |path: &Path| json(&fs::read_to_string(path).unwrap());
    let index = read(&dir.join("index.json"));
    let manifest = read(&blob(index["manifests"][0]["digest"].as_str().unwrap()));
    let layers = manifest["layers"].as_array().unwrap();
    let list = |layer: &serde_json::Value| {
        let path = blob(layer["digest"].as_str().unwrap());
        let text = tool("tar", &["-tvf", path.to_str().unwrap(), "--numeric-owner", "--full-time"]);
        text.lines().map(without_time).collect()
    };
    layers.iter().map(list).collect()
}

/// `-rw-r--r-- 0/0 4 2026-11-24 15:00:00 name`, without day and time.
fn without_time(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    [&words[..3], &words[5..]].concat().join(" ")
}

#[track_caller]
fn assert_same(expected: &[Vec<String>], found: &[Vec<String>]) {
    assert_eq!(expected.len(), found.len(), "layers");
    for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
        assert_eq!(found, expected, "layer {index}");
    }
}

fn as_root(dockerfile: &str) -> Vec<Vec<String>> {
    layers(&Lab::with_busybox(), dockerfile)
}

#[test]
fn a_container_without_privileges_builds_the_same_layers() {
    let dockerfile = format!("{EVERYTHING}{OWNERS}");
    let lab = Lab::in_pod(DOCKERS);
    lab.add_busybox();
    assert_same(&as_root(&dockerfile), &layers(&lab, &dockerfile));
    assert!(lab.unfinished().is_empty());
}

#[test]
fn a_container_says_once_what_its_steps_lack() {
    let lab = Lab::in_pod(DOCKERS);
    lab.add_busybox();
    let outcome = lab.build_text("FROM busybox\nRUN true\nRUN echo 2\n", &[]);
    let told = outcome.stderr.matches("isolation is `chroot`").count();
    assert_eq!(told, 1, "{outcome}");
    assert!(outcome.stderr.contains("to have more: "), "{outcome}");
    outcome.success();
}

#[test]
fn a_step_of_a_container_has_what_a_step_needs_and_no_more() {
    let lab = Lab::in_pod(DOCKERS);
    lab.add_busybox();
    let script = "grep -q . /etc/resolv.conf && echo lost >/dev/null && test -z \"$(cat /dev/null)\" \
        && test -e /dev/urandom && ls / && ls /dev";
    let text = format!(
        "FROM busybox\nRUN {script}\nRUN mkdir /j && chroot /j true; echo chroot $?\nRUN mknod /n b 8 0; echo mknod $?\n"
    );
    let outcome = lab.build_text(&text, &["-t", "x", "--progress", "plain"]);
    assert!(outcome.stderr.contains("chroot 1") && outcome.stderr.contains("mknod 1"), "{outcome}");
    outcome.success();
    assert_eq!(
        lab.shell_here("x", "ls -A /dev 2>/dev/null | wc -l; cat /etc/hosts | wc -l").lines().count(),
        2
    );
}

#[test]
fn only_real_changes_of_a_copied_tree_are_in_its_layer() {
    let lab = Lab::in_pod(DOCKERS);
    lab.add_busybox();
    let found = layers(
        &lab,
        "FROM busybox\nCOPY src /src\n\
         RUN chmod 644 /src/a && chown 0 /src/b && cp /src/a /tmp/a && cat /tmp/a >/src/a && touch -r /src/b /src/a \
         && rm /tmp/a && touch -d 2020-01-01 /tmp /src && touch -d 2020-01-01 /src/a\n\
         RUN ln /src/b /c && cat /src/b >>/tmp/new\n",
    );
    assert_eq!(found[2], ["drwxr-xr-x 0/0 0 src/", "-rw-r--r-- 0/0 2 src/a", "drwxrwxrwt 0/0 0 tmp/"]);
    // Two names of one file are both there, as overlayfs has it.
    assert_eq!(
        found[3],
        [
            "-rw-r--r-- 0/0 2 c",
            "drwxr-xr-x 0/0 0 src/",
            "hrw-r--r-- 0/0 0 src/b link to c",
            "drwxrwxrwt 0/0 0 tmp/",
            "-rw-r--r-- 0/0 2 tmp/new"
        ]
    );
}

#[test]
fn mounts_of_a_step_leave_nothing_in_the_image_of_a_container() {
    let text = "FROM busybox AS other\nRUN echo there >/there\nFROM busybox\n\
        RUN --mount=type=cache,target=/c echo 1 >>/c/n && cp /c/n /n\n\
        RUN --mount=type=cache,target=/c --mount=type=secret,id=s --mount=type=tmpfs,target=/t \
            --mount=from=other,target=/o --mount=source=f,target=/b/f \
            echo 2 >>/c/n && cp /c/n /n2 && cp /run/secrets/s /secret-was-$(wc -c </run/secrets/s) && touch /t/x \
            && cp /o/there /b/f /etc/ && cp /bin/busybox /t/\n";
    let build = |lab: &Lab| {
        let context = lab.context("ctx", &[("Dockerfile", text), ("f", "file\n")]);
        lab.file("secret", "abc");
        let secret = format!("id=s,src={}", lab.at("secret"));
        lab.build(&context, &["-q", "-t", "x", "--secret", &secret, "-o", "type=oci,dest=x.tar"]).success();
        listed(lab)
    };
    let root = Lab::with_busybox();
    let expected = build(&root);
    let pod = Lab::in_pod(DOCKERS);
    pod.add_busybox();
    assert_same(&expected, &build(&pod));
    assert_eq!(fs::read_dir(pod.path("store/state/caches")).unwrap().count(), 1, "the cache is back");
    // And it is used by the next build.
    let again = pod.build_text(
        &text
            .replace("cp /c/n /n\n", "cp /c/n /n3\n")
            .replace("--mount=source=f,target=/b/f ", "")
            .replace(" /b/f", ""),
        &["-t", "y", "--secret", &format!("id=s,src={}", pod.at("secret"))],
    );
    again.success();
    assert!(pod.shell_here("y", "cat /n2").lines().count() > 2);
}

/// The tree of one step is the next one's: whatever lies between, it holds what the layers hold.
#[test]
fn a_tree_that_is_used_again_holds_what_the_layers_hold() {
    let text = "FROM busybox AS base\n\
        RUN mkdir -p /d/e /k && echo 1 >/d/e/1 && echo 2 >/d/2 && ln -s d /l && echo shared >/one && chmod 700 /k\n\
        RUN ln /one /two && chmod 711 /d\n\
        RUN rm /one && cat /two >/seen\n\
        FROM base AS left\n\
        RUN rm -r /d && echo file >/d && rm /l && mkdir /l && echo 3 >/l/3\n\
        COPY src /k/src\n\
        RUN test -f /d && cat /k/src/a /l/3 >/left && rm -r /k && touch -d 2001-01-01 /l\n\
        FROM base AS right\n\
        COPY src/a /d/e/a\n\
        RUN ls -A /d /d/e /k /l/ >/right && cat /d/e/1 >>/right && rm /d/e/a && stat -c '%a %n' /d /k >>/right\n\
        RUN test ! -e /d/e/a && mv /d/e /d/f && setsid true && echo end >>/d/2\n\
        FROM left\n\
        COPY --from=right /right /d/f /d/2 /from/\n\
        RUN cat /from/* /left /seen >/all && test ! -e /k && ls /from >>/all && rm /seen\n";
    let pod = Lab::in_pod(DOCKERS);
    pod.add_busybox();
    let found = layers(&pod, text);
    assert_same(&as_root(text), &found);
    let root = Lab::with_busybox();
    assert_eq!(digest(&root, text), digest(&pod, text));
    let said = pod.shell_here("x", "cat /all");
    assert_eq!(said, root_says(&root, text, "cat /all"));
    assert!(pod.unfinished().is_empty());
}

/// A tree that stages with other layers used: names that a layer hides with all that is below them, names that only
/// another stage has, and names of one file of which a step replaced one.
#[test]
fn a_tree_of_another_stage_shows_nothing_of_it() {
    let below = "FROM busybox AS base\nRUN mkdir /d && echo 1 >/d/1 && echo one >/f1 && ln /f1 /f2\n\
        FROM base AS x\nRUN rm -rf /d\nRUN mkdir /d && touch /d/5\n";
    let pod = Lab::in_pod(DOCKERS);
    pod.add_busybox();
    let other = "RUN ls /d >/x && cp /f1 /t && mv /t /f1\nFROM base\nCOPY --from=x /x /x\n\
        RUN ls /d >/list && echo more >>/f1 && cat /f2 >>/list\n";
    pod.build_text(&format!("{below}{other}"), &["-t", "x"]).success();
    assert_eq!(pod.shell_here("x", "cat /x /list"), "5\n1\none\nmore");
    let other = "FROM base AS y\nRUN ls /d >/y\nFROM x\nCOPY --from=y /y /y\nRUN ls /d >/list\n";
    pod.build_text(&format!("{below}{other}"), &["-t", "x"]).success();
    assert_eq!(pod.shell_here("x", "cat /y /list"), "1\n5");
}

fn root_says(lab: &Lab, text: &str, script: &str) -> String {
    layers(lab, text);
    lab.shell("x", script)
}

/// Landlock closes what no namespace does; where the kernel has none, a hardened build says so.
#[test]
fn a_hardened_step_of_a_container_signals_nobody_outside() {
    let lab = Lab::in_pod(DOCKERS);
    lab.add_busybox();
    let mut other = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let text = format!("FROM busybox\nRUN kill -TERM {} && echo reached || echo closed\n", other.id());
    let built = lab.build_text(&text, &["--hardened", "--progress=plain"]);
    let warned = built.stderr.contains("--hardened cannot keep steps from signalling other processes");
    let closed = built.stderr.lines().any(|line| line.ends_with(" closed"));
    let lives = other.try_wait().unwrap().is_none();
    let _ = other.kill();
    let _ = other.wait();
    assert!(closed != warned, "{built}");
    assert!(lives || warned, "{built}");
    built.success();
}

#[test]
fn a_failed_step_of_a_container_is_repeated_and_entered() {
    let lab = Lab::in_pod(DOCKERS);
    lab.add_busybox();
    let text = "FROM busybox AS first\nWORKDIR /home\nRUN echo below >/below\nUSER app\nRUN cat /below && touch /tmp/mine && exit 5\n";
    assert_eq!(lab.build_text(text, &[]).code, 1);
    let again = lab.forge(&["replay"]);
    assert!(again.code == 1 && again.stdout == "below\n" && again.stderr.contains("exit code: 5"), "{again}");
    let shell = lab.forge_with_input(&["replay", "--shell"], "echo $(id -un) $PWD $(cat /below); exit 3\n");
    assert!(shell.code == 3 && shell.stdout.contains("app /home below"), "{shell}");
    let mut talk = lab.talk(&["build", "--on-error=shell", &lab.at("ctx")]);
    talk.expect("a shell in the failed step");
    talk.send("echo $(id -un) $PWD $(ls /tmp).\n");
    talk.expect("app /home mine.");
    talk.send("exit\n");
    assert_eq!(talk.finish().0, 1);
    assert!(lab.unfinished().is_empty());
}

#[test]
fn what_a_step_of_a_container_leaves_running_ends_with_it() {
    let lab = Lab::in_pod(DOCKERS);
    lab.add_busybox();
    let marker = Marker::new();
    let text = format!("FROM busybox\nRUN sleep {0} & (setsid sleep {0} &) ; sleep 0.2\n", marker.0);
    lab.build_text(&text, &[]).success();
    assert_eq!(marker.processes(), [""; 0]);
}

#[test]
fn a_build_in_a_container_that_is_stopped_or_killed_leaves_no_process() {
    for signal in ["-INT", "-KILL"] {
        let lab = Lab::in_pod(DOCKERS);
        lab.add_busybox();
        let marker = Marker::new();
        let text = format!("FROM busybox\nRUN (setsid sleep {0} &) ; sleep {0}\n", marker.0);
        let context = lab.context("ctx", &[("Dockerfile", &text)]);
        let mut build = lab.start(&["build", context.to_str().unwrap()]);
        soon("the step runs", || marker.processes().len() >= 2);
        build.send(signal);
        drop(build.finish());
        soon("its processes are gone", || marker.processes().iter().all(|line| line.contains("build")));
    }
}

#[test]
fn what_would_be_a_mark_in_a_layer_is_refused() {
    let lab = Lab::in_pod(DOCKERS);
    lab.add_busybox();
    let report = lab.build_text("FROM busybox\nRUN mknod /x c 0 0\n", &[]).report(3);
    assert!(report.contains("the device 0:0 at /x"), "{report}");
}

#[test]
fn without_overlay_layers_are_copied_and_the_same_comes_out() {
    let dockerfile = format!("{EVERYTHING}{OWNERS}");
    let lab = Lab::on_overlay();
    lab.add_busybox();
    let found = layers(&lab, &dockerfile);
    assert_same(&as_root(&dockerfile), &found);
    let said = lab.build_text("FROM busybox\nRUN echo again\n", &[]);
    assert!(said.stderr.contains("warning: layers are copied for each step"), "{said}");
}

/// What overlayfs and fuse-overlayfs mount.
const NO_STACKS: &str = "overlay,fuse,fuse.fuse-overlayfs";

/// What everything gives as an image that depends on contents alone.
fn digest(lab: &Lab, dockerfile: &str) -> String {
    let dockerfile =
        dockerfile.replacen("FROM busybox", "FROM scratch", 1).replacen('\n', "\nADD rootfs.tar /\n", 1);
    let context = lab.context("ctx", &[("Dockerfile", &dockerfile), ("src/a", "a\n"), ("src/b", "b\n")]);
    fs::write(context.join("rootfs.tar"), busybox_rootfs()).unwrap();
    lab.build(&context, &["-q", "--reproducible"]).success()
}

/// However the layers are stacked: the same image to the last bit, in the same layers. But for two things:
/// fuse-overlayfs itself makes a file of a fifo of a lower layer that is touched, and takes one hard link for another.
#[test]
fn fuse_overlayfs_and_copies_give_the_image_that_an_overlay_gives() {
    let dockerfile =
        format!("{EVERYTHING}{OWNERS}").replace("mv /fifo /pipe && ", "").replace("/pipe", "/old/new");
    for builder in [Builder::Root, Builder::User] {
        let overlay = Lab::of(builder);
        overlay.add_busybox();
        let expected = (layers(&overlay, &dockerfile), digest(&overlay, &dockerfile));
        for (refused, said) in
            [("overlay", "fuse-overlayfs stacks the layers"), (NO_STACKS, "layers are copied for each step")]
        {
            let lab = Lab::without(refused, builder);
            lab.add_busybox();
            let found = (layers(&lab, &dockerfile), digest(&lab, &dockerfile));
            assert_same(&expected.0, &found.0);
            assert_eq!(expected.1, found.1, "{builder:?} without {refused}");
            let told = lab.build_text("FROM busybox\nRUN echo again\n", &[]);
            assert_eq!(told.stderr.matches(said).count(), 1, "{told}");
            assert!(lab.unfinished().is_empty());
        }
    }
}

/// What overlayfs marks, and what else a layer may do to those below it.
const MARKS: &str = "FROM busybox\n\
    RUN mkdir -p /a/b/c /k/l && touch /a/b/c/1 /a/b/2 /a/3 /k/l/4 && ln -s /a /s\n\
    RUN rm -r /a && mkdir /a && touch /a/new && rm /k/l/4\n\
    RUN test ! -e /a/b && test ! -e /k/l/4 && rm -r /k && touch /k && rm /s && mkdir -p /s/t\n\
    RUN test -f /k && rm /k && mkdir /k && touch /k/5 && rmdir /s/t && mv /a /moved && mkdir /a\n\
    RUN test ! -e /k/l && test -z \"$(ls /a)\" && ls /moved/new && rm -r /a /s && touch /.wh\n";

#[test]
fn whiteouts_and_opaque_directories_are_the_same_however_layers_are_stacked() {
    let expected = as_root(MARKS);
    assert!(expected[2].iter().any(|line| line.ends_with(" a/.wh..wh..opq")), "{expected:?}");
    for builder in [Builder::Root, Builder::User] {
        for refused in ["overlay", NO_STACKS] {
            let lab = Lab::without(refused, builder);
            lab.add_busybox();
            assert_same(&expected, &layers(&lab, MARKS));
        }
    }
}

#[test]
fn hundreds_of_layers_are_stacked_by_fuse_overlayfs() {
    let copies: String = (1..=320).map(|n| format!("COPY src/a /many/{n}\n")).collect();
    let text =
        format!("FROM busybox\n{copies}RUN ls /many | wc -l >/count && rm /many/1 && echo b >>/many/2\n");
    let lab = Lab::without("overlay", Builder::Root);
    lab.add_busybox();
    lab.context("ctx", &[("src/a", "a\n")]);
    lab.build_text(&text, &["-q", "-t", "x"]).success();
    let run = ["run", "--rm", "--network=none", "x", "sh", "-c", "cat /count /many/2; ls /many | wc -l"];
    assert_eq!(lab.forge(&run).success(), "320\na\nb\n319");
}

#[test]
fn a_step_in_a_stack_of_fuse_overlayfs_can_be_entered_and_leaves_nothing() {
    let lab = Lab::without("overlay", Builder::Root);
    lab.add_busybox();
    let marker = Marker::new();
    let text = format!(
        "FROM busybox\nRUN --network=none touch /below\nRUN --network=none touch /mine; sleep {} & exit 5\n",
        marker.0
    );
    let failed = lab.build_text(&text, &[]);
    assert_eq!(failed.code, 1, "{failed}");
    assert_eq!(marker.processes(), [""; 0]);
    assert!(lab.forge(&["replay"]).failure(1).contains("exit code: 5"));
    let shell = lab.forge_with_input(&["replay", "--shell"], "ls /below; exit 3\n");
    assert!(shell.code == 3 && shell.stdout.ends_with("\n/below\r\n"), "{shell}");
    assert!(lab.unfinished().is_empty());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(lab.path("").to_str().unwrap()), "{mounts}");
}

#[test]
fn root_without_leave_to_mount_takes_a_user_namespace() {
    let dockerfile = format!("{EVERYTHING}{OWNERS}");
    let mut lab = Lab::new();
    lab.wrapper = ["setpriv", "--bounding-set=-sys_admin"].map(String::from).into();
    lab.add_busybox();
    assert_same(&as_root(&dockerfile), &layers(&lab, &dockerfile));
}

/// A user who cannot find `newuidmap`, as where its package is missing.
fn single() -> Lab {
    let mut lab = Lab::of(Builder::User);
    lab.wrapper = ["/usr/bin/env", "PATH=/nowhere"].map(String::from).into();
    lab
}

#[test]
fn with_one_id_the_same_layers_come_out() {
    let lab = single();
    lab.add_busybox();
    assert_same(&as_root(EVERYTHING), &layers(&lab, EVERYTHING));
}

#[test]
fn with_one_id_owners_are_kept() {
    let make = |lab: &Lab| {
        let tree = lab
            .context("tree", &[("etc/passwd", "root:x:0:0::/:/bin/sh\n"), ("home/app/f", "f"), ("v", "v")]);
        std::os::unix::fs::symlink("f", tree.join("home/app/link")).unwrap();
        let tar = tool(
            "tar",
            &[
                "-C",
                tree.to_str().unwrap(),
                "--owner=1000",
                "--group=50",
                "--sort=name",
                "--mtime=@1000000000",
                "-cf",
                &lab.at("own.tar"),
                "home",
            ],
        );
        assert_eq!(tar, "");
        let text = "FROM busybox\nADD own.tar /\nCOPY --chown=33:44 f /var/lib/f\n\
            RUN echo more >>/home/app/f && mv /var/lib/f /var/lib/g && touch /home/app/new && chmod 700 /home/app\n";
        let context = lab.context("ctx", &[("Dockerfile", text), ("f", "f")]);
        fs::copy(lab.path("own.tar"), context.join("own.tar")).unwrap();
        lab.build(&context, &["-q", "-o", "type=oci,dest=x.tar"]).success();
        listed(lab)
    };
    let single = single();
    single.add_busybox();
    let found = make(&single);
    assert!(found.iter().flatten().any(|line| line.starts_with("lrwxrwxrwx 1000/50")), "{found:?}");
    assert_same(&make(&Lab::with_busybox()), &found);
}

#[test]
fn with_one_id_what_cannot_be_done_is_an_error() {
    let lab = single();
    lab.add_busybox();
    let outcome = lab.build_text("FROM busybox\nUSER app\nRUN true\n", &[]);
    let text = outcome.report(7);
    assert!(text.contains("Dockerfile:3:1") && text.contains("USER names another id than 0"), "{text}");
    assert!(text.contains("subuid") || text.contains("uidmap"), "{text}");
    assert_eq!(lab.build_text("FROM busybox\nRUN chown 33 /tmp\n", &[]).code, 1);
}

/// A user on a machine where nothing can be had.
fn nothing() -> (UserNs, Lab) {
    let userns = UserNs::without_others();
    let mut lab = Lab::of(Builder::User);
    lab.wrapper = userns.enter();
    (userns, lab)
}

#[test]
fn where_nothing_can_be_had_files_are_copied_and_steps_are_refused() {
    let (_userns, lab) = nothing();
    lab.add_busybox();
    let text = "FROM busybox\nCOPY --chown=1000:50 src /src\nCOPY --chmod=640 src/a /b\nWORKDIR /w\n";
    let files = |text: &str, lab: &Lab| {
        let context = lab.context("ctx", &[("Dockerfile", text), ("src/a", "a\n")]);
        lab.build(&context, &["-q", "-t", "x", "-o", "type=oci,dest=x.tar"])
    };
    files(text, &lab).success();
    let root = Lab::with_busybox();
    files(text, &root).success();
    assert_same(&listed(&root), &listed(&lab));

    let report = files(&format!("{text}RUN true\n"), &lab).report(7);
    assert!(report.starts_with("error: RUN cannot be executed here, only files can be copied: "), "{report}");
    assert!(report.contains("Dockerfile:5:1\n"), "{report}");
    assert!(report.contains("user.max_user_namespaces is 0") && report.contains("help: "), "{report}");
    let report = lab.forge(&["run", "x"]).report(7);
    assert!(report.contains("user.max_user_namespaces is 0"), "{report}");
}

#[test]
fn a_rung_can_be_asked_for() {
    let lab = Lab::new();
    let build = |args: &[&str]| -> Outcome { lab.build_text("FROM busybox\nRUN true\n", args) };
    lab.add_busybox();
    build(&["--isolation", "root"]).success();
    let report = build(&["--isolation", "none", "--no-cache"]).report(7);
    assert!(report.contains("--isolation=none was asked for"), "{report}");
    let chroot = build(&["--isolation=chroot", "--no-cache"]);
    assert!(chroot.stderr.contains("isolation is `chroot`"), "{chroot}");
    chroot.success();
    // The layers here are root's; in a user namespace their marks could not be read.
    let report = build(&["--isolation=userns"]).report(7);
    assert!(report.contains("were unpacked for root"), "{report}");
    assert!(build(&["--isolation=jail"]).failure(2).contains("userns-single"));

    let mut user = Lab::of(Builder::User);
    let report = user.build_text("FROM scratch\nCOPY Dockerfile /\n", &["--isolation", "root"]).report(7);
    assert!(report.starts_with("error: isolation `root` is not to be had here: "), "{report}");
    user.env.push(("FORGE_ISOLATION".into(), "chroot".into()));
    let report = user.build_text("FROM scratch\nCOPY Dockerfile /\n", &[]).report(7);
    assert!(report.contains("CAP_SYS_CHROOT"), "{report}");
}

#[test]
fn a_hardened_build_has_less() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nRUN grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status >/seen\n";
    let seen = |args: &[&str]| {
        lab.build_text(text, &[&["-t", "x", "--no-cache"], args].concat()).success();
        lab.shell("x", "cat /seen")
    };
    assert_eq!(seen(&["--hardened"]), "CapBnd:\t00000000800405fb\nNoNewPrivs:\t1");
    assert_eq!(seen(&[]), "CapBnd:\t00000000a80425fb\nNoNewPrivs:\t0");
    let run = lab.forge(&["run", "--hardened", "--network=none", "x", "grep", "CapBnd", "/proc/self/status"]);
    assert_eq!(run.success(), "CapBnd:\t00000000800405fb");
}

impl Lab {
    /// A shell where no own network can be had.
    fn shell_here(&self, image: &str, script: &str) -> String {
        self.forge(&["run", "--rm", image, "sh", "-c", script]).success()
    }
}
