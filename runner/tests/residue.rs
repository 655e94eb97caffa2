//! Nothing stays behind: processes, mounts, cgroups, temporary directories, after success, failure and SIGKILL.

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use forge_runner::spec::{Mount, MountSource};
use support::{Builder, Lab};

/// Mounts of this lab's sandboxes that this process can see.
fn mounts(lab: &Lab) -> Vec<String> {
    let directory = lab.path("").display().to_string();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains(&directory)).map(str::to_owned).collect()
}

/// cgroups of sandboxes made by the process `owner`.
fn cgroups(owner: u32) -> Vec<String> {
    let mut found = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for point in
        mounts.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4))
    {
        walk(Path::new(point), &format!("{owner}."), &mut found);
    }
    found
}

fn walk(directory: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            found.push(entry.path().display().to_string());
        }
        walk(&entry.path(), prefix, found);
    }
}

/// Processes whose command line has `word`.
fn processes(word: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.split(' ').any(|argument| argument == word)).collect()
}

#[track_caller]
fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn killed_leaves_nothing(builder: Builder, marker: &str) {
    let lab = Lab::new(builder);
    let mut spec = lab.script(&format!("(setsid sleep {marker} &); touch /started; sleep {marker}"));
    let source = MountSource::Tmpfs { size_bytes: None, mode: 0o755 };
    spec.mounts = vec![Mount { target: "/missing/target".into(), source, read_only: false }];
    let mut child = lab.start(&spec, "auto");
    soon("the step starts", || lab.path("upper/started").exists());
    assert!(processes(marker).len() >= 2);
    assert!(mounts(&lab).is_empty(), "no mount of a sandbox is visible");
    if builder == Builder::Root {
        child.kill().unwrap();
    } else {
        // What was started is runuser; the builder is its child.
        support::run_tool("pkill", &["-KILL", "-P", &child.id().to_string()]);
    }
    let owner = child.id();
    child.wait().unwrap();
    soon("all processes end", || processes(marker).is_empty());
    soon("the helper ends", || processes(lab.path(".").to_str().unwrap()).is_empty());
    assert!(mounts(&lab).is_empty());

    // The next run removes the empty cgroups of the dead one, and its own.
    let next = Lab::new(builder);
    next.run(&next.script("true")).success();
    assert_eq!(cgroups(owner), Vec::<String>::new());
}

#[test]
fn a_killed_builder_takes_everything_with_it() {
    killed_leaves_nothing(Builder::Root, "77881");
}

#[test]
fn a_killed_builder_of_a_user_does_too() {
    killed_leaves_nothing(Builder::User, "77882");
}

#[test]
fn steps_that_end_by_themselves_leave_nothing() {
    let lab = Lab::new(Builder::Root);
    for (script, code) in
        [("true", 0), ("exit 3", 3), ("kill -9 $$", 137), ("sleep 77883 & kill -TERM $$", 143)]
    {
        let child = lab.start(&lab.script(script), "auto");
        let owner = child.id();
        let outcome = support::outcome(&child.wait_with_output().unwrap());
        assert_eq!(outcome.code, code, "{outcome:?}");
        assert_eq!(cgroups(owner), Vec::<String>::new(), "{script}");
    }
    assert!(processes("77883").is_empty());
    assert!(mounts(&lab).is_empty());
}
