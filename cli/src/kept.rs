//! What is kept of each build: its whole log, and what it takes to go back into its steps.
//!
//! ```text
//! ROOT/state/logs/<time>-<pid>.log    what plain progress says, and how the build ended
//! ROOT/state/logs/<time>-<pid>.json   its steps with what they stand on, and its stages
//! ```
//!
//! Only the newest [`MOST_BUILDS`] are kept. No secret is kept by value: of `--secret` and `--ssh` the words of the
//! command line, of variables that look like secrets and of proxies the names. Losing any of it loses no image, so
//! writing is best effort.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use forge_solver::op::{Op, RunOp};
use forge_solver::{Plan, Vertex, VertexId};
use forge_store::{Platform, Snapshot, Store};
use serde::{Deserialize, Serialize};

/// How many builds are kept.
pub const MOST_BUILDS: usize = 32;

/// A build, as it is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    /// The names that the image got, or would have got.
    pub names: Vec<String>,
    /// Words of the command line that the steps need again: `--secret` and `--ssh`.
    pub flags: Vec<String>,
    /// Directories that mounts may name.
    pub contexts: BTreeMap<String, KeptContext>,
    /// The RUNs whose inputs were there.
    pub steps: Vec<KeptStep>,
    /// Which of them failed.
    pub failed: Option<usize>,
    /// The stages whose files were there.
    pub stages: Vec<KeptStage>,
}

/// A directory of the build.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptContext {
    /// Where.
    pub dir: PathBuf,
    /// The Dockerfile whose ignore file applies.
    pub dockerfile: Option<PathBuf>,
}

/// A RUN with what it stands on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptStep {
    /// Its name.
    pub label: String,
    /// What it does. Values that are not kept are empty.
    pub op: RunOp,
    /// Variables whose values were not kept.
    pub withheld: Vec<String>,
    /// Its inputs.
    pub inputs: Vec<KeptInput>,
}

/// What a step stands on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeptInput {
    /// Files of the store.
    Files(Snapshot),
    /// A directory, by its name.
    Context(String),
}

/// A stage's files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptStage {
    /// Its name.
    pub name: String,
    /// Its files.
    pub files: Snapshot,
    /// The machine that they are for.
    pub platform: Platform,
    /// The environment of its RUNs.
    pub env: Vec<(String, String)>,
    /// The working directory.
    pub workdir: String,
    /// The user.
    pub user: String,
}

impl Kept {
    /// Takes down what plans of one graph come to; `files` gives the vertices' results that are there.
    pub fn add_plans(
        &mut self,
        plans: &[Plan],
        failed: Option<VertexId>,
        files: &dyn Fn(VertexId) -> Option<Snapshot>,
    ) {
        let plan = &plans[0];
        for id in plan.graph.ids() {
            let vertex = plan.graph.vertex(id);
            if let Op::Run(op) = &vertex.op
                && let Some(inputs) = inputs(plan, vertex, files)
            {
                if failed == Some(id) {
                    self.failed = Some(self.steps.len());
                }
                self.steps.push(step(vertex, op, inputs));
            }
        }
        for stage in plans.iter().flat_map(|plan| &plan.stages) {
            let Some(files) = files(stage.files) else { continue };
            let mut env = stage.env.clone();
            env.retain(|(name, _)| !forge_parser::check::looks_like_secret(name));
            self.stages.push(KeptStage {
                name: stage.name.clone(),
                files,
                platform: stage.platform.clone(),
                env,
                workdir: stage.workdir.clone(),
                user: stage.user.clone(),
            });
        }
    }

    /// The step whose name has `text` in it, or the one that failed, or the last.
    pub fn step(&self, text: Option<&str>) -> Result<&KeptStep, String> {
        let Some(text) = text else {
            let step = self.failed.or(self.steps.len().checked_sub(1)).and_then(|at| self.steps.get(at));
            return step.ok_or_else(|| "the build has no RUN step that could be repeated".to_owned());
        };
        let found: Vec<&KeptStep> = self.steps.iter().filter(|step| step.label.contains(text)).collect();
        match found.as_slice() {
            [one] => Ok(one),
            [] => Err(format!("no step's name has `{text}` in it; there are:\n{}", labels(&self.steps))),
            more => {
                Err(format!("several steps' names have `{text}` in them:\n{}", labels(more.iter().copied())))
            }
        }
    }
}

fn labels<'a>(steps: impl IntoIterator<Item = &'a KeptStep>) -> String {
    let lines: Vec<String> =
        steps.into_iter().map(|step| format!("  {}", crate::progress::for_terminal(&step.label))).collect();
    lines.join("\n")
}

/// All inputs of a vertex; none if one of them is not there.
fn inputs(
    plan: &Plan,
    vertex: &Vertex,
    files: &dyn Fn(VertexId) -> Option<Snapshot>,
) -> Option<Vec<KeptInput>> {
    let kept = |input: &VertexId| match &plan.graph.vertex(*input).op {
        Op::Context(context) => Some(KeptInput::Context(context.name.clone())),
        _ => files(*input).map(KeptInput::Files),
    };
    vertex.inputs.iter().map(kept).collect()
}

/// A step without the values that may be secret; its name shows the variables instead.
fn step(vertex: &Vertex, op: &RunOp, inputs: Vec<KeptInput>) -> KeptStep {
    let (mut op, mut label) = (op.clone(), vertex.label.clone());
    let mut withheld = Vec::new();
    let secret = |(name, _): &&mut (String, String)| forge_parser::check::looks_like_secret(name);
    for (name, value) in op.env.iter_mut().filter(secret).chain(op.proxy_env.iter_mut()) {
        withheld.push(name.clone());
        if !value.is_empty() {
            label = label.replace(value.as_str(), &format!("${name}"));
        }
        value.clear();
    }
    KeptStep { label, op, withheld, inputs }
}

/// The kept builds of one store.
pub struct KeptBuilds(PathBuf);

/// The files of a build under way.
pub struct Recorder {
    log: PathBuf,
}

impl KeptBuilds {
    /// Of a store.
    pub fn of(store: &Store) -> Self {
        Self(store.state_dir().join("logs"))
    }

    /// Begins a build: the older ones make room. Gives the file that its log goes to.
    pub fn begin(&self) -> io::Result<(Recorder, File)> {
        fs::create_dir_all(&self.0)?;
        let logs = self.logs();
        for old in logs.iter().take((logs.len() + 1).saturating_sub(MOST_BUILDS)) {
            // Whoever is quicker removes it.
            let _ = fs::remove_file(old);
            let _ = fs::remove_file(old.with_extension("json"));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let log = self.0.join(format!("{:020}-{}.log", now.as_nanos(), std::process::id()));
        let file = File::options().append(true).create_new(true).open(&log)?;
        Ok((Recorder { log }, file))
    }

    /// The last build, or the last one of an image's name: what was kept of it, and its log.
    pub fn find(&self, name: Option<&str>) -> Option<(Kept, PathBuf)> {
        self.logs()
            .into_iter()
            .rev()
            .map(|log| (kept(&log), log))
            .find(|(kept, _)| name.is_none_or(|name| kept.names.iter().any(|known| known == name)))
    }

    /// All logs, the oldest first.
    fn logs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut logs: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
        logs.sort();
        logs
    }
}

impl Recorder {
    /// Keeps what is known of the build by now.
    pub fn keep(&self, kept: &Kept) {
        let path = self.log.with_extension("json");
        let aside = self.log.with_extension("new");
        let written = serde_json::to_vec(kept)
            .map_err(io::Error::from)
            .and_then(|bytes| fs::write(&aside, bytes))
            .and_then(|()| fs::rename(&aside, &path));
        // Best effort, but no rest is left.
        if written.is_err() {
            let _ = fs::remove_file(aside);
        }
    }

    /// Adds the build's last words to its log.
    pub fn say(&self, reports: &[String]) {
        if let Ok(mut log) = File::options().append(true).open(&self.log) {
            let _ = reports.iter().try_for_each(|report| writeln!(log, "{report}"));
        }
    }
}

fn kept(log: &Path) -> Kept {
    let bytes = fs::read(log.with_extension("json")).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_builds_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let builds = KeptBuilds(dir.path().join("logs"));
        for n in 0..MOST_BUILDS + 5 {
            let (recorder, _) = builds.begin().unwrap();
            recorder.keep(&Kept { names: vec![format!("image{n}")], ..Kept::default() });
        }
        assert_eq!(fs::read_dir(&builds.0).unwrap().count(), 2 * MOST_BUILDS);
        assert!(builds.find(Some("image4")).is_none());
        assert!(builds.find(Some("image5")).is_some());
        let (last, log) = builds.find(None).unwrap();
        assert_eq!(last.names, [format!("image{}", MOST_BUILDS + 4)]);
        assert!(log.exists());
    }
}
