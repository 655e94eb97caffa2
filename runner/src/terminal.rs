//! The user's terminal, connected with that of a sandbox.
//!
//! A sandbox never holds the user's terminal: it has one of its own, made in its own devpts, and forge copies between
//! the two. While it does, the user's terminal is raw, so that every key (Ctrl-C too) is the sandbox's to understand;
//! [`restore`] undoes that on every way out.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read, write};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use crate::zygote::Running;

/// How the user's terminal was, while it is raw.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether the user can be talked to: both standard input and output are terminals.
#[must_use]
pub fn is_interactive() -> bool {
    isatty(stdin()) && isatty(stdout())
}

/// Gives the user's terminal back as it was, if it is raw. May be called at any time, from any thread.
pub fn restore() {
    if let Some(saved) = SAVED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // Nobody is left to complain to.
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &saved);
    }
}

/// Tells a sandbox's terminal how large the user's is now.
pub fn pass_size(running: &Running) {
    let size = tcgetwinsize(stdin()).or_else(|_| tcgetwinsize(stdout()));
    if let (Some(terminal), Ok(size)) = (running.terminal(), size) {
        // A sandbox that is gone needs no size.
        let _ = rustix::termios::tcsetwinsize(terminal, size);
    }
}

/// Copies between our standard streams and the terminal of a sandbox until that has ended. With `input` keys go to the
/// sandbox, and a terminal that they come from is raw meanwhile.
///
/// # Errors
/// Those of `poll(2)` and of our own streams.
pub(crate) fn converse(running: &Running, input: bool) -> io::Result<()> {
    let Some(terminal) = running.terminal() else { return Ok(()) };
    pass_size(running);
    let raw = input && isatty(stdin());
    if raw {
        make_raw()?;
    }
    let done = copy(terminal, input);
    restore();
    done
}

fn make_raw() -> io::Result<()> {
    let found = tcgetattr(stdin())?;
    let mut raw = found.clone();
    raw.make_raw();
    // Remembered first: whoever interrupts us restores in any case.
    SAVED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(found);
    Ok(tcsetattr(stdin(), OptionalActions::Drain, &raw)?)
}

/// One loop for both directions. What the sandbox does not take yet waits here, and no further key is read: a program
/// that never reads must not keep its own output from being shown.
fn copy(terminal: BorrowedFd<'_>, mut input: bool) -> io::Result<()> {
    fcntl_setfl(terminal, fcntl_getfl(terminal)? | OFlags::NONBLOCK)?;
    let mut buffer = vec![0; 32 << 10];
    let mut pending: Vec<u8> = Vec::new();
    loop {
        let wanted = if pending.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
        let keys = stdin();
        let mut ready = vec![PollFd::from_borrowed_fd(terminal, wanted)];
        if input && pending.is_empty() {
            ready.push(PollFd::from_borrowed_fd(keys.as_fd(), PollFlags::IN));
        }
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = ready[0].revents();
        if ready.get(1).is_some_and(|keys| !keys.revents().is_empty()) {
            match read(keys, &mut buffer) {
                Ok(0) | Err(Errno::IO) => input = false,
                Ok(n) => pending.extend_from_slice(&buffer[..n]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !pending.is_empty() {
            match write(terminal, &pending) {
                Ok(n) => drop(pending.drain(..n)),
                Err(Errno::INTR | Errno::AGAIN) => {}
                // Nobody is there any more; what was said last is still to be read.
                Err(_) => pending.clear(),
            }
        }
        if flags.is_empty() {
            continue;
        }
        match read(terminal, &mut buffer) {
            // EIO: everyone inside has closed it.
            Ok(0) | Err(Errno::IO) => return Ok(()),
            Ok(n) => write_all(&buffer[..n])?,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn write_all(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(stdout(), bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let out = stdout();
                let _ = poll(&mut [PollFd::from_borrowed_fd(out.as_fd(), PollFlags::OUT)], None);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Opens a new terminal of the devpts behind `multiplexer`: what forge holds, and what the step's process gets, which
/// belongs to `uid`.
pub(crate) fn open(multiplexer: &str, uid: u32) -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::fs::{CWD, Mode, Uid, fchown, openat};
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let ours = openat(CWD, multiplexer, flags, Mode::empty())?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(&ours, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    match fchown(&theirs, Some(Uid::from_raw(uid)), None) {
        // Without the right to give it away it stays ours; it is open already.
        Ok(()) | Err(Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    Ok((ours, theirs))
}
