//! Questions on a terminal, for what must not stand on a command line.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

/// The most that an answer may have, in bytes.
const MOST_BYTES: usize = 64 << 10;

/// The terminal, if there is somebody at it.
pub struct Terminal {
    device: File,
}

impl Terminal {
    /// `None` where standard input is no terminal: then nobody is there to answer.
    pub fn open() -> Option<Self> {
        if !io::stdin().is_terminal() {
            return None;
        }
        Some(Self { device: OpenOptions::new().read(true).write(true).open("/dev/tty").ok()? })
    }

    /// Asks for a line.
    pub fn ask(&self, question: &str) -> io::Result<String> {
        (&self.device).write_all(question.as_bytes())?;
        let mut line = String::new();
        BufReader::new((&self.device).take(MOST_BYTES as u64)).read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Asks for a line without showing it. The terminal is as before when this returns, Ctrl-C included.
    pub fn ask_secret(&self, question: &str) -> io::Result<String> {
        // Before the question: what is typed at once must not be shown either.
        let quiet = Quiet::begin(&self.device)?;
        (&self.device).write_all(question.as_bytes())?;
        let answer = self.read_unseen();
        drop(quiet);
        (&self.device).write_all(b"\n")?;
        answer
    }

    fn read_unseen(&self) -> io::Result<String> {
        let mut answer = Vec::new();
        let mut byte = [0];
        loop {
            let n = (&self.device).read(&mut byte)?;
            match byte[0] {
                _ if n == 0 => break,
                b'\n' | b'\r' | 4 => break,
                // Ctrl-C, which is no signal in this mode.
                3 => return Err(io::ErrorKind::Interrupted.into()),
                // Backspace and Ctrl-U.
                8 | 127 => drop(answer.pop()),
                21 => answer.clear(),
                other if answer.len() < MOST_BYTES => answer.push(other),
                _ => {}
            }
        }
        String::from_utf8(answer).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

/// A terminal that shows nothing, until this is dropped.
struct Quiet<'a> {
    device: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn begin(device: &'a File) -> io::Result<Self> {
        let before = tcgetattr(device)?;
        let mut quiet = before.clone();
        // Without signals: Ctrl-C must not end the program while the terminal is dumb.
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(device, OptionalActions::Now, &quiet)?;
        Ok(Self { device, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.device, OptionalActions::Now, &self.before);
    }
}
