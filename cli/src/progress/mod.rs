//! Progress: events drawn on standard error, in one of several ways. Nothing else in forge draws.

mod escape;
mod plain;
mod rawjson;
mod tty;

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use forge_solver::{Event, Events};

use crate::args::ProgressMode;

pub use escape::for_terminal;

/// Draws events.
trait Painter: Send {
    /// Draws one.
    fn paint(&mut self, event: &Event) -> io::Result<()>;
    /// Ends the drawing, before anything else is said.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The display of one command.
pub struct Display {
    painter: Slot,
    /// The file that keeps everything, whatever is shown.
    log: Slot,
}

impl Display {
    /// The display that the user asked for.
    pub fn new(mode: ProgressMode, quiet: bool) -> Self {
        let is_terminal = io::stderr().is_terminal();
        let painter: Option<Box<dyn Painter>> = match mode {
            _ if quiet => None,
            ProgressMode::Quiet | ProgressMode::None => None,
            ProgressMode::Rawjson => Some(Box::new(rawjson::RawJson::new(io::stderr()))),
            ProgressMode::Tty => Some(Box::new(tty::Tty::new())),
            ProgressMode::Auto if is_terminal => Some(Box::new(tty::Tty::new())),
            ProgressMode::Auto | ProgressMode::Plain => {
                Some(Box::new(plain::Plain::new(io::stderr(), is_terminal)))
            }
        };
        Self { painter: Mutex::new(painter), log: Mutex::new(None) }
    }

    /// Writes everything to a file, too, in the manner of plain progress.
    pub fn keep(&self, file: std::fs::File) {
        let log = Box::new(plain::Plain::new(io::BufWriter::new(file), false));
        *lock(&self.log) = Some(log);
    }

    /// Ends the drawing; later events are dropped.
    pub fn finish(&self) {
        self.leave_screen();
        lock(&self.log).take();
    }

    /// Ends the drawing for good, because the screen is wanted by others; what follows goes to the file only.
    pub fn leave_screen(&self) {
        if let Some(mut painter) = lock(&self.painter).take() {
            // Nobody is left to tell that standard error is closed.
            let _ = painter.finish();
        }
    }
}

type Slot = Mutex<Option<Box<dyn Painter>>>;

fn lock(slot: &Slot) -> std::sync::MutexGuard<'_, Option<Box<dyn Painter>>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What cannot be written ends the drawing and not the build.
fn paint(slot: &Slot, event: &Event) {
    let mut slot = lock(slot);
    if slot.as_mut().is_some_and(|painter| painter.paint(event).is_err()) {
        *slot = None;
    }
}

impl Events for Display {
    fn emit(&self, event: Event) {
        paint(&self.painter, &event);
        paint(&self.log, &event);
    }
}

/// Says one line on standard error; a closed one is nobody's loss.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
