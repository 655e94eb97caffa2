//! What is packed: a tree like the contexts of docs/performance.md, or the directory that `BENCH_TREE` names.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use forge_store::RootDir;

const FILES: u32 = 800;
const AVERAGE: u32 = 25_000;

/// A tree on disk; it goes with this value, if it was made.
pub struct Tree {
    pub path: PathBuf,
    _made: Option<tempfile::TempDir>,
}

impl Tree {
    pub fn new() -> Self {
        if let Some(path) = std::env::var_os("BENCH_TREE") {
            return Self { path: path.into(), _made: None };
        }
        let made = tempfile::tempdir_in("/dev/shm").expect("a directory");
        for n in 0..FILES {
            let dir = made.path().join(format!("d{:04}", n / 100));
            fs::create_dir_all(&dir).expect("a directory");
            fs::write(dir.join(format!("f{n:04}")), file(n)).expect("a file");
        }
        Self { path: made.path().to_owned(), _made: Some(made) }
    }

    pub fn root(&self) -> RootDir {
        RootDir::open_host(&self.path).expect("open the directory")
    }
}

/// A tenth to two and a half times the average; three of five are words, the others noise.
fn file(n: u32) -> Vec<u8> {
    let size = (AVERAGE * [1, 3, 6, 10, 15, 25][n as usize % 6] / 10) as usize;
    let mut dice = Dice(n + 1);
    let mut bytes = Vec::with_capacity(size + 16);
    while bytes.len() < size {
        let roll = dice.roll();
        match n % 5 {
            0..3 => write!(bytes, "{} ", word(roll % 4_000)).expect("write"),
            _ => bytes.extend_from_slice(&roll.to_le_bytes()[1..]),
        }
    }
    bytes.truncate(size);
    bytes
}

/// Words of two to ten letters, always the same.
fn word(n: u32) -> String {
    let mut dice = Dice(n);
    let length = 2 + dice.roll() % 9;
    let letters = b"etaoinshrdlcumwfgypbvkjxqz";
    (0..length).map(|_| char::from(letters[dice.roll() as usize % letters.len()])).collect()
}

/// Numbers that look like chance (splitmix32).
struct Dice(u32);

impl Dice {
    fn roll(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9);
        let mut z = self.0;
        z = (z ^ (z >> 16)).wrapping_mul(0x21f0_aaad);
        z = (z ^ (z >> 15)).wrapping_mul(0x735a_2d97);
        z ^ (z >> 15)
    }
}
