//! The house keeps its shape: which room may know which, where `unsafe` may stand, how long the plan may be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("cli is a room of the house").to_owned()
}

/// The rooms that a room's manifest names under `[dependencies]`.
fn arrows(room: &str) -> Vec<String> {
    let manifest = fs::read_to_string(root().join(room).join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let names = section.lines().filter_map(|line| line.strip_prefix("forge-")?.split(['.', ' ', '=']).next());
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn rooms_know_only_whom_they_may_know() {
    let allowed = BTreeMap::from([
        ("parser", vec![]),
        ("store", vec![]),
        ("registry", vec!["store"]),
        ("solver", vec!["parser", "store"]),
        ("runner", vec!["solver", "store"]),
        ("exporter", vec!["registry", "solver", "store"]),
        ("cli", vec!["exporter", "parser", "registry", "runner", "solver", "store"]),
    ]);
    for (room, allowed) in allowed {
        for arrow in arrows(room) {
            assert!(allowed.contains(&arrow.as_str()), "{room} must not depend on {arrow}");
        }
    }
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn unsafe_stands_in_one_module_and_says_why() {
    for room in ["parser", "store", "registry", "solver", "runner", "exporter", "cli"] {
        let mut files = Vec::new();
        sources(&root().join(room).join("src"), &mut files);
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let is_sys = file.starts_with(root().join("runner/src/sys"));
            let lines: Vec<&str> = text.lines().collect();
            for (at, line) in lines.iter().enumerate() {
                if !line.contains("unsafe {") {
                    continue;
                }
                assert!(is_sys, "{}:{}: unsafe outside of runner's sys", file.display(), at + 1);
                let above = lines[at.saturating_sub(8)..=at].join("\n");
                assert!(above.contains("SAFETY"), "{}:{}: unsafe without its reason", file.display(), at + 1);
            }
        }
    }
}

#[test]
fn only_the_command_line_reads_the_environment() {
    for room in ["parser", "store", "registry", "solver", "runner", "exporter"] {
        let mut files = Vec::new();
        sources(&root().join(room).join("src"), &mut files);
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            for call in ["env::var(", "env::var_os(", "env::vars("] {
                assert!(!text.contains(call), "{} reads the environment", file.display());
            }
        }
    }
}

#[test]
fn the_plan_of_the_house_stays_short() {
    let plan = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert!(plan.lines().count() <= 250, "ARCHITECTURE.md has more than 250 lines");
}
