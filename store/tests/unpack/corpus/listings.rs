//! U09 and U12: archives that readers have taken in different ways. What forge reads of them is what GNU tar, Python
//! and Go (as umoci) read, name by name; where those differ among themselves it is refused.

use std::fs;

use forge_store::layer::TarReader;
use tempfile::TempDir;

use crate::archive::{Archive, Magic, Member};
use crate::judges;

/// An archive whose content is another one, each way of saying how long it is.
fn smuggling() -> Vec<(&'static str, Vec<u8>)> {
    let inner = Archive::new().file("smuggled", "evil").bytes();
    let size = inner.len().to_string();
    let size = || [("size", size.as_bytes())];
    let outer = |header_size| Member::file("outer", &inner).size(header_size);
    vec![
        ("(a) PAX size, ustar size 0", Archive::new().pax(&size()).add(outer(0)).file("next", "x").end()),
        (
            "(b) PAX size, another ustar size",
            Archive::new().pax(&size()).add(outer(7)).file("next", "x").end(),
        ),
        (
            "(c) PAX size, then a GNU long name",
            Archive::new().pax(&size()).long_name(b"outer").add(outer(0)).file("next", "x").end(),
        ),
        (
            "PAX size behind a record with a newline",
            Archive::new()
                .pax(&[("comment", b"a\nb"), size()[0]])
                .add(outer(0).magic(Magic::Ustar))
                .file("next", "x")
                .end(),
        ),
    ]
}

fn ours(bytes: &[u8]) -> Vec<String> {
    let mut reader = TarReader::new(bytes);
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        names.push(String::from_utf8(entry.path).unwrap());
    }
    names
}

#[test]
fn no_name_is_smuggled_in() {
    let top = TempDir::new().unwrap();
    let file = top.path().join("archive.tar");
    let lines = |output: std::process::Output| -> Vec<String> {
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    };
    for (number, (name, bytes)) in smuggling().into_iter().enumerate() {
        fs::write(&file, &bytes).unwrap();
        let want = ["outer", "next"];
        assert_eq!(ours(&bytes), want, "{name}");
        assert_eq!(lines(judges::tar(["-tf", file.to_str().unwrap()])), want, "GNU tar, {name}");
        let python = "import sys, tarfile; print(*tarfile.open(sys.argv[1]).getnames(), sep='\\n')";
        assert_eq!(lines(judges::python(python, &[&file])), want, "Python, {name}");
        assert_eq!(umoci(&top, number, &file), want, "umoci, {name}");
    }
}

/// The names in the order of the archive, which umoci does not keep.
fn umoci(top: &TempDir, number: usize, archive: &std::path::Path) -> Vec<String> {
    let layout = top.path().join(format!("layout-{number}"));
    let run = |args: &[&str]| judges::run("umoci", "umoci", args);
    let image = format!("{}:x", layout.display());
    run(&["init", "--layout", layout.to_str().unwrap()]);
    run(&["new", "--image", &image]);
    run(&["raw", "add-layer", "--image", &image, archive.to_str().unwrap()]);
    let tree = top.path().join(format!("tree-{number}"));
    run(&["raw", "unpack", "--image", &image, tree.to_str().unwrap()]);
    let entries = fs::read_dir(tree).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort_by_key(|name| name != "outer");
    names
}
