//! A context's remembered hashes never outlive the files that they were taken of, however an edit hides itself.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use forge_runner::files::LocalContext;
use forge_solver::matching::IgnorePatterns;
use forge_solver::op::Selection;
use forge_store::ContentId;

/// Hashes the whole context as a new build would.
fn content(context: &Path, state: &Path) -> ContentId {
    let context = LocalContext::open(context, IgnorePatterns::default(), state).unwrap();
    let content = context.content(&Selection::path(String::new())).unwrap();
    context.remember();
    content
}

fn set_old(path: &Path) {
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(old).set_accessed(old)).unwrap();
}

/// Changes the one file to `text`, in one of eight ways, and hides it behind the same size and time.
fn edit(dir: &Path, way: usize, text: &str) {
    let file = dir.join("file");
    match way {
        0 => fs::write(&file, text).unwrap(),
        1 => {
            let mut open = OpenOptions::new().write(true).open(&file).unwrap();
            open.write_all(text.as_bytes()).unwrap();
        }
        2 => {
            let aside = dir.join("aside");
            fs::write(&aside, text).unwrap();
            set_old(&aside);
            fs::rename(&aside, &file).unwrap();
        }
        3 => {
            fs::remove_file(&file).unwrap();
            fs::write(&file, text).unwrap();
        }
        4 => {
            let other = dir.join("../other");
            fs::hard_link(&file, &other).unwrap();
            fs::write(&other, text).unwrap();
            fs::remove_file(&other).unwrap();
        }
        5 => {
            let mut open = OpenOptions::new().write(true).open(&file).unwrap();
            open.set_len(0).unwrap();
            open.rewind().unwrap();
            open.write_all(text.as_bytes()).unwrap();
        }
        6 => {
            let moved = dir.join("../moved");
            fs::rename(&file, &moved).unwrap();
            fs::write(&file, text).unwrap();
            fs::remove_file(moved).unwrap();
        }
        _ => {
            let open = OpenOptions::new().write(true).open(&file).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&open, text.as_bytes(), 0).unwrap();
        }
    }
    set_old(&file);
}

#[test]
fn two_hundred_edits_that_keep_size_and_time_are_all_seen() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, state) = (temp.path().join("context"), temp.path().join("state"));
    fs::create_dir_all(&dir).unwrap();
    fs::create_dir_all(&state).unwrap();
    fs::write(dir.join("file"), "00000").unwrap();
    set_old(&dir.join("file"));
    let mut last = content(&dir, &state);
    for n in 1..=200 {
        edit(&dir, n % 8, &format!("{n:05}"));
        let now = content(&dir, &state);
        assert_ne!(now, last, "edit {n} was not seen");
        assert_eq!(content(&dir, &state), now, "hashing twice gave two answers");
        last = now;
    }
}

#[test]
fn what_a_file_is_counts_and_when_it_was_written_does_not() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, state) = (temp.path().join("context"), temp.path().join("state"));
    fs::create_dir_all(&dir).unwrap();
    fs::create_dir_all(&state).unwrap();
    fs::write(dir.join("file"), "text").unwrap();
    let plain = content(&dir, &state);
    set_old(&dir.join("file"));
    assert_eq!(content(&dir, &state), plain);
    fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o755)).unwrap();
    let executable = content(&dir, &state);
    assert_ne!(executable, plain);
    fs::remove_file(dir.join("file")).unwrap();
    symlink("text", dir.join("file")).unwrap();
    assert_ne!(content(&dir, &state), executable);
}

#[test]
fn an_ignored_file_is_neither_hashed_nor_opened() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, state) = (temp.path().join("context"), temp.path().join("state"));
    fs::create_dir_all(&dir).unwrap();
    fs::create_dir_all(&state).unwrap();
    fs::write(dir.join("kept"), "text").unwrap();
    let hash = || {
        let ignore = IgnorePatterns::parse(b"pipe\n").unwrap();
        let context = LocalContext::open(&dir, ignore, &state).unwrap();
        context.content(&Selection::path(String::new())).unwrap()
    };
    let before = hash();
    // Opening it would wait for a writer for ever.
    let made = std::process::Command::new("mkfifo").arg(dir.join("pipe")).status().unwrap();
    assert!(made.success());
    assert_eq!(hash(), before);
}
