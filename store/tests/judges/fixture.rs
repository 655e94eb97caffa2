//! A tree with one of everything, the same on every machine.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use forge_store::RootDir;
use forge_store::rootdir::{Device, FileKind, Mtime, NewDir};
use forge_store::tree::{OverlayXattrs, create_whiteout, node};

/// `cap_net_raw+ep`, as setcap(8) writes it.
pub const CAP_NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

const NEW: NewDir = NewDir { mode: 0o755, owner: Some((0, 0)) };

/// Makes files in an empty directory. All times are set at the end.
pub struct Fixture {
    pub path: PathBuf,
    pub root: RootDir,
    pub xattrs: OverlayXattrs,
}

impl Fixture {
    pub fn new(path: &Path) -> Self {
        let root = rustix::process::geteuid().is_root();
        assert!(root, "run the tests as root, or as root of a user namespace (unshare -r cargo test)");
        let user = super::in_user_namespace();
        let xattrs = if user { OverlayXattrs::User } else { OverlayXattrs::Trusted };
        Self { path: path.into(), root: RootDir::open_host(path).unwrap(), xattrs }
    }

    pub fn file(&self, path: impl AsRef<OsStr>, mode: u32, content: &[u8]) {
        let place = self.root.parent_of(Path::new(path.as_ref()), Some(NEW)).unwrap();
        let mut file = place.at().create_file(mode).unwrap();
        std::io::Write::write_all(&mut file, content).unwrap();
        // In a user namespace writing takes setuid and setgid away.
        place.at().chmod(mode).unwrap();
    }

    pub fn dir(&self, path: &str, mode: u32) {
        self.root.parent_of(path, Some(NEW)).unwrap().at().create_dir(mode).unwrap();
    }

    pub fn link(&self, path: &str, target: impl AsRef<OsStr>) {
        self.root.parent_of(path, Some(NEW)).unwrap().at().symlink(target).unwrap();
    }

    pub fn hard_link(&self, path: &str, existing: &str) {
        let existing = self.root.parent_of(existing, None).unwrap();
        self.root.parent_of(path, Some(NEW)).unwrap().at().hard_link_from(existing.at()).unwrap();
    }

    pub fn node(&self, path: &str, kind: FileKind, mode: u32, major: u32, minor: u32) {
        let place = self.root.parent_of(path, Some(NEW)).unwrap();
        node::create(place.at(), kind, mode, Device { major, minor }, self.xattrs).unwrap();
    }

    pub fn whiteout(&self, path: &str) {
        create_whiteout(self.root.parent_of(path, Some(NEW)).unwrap().at(), OverlayXattrs::Trusted).unwrap();
    }

    pub fn opaque(&self, path: &str) {
        self.dir(path, 0o755);
        self.xattrs.set_opaque(self.root.parent_of(path, None).unwrap().at()).unwrap();
    }

    /// Every shape that a layer's files have, whiteouts apart.
    pub fn all_shapes(&self) {
        self.shapes_of_anybody();
        self.node("dev/null", FileKind::Char, 0o666, 1, 3);
        self.node("dev/sda17", FileKind::Block, 0o660, 259, 1_048_575);
        self.hard_link("dev/zero-too", "dev/null");
    }

    /// Those that other programs can make too: in a user namespace, no device nodes.
    pub fn shapes_of_judges(&self) {
        match super::in_user_namespace() {
            true => self.shapes_of_anybody(),
            false => self.all_shapes(),
        }
    }

    fn shapes_of_anybody(&self) {
        self.file("bin/su", 0o4755, b"setuid");
        self.file("bin/wall", 0o2755, b"setgid");
        self.file("bin/ping", 0o755, b"capable");
        let ping = self.root.parent_of("bin/ping", None).unwrap();
        ping.at().set_xattr("security.capability", &CAP_NET_RAW).unwrap();
        self.hard_link("bin/zz-su", "bin/su");
        self.hard_link("a/su", "bin/su");
        self.link("bin/sh", "/bin/../bin/busybox");
        self.hard_link("bin/sh2", "bin/sh");
        self.link("long-link", "t".repeat(150));
        self.link("latin1-link", OsStr::from_bytes(b"na\xefve"));
        self.dir("tmp", 0o1777);
        self.dir("srv/shared", 0o2775);
        self.node("dev/log", FileKind::Fifo, 0o622, 0, 0);
        self.file(OsStr::from_bytes(b"latin1-\xe9"), 0o644, b"not UTF-8");
        self.file("unicode-\u{e9}\u{1f980}", 0o644, b"UTF-8");
        self.file("new\nline", 0o644, b"");
        self.file("back\\slash and space ", 0o600, b"");
        self.file("-dash", 0o000, b"");
        self.file(format!("long-{}", "n".repeat(200)), 0o644, b"beyond a name field");
        self.file(format!("{}/{}", "d".repeat(120), "n".repeat(90)), 0o644, b"prefix and name");
        self.file(["d"; 5].map(|d| d.repeat(200)).join("/"), 0o644, b"beyond both");
        self.file("blocks/511", 0o644, &[1; 511]);
        self.file("blocks/512", 0o644, &[2; 512]);
        self.file("blocks/513", 0o644, &[3; 513]);
        self.file(
            "blocks/million",
            0o644,
            &(0..1_000_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect::<Vec<_>>(),
        );
        self.file("sparse", 0o644, b"start");
        File::options().write(true).open(self.path.join("sparse")).unwrap().set_len(3_000_000).unwrap();
        for path in ["times/epoch", "times/before", "times/far"] {
            self.file(path, 0o644, b"");
        }
    }

    /// Owners that need PAX, where they can be set.
    pub fn owners(&self) {
        if !super::in_user_namespace() {
            for (path, uid, gid) in
                [("tmp", 1, 2), ("bin/sh", 65534, 4_294_967_294), ("srv/shared", 2_097_151, 2_097_152)]
            {
                self.root.parent_of(path, None).unwrap().at().chown(uid, gid).unwrap();
            }
        }
    }

    /// One time for everything, but for three files; leaves before their directories.
    pub fn times(&self) {
        let entries = walkdir(&self.root);
        for path in entries.iter().rev() {
            let sec = match path.to_str() {
                Some("times/epoch") => 0,
                Some("times/before") => -86_400,
                Some("times/far") => 9_000_000_000,
                _ => 1_700_000_000,
            };
            self.root.parent_of(path, None).unwrap().at().set_mtime(Mtime { sec, nsec: 0 }).unwrap();
        }
    }
}

/// All paths, parents first.
fn walkdir(root: &RootDir) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        for entry in root.open_dir(&path).unwrap().read_dir().unwrap() {
            let child = path.join(entry.name);
            if entry.kind == Some(FileKind::Directory) {
                todo.push(child.clone());
            }
            found.push(child);
        }
    }
    found
}
