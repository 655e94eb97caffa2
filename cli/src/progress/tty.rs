//! Live progress: finished steps as lines, running ones below them, each with its last line of output.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use forge_solver::{Event, StepId};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Painter, for_terminal};

/// Running steps drawn at once; more would flicker and scroll. The others are drawn as places get free.
const MOST_BARS: usize = 12;

/// Draws on a terminal.
pub struct Tty {
    bars: MultiProgress,
    running: HashMap<StepId, Running>,
}

struct Running {
    label: String,
    began: Instant,
    bar: Option<ProgressBar>,
    /// Why it was not cached: stays below its line.
    missed: Option<String>,
    /// Output after its last newline.
    partial: Vec<u8>,
}

impl Tty {
    /// Starts with nothing drawn.
    pub fn new() -> Self {
        Self { bars: MultiProgress::new(), running: HashMap::new() }
    }

    fn start(&mut self, step: StepId, label: &str) {
        let label = for_terminal(label);
        let drawn = self.running.values().filter(|running| running.bar.is_some()).count();
        let bar = (drawn < MOST_BARS).then(|| {
            let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed}\n    {wide_msg}");
            let bar = self.bars.add(ProgressBar::new_spinner());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_prefix(label.clone());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        self.running
            .insert(step, Running { label, began: Instant::now(), bar, missed: None, partial: Vec::new() });
    }

    fn end(&mut self, step: StepId, how: &str) -> io::Result<()> {
        let Some(running) = self.running.remove(&step) else { return Ok(()) };
        if let Some(bar) = running.bar {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
        let missed = running.missed.map(|reason| format!("\n         ↳ {reason}")).unwrap_or_default();
        self.bars.println(format!("{how} {}{missed}", running.label))
    }

    fn output(&mut self, step: StepId, bytes: &[u8]) {
        let Some(running) = self.running.get_mut(&step) else { return };
        running.partial.extend_from_slice(bytes);
        let mut lines = running.partial.split(|b| *b == b'\n').rev();
        let rest = lines.next().unwrap_or_default().to_vec();
        if let (Some(line), Some(bar)) = (lines.next(), &running.bar) {
            bar.set_message(for_terminal(&String::from_utf8_lossy(line)));
        }
        running.partial = rest;
    }
}

impl Painter for Tty {
    fn paint(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Started { step, label } => {
                self.start(*step, label);
                Ok(())
            }
            Event::Cached { label, .. } => self.bars.println(format!("CACHED   {}", for_terminal(label))),
            Event::Output { step, bytes, .. } => {
                self.output(*step, bytes);
                Ok(())
            }
            Event::Note { step, text } => {
                if let Some(bar) = self.running.get(step).and_then(|running| running.bar.as_ref()) {
                    bar.set_message(for_terminal(text));
                }
                Ok(())
            }
            Event::Missed { step, reason } => {
                if let Some(running) = self.running.get_mut(step) {
                    running.missed = Some(for_terminal(reason));
                }
                Ok(())
            }
            Event::Progress { step, item, done, total } => {
                if let Some(bar) = self.running.get(step).and_then(|running| running.bar.as_ref()) {
                    let total = total.map(|total| format!(" of {}", megabytes(total))).unwrap_or_default();
                    bar.set_message(format!("{item}: {}{total}", megabytes(*done)));
                }
                Ok(())
            }
            Event::Finished { step, .. } => {
                let took = self.running.get(step).map(|running| running.began.elapsed()).unwrap_or_default();
                self.end(*step, &format!("{:>7.1}s", took.as_secs_f64()))
            }
            Event::Failed { step, .. } => self.end(*step, "FAILED  "),
            Event::Cancelled { step } => self.end(*step, "CANCELED"),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.bars.clear()
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
