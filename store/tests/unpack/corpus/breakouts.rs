//! The cases of containerd's `TestBreakouts` (pkg/archive/tar_test.go) by their names. What a tree is in the end, the
//! kernel says: base and layer are stacked by overlayfs, and a shell looks from inside, with the tree as its root.
//!
//! Where containerd removes files of the layers below while it unpacks, forge leaves marks for overlayfs. And where a
//! hard link leads to a file of a layer below, there is nothing to link to: so it is refused, as containerd and
//! Docker refuse it when their snapshots are overlays. In one directory (ADD) it is made.

use std::fs;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::archive::ground::Ground;
use crate::archive::{Archive, Member};

/// What must come of a case.
#[derive(Clone, Copy)]
enum Want {
    /// It is unpacked, and this script says yes.
    Holds(&'static str),
    /// It is refused with these words.
    Refused(&'static str),
}
use Want::{Holds, Refused};

struct Case {
    name: &'static str,
    base: Archive,
    layer: Archive,
    /// As a layer over the base.
    layered: Want,
    /// Unpacked into the directory that the base was unpacked into; `None` where whiteouts would only be names there.
    joined: Option<Want>,
}

fn alone(name: &'static str, layer: Archive, want: Want) -> Case {
    Case { name, base: Archive::new(), layer, layered: want, joined: Some(want) }
}

fn over(name: &'static str, base: Archive, layer: Archive, layered: Want, joined: Option<Want>) -> Case {
    Case { name, base, layer, layered, joined }
}

const UNBROKEN: Want = Holds("[ \"$(cat etc/unbroken)\" = unbroken ]");
const IN_BREAKOUTS: Want = Holds("[ breakouts/mypasswd -ef etc/passwd ]");
const IN_ROOT: Want = Holds("[ localpasswd -ef etc/passwd ]");
const IN_LOCALETC: Want = Holds("[ localetc/localpasswd -ef etc/passwd ]");
const SAME_SYMLINK: Want = Holds(
    "[ -L localpasswd ] && [ \"$(readlink localpasswd)\" = \"$(readlink passwdlink)\" ] && [ localpasswd -ef etc/passwd ]",
);

fn etc() -> Archive {
    Archive::new().dir("etc")
}

fn passwd() -> Archive {
    Archive::new().add(Member::dir("etc").mode(0o770)).file("/etc/passwd", "inside")
}

fn users() -> Archive {
    etc().file("etc/passwd", "all users").file("etc/whitedout", "white")
}

fn symlinks() -> Vec<Case> {
    let unbroken = |archive: Archive, through: &str| archive.file(through, "unbroken");
    vec![
        alone("SymlinkAbsolute", unbroken(etc().symlink("localetc", "/etc"), "/localetc/unbroken"), UNBROKEN),
        alone(
            "SymlinkUpAndOut",
            unbroken(etc().dir("dummy").symlink("localetc", "/dummy/../etc"), "/localetc/unbroken"),
            UNBROKEN,
        ),
        alone(
            "SymlinkMultipleAbsolute",
            unbroken(
                etc().dir("dummy").symlink("/dummy/etc", "/etc").symlink("localetc", "/dummy/etc"),
                "/dummy/etc/unbroken",
            ),
            UNBROKEN,
        ),
        alone(
            "SymlinkMultipleRelative",
            unbroken(
                etc().dir("dummy").symlink("/dummy/etc", "/etc").symlink("localetc", "./dummy/etc"),
                "/dummy/etc/unbroken",
            ),
            UNBROKEN,
        ),
        alone(
            "SymlinkEmptyFile",
            etc().file("etc/emptied", "notempty").symlink("localetc", "/etc").file("/localetc/emptied", ""),
            Holds("[ -e etc/emptied ] && [ ! -s etc/emptied ]"),
        ),
        // containerd follows these two to where they lead inside; no archive that anybody made has them.
        alone("SymlinkParentDirectory", passwd().symlink("..", "/etc/"), Refused("leads out of the tree")),
        alone("SymlinkEmptyFilename", passwd().symlink("", "/etc/"), Refused("root")),
        alone(
            "SymlinkParentRelative",
            passwd().symlink("localetc/sub/..", "/etc/").link("/localetc/localpasswd", "/etc/passwd"),
            IN_LOCALETC,
        ),
        alone(
            "SymlinkSlashEnded",
            passwd().dir("localetc/").link("/localetc/localpasswd", "/etc/passwd"),
            IN_LOCALETC,
        ),
    ]
}

fn hard_links() -> Vec<Case> {
    let link = |archive: Archive, target: &str| archive.link("localpasswd", target);
    let breakout = |archive: Archive| archive.link("breakouts/mypasswd", "/breakouts/d1/passwd");
    vec![
        alone(
            "HardlinkRelative",
            breakout(passwd().dir("breakouts").symlink("breakouts/d1", "../../etc")),
            IN_BREAKOUTS,
        ),
        alone(
            "HardlinkDownAndOut",
            breakout(
                passwd()
                    .dir("breakouts")
                    .dir("downandout")
                    .symlink("breakouts/d1", "../downandout/../../etc"),
            ),
            IN_BREAKOUTS,
        ),
        alone("HardlinkAbsolute", link(passwd().symlink("localetc", "/etc"), "/localetc/passwd"), IN_ROOT),
        alone(
            "HardlinkRelativeLong",
            link(passwd().symlink("localetc", "../../../../../../../etc"), "/localetc/passwd"),
            IN_ROOT,
        ),
        // containerd folds `upandout/..` although there is no such directory; to the kernel the symlink leads nowhere.
        alone(
            "HardlinkRelativeUpAndOut",
            link(passwd().symlink("localetc", "upandout/../../../etc"), "/localetc/passwd"),
            Refused("hard link target"),
        ),
        alone("HardlinkDirectRelative", link(passwd(), "../../../../../etc/passwd"), IN_ROOT),
        alone("HardlinkDirectAbsolute", link(passwd(), "/etc/passwd"), IN_ROOT),
        alone(
            "HardlinkSymlinkBeforeCreateTarget",
            etc()
                .symlink("localpasswd", "/etc/passwd")
                .link("localpasswd-dup", "localpasswd")
                .file("/etc/passwd", "after"),
            Holds("[ localpasswd-dup -ef etc/passwd ]"),
        ),
        alone(
            "HardlinkSymlinkRelative",
            link(passwd().symlink("passwdlink", "../../../../../etc/passwd"), "/passwdlink"),
            SAME_SYMLINK,
        ),
        alone(
            "HardlinkSymlinkAbsolute",
            link(passwd().symlink("passwdlink", "/etc/passwd"), "/passwdlink"),
            SAME_SYMLINK,
        ),
    ]
}

fn overrides() -> Vec<Case> {
    let base = || etc().file("etc/passwd", "inside");
    let refused = Refused("hard link target");
    let linked = |archive: Archive| archive.link("/localetc/localpasswd", "/etc/passwd");
    vec![
        over(
            "SymlinkOverrideDirectory",
            base().dir("localetc"),
            linked(Archive::new().symlink("localetc", "/etc")),
            refused,
            Some(IN_LOCALETC),
        ),
        over(
            "SymlinkOverrideDirectoryRelative",
            base().dir("localetc"),
            linked(Archive::new().symlink("localetc", "../../etc")),
            refused,
            Some(IN_LOCALETC),
        ),
        over(
            "DirectoryOverrideSymlink",
            base().symlink("localetc", "/etc"),
            linked(Archive::new().dir("/localetc/")),
            refused,
            Some(IN_LOCALETC),
        ),
        over(
            "DirectoryOverrideSymlinkAndHardlink",
            base().symlink("localetc", "etc").link("/localetc/localpasswd", "/etc/passwd"),
            Archive::new().dir("/localetc/").file("/localetc/localpasswd", "different"),
            Holds("[ \"$(cat localetc/localpasswd)\" = different ] && [ \"$(cat etc/passwd)\" = inside ]"),
            Some(Holds(
                "[ \"$(cat localetc/localpasswd)\" = different ] && [ \"$(cat etc/passwd)\" = inside ]",
            )),
        ),
    ]
}

fn whiteouts() -> Vec<Case> {
    let refused = Refused("whiteout");
    let over = |name, base, at, want| over(name, base, Archive::new().file(at, ""), want, None);
    let mut cases = vec![
        over("WhiteoutRootParent", users(), ".wh...", refused),
        over("WhiteoutParent", users(), "etc/.wh...", refused),
        over("WhiteoutRoot", users(), ".wh..", refused),
        over("WhiteoutCurrentDirectory", users(), "etc/.wh..", refused),
        over(
            "WhiteoutSymlink",
            users().symlink("localetc", "/etc"),
            ".wh.localetc",
            Holds("[ \"$(cat etc/passwd)\" = 'all users' ] && [ ! -L localetc ] && [ ! -e localetc ]"),
        ),
        // A layer is unpacked without those below: the name in it is a directory's, and no way through the symlink.
        over(
            "WhiteoutSymlinkPath",
            users().symlink("localetc", "/etc"),
            "localetc/.wh.whitedout",
            Holds("[ \"$(cat etc/passwd)\" = 'all users' ] && [ ! -e localetc/whitedout ]"),
        ),
        over(
            "WhiteoutDeadSymlinkParent",
            users().symlink("localetc", "/dne"),
            "localetc/.wh.etc",
            Holds("[ \"$(cat etc/passwd)\" = 'all users' ]"),
        ),
        over(
            "WhiteoutRelativePath",
            users().symlink("localetc", "/dne"),
            "dne/../.wh.etc",
            Holds("[ ! -e etc/passwd ]"),
        ),
    ];
    cases.push(Case {
        name: "WhiteoutDirectoryName",
        base: users(),
        layer: Archive::new().file(".wh.etc/somefile", "non-empty"),
        layered: Holds(
            "[ \"$(cat etc/passwd)\" = 'all users' ] && [ \"$(cat .wh.etc/somefile)\" = non-empty ]",
        ),
        joined: Some(Holds("[ \"$(cat .wh.etc/somefile)\" = non-empty ]")),
    });
    cases
}

/// Asks a shell whose root is these trees, the topmost first.
fn says_yes(trees: &[&Ground], script: &str) -> bool {
    let top = TempDir::new().unwrap();
    let (tools, merged) = (top.path().join("tools"), top.path().join("merged"));
    fs::create_dir_all(tools.join("tools")).unwrap();
    fs::create_dir(&merged).unwrap();
    fs::copy("/bin/busybox", tools.join("tools/busybox")).expect("install busybox-static");
    let layers = trees.iter().map(|ground| ground.tree()).chain([tools]);
    let lower = layers.map(|path| path.display().to_string()).collect::<Vec<_>>().join(":");
    let mount = "mount -t overlay -o \"lowerdir=$1\" forge-test \"$2\" && exec chroot \"$2\" /tools/busybox sh -c \
                 \"cat() { /tools/busybox cat \\\"\\$@\\\"; }; readlink() { /tools/busybox readlink \\\"\\$@\\\"; }; $3\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", mount, "sh", &lower, merged.to_str().unwrap(), script]);
    let status = command.stdin(Stdio::null()).status().expect("install util-linux");
    status.success()
}

fn check(name: &str, want: Want, trees: &[&Ground], unpacked: Result<(), String>) {
    match (want, unpacked) {
        (Refused(why), Err(error)) => assert!(error.contains(why), "{name}: {error}"),
        (Holds(script), Ok(())) => assert!(says_yes(trees, script), "{name}: {script}"),
        (_, other) => panic!("{name}: {other:?}"),
    }
}

fn unpacked<T, E: ToString>(result: Result<T, E>) -> Result<(), String> {
    result.map(drop).map_err(|error| error.to_string())
}

fn run(cases: Vec<Case>) {
    for Case { name, base, layer, layered, joined } in cases {
        let (base, layer) = (base.end(), layer.end());
        let (below, above) = (Ground::new(), Ground::new());
        below.layer(&base).unwrap();
        check(name, layered, &[&above, &below], unpacked(above.layer(&layer)));
        if let Some(joined) = joined {
            let ground = Ground::new();
            ground.archive(&base).unwrap();
            check(name, joined, &[&ground], unpacked(ground.archive(&layer)));
        }
    }
}

#[test]
fn through_symlinks() {
    run(symlinks());
}

#[test]
fn through_hard_links() {
    run(hard_links());
}

#[test]
fn over_what_lies_below() {
    run(overrides());
}

#[test]
fn by_whiteouts() {
    run(whiteouts());
}

#[test]
fn hardlink_symlink_chmod() {
    // The symlink's name and target are paths of the host; both mean something in the tree only.
    let ground = Ground::new();
    let (target, name) = (ground.outside().join("canary"), ground.outside().join("also"));
    let (target, name) = (target.to_str().unwrap(), name.to_str().unwrap());
    let archive = Archive::new().long_link(target.as_bytes()).long_name(name.as_bytes()).symlink("x", "y");
    ground.layer(&archive.long_link(name.as_bytes()).link("sketchylink", "x").end()).unwrap();
    assert!(ground.line("sketchylink").ends_with(&format!("-> {target}")));
}

#[test]
fn none_is_forgotten() {
    let all = [symlinks(), hard_links(), overrides(), whiteouts()];
    // With `HardlinkSymlinkChmod`, which has a test of its own, all that containerd has.
    assert_eq!(all.iter().map(Vec::len).sum::<usize>() + 1, 33);
}
