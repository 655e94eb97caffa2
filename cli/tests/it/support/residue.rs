//! What a forge that ended may have left behind, and waiting for what is about to happen.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::Lab;

/// Waits until `holds`, which must be so within 20 s.
#[track_caller]
pub fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A number of seconds that no other process sleeps for: a `sleep` of it can be told apart.
pub struct Marker(pub String);

impl Marker {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(format!("9{}{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Processes that have the number among their arguments.
    pub fn processes(&self) -> Vec<String> {
        processes(&self.0)
    }
}

/// Command lines with this argument.
fn processes(word: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.split(' ').any(|argument| argument == word)).collect()
}

impl Lab {
    /// Fails if the forge with this process id, which worked in this lab, left anything on the machine.
    #[track_caller]
    pub fn assert_nothing_left(&self, pid: u32) {
        let store = self.at("store");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts: Vec<&str> = mounts.lines().filter(|line| line.contains(&store)).collect();
        assert!(mounts.is_empty(), "mounts: {mounts:?}");
        assert_eq!(cgroups(pid), Vec::<PathBuf>::new(), "cgroups");
        assert_eq!(self.unfinished(), Vec::<PathBuf>::new(), "temporary files");
        let holders = holders(&store);
        assert!(holders.is_empty(), "processes with files of the store: {holders:?}");
    }
}

/// cgroups of sandboxes of the process `owner`.
fn cgroups(owner: u32) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = mounts.lines().filter(|line| line.contains(" - cgroup"));
    let mut found = Vec::new();
    for point in points.filter_map(|line| line.split(' ').nth(4)) {
        walk(Path::new(point), &format!("{owner}."), &mut found);
    }
    found
}

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

/// Command lines of the processes that have files below `dir` open, are in it, or have it among their arguments.
fn holders(dir: &str) -> Vec<String> {
    let inside = |path: PathBuf| path.to_string_lossy().starts_with(dir);
    let holds = |process: &Path| {
        let links = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|fd| fd.path());
        let mut links = links.chain([process.join("cwd"), process.join("root")]);
        links.any(|link| fs::read_link(link).is_ok_and(inside))
            || fs::read_to_string(process.join("cmdline")).is_ok_and(|line| line.contains(dir))
    };
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let holding = processes.filter(|process| !process.ends_with("self") && holds(process));
    holding.map(|process| fs::read_to_string(process.join("cmdline")).unwrap_or_default()).collect()
}
