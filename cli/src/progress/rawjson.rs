//! Raw progress: one JSON object per line, in the shape of BuildKit's `SolveStatus`.

use std::collections::HashMap;
use std::io::{self, Write};

use forge_solver::event::Stream;
use forge_solver::{Event, StepId};
use serde_json::{Value, json};

use super::Painter;

/// Writes JSON lines.
pub struct RawJson<W> {
    out: W,
    vertexes: HashMap<StepId, Value>,
}

impl<W: Write> RawJson<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, vertexes: HashMap::new() }
    }

    fn vertex(&mut self, step: StepId, edit: impl FnOnce(&mut Value)) -> io::Result<()> {
        let vertex = self.vertexes.entry(step).or_insert_with(|| json!({ "digest": id(step) }));
        edit(vertex);
        let line = json!({ "vertexes": [vertex] });
        self.write(&line)
    }

    fn write(&mut self, line: &Value) -> io::Result<()> {
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }
}

/// A name for the step that no other step of this run has, in the form of a digest.
fn id(step: StepId) -> String {
    forge_store::Digest::of(format!("{step:?}").as_bytes()).to_string()
}

fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    forge_exporter::rfc3339(since.as_nanos() as i128)
}

impl<W: Write + Send> Painter for RawJson<W> {
    fn paint(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Started { step, label } => self.vertex(*step, |vertex| {
                vertex["name"] = json!(label);
                vertex["started"] = json!(now());
            }),
            Event::Cached { step, label } => self.vertex(*step, |vertex| {
                vertex["name"] = json!(label);
                vertex["started"] = json!(now());
                vertex["completed"] = json!(now());
                vertex["cached"] = json!(true);
            }),
            Event::Output { step, stream, bytes } => {
                let stream = if *stream == Stream::Stdout { 1 } else { 2 };
                let data = encode_base64(bytes);
                let log = json!({ "vertex": id(*step), "stream": stream, "data": data, "timestamp": now() });
                self.write(&json!({ "logs": [log] }))
            }
            Event::Note { step, text } => {
                let status = json!({ "id": text, "vertex": id(*step), "timestamp": now(), "started": now() });
                self.write(&json!({ "statuses": [status] }))
            }
            Event::Missed { step, reason } => {
                let id = format!("cache miss: {reason}");
                let status =
                    json!({ "id": id, "vertex": self::id(*step), "timestamp": now(), "started": now() });
                self.write(&json!({ "statuses": [status] }))
            }
            Event::Progress { step, item, done, total } => {
                let status = json!({ "id": item, "vertex": id(*step), "current": done, "total": total, "timestamp": now() });
                self.write(&json!({ "statuses": [status] }))
            }
            Event::Finished { step, .. } => self.vertex(*step, |vertex| vertex["completed"] = json!(now())),
            Event::Failed { step, error } => self.vertex(*step, |vertex| {
                vertex["completed"] = json!(now());
                vertex["error"] = json!(error);
            }),
            Event::Cancelled { step } => self.vertex(*step, |vertex| {
                vertex["completed"] = json!(now());
                vertex["error"] = json!("context canceled");
            }),
        }
    }
}

fn encode_base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
