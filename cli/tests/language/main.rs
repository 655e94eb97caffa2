//! The Dockerfile language carried out: each folder of `testdata/language` is a small build, and what came of it is
//! compared with what was expected and, where Debian's buildah knows the feature, with what buildah makes of it.
//!
//! A case is `<group>-<name>/`: a `Dockerfile` and the files of its context, and beside them
//!
//! - `setup.sh` (optional): makes in the context what a repository cannot keep (modes, hard links, archives),
//! - `args` (optional): more arguments of `build`, one on a line, in which `CONTEXT` stands for the context's path,
//! - `expect.json`: the outcome, which `UPDATE_GOLDEN=1` records,
//! - `why.txt` (optional): why buildah is not asked; without it buildah's outcome must be the same.
//!
//! None of these four is part of the context.

mod lab;
mod outcome;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs};

use lab::Lab;
use outcome::Outcome;
use serde_json::Value;

/// The cases of a group, in two threads, each of which has an own store; every one that fails is named.
fn check(group: &str) {
    let cases = cases(group);
    assert!(!cases.is_empty(), "no cases in the group {group}");
    let (next, work) = (AtomicUsize::new(0), Lab::new());
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| {
            scope.spawn(|| {
                let mine = || cases.get(next.fetch_add(1, Ordering::Relaxed));
                std::iter::from_fn(mine).filter_map(|case| try_case(&work, case).err()).collect::<Vec<_>>()
            })
        });
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

fn cases(group: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/language");
    let of_group = |path: &PathBuf| name(path).split('-').next() == Some(group);
    let mut cases: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(of_group);
    // One case alone, while it is being written.
    if let Ok(only) = env::var("CASE") {
        cases.retain(|path| name(path) == only);
    }
    cases.sort();
    cases
}

fn name(case: &Path) -> String {
    case.file_name().unwrap().to_str().unwrap().to_owned()
}

fn try_case(lab: &Lab, case: &Path) -> Result<(), String> {
    let label = |judge: &str, differences: String| format!("{} ({judge}):\n{differences}", name(case));
    let golden = case.join("expect.json");
    let context = lab.context(case);
    let own = lab.forge(&context, case);
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, own.to_json()).unwrap();
    }
    let expected: Value = match fs::read_to_string(&golden) {
        Ok(text) => serde_json::from_str(&text).unwrap(),
        Err(e) => return Err(label("expect.json", format!("  {e}; record it with UPDATE_GOLDEN=1"))),
    };
    own.agrees_with(&Outcome(expected)).map_err(|differences| label("expect.json", differences))?;
    if !case.join("why.txt").exists() {
        let theirs = lab.buildah(&context, case).map_err(|error| label("buildah", error))?;
        own.without_history()
            .agrees_with(&theirs.without_history())
            .map_err(|differences| label("buildah", differences))?;
    }
    Ok(())
}

/// Every case is in a group that is checked below.
#[test]
fn no_case_is_left_out() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/language");
    for entry in fs::read_dir(dir).unwrap() {
        let name = name(&entry.unwrap().path());
        let group = name.split('-').next().unwrap();
        assert!(GROUPS.contains(&group), "{name} is in no group");
    }
}

macro_rules! groups {
    ($($group:ident)*) => {
        const GROUPS: &[&str] = &[$(stringify!($group)),*];
        $(#[test] fn $group() { check(stringify!($group)); })*
    };
}

groups! { add config copy flags heredoc ignore mount run stages words }
