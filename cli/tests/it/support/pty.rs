//! forge on a terminal: what a user types and sees.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use super::{Lab, soon};

/// A command on a terminal of its own.
pub struct Talk {
    child: Child,
    ours: File,
    theirs: Option<OwnedFd>,
    before: Termios,
    said: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Lab {
    /// Starts forge on a terminal of 24 lines and 80 columns.
    pub fn talk(&self, args: &[&str]) -> Talk {
        let forge = self.command(args);
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(forge.get_program()).args(forge.get_args());
        command.current_dir(forge.get_current_dir().unwrap()).env_clear();
        command.envs(forge.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Talk::start(command)
    }
}

impl Talk {
    fn start(mut command: Command) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        tcsetwinsize(&ours, size(24, 80)).unwrap();
        let before = tcgetattr(&ours).unwrap();
        let end = || theirs.try_clone().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        drop(command);
        let ours = File::from(ours);
        let said = Arc::new(Mutex::new(String::new()));
        let reader = {
            let (mut ours, said) = (ours.try_clone().unwrap(), said.clone());
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(n) = ours.read(&mut buffer)
                    && n > 0
                {
                    said.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
                }
            })
        };
        Self { child, ours, theirs: Some(theirs), before, said, reader: Some(reader) }
    }

    /// All that was shown so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until `text` has been shown.
    #[track_caller]
    pub fn expect(&self, text: &str) {
        let (said, what) = (self.said.clone(), format!("`{text}` is shown"));
        let shown = std::panic::catch_unwind(|| soon(&what, || said.lock().unwrap().contains(text)));
        assert!(shown.is_ok(), "`{text}` is not in: {}", self.said());
    }

    /// Types.
    pub fn send(&mut self, text: &str) {
        self.ours.write_all(text.as_bytes()).unwrap();
    }

    /// Makes the window another size.
    pub fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.ours, size(rows, columns)).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end; the terminal must be as it was. Gives the exit code and all that was shown.
    #[track_caller]
    pub fn finish(mut self) -> (i32, String) {
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        let after = tcgetattr(&self.ours).unwrap();
        let modes = |t: &Termios| (t.input_modes, t.output_modes, t.local_modes, t.control_modes);
        assert_eq!(modes(&after), modes(&self.before), "the terminal is not as it was");
        // The last to have it open lets it go, and the reader with it.
        self.theirs.take();
        self.reader.take().unwrap().join().unwrap();
        (code, self.said())
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
