//! Tar archives byte by byte: also those that no tar program would write.

#![allow(dead_code, reason = "every test file uses some of it")]

pub mod generate;
pub mod ground;

/// An archive being written.
#[derive(Clone, Default)]
pub struct Archive {
    bytes: Vec<u8>,
}

/// One header block and the data behind it.
#[derive(Clone)]
pub struct Member {
    block: [u8; 512],
    data: Vec<u8>,
}

/// What the fields behind v7's mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Magic {
    V7,
    Ustar,
    Gnu,
}

impl Archive {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a header and its data, padded.
    pub fn add(mut self, member: Member) -> Self {
        self.bytes.extend_from_slice(&member.finished());
        self.bytes.extend_from_slice(&member.data);
        self.pad();
        self
    }

    pub fn file(self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.add(Member::file(path, content))
    }

    pub fn dir(self, path: impl AsRef<[u8]>) -> Self {
        self.add(Member::dir(path))
    }

    pub fn symlink(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.add(Member::new(b'2', path).link(target).mode(0o777))
    }

    pub fn link(self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.add(Member::new(b'1', path).link(target))
    }

    /// A PAX header for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.extended(b'x', &pax_records(records))
    }

    /// A PAX header for all entries that follow.
    pub fn global(self, records: &[(&str, &[u8])]) -> Self {
        self.extended(b'g', &pax_records(records))
    }

    /// A header of this type, with data that speaks of the next entry.
    pub fn extended(self, type_flag: u8, data: &[u8]) -> Self {
        let magic = if matches!(type_flag, b'L' | b'K') { Magic::Gnu } else { Magic::Ustar };
        self.add(Member::new(type_flag, "././@LongLink").magic(magic).data(data))
    }

    pub fn long_name(self, name: &[u8]) -> Self {
        self.extended(b'L', &[name, b"\0"].concat())
    }

    pub fn long_link(self, target: &[u8]) -> Self {
        self.extended(b'K', &[target, b"\0"].concat())
    }

    /// Bytes as they are.
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.bytes.extend_from_slice(bytes.as_ref());
        self
    }

    /// The archive with its end: two zero blocks.
    pub fn end(self) -> Vec<u8> {
        self.raw([0; 1024]).bytes
    }

    /// The archive without an end.
    pub fn bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }
}

impl Member {
    /// A header without data: mode 0644, root's, from 2001, PAX-compatible.
    pub fn new(type_flag: u8, path: impl AsRef<[u8]>) -> Self {
        let mut member = Self { block: [0; 512], data: Vec::new() };
        member.block[156] = type_flag;
        member.name(path).mode(0o644).uid(0).gid(0).size(0).mtime(1_000_000_000).magic(Magic::Ustar)
    }

    pub fn file(path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        Self::new(b'0', path).data(content)
    }

    pub fn dir(path: impl AsRef<[u8]>) -> Self {
        Self::new(b'5', path).mode(0o755)
    }

    pub fn device(type_flag: u8, path: &str, major: u64, minor: u64) -> Self {
        Self::new(type_flag, path).octal(329, 8, major).octal(337, 8, minor)
    }

    pub fn name(self, path: impl AsRef<[u8]>) -> Self {
        self.text(0, 100, path.as_ref())
    }

    pub fn prefix(self, prefix: &[u8]) -> Self {
        self.text(345, 155, prefix)
    }

    pub fn link(self, target: impl AsRef<[u8]>) -> Self {
        self.text(157, 100, target.as_ref())
    }

    pub fn mode(self, mode: u32) -> Self {
        self.octal(100, 8, mode.into())
    }

    pub fn uid(self, uid: u32) -> Self {
        self.octal(108, 8, uid.into())
    }

    pub fn gid(self, gid: u32) -> Self {
        self.octal(116, 8, gid.into())
    }

    pub fn size(self, size: u64) -> Self {
        self.octal(124, 12, size)
    }

    pub fn mtime(self, mtime: u64) -> Self {
        self.octal(136, 12, mtime)
    }

    /// Sets the size field too; [`Member::size`] afterwards makes it lie.
    pub fn data(mut self, data: impl AsRef<[u8]>) -> Self {
        self.data = data.as_ref().to_vec();
        let size = self.data.len() as u64;
        self.size(size)
    }

    pub fn magic(self, magic: Magic) -> Self {
        match magic {
            Magic::V7 => self.raw(257, &[0; 8]),
            Magic::Ustar => self.raw(257, b"ustar\x0000"),
            Magic::Gnu => self.raw(257, b"ustar  \0"),
        }
    }

    /// A number in octal digits that fill the field but for a NUL.
    pub fn octal(self, at: usize, width: usize, value: u64) -> Self {
        let digits = format!("{value:0width$o}\0", width = width - 1);
        self.raw(at, &digits.as_bytes()[digits.len() - width..])
    }

    /// A number in GNU's base-256.
    pub fn base_256(self, at: usize, width: usize, value: i64) -> Self {
        let mut field = vec![if value < 0 { 0xff } else { 0 }; width];
        field[width - 8.min(width)..].copy_from_slice(&value.to_be_bytes()[8 - 8.min(width)..]);
        field[0] = if value < 0 { 0xff } else { field[0] | 0x80 };
        self.raw(at, &field)
    }

    pub fn raw(mut self, at: usize, bytes: &[u8]) -> Self {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn text(mut self, at: usize, width: usize, text: &[u8]) -> Self {
        assert!(text.len() <= width, "{} does not fit", text.escape_ascii());
        self.block[at..at + width].fill(0);
        self.raw(at, text)
    }

    fn finished(&self) -> [u8; 512] {
        let mut block = self.block;
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// `LENGTH KEY=VALUE\n`, for each.
pub fn pax_records(records: &[(&str, &[u8])]) -> Vec<u8> {
    records.iter().flat_map(|(key, value)| pax_record(key, value)).collect()
}

fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let length = (1..).find(|n: &usize| n.to_string().len() + body.len() == *n);
    [length.expect("a length").to_string().into_bytes(), body].concat()
}
