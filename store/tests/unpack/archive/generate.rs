//! Archives by chance, the same for the same seed: every dialect, type and encoding that all readers should agree on.

use super::{Archive, Magic, Member};
use crate::corpus::sparse::sparse;

/// xorshift64*: good enough to choose with, and the same everywhere.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    pub fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| self.below(256) as u8).collect()
    }
}

/// What the archive under construction has made so far.
struct Maker {
    chance: Chance,
    archive: Archive,
    /// Below this directory all is.
    top: String,
    regular: &'static [u8],
    dirs: Vec<Vec<u8>>,
    files: Vec<Vec<u8>>,
    others: Vec<Vec<u8>>,
}

const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"etc",
    b"usr",
    b".hidden",
    b"with space",
    b"new\nline",
    b"na\xefve",
    b"\xff\xfe",
    "\u{e9}".as_bytes(),
    b"back\\slash",
    b"-dash",
    b"wh.x",
    b"100%",
    b"a=b",
    b"quote\"'",
];

/// An archive of some entries below `top`, with some end. `regular` are the types that regular files
/// may have: some of `0`, `7` and `S`.
pub fn archive(seed: u64, top: &str, regular: &'static [u8]) -> Vec<u8> {
    let mut maker = Maker {
        chance: Chance::new(seed),
        archive: Archive::new().dir(top),
        top: top.to_owned(),
        regular,
        dirs: vec![top.as_bytes().to_vec()],
        files: Vec::new(),
        others: Vec::new(),
    };
    for _ in 0..1 + maker.chance.below(12) {
        maker.entry();
    }
    let Maker { mut chance, archive, .. } = maker;
    match chance.below(4) {
        0 => archive.bytes(),
        1 => archive.raw([0; 1024]).raw(chance.bytes(700)).bytes(),
        2 => archive.raw([0; 9 * 1024]).bytes(),
        _ => archive.end(),
    }
}

impl Maker {
    fn entry(&mut self) {
        match self.chance.below(12) {
            0..=4 => self.file(),
            5..=7 => self.dir(),
            8 => self.symlink(),
            9 => self.hard_link(),
            10 => self.sparse(),
            _ => self.node(),
        }
    }

    /// A name that no entry had, in some directory; seldom one that a file had.
    fn path(&mut self) -> Vec<u8> {
        if self.chance.one_in(8) && !self.files.is_empty() {
            let at = self.chance.below(self.files.len() as u64) as usize;
            return self.files.swap_remove(at);
        }
        loop {
            let mut path = self.directory();
            path.push(b'/');
            path.extend(self.name());
            let known = [&self.dirs, &self.files, &self.others];
            if !known.iter().any(|paths| paths.contains(&path)) {
                return path;
            }
        }
    }

    fn directory(&mut self) -> Vec<u8> {
        let at = self.chance.below(self.dirs.len() as u64) as usize;
        self.dirs[at].clone()
    }

    fn name(&mut self) -> Vec<u8> {
        match self.chance.below(10) {
            0 => vec![b'n'; 90 + self.chance.below(166) as usize],
            1 => {
                // A parent that no entry describes.
                let parent = format!("implied-{}/", self.chance.below(3));
                [parent.as_bytes(), self.chance.of(NAMES)].concat()
            }
            2 => format!("f{}", self.chance.below(1000)).into_bytes(),
            _ => [self.chance.of(NAMES), self.chance.of(NAMES)].concat(),
        }
    }

    fn file(&mut self) {
        let path = self.path();
        let length = self.chance.of(&[0, 1, 511, 512, 513, 2000]);
        let content = self.chance.bytes(length);
        let kind = if self.chance.one_in(4) { self.regular[self.regular.len() / 2] } else { b'0' };
        self.add(Member::new(kind, "").data(&content), path.clone(), None, Some(content.len()));
        self.files.push(path);
    }

    fn dir(&mut self) {
        let path = match self.chance.one_in(5) {
            true => self.directory(),
            false => self.path(),
        };
        let mut name = path.clone();
        name.extend(self.chance.of(&[&b"/"[..], b"", b"//"]));
        self.add(Member::new(b'5', ""), name, None, None);
        if !self.dirs.contains(&path) {
            self.dirs.push(path);
        }
    }

    fn symlink(&mut self) {
        let path = self.path();
        let mut target = [self.chance.of(&[&b"/"[..], b"../", b"", b"./"]), &self.name()].concat();
        if self.chance.one_in(6) {
            target.extend(vec![b't'; 200]);
        }
        self.add(Member::new(b'2', ""), path.clone(), Some(target), None);
        self.others.push(path);
    }

    fn hard_link(&mut self) {
        let Some(target) = self.files.last().cloned() else { return };
        let path = self.path();
        if path != target && self.files.contains(&target) {
            self.add(Member::new(b'1', ""), path.clone(), Some(target), None);
            self.others.push(path);
        }
    }

    fn node(&mut self) {
        let path = self.path();
        let (major, minor) = (1 + self.chance.below(200), self.chance.below(256));
        let member = match self.chance.below(3) {
            0 => Member::device(b'3', "", major, minor),
            1 => Member::device(b'4', "", major, minor),
            _ => Member::new(b'6', ""),
        };
        self.add(member, path.clone(), None, None);
        self.others.push(path);
    }

    /// All four forms name the file in ASCII.
    fn sparse(&mut self) {
        let path = format!("{}/sparse-{}", self.top, self.chance.below(1_000_000));
        let mut rows = Vec::new();
        let mut end = 0;
        for _ in 0..self.chance.below(8) {
            let offset = end + 512 * self.chance.below(4);
            let length = 512 * (1 + self.chance.below(2));
            rows.push((offset, length));
            end = offset + length;
        }
        let size = end + 512 * self.chance.below(3);
        // GNU tar always ends a map so, and reads no other.
        rows.push((size, 0));
        let data = self.chance.bytes(rows.iter().map(|row| row.1).sum());
        let old_gnu = u64::from(self.regular.contains(&b'S'));
        let form = (1 - old_gnu + self.chance.below(3 + old_gnu)) as u8;
        self.archive = sparse(std::mem::take(&mut self.archive), form, &path, (&rows, size, &data));
        self.others.push(path.into_bytes());
    }

    /// Adds a member with a name, a link target and metadata, each in one of the ways it can be written.
    fn add(&mut self, member: Member, name: Vec<u8>, link: Option<Vec<u8>>, size: Option<usize>) {
        let mode = self.chance.of(&[0o644, 0o755, 0o600, 0o4755, 0o2711, 0o1777, 0o400, 0o7777]);
        let member = member.mode(mode);
        match self.chance.below(3) {
            0 => self.add_gnu(member, &name, link.as_deref()),
            1 => self.add_pax(member, &name, link.as_deref(), size),
            _ => self.add_ustar(member, &name, link.as_deref()),
        }
    }

    fn add_gnu(&mut self, member: Member, name: &[u8], link: Option<&[u8]>) {
        let mut member = member.magic(Magic::Gnu).uid(self.chance.below(2000) as u32);
        let mut archive = std::mem::take(&mut self.archive);
        if self.chance.one_in(2) {
            member = member.base_256(116, 8, self.chance.below(1 << 31) as i64);
        }
        if self.chance.one_in(2) {
            member = member.base_256(136, 12, self.chance.below(1 << 31) as i64 - (1 << 30));
        }
        if name.len() > 100 || self.chance.one_in(4) {
            archive = archive.long_name(name);
        } else {
            member = member.name(name);
        }
        match link {
            Some(link) if link.len() > 100 || self.chance.one_in(4) => archive = archive.long_link(link),
            Some(link) => member = member.link(link),
            None => {}
        }
        self.archive = archive.add(member);
    }

    fn add_pax(&mut self, mut member: Member, name: &[u8], link: Option<&[u8]>, size: Option<usize>) {
        let mut records: Vec<(&str, Vec<u8>)> = Vec::new();
        if self.chance.one_in(3) {
            // A value that looks like records, for readers that split at newlines.
            records.push(("comment", b"x\n20 path=etc/evil.cfg\n13 size=1000\n".to_vec()));
        }
        if name.len() > 100 || self.chance.one_in(2) {
            records.push(("path", name.to_vec()));
        } else {
            member = member.name(name);
        }
        match link {
            Some(link) if link.len() > 100 || self.chance.one_in(2) => {
                records.push(("linkpath", link.to_vec()))
            }
            Some(link) => member = member.link(link),
            None => {}
        }
        if self.chance.one_in(2) {
            let (sec, quarters) = (self.chance.below(1 << 31), self.chance.below(4) * 25);
            let sign = self.chance.of(&["", "", "-"]);
            records.push(("mtime", format!("{sign}{sec}.{quarters:02}").into_bytes()));
        }
        if self.chance.one_in(2) {
            records.push(("uid", self.chance.below(1 << 31).to_string().into_bytes()));
        }
        if let Some(size) = size.filter(|_| self.chance.one_in(2)) {
            records.push(("size", size.to_string().into_bytes()));
            member = member.size(self.chance.of(&[0, 1, 4096]));
        }
        let records: Vec<_> = records.iter().map(|(key, value)| (*key, &value[..])).collect();
        let archive = std::mem::take(&mut self.archive);
        self.archive =
            if records.is_empty() { archive.add(member) } else { archive.pax(&records).add(member) };
    }

    fn add_ustar(&mut self, member: Member, name: &[u8], link: Option<&[u8]>) {
        let fits = link.is_none_or(|link| link.len() <= 100);
        let slash = name.iter().position(|b| *b == b'/').unwrap_or(0);
        match (fits, name.len() <= 100, name.len() - slash <= 101 && slash > 0) {
            (true, true, _) => self.add_short(member.name(name), link),
            (true, _, true) => self.add_short(member.prefix(&name[..slash]).name(&name[slash + 1..]), link),
            _ => self.add_gnu(member, name, link),
        }
    }

    fn add_short(&mut self, member: Member, link: Option<&[u8]>) {
        let member = member.uid(self.chance.below(100) as u32).mtime(self.chance.below(1 << 33));
        let member = member.link(link.unwrap_or_default());
        self.archive = std::mem::take(&mut self.archive).add(member);
    }
}
