//! Plain progress: the lines that scripts parse (`#5 [2/4] RUN make`, `#5 0.123 text`, `#5 DONE 0.1s`).

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Instant;

use forge_solver::{Event, StepId};

use super::{Painter, for_terminal};

/// Writes one line per event.
pub struct Plain<W> {
    out: W,
    /// Text is shown on a terminal, so it must be harmless.
    escapes: bool,
    steps: HashMap<StepId, Step>,
    /// The step whose lines stand last.
    current: Option<StepId>,
}

struct Step {
    number: usize,
    label: String,
    began: Instant,
    /// Output after its last newline.
    partial: Vec<u8>,
    done: bool,
}

impl<W: Write> Plain<W> {
    /// Writes to `out`.
    pub fn new(out: W, escapes: bool) -> Self {
        Self { out, escapes, steps: HashMap::new(), current: None }
    }

    fn show(&self, text: &str) -> String {
        if self.escapes { for_terminal(text) } else { text.replace('\n', "\\n") }
    }

    /// Makes `step` the one whose lines stand last.
    fn switch(&mut self, step: StepId, label: Option<&str>) -> io::Result<usize> {
        let number = self.steps.len() + 1;
        let label = label.map(|label| self.show(label));
        let entry = self.steps.entry(step).or_insert_with(|| Step {
            number,
            label: label.unwrap_or_default(),
            began: Instant::now(),
            partial: Vec::new(),
            done: false,
        });
        let (number, title) = (entry.number, entry.label.clone());
        if self.current != Some(step) {
            if let Some(old) = self.current.and_then(|id| self.steps.get(&id))
                && !old.done
            {
                writeln!(self.out, "#{} ...\n", old.number)?;
            }
            self.current = Some(step);
            writeln!(self.out, "#{number} {title}")?;
        }
        Ok(number)
    }

    fn close(&mut self, step: StepId, end: &str) -> io::Result<()> {
        self.flush_partial(step)?;
        let number = self.switch(step, None)?;
        writeln!(self.out, "#{number} {end}\n")?;
        if let Some(entry) = self.steps.get_mut(&step) {
            entry.done = true;
        }
        self.current = None;
        self.out.flush()
    }

    fn output(&mut self, step: StepId, bytes: &[u8]) -> io::Result<()> {
        let Some(entry) = self.steps.get_mut(&step) else { return Ok(()) };
        entry.partial.extend_from_slice(bytes);
        let Some(end) = entry.partial.iter().rposition(|b| *b == b'\n') else { return Ok(()) };
        let lines: Vec<u8> = entry.partial.drain(..=end).collect();
        for line in lines[..lines.len() - 1].split(|b| *b == b'\n') {
            self.line(step, line)?;
        }
        self.out.flush()
    }

    fn flush_partial(&mut self, step: StepId) -> io::Result<()> {
        let partial =
            self.steps.get_mut(&step).map(|entry| std::mem::take(&mut entry.partial)).unwrap_or_default();
        if partial.is_empty() { Ok(()) } else { self.line(step, &partial) }
    }

    fn line(&mut self, step: StepId, line: &[u8]) -> io::Result<()> {
        let number = self.switch(step, None)?;
        let elapsed = self.steps[&step].began.elapsed().as_secs_f64();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.escapes {
            writeln!(self.out, "#{number} {elapsed:.3} {}", for_terminal(&String::from_utf8_lossy(line)))
        } else {
            write!(self.out, "#{number} {elapsed:.3} ")?;
            self.out.write_all(line)?;
            self.out.write_all(b"\n")
        }
    }
}

impl<W: Write + Send> Painter for Plain<W> {
    fn paint(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Started { step, label } => self.switch(*step, Some(label)).map(drop),
            Event::Cached { step, label } => {
                self.switch(*step, Some(label))?;
                self.close(*step, "CACHED")
            }
            Event::Output { step, bytes, .. } => self.output(*step, bytes),
            Event::Note { step, text } => {
                let number = self.switch(*step, None)?;
                let text = self.show(text);
                writeln!(self.out, "#{number} {text}")
            }
            Event::Missed { step, reason } => {
                let number = self.switch(*step, None)?;
                let reason = self.show(reason);
                writeln!(self.out, "#{number} cache miss: {reason}")
            }
            // Byte counts change too often for lines.
            Event::Progress { .. } => Ok(()),
            Event::Finished { step, took } => self.close(*step, &format!("DONE {:.1}s", took.as_secs_f64())),
            Event::Failed { step, error } => {
                let error = self.show(error);
                self.close(*step, &format!("ERROR: {error}"))
            }
            Event::Cancelled { step } => self.close(*step, "CANCELED"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use forge_solver::event::Stream;

    use super::*;

    #[test]
    fn lines_are_those_that_scripts_parse() {
        let mut text = Vec::new();
        let mut plain = Plain::new(&mut text, false);
        let (a, b) = (StepId::Internal(0), StepId::Internal(1));
        let output =
            |step, bytes: &[u8]| Event::Output { step, stream: Stream::Stdout, bytes: bytes.to_vec() };
        for event in [
            Event::Started { step: a, label: "[1/2] RUN x".into() },
            output(a, b"one\ntw"),
            Event::Cached { step: b, label: "[2/2] COPY".into() },
            output(a, b"o\n"),
            Event::Finished { step: a, took: Duration::from_millis(123) },
        ] {
            plain.paint(&event).unwrap();
        }
        let text = String::from_utf8(text).unwrap();
        // The elapsed times are the only part that differs from run to run.
        let lines: Vec<String> = text
            .lines()
            .map(|line| {
                line.split(' ')
                    .filter(|word| !word.contains('.') || *word == "...")
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        let want = [
            "#1 [1/2] RUN x",
            "#1 one",
            "#1 ...",
            "",
            "#2 [2/2] COPY",
            "#2 CACHED",
            "",
            "#1 [1/2] RUN x",
            "#1 two",
        ];
        assert_eq!(lines[..want.len()], want);
        assert!(text.ends_with("#1 DONE 0.1s\n\n"), "{text}");
    }
}
