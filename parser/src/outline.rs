//! What a Dockerfile offers: its targets, and what one of them takes (`--call=targets`, `--call=outline`).

use crate::ast::{Arg, Dockerfile, Kind, Mount, MountKind, Sharing, Stage};
use crate::span::{Span, Spanned};
use std::collections::{BTreeSet, HashMap, HashSet};

/// A stage that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `AS name`.
    pub name: Option<String>,
    /// From the comment above it.
    pub description: Option<String>,
    /// The image or stage it is built from, unexpanded.
    pub base: String,
    /// `--platform`, unexpanded.
    pub platform: Option<String>,
    /// It is built where no target is asked for.
    pub default: bool,
    /// The FROM line.
    pub span: Span,
}

/// What building one target takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The target's name.
    pub name: Option<String>,
    /// From the comment above it.
    pub description: Option<String>,
    /// The ARGs of the stages it needs and those that their FROM lines may use, each name once.
    pub args: Vec<OutlineArg>,
    /// Secrets that are mounted.
    pub secrets: Vec<OutlineMount>,
    /// SSH agents that are mounted.
    pub ssh: Vec<OutlineMount>,
    /// Caches that are mounted.
    pub caches: Vec<OutlineCache>,
}

/// An ARG that a build may be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// From the comment above it.
    pub description: Option<String>,
    /// Its default, unexpanded.
    pub default: Option<String>,
    /// Where.
    pub span: Span,
}

/// A secret or an SSH agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineMount {
    /// Its id, unexpanded.
    pub id: String,
    /// The build fails without it.
    pub required: bool,
    /// Where.
    pub span: Span,
}

/// A cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineCache {
    /// Its id, or else its target; unexpanded.
    pub id: String,
    /// Where it is mounted, unexpanded.
    pub target: String,
    /// How builds share it.
    pub sharing: Sharing,
    /// Where.
    pub span: Span,
}

/// All stages, in order.
pub fn targets(dockerfile: &Dockerfile) -> Vec<Target> {
    let last = dockerfile.stages.len().saturating_sub(1);
    let stages = dockerfile.stages.iter().enumerate();
    stages
        .map(|(nth, stage)| Target {
            name: name(stage),
            description: description(stage),
            base: stage.from.image.value.clone(),
            platform: stage.from.platform.as_ref().map(|platform| platform.value.clone()),
            default: nth == last,
            span: stage.span,
        })
        .collect()
}

/// What building `target` (a name in any case, else the last stage) takes; None where there is no such target.
pub fn outline(dockerfile: &Dockerfile, target: Option<&str>) -> Option<Outline> {
    let nth = match target {
        Some(target) => find(dockerfile, &target.to_lowercase(), dockerfile.stages.len())?,
        None => dockerfile.stages.len().checked_sub(1)?,
    };
    let stage = &dockerfile.stages[nth];
    let mut outline = Outline {
        name: name(stage),
        description: description(stage),
        args: Vec::new(),
        secrets: Vec::new(),
        ssh: Vec::new(),
        caches: Vec::new(),
    };
    let mut seen = HashSet::new();
    for nth in needed(dockerfile, nth) {
        outline.add(&dockerfile.stages[nth], &mut seen);
    }
    let known: HashMap<String, usize> =
        outline.args.iter().enumerate().map(|(nth, arg)| (arg.name.clone(), nth)).collect();
    for arg in &dockerfile.global_args {
        match known.get(&arg.name) {
            // `ARG X` in a stage takes the global ARG's default and description.
            Some(nth) => {
                let known = &mut outline.args[*nth];
                known.default = known.default.take().or_else(|| arg.default.clone());
                known.description = known.description.take().or_else(|| arg.doc.clone());
            }
            None => outline.args.push(described(arg)),
        }
    }
    Some(outline)
}

impl Outline {
    fn add<'a>(&mut self, stage: &'a Stage, seen: &mut HashSet<&'a str>) {
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Arg(args) => {
                    let new = args.iter().filter(|arg| seen.insert(arg.name.as_str()));
                    self.args.extend(new.map(described));
                }
                Kind::Run(run) => run.mounts.iter().for_each(|mount| self.mount(mount)),
                _ => {}
            }
        }
    }

    fn mount(&mut self, mount: &Spanned<Mount>) {
        let span = mount.span;
        let target = mount.target.clone().unwrap_or_default();
        match mount.kind {
            MountKind::Secret => {
                let id = mount.id.clone().or_else(|| mount.source.clone());
                let base_name = || target.rsplit('/').next().unwrap_or_default().to_owned();
                let id = id.unwrap_or_else(base_name);
                self.secrets.push(OutlineMount { id, required: mount.required, span });
            }
            MountKind::Ssh => {
                let id = mount.id.clone().unwrap_or_else(|| "default".to_owned());
                self.ssh.push(OutlineMount { id, required: mount.required, span });
            }
            MountKind::Cache => {
                let id = mount.id.clone().unwrap_or_else(|| target.clone());
                let sharing = mount.sharing.unwrap_or_default();
                self.caches.push(OutlineCache { id, target, sharing, span });
            }
            MountKind::Bind | MountKind::Tmpfs => {}
        }
    }
}

fn name(stage: &Stage) -> Option<String> {
    stage.from.name.as_ref().map(|name| name.value.clone())
}

/// The text of the comment `# name text`.
fn description(stage: &Stage) -> Option<String> {
    let name = &stage.from.name.as_ref()?.value;
    let lines = stage.doc.as_deref()?.lines();
    let text = lines.filter_map(|line| line.strip_prefix(name.as_str())?.strip_prefix(' ')).next()?;
    Some(text.trim().to_owned())
}

fn described(arg: &Spanned<Arg>) -> OutlineArg {
    OutlineArg {
        name: arg.name.clone(),
        description: arg.doc.clone(),
        default: arg.default.clone(),
        span: arg.span,
    }
}

/// The last stage before the `before`th that has this name.
fn find(dockerfile: &Dockerfile, name: &str, before: usize) -> Option<usize> {
    let named = |stage: &Stage| stage.from.name.as_ref().is_some_and(|own| own.value == name);
    dockerfile.stages[..before].iter().rposition(named)
}

/// A stage and all those that it is built or copied from, in the order of the file.
fn needed(dockerfile: &Dockerfile, target: usize) -> BTreeSet<usize> {
    let mut needed = BTreeSet::new();
    let mut open = vec![target];
    while let Some(nth) = open.pop() {
        if !needed.insert(nth) {
            continue;
        }
        let stage = &dockerfile.stages[nth];
        open.extend(find(dockerfile, &stage.from.image.value, nth));
        for instruction in &stage.instructions {
            let references: Vec<&str> = match &instruction.kind {
                Kind::Copy(copy) => copy.from.iter().map(|from| from.value.as_str()).collect(),
                Kind::Run(run) => run.mounts.iter().filter_map(|mount| mount.from.as_deref()).collect(),
                _ => continue,
            };
            for reference in references {
                let by_index = reference.parse::<usize>().ok().filter(|index| *index < nth);
                open.extend(find(dockerfile, &reference.to_lowercase(), nth).or(by_index));
            }
        }
    }
    needed
}
