//! A tree full of ways out, with a canary outside: nothing may be read, changed or made there; and what stays
//! inside must work, since images are full of absolute symlinks.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

const NEW: NewDir = NewDir { mode: 0o755, owner: None };

/// `outside/canary` beside `root/`, which the tests resolve in.
struct Ground {
    top: TempDir,
    root: RootDir,
}

impl Ground {
    fn new() -> Self {
        let top = TempDir::new().unwrap();
        fs::create_dir(top.path().join("root")).unwrap();
        fs::create_dir(top.path().join("outside")).unwrap();
        fs::write(top.path().join("outside/canary"), "alive").unwrap();
        let root = RootDir::open_host(top.path().join("root")).unwrap();
        Self { top, root }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.top.path().join("root").join(path)
    }

    fn outside(&self) -> PathBuf {
        self.top.path().join("outside")
    }

    fn link(&self, target: impl AsRef<Path>, name: &str) {
        symlink(target, self.path(name)).unwrap();
    }

    fn read(&self, path: &str) -> Result<String> {
        let mut text = String::new();
        self.root.open_file(path)?.0.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[track_caller]
    fn assert_canary_untouched(&self) {
        let names: Vec<_> = fs::read_dir(self.outside()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["canary"]);
        let canary = self.outside().join("canary");
        assert_eq!(fs::read_to_string(&canary).unwrap(), "alive");
        let (canary, dir) = (fs::metadata(canary).unwrap(), fs::metadata(self.outside()).unwrap());
        assert_eq!((canary.mode() & 0o7777, canary.nlink()), (0o644, 1));
        assert_eq!(dir.mode() & 0o7777, 0o755);
    }
}

#[test]
fn no_path_leads_out() {
    let ground = Ground::new();
    let outside = ground.outside();
    ground.link(&outside, "absolute");
    ground.link("../outside", "relative");
    ground.link("../../../../../../../../../../", "far_up");
    ground.link(format!("/proc/self/cwd{}", outside.display()), "magic");
    ground.link("absolute", "chain");
    let top = outside.strip_prefix("/").unwrap().display();
    for way in ["absolute", "relative", "chain", "../outside", "a/../../outside", "/../outside", "magic"] {
        assert!(ground.root.open_file(format!("{way}/canary")).is_err(), "{way}");
        assert!(ground.root.stat_follow(format!("{way}/canary")).is_err(), "{way}");
        assert!(ground.root.parent_of(format!("{way}/x"), None).is_err(), "{way}");
    }
    assert!(ground.root.open_file(format!("far_up/{top}/canary")).is_err());
    for way in ["absolute", "relative", "chain", "../outside", "/../outside"] {
        let place = ground.root.parent_of(format!("{way}/made"), Some(NEW)).unwrap();
        place.at().create_file(0o777).unwrap();
        ground.root.remove(format!("{way}/made")).unwrap();
        ground.root.remove(format!("{way}/canary")).unwrap();
    }
    ground.assert_canary_untouched();
}

#[test]
fn magic_links_are_refused() {
    let proc = RootDir::open_host("/proc").unwrap();
    for path in ["self/root", "self/cwd", "self/fd/0", "self/exe"] {
        let error = proc.stat_follow(path).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::LOOP), "{path}");
    }
}

#[test]
fn links_that_stay_inside_work() {
    let ground = Ground::new();
    fs::create_dir_all(ground.path("run/lock")).unwrap();
    fs::create_dir(ground.path("var")).unwrap();
    fs::write(ground.path("run/lock/file"), "inside").unwrap();
    ground.link("/run", "var/run");
    ground.link("../../../run/lock", "var/lock");
    ground.link("/var/lock/file", "direct");
    for path in ["var/run/lock/file", "/var/lock/file", "direct", "../../var/lock/../lock/file"] {
        assert_eq!(ground.read(path).unwrap(), "inside", "{path}");
    }
    assert_eq!(ground.root.read_link("var/run").unwrap(), "/run");
    assert_eq!(ground.root.stat_nofollow("direct").unwrap().kind, FileKind::Symlink);
    assert_eq!(ground.root.open("/var/lock").unwrap().open_file("file").unwrap().1.size, 6);
    let error = ground.root.read_link("run").unwrap_err();
    assert_eq!(error.to_string(), "cannot read link run: Invalid argument (os error 22)");
}

#[test]
fn missing_parents_are_made_where_dangling_links_point() {
    let ground = Ground::new();
    fs::create_dir(ground.path("var")).unwrap();
    ground.link("/run/deep/lock", "var/lock");
    ground.link("loop2", "loop1");
    ground.link("loop1", "loop2");
    fs::write(ground.path("file"), "").unwrap();
    let place =
        ground.root.parent_of("var/lock/../lock/sub/x", Some(NewDir { mode: 0o1777, owner: None })).unwrap();
    place.at().create_file(0o4755).unwrap();
    let mode = |path| fs::metadata(ground.path(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("run/deep/lock/sub"), mode("run"), mode("var")), (0o1777, 0o1777, 0o755));
    assert_eq!(mode("run/deep/lock/sub/x"), 0o4755);
    let errno = |path| ground.root.parent_of(path, Some(NEW)).unwrap_err().errno();
    assert_eq!(errno("loop1/x"), Some(Errno::LOOP));
    assert_eq!(errno("file/x"), Some(Errno::NOTDIR));
    assert_eq!(errno("file/y/x"), Some(Errno::NOTDIR));
}

#[test]
fn a_place_needs_a_last_name() {
    let ground = Ground::new();
    for path in ["", "/", ".", "..", "/..", "a/.."] {
        assert!(matches!(ground.root.parent_of(path, None), Err(RootDirError::NoName { .. })), "{path}");
    }
    for path in ["name", "/name", "./name/", "//name/."] {
        assert_eq!(ground.root.parent_of(path, None).unwrap().name, "name");
    }
}

#[test]
fn names_are_checked() {
    let ground = Ground::new();
    for name in ["", ".", "..", "a/b", "/", "a\0b"] {
        assert!(matches!(ground.root.dir().at(name), Err(RootDirError::Name { .. })), "{name:?}");
    }
    ground.root.dir().at("...").unwrap();
}

#[test]
fn metadata_of_a_link_is_not_that_of_its_target() {
    let ground = Ground::new();
    ground.link(ground.outside().join("canary"), "link");
    let link = ground.root.dir().at("link").unwrap();
    assert!(link.chmod(0o777).is_err());
    link.set_mtime(Mtime { sec: -1, nsec: 5 }).unwrap();
    assert_eq!(link.stat().unwrap().mtime, Mtime { sec: -1, nsec: 5 });
    assert!(link.set_xattr("user.x", b"1").is_err(), "the kernel allows user attributes on no symlink");
    assert_eq!(link.xattr("user.x").unwrap(), None);
    assert!(link.open_dir().is_err() && link.open_file().is_err() && link.read_dir().is_err());
    let twin = ground.root.dir().at("twin").unwrap();
    twin.hard_link_from(link).unwrap();
    assert!(twin.stat().unwrap().same_inode(&link.stat().unwrap()));
    ground.assert_canary_untouched();
}

#[test]
fn modes_are_exact_and_owners_are_not_half_set() {
    let ground = Ground::new();
    fs::set_permissions(ground.path(""), fs::Permissions::from_mode(0o2777)).unwrap();
    let dir = ground.root.dir();
    dir.at("dir").unwrap().create_dir(0o777).unwrap();
    dir.at("file").unwrap().create_file(0o6777).unwrap();
    dir.at("pipe").unwrap().mknod(FileKind::Fifo, 0o622, Device::default()).unwrap();
    for (name, kind, mode) in [
        ("dir", FileKind::Directory, 0o777),
        ("file", FileKind::Regular, 0o6777),
        ("pipe", FileKind::Fifo, 0o622),
    ] {
        let stat = dir.at(name).unwrap().stat().unwrap();
        assert_eq!((stat.kind, stat.mode), (kind, mode), "{name}");
    }
    assert!(dir.at("file").unwrap().create_file(0o644).unwrap_err().exists());
    assert_eq!(dir.at("file").unwrap().chown(u32::MAX, 0).unwrap_err().errno(), Some(Errno::INVAL));
}

#[test]
fn a_fifo_or_device_is_refused_without_waiting() {
    let ground = Ground::new();
    ground.root.dir().at("pipe").unwrap().mknod(FileKind::Fifo, 0o644, Device::default()).unwrap();
    ground.link("pipe", "passwd");
    assert!(matches!(ground.root.open_file("passwd"), Err(RootDirError::NotRegular { .. })));
    let pipe = ground.root.dir().at("pipe").unwrap().open_file();
    assert!(matches!(pipe, Err(RootDirError::NotRegular { .. })));
    let dev = RootDir::open_host("/dev").unwrap();
    assert!(matches!(dev.open_file("null"), Err(RootDirError::NotRegular { .. })));
}

#[test]
fn extended_attributes_come_back_sorted() {
    let ground = Ground::new();
    fs::write(ground.path("file"), "").unwrap();
    let file = ground.root.dir().at("file").unwrap();
    let long = vec![7; 2000];
    file.set_xattr("user.b", &long).unwrap();
    file.set_xattr("user.a", b"").unwrap();
    let user = |names: Vec<OsString>| {
        names.into_iter().filter(|n| n.to_string_lossy().starts_with("user.")).collect::<Vec<_>>()
    };
    assert_eq!(user(file.xattrs().unwrap()), ["user.a", "user.b"]);
    assert_eq!(file.xattr("user.b").unwrap().as_ref(), Some(&long));
    assert_eq!(file.xattr("user.a").unwrap().as_deref(), Some(&b""[..]));
    file.remove_xattr("user.b").unwrap();
    file.remove_xattr("user.b").unwrap();
    assert_eq!(file.xattr("user.b").unwrap(), None);
    ground.root.dir().itself().set_xattr("user.root", b"1").unwrap();
    assert_eq!(user(ground.root.dir().itself().xattrs().unwrap()), ["user.root"]);
}

#[test]
fn directories_are_listed_in_byte_order() {
    let ground = Ground::new();
    for name in ["b", "B", "a", "\u{e9}", "a.", "a0", ".x"] {
        fs::write(ground.path(name), "").unwrap();
    }
    let names: Vec<_> = ground.root.dir().read_dir().unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, [".x", "B", "a", "a.", "a0", "b", "\u{e9}"]);
}

#[test]
fn a_tree_is_removed_without_following_links() {
    let ground = Ground::new();
    fs::create_dir_all(ground.path("t/a/b")).unwrap();
    ground.link(ground.outside(), "t/a/out");
    ground.link(ground.outside().join("canary"), "t/a/b/canary");
    fs::hard_link(ground.outside().join("canary"), ground.path("t/hard")).unwrap();
    ground.root.remove("t/a/out/canary").unwrap();
    ground.root.remove("t").unwrap();
    ground.root.remove("t").unwrap();
    ground.root.remove("no/such/parent").unwrap();
    assert!(!ground.path("t").exists());
    assert!(ground.root.dir().itself().remove_tree().is_err());
    ground.assert_canary_untouched();
}

/// As many descriptors as a process usually may have, where the machine would allow more.
pub(crate) fn limit_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let current = Some(limit.current.map_or(1024, |current| current.min(1024)));
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
}

#[test]
fn a_tree_deeper_than_any_path_is_made_and_removed() {
    limit_descriptors();
    let ground = Ground::new();
    let mut dir = ground.root.dir().clone();
    for _ in 0..2500 {
        let at = dir.at("deep").unwrap();
        at.create_dir(0o755).unwrap();
        at.dir.at("beside").unwrap().create_file(0o644).unwrap();
        dir = at.open_dir().unwrap();
    }
    ground.root.remove("deep").unwrap();
    assert_eq!(ground.root.dir().read_dir().unwrap().len(), 1);
}

/// Opening must never land outside while another thread swaps a directory for a symlink.
#[test]
fn a_racing_swap_gains_nothing() {
    let ground = Ground::new();
    fs::create_dir_all(ground.path("real")).unwrap();
    fs::write(ground.path("real/canary"), "inside").unwrap();
    ground.link(ground.outside(), "evil");
    fs::create_dir(ground.path("victim")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (a, b) = (ground.path("real"), ground.path("evil"));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(CWD, &a, CWD, &b, flags).unwrap();
            }
        });
        for _ in 0..2000 {
            if let Ok(text) = ground.read("real/canary") {
                assert_eq!(text, "inside");
            }
            if let Ok(place) = ground.root.parent_of("real/sub/x", Some(NEW)) {
                let _ = place.at().create_file(0o644);
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    ground.assert_canary_untouched();
}
