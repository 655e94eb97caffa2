//! The inputs of the corpus do harm where nothing is in their way: each is given to an unpacker that is known to fall
//! for it, which must be seen to fall, and to forge, which must not. An input that harms nobody would prove nothing.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::archive::ground::{Ground, list};
use crate::archive::{Archive, Member, pax_records};

/// An unpacker with a hole.
#[derive(Clone, Copy, Debug)]
enum Judge {
    /// `tarfile` without a filter, as up to 3.13 by default.
    Python,
    /// GNU tar, told to believe names.
    Tar,
}

impl Judge {
    /// Unpacks; whether it says that it could does not matter.
    fn unpack(self, archive: &Path, into: &Path) {
        let script = "import sys, tarfile; f = {'filter': 'fully_trusted'} if hasattr(tarfile, 'data_filter') else {}; \
                      tarfile.open(sys.argv[1]).extractall(sys.argv[2], **f)";
        let mut command = match self {
            Self::Python => Command::new("python3"),
            Self::Tar => Command::new("tar"),
        };
        match self {
            Self::Python => command.args(["-c", script]).arg(archive).arg(into),
            Self::Tar => {
                command.args(["--xattrs", "--xattrs-include=*", "-xPf"]).arg(archive).arg("-C").arg(into)
            }
        };
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().unwrap_or_else(|error| panic!("install {self:?}: {error}"));
    }
}

/// An input for the ground that it is to harm, and who falls for it.
type Input = (&'static str, Judge, fn(&Ground) -> Archive);

fn canary(ground: &Ground) -> String {
    ground.outside().join("canary").to_str().unwrap().to_owned()
}

fn outside(ground: &Ground) -> String {
    ground.outside().to_str().unwrap().to_owned()
}

/// What changes something outside.
const ESCAPES: [Input; 13] = [
    ("U01 ../x", Judge::Python, |_| Archive::new().file("../outside/x", "evil")),
    ("U01 a/../../x", Judge::Python, |_| Archive::new().dir("a").file("a/../../outside/x", "evil")),
    ("U01 ./../x", Judge::Tar, |_| Archive::new().file("./../outside/canary", "evil")),
    ("U01 /abs", Judge::Python, |ground| {
        Archive::new().long_name(canary(ground).as_bytes()).file("x", "evil")
    }),
    ("U01 //x", Judge::Tar, |ground| {
        Archive::new().long_name(format!("/{}", canary(ground)).as_bytes()).file("x", "evil")
    }),
    ("U02 symlink, then through it", Judge::Python, |_| {
        Archive::new().symlink("out", "../outside").file("out/canary", "evil")
    }),
    ("U02 symlink to /, then through it", Judge::Tar, |ground| {
        Archive::new().long_link(outside(ground).as_bytes()).symlink("out", "").file("out/new", "evil")
    }),
    ("U02 two symlinks", Judge::Python, |_| {
        Archive::new().symlink("up", "..").symlink("out", "up/outside").file("out/canary", "evil")
    }),
    ("U03 hard link up, then written", Judge::Python, |_| {
        Archive::new().link("l", "../outside/canary").file("l", "evil")
    }),
    ("U03 absolute hard link, counted", Judge::Tar, |ground| {
        Archive::new().long_link(canary(ground).as_bytes()).link("l", "")
    }),
    ("U04 chmod through a symlink", Judge::Python, |_| {
        Archive::new().symlink("foo", "../outside").add(Member::dir("foo").mode(0o700).mtime(5))
    }),
    ("U04 the same as foo/.", Judge::Python, |_| {
        Archive::new().symlink("foo", "../outside").add(Member::dir("foo/.").mode(0o700).mtime(5))
    }),
    ("U02 directory of files through a symlink", Judge::Python, |_| {
        Archive::new().symlink("d", "../outside/dir").file("d/a", "evil").file("d/b", "evil")
    }),
];

#[test]
fn what_escapes_elsewhere_stays_inside_here() {
    for (name, judge, input) in ESCAPES {
        let theirs = Ground::new();
        let links = || theirs.outside().join("canary").metadata().unwrap().nlink();
        let before = (list(&theirs.outside()), theirs.outside().metadata().unwrap().mode(), links());
        let file = theirs.outside().join("../archive.tar");
        fs::write(&file, input(&theirs).end()).unwrap();
        judge.unpack(&file, &theirs.tree());
        fs::remove_file(&file).unwrap();
        let after = (list(&theirs.outside()), theirs.outside().metadata().unwrap().mode(), links());
        assert!(before != after, "{name} does no harm to {judge:?}");

        for as_layer in [true, false] {
            let ours = Ground::new();
            let before = ours.outside().metadata().unwrap().mode();
            // Refused or resolved inside; what is outside is looked at by the ground itself.
            let _ = match as_layer {
                true => ours.layer(&input(&ours).end()),
                false => ours.archive(&input(&ours).end()),
            };
            let canary = ours.outside().join("canary").metadata().unwrap();
            assert_eq!((ours.outside().metadata().unwrap().mode(), canary.nlink()), (before, 1), "{name}");
        }
    }
}

/// What would be overlayfs' own marks, had it been unpacked as it is.
#[test]
fn marks_that_others_would_set_are_refused() {
    type Mark = (&'static str, Archive, fn(&Ground) -> bool);
    let inputs: [Mark; 3] = [
        ("U07 0:0", Archive::new().add(Member::device(b'3', "passwd", 0, 0)), |ground| {
            let stat = ground.tree().join("passwd").metadata().unwrap();
            stat.file_type().is_char_device() && stat.rdev() == 0
        }),
        (
            "U07 opaque",
            Archive::new().pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")]).dir("d"),
            |ground| ground.xattr("d", "trusted.overlay.opaque").as_deref() == Some(b"y"),
        ),
        (
            "U07 redirect",
            Archive::new().pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/etc")]).dir("d"),
            |ground| ground.xattr("d", "trusted.overlay.redirect").is_some(),
        ),
    ];
    for (name, archive, fires) in inputs {
        let (theirs, bytes) = (Ground::new(), archive.end());
        let file = theirs.outside().join("archive.tar");
        fs::write(&file, &bytes).unwrap();
        Judge::Tar.unpack(&file, &theirs.tree());
        assert!(fires(&theirs), "{name} does no harm to GNU tar");
        let ours = Ground::new();
        assert!(ours.layer(&bytes).is_err() && !fires_at_all(&ours), "{name}");
    }
}

fn fires_at_all(ground: &Ground) -> bool {
    ground.exists("passwd") || ground.exists("d") && ground.xattr("d", "trusted.overlay.opaque").is_some()
}

/// U09, U10: an attribute's bytes that a reader which splits records at newlines takes for a path.
#[test]
fn a_reader_that_splits_at_newlines_is_misled() {
    let hostile = pax_records(&[("SCHILY.xattr.user.x", b"a\n21 path=etc/evil.cfg\nb")]);
    let bytes = Archive::new().extended(b'x', &hostile).file("ok.txt", "ok").end();
    let theirs: Vec<String> = tar::Archive::new(&bytes[..])
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(theirs, ["etc/evil.cfg"], "the `tar` crate was mended: find another known-bad reader");
    let ours = Ground::new();
    ours.layer(&bytes).unwrap();
    assert_eq!(ours.read("ok.txt"), "ok");
    assert!(!ours.exists("etc"));
}

/// U11: a frame whose window takes 2 GiB of memory is refused here, as by `zstd` when nobody allows it more.
#[test]
fn a_window_of_two_gibibytes_is_only_taken_by_who_allows_it() {
    let ground = Ground::new();
    let file = ground.outside().join("../bomb.zst");
    let path = file.to_str().unwrap();
    let sh = |script: &str| {
        let mut command = Command::new("sh");
        let command = command.args(["-c", script, "sh", path]).stdin(Stdio::null()).stderr(Stdio::null());
        command.stdout(Stdio::null()).status().unwrap().success()
    };
    // Of unknown length, so that the frame asks for all of it.
    assert!(sh("head -c 3000000 /dev/zero | zstd -q --long=31 -c > \"$1\""), "install zstd");
    assert!(sh("zstd -q -dc --long=31 --memory=2048MB \"$1\""), "who allows it takes it");
    assert!(!sh("zstd -q -dc \"$1\""), "zstd itself refuses");
    let bytes = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let mut options = forge_store::layer::UnpackOptions::layer(forge_store::tree::OverlayXattrs::Trusted);
    options.limits.bytes = 1 << 30;
    let diff_id = forge_store::DiffId::new(forge_store::Digest::of(&vec![0; 3_000_000]));
    let error = forge_store::layer::unpack_blob(&bytes[..], &diff_id, &ground.root(), &options).unwrap_err();
    assert!(error.to_string().contains("cannot decompress zstd"), "{error}");
}
