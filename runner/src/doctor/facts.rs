//! What the machine says about itself: settings and states that decide which rung holds, read and not judged.

use std::fs;

use crate::cgroup;

/// One fact: what, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// A setting's name as `sysctl` has it, or a word for it.
    pub name: &'static str,
    /// Its value; `absent` if this kernel does not have it.
    pub value: String,
}

/// Settings by their names and files.
const SETTINGS: [(&str, &str); 5] = [
    ("kernel.unprivileged_userns_clone", "/proc/sys/kernel/unprivileged_userns_clone"),
    ("user.max_user_namespaces", "/proc/sys/user/max_user_namespaces"),
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    ),
    ("kernel.version", "/proc/sys/kernel/osrelease"),
    ("security modules", "/sys/kernel/security/lsm"),
];

/// Lines of this process's own status.
const STATUS: [(&str, &str); 3] =
    [("capabilities", "CapEff:"), ("seccomp of this process", "Seccomp:"), ("no_new_privs", "NoNewPrivs:")];

/// Reads them all.
#[must_use]
pub fn facts() -> Vec<Fact> {
    let mut facts: Vec<Fact> =
        SETTINGS.iter().map(|&(name, file)| fact(name, fs::read_to_string(file).ok())).collect();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (name, key) in STATUS {
        let value = status.lines().find_map(|line| line.strip_prefix(key));
        let value = match (key, value.map(str::trim)) {
            ("Seccomp:", Some("0")) => Some("no filter".to_owned()),
            ("Seccomp:", Some("2")) => Some("filtered".to_owned()),
            (_, value) => value.map(str::to_owned),
        };
        facts.push(fact(name, value));
    }
    let ids = |file: &str| fs::read_to_string(file).ok().map(|text| one_line(&text));
    facts.push(fact("user ids here (inside outside count)", ids("/proc/self/uid_map")));
    facts.push(fact("group ids here (inside outside count)", ids("/proc/self/gid_map")));
    facts.push(fact("cgroups", Some(cgroup::describe())));
    facts
}

fn fact(name: &'static str, value: Option<String>) -> Fact {
    let value = value.map(|value| one_line(&value)).filter(|value| !value.is_empty());
    Fact { name, value: value.unwrap_or_else(|| "absent".into()) }
}

/// Words with single spaces, lines with commas between.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}
