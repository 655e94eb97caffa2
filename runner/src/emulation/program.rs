//! Looking at a program's file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

/// Whether a program needs no loader, which would be looked for inside the step's tree.
pub(super) fn is_static(path: &Path) -> bool {
    const PT_INTERP: u32 = 3;
    let headers = || -> io::Result<bool> {
        let mut file = File::from(openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
        let mut header = [0; 64];
        file.read_exact(&mut header)?;
        if header[..5] != [0x7f, b'E', b'L', b'F', 2] {
            return Ok(false);
        }
        let number = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let mut offset = [0; 8];
        offset.copy_from_slice(&header[32..40]);
        file.seek(SeekFrom::Start(u64::from_le_bytes(offset)))?;
        let mut segment = vec![0; usize::from(number(54)).max(4)];
        for _ in 0..number(56) {
            file.read_exact(&mut segment)?;
            if u32::from_le_bytes([segment[0], segment[1], segment[2], segment[3]]) == PT_INTERP {
                return Ok(false);
            }
        }
        Ok(true)
    };
    headers().unwrap_or(false)
}
