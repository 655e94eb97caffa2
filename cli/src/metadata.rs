//! `--metadata-file`: what was built, in the keys that scripts know from buildx, and why each step ran.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forge_exporter::Images;
use forge_parser::{LineIndex, Warning};
use forge_solver::explain::{BuildLog, StepLog};
use serde_json::{Map, Value, json};

use crate::dockerfile::LoadedDockerfile;

/// What a build says of itself.
pub struct Metadata<'a> {
    /// The image, or the index of several, if one was made.
    pub images: Option<&'a Images>,
    /// Its names.
    pub names: &'a [String],
    /// What it was made of.
    pub log: &'a BuildLog,
    /// What the build checks found.
    pub warnings: &'a [Warning],
    /// Where they found it.
    pub dockerfile: &'a LoadedDockerfile,
}

impl Metadata<'_> {
    /// The whole document.
    pub fn to_json(&self) -> Value {
        let mut all = Map::new();
        if let Some(images) = self.images {
            all.insert("containerimage.digest".into(), json!(images.root.digest));
            all.insert("containerimage.descriptor".into(), json!(images.root));
            all.extend(images.id().map(|id| ("containerimage.config.digest".into(), json!(id))));
        }
        if !self.names.is_empty() {
            all.insert("image.name".into(), json!(self.names.join(",")));
        }
        all.insert("buildx.build.ref".into(), json!(reference()));
        if !self.warnings.is_empty() {
            all.insert("buildx.build.warnings".into(), self.warnings());
        }
        all.insert("forge.steps".into(), steps(self.log));
        Value::Object(all)
    }

    /// The shape of BuildKit's `VertexWarning`.
    fn warnings(&self) -> Value {
        let index = LineIndex::new(&self.dockerfile.bytes);
        let warnings = self.warnings.iter().map(|warning| {
            let line = |at| index.line_col(at).0;
            let last = warning.span.end.saturating_sub(1).max(warning.span.start);
            let range = json!({
                "start": { "line": line(warning.span.start) },
                "end": { "line": line(last) },
            });
            json!({
                "level": 1,
                "short": STANDARD.encode(warning.to_string()),
                "detail": warning.hint.iter().map(|hint| STANDARD.encode(hint)).collect::<Vec<_>>(),
                "url": warning.rule.url(),
                "sourceInfo": {
                    "filename": self.dockerfile.source.name,
                    "data": STANDARD.encode(&self.dockerfile.bytes),
                    "language": "Dockerfile",
                },
                "range": [range],
            })
        });
        Value::Array(warnings.collect())
    }
}

/// The Dockerfile's own steps, each with what became of it.
fn steps(log: &BuildLog) -> Value {
    let shown = log.steps.iter().filter(|step| step.label.starts_with('[') || step.is_source());
    Value::Array(shown.map(step).collect())
}

fn step(step: &StepLog) -> Value {
    // A step that nobody needed, because what follows was at hand, was not carried out either.
    json!({ "name": step.label, "cached": !step.ran, "reason": step.reason.as_ref().filter(|_| step.ran) })
}

/// A name for this build in the form that buildx gives its own: builder, node, and something that no other has.
fn reference() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seed = format!("{} {}", now.as_nanos(), std::process::id());
    let id = forge_store::Digest::of(seed.as_bytes()).hex();
    format!("forge/forge/{}", &id[..25])
}
