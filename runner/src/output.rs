//! What a step says: one pipe for both of its streams, so that its lines come in the order in which it wrote them.
//!
//! With a pipe for each stream nobody could tell which of two lines was first. Nothing is clipped; only the last of
//! it is kept in memory, for the message if the step fails.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use forge_solver::StepId;
use forge_solver::event::{Event, Events, Stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::zygote::Stdio;

/// How much of a step's output is kept for the message if it fails, in bytes.
const TAIL_BYTES: usize = 16 << 10;

/// How often a silent step is asked whether there is something to remark.
const TICK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// No input, one pipe for both outputs; the second value is the end that we read.
pub(crate) fn pipe() -> io::Result<(Stdio, OwnedFd)> {
    let (read, write) = io::pipe()?;
    let stdin = File::open(Path::new("/dev/null"))?;
    let stdio = Stdio { stdin: stdin.into(), stdout: write.try_clone()?.into(), stderr: write.into() };
    Ok((stdio, read.into()))
}

/// Passes on what a step says until it and all its children have closed their ends; gives the last of it. `remark`
/// is asked about once a second for something to say beside it.
pub(crate) fn pump(
    end: OwnedFd,
    step: StepId,
    events: &dyn Events,
    mut remark: impl FnMut() -> Option<String>,
) -> Vec<u8> {
    let mut end = File::from(end);
    let mut tail = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let mut ready = [PollFd::new(&end, PollFlags::IN)];
        if matches!(poll(&mut ready, Some(&TICK)), Ok(0) | Err(rustix::io::Errno::INTR)) {
            if let Some(text) = remark() {
                events.emit(Event::Note { step, text });
            }
            continue;
        }
        match end.read(&mut buffer) {
            Ok(0) => return tail,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return tail,
            Ok(n) => {
                tail.extend_from_slice(&buffer[..n]);
                let surplus = tail.len().saturating_sub(TAIL_BYTES);
                tail.drain(..surplus);
                events.emit(Event::Output { step, stream: Stream::Stdout, bytes: buffer[..n].to_vec() });
            }
        }
    }
}
