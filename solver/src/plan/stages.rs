//! Stages: what each is built on, which of them the target needs, and the order they are lowered in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use forge_parser::ast::{Dockerfile, Instruction, Kind, Stage};
use forge_parser::check::{CheckConfig, Warning};
use forge_parser::expand::Expander;
use forge_parser::{Parsed, Span, Spanned, did_you_mean};
use forge_store::Platform;

use super::budget::Budget;
use super::cycles::find_cycle;
use super::epoch::SOURCE_DATE_EPOCH;
use super::error::PlanProblem;
use super::lower::Lowering;
use super::options::PlanOptions;
use super::remote::Remote;
use super::scope::Globals;
use super::stage::{StageState, StepNames};
use super::{Plan, StageEnd};
use crate::limits::{PROBLEMS_MAX, REMOTES_MAX};
use crate::op::{
    Access, ContextOp, CopyOp, CopySource, HttpSource, ImageOp, Op, ResolvedImage, Selection, Unpack,
};
use crate::world::{Named, World, WorldError};
use crate::{Graph, Vertex, VertexId};

/// What a stage, or a `--from`, is built on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage, by its number.
    Stage(usize),
    /// A directory named by `--build-context`.
    Context(String),
    /// A URL or a repository named by `--build-context`.
    Remote(Remote),
    /// An image for a platform.
    Image(String, Platform),
}

/// Why a `--from` means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSource {
    /// A stage that comes later.
    #[error("cannot copy from stage {from:?}, it needs to be defined before current stage {current:?}")]
    Later {
        /// As written.
        from: String,
        /// The stage that says so.
        current: String,
    },
    /// No stage before this one has this number.
    #[error("invalid stage index {0}")]
    Index(usize),
}

impl NoSource {
    /// The same for a mount.
    pub fn of_mount(&self, target: &str) -> String {
        match self {
            Self::Later { from, .. } => format!(
                "cannot mount from stage {from:?} to {target:?}, stage needs to be defined before current command"
            ),
            Self::Index(_) => self.to_string(),
        }
    }
}

/// Plans one build.
pub struct Planner<'a> {
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) checks: &'a CheckConfig,
    pub(super) options: &'a PlanOptions,
    pub(super) world: &'a dyn World,
    pub(super) globals: Globals,
    bases: Vec<(Base, Platform)>,
    /// Remote sources, each with its vertex and the first place that names it.
    pub(super) remotes: Vec<(Remote, VertexId, Span)>,
    /// What is wanted of contexts, each with the place that says so.
    pub(super) wanted: Vec<(String, Selection, Span)>,
    pub(super) graph: Graph,
    states: Vec<Option<StageState>>,
    sources: HashMap<Base, VertexId>,
    /// Images that were looked up and not asked for yet.
    found: BTreeMap<(String, Platform), Result<ResolvedImage, WorldError>>,
    images: BTreeMap<(String, Platform), ResolvedImage>,
    pub(super) warnings: Vec<Warning>,
    /// The ARGs that stages declared, triggers of base images included.
    pub(super) declared: BTreeSet<String>,
    target: usize,
    /// `SOURCE_DATE_EPOCH`, in seconds.
    epoch: Option<i64>,
    pub(super) budget: Budget,
    /// Something is wrong already: nobody far away is asked any more.
    pub(super) offline: bool,
}

impl<'a> Planner<'a> {
    /// Evaluates the global arguments and what every stage is built on.
    pub fn new(
        parsed: &'a Parsed,
        options: &'a PlanOptions,
        world: &'a dyn World,
    ) -> Result<Self, Vec<PlanProblem>> {
        let dockerfile = &parsed.dockerfile;
        let mut problems = Vec::new();
        let target = find_target(dockerfile, options.target.as_deref()).unwrap_or_else(|problem| {
            problems.push(problem);
            dockerfile.stages.len() - 1
        });
        let target_name = options.target.clone().unwrap_or_else(|| "default".into());
        let globals =
            Globals::new(&dockerfile.global_args, dockerfile.directives.escape, options, &target_name);
        let globals = match globals {
            Ok(globals) => globals,
            Err((index, message)) => {
                problems.push(PlanProblem::input(message, dockerfile.global_args[index].span));
                return Err(problems);
            }
        };
        let mut planner = Self {
            dockerfile,
            checks: &parsed.checks,
            options,
            world,
            globals,
            bases: Vec::new(),
            remotes: Vec::new(),
            wanted: Vec::new(),
            graph: Graph::default(),
            states: vec![None; dockerfile.stages.len()],
            sources: HashMap::new(),
            found: BTreeMap::new(),
            images: BTreeMap::new(),
            warnings: Vec::new(),
            declared: BTreeSet::new(),
            target,
            epoch: None,
            budget: Budget::default(),
            offline: false,
        };
        problems.extend(find_cycle(dockerfile));
        match planner.find_epoch() {
            Ok(epoch) => planner.set_epoch(epoch),
            Err(problem) => problems.push(problem),
        }
        for index in 0..dockerfile.stages.len() {
            let base = planner.base_of(index).unwrap_or_else(|problem| {
                problems.push(problem);
                (Base::Scratch, options.platform.clone())
            });
            planner.bases.push(base);
        }
        if problems.is_empty() { Ok(planner) } else { Err(problems) }
    }

    /// ARGs of that name give the time, whatever it was taken from.
    fn set_epoch(&mut self, epoch: Option<i64>) {
        self.epoch = epoch;
        if let (Some(epoch), Some(value)) = (epoch, self.globals.values.get_mut(SOURCE_DATE_EPOCH)) {
            *value = epoch.to_string();
        }
    }

    /// What `--build-arg` says of an argument.
    pub(super) fn build_arg(&self, name: &str) -> Option<String> {
        let given = self.options.build_args.get(name)?;
        Some(match self.epoch {
            Some(epoch) if name == SOURCE_DATE_EPOCH => epoch.to_string(),
            _ => given.clone(),
        })
    }

    /// Lowers what the target needs.
    pub fn plan(mut self) -> Result<Plan, Vec<PlanProblem>> {
        let mut problems = self.early_problems(&self.needed());
        self.offline = !problems.is_empty();
        let needed = self.resolve();
        for index in (0..self.dockerfile.stages.len()).filter(|index| needed[*index]) {
            if self.budget.is_spent {
                break;
            }
            match self.lower_stage(index) {
                Ok(state) => self.states[index] = Some(state),
                Err(mut more) => problems.append(&mut more),
            }
        }
        if self.remotes.len() > REMOTES_MAX {
            let span = self.remotes[REMOTES_MAX].2;
            problems.push(PlanProblem::input(
                format!("the Dockerfile has more than {REMOTES_MAX} remote sources"),
                span,
            ));
            self.offline = true;
        }
        problems.extend(self.look_for_sources());
        problems.extend(self.resolve_remotes());
        if !problems.is_empty() {
            return Err(in_order(problems));
        }
        let unneeded = self.unneeded(&needed);
        let stages = self.stage_ends();
        let mut stage = self.states[self.target].take().expect("the target was lowered");
        for (name, value) in &self.options.labels {
            stage.image.config.labels.insert(name.clone(), value.clone());
        }
        let (target_name, unused_args) = (self.stage_name(self.target), self.unused_args());
        let mut warnings = self.warnings;
        warnings.sort_by_key(|warning| (warning.span.start, warning.rule));
        let (target, epoch) = (stage.files, self.epoch);
        Ok(Plan {
            graph: self.graph,
            target,
            stage,
            target_name,
            stages,
            warnings,
            unused_args,
            unneeded,
            epoch,
        })
    }

    fn stage_ends(&self) -> Vec<StageEnd> {
        let states = self.states.iter().enumerate();
        let end = |(index, state): (usize, &Option<StageState>)| {
            let state = state.as_ref()?;
            Some(StageEnd {
                name: self.stage_name(index),
                files: state.files,
                platform: state.platform.clone(),
                env: state.env.0.clone(),
                workdir: state.workdir().to_owned(),
                user: state.image.config.user.clone(),
            })
        };
        states.filter_map(end).collect()
    }

    /// Looks up the images that the target needs; says which stages it needs.
    ///
    /// What a base image's triggers take files from is known only once that image is.
    fn resolve(&mut self) -> Vec<bool> {
        let mut needed = self.needed();
        loop {
            self.resolve_images(&needed);
            let more = self.needed();
            if more == needed {
                return needed;
            }
            needed = more;
        }
    }

    /// The stage's name, or its number.
    pub fn stage_name(&self, index: usize) -> String {
        let name = self.dockerfile.stages[index].from.name.as_ref();
        name.map_or_else(|| index.to_string(), |name| name.value.clone())
    }

    fn base_of(&mut self, index: usize) -> Result<(Base, Platform), PlanProblem> {
        let stage = &self.dockerfile.stages[index];
        let from = &stage.from;
        let platform = match &from.platform {
            None => self.options.platform.clone(),
            Some(word) => self.stage_platform(word)?,
        };
        let image = self.expand_global(&from.image)?;
        if image.is_empty() {
            let message = format!("base name ({}) should not be blank", from.image.value);
            let hint = "give the ARG a default before the first FROM, or pass --build-arg";
            return Err(PlanProblem::input(message, from.image.span).hint(hint));
        }
        if let Some(named) = from.name.as_ref().and_then(|name| self.world.named(name, &platform)) {
            return Ok((named_base(named, &platform), platform));
        }
        let earlier = self.dockerfile.stages[..index].iter().rposition(|stage| is_named(stage, &image));
        let base = match earlier {
            Some(earlier) => Base::Stage(earlier),
            None => match self.world.named(&image, &platform) {
                Some(named) => named_base(named, &platform),
                None if image == "scratch" => Base::Scratch,
                None => Base::Image(image, platform.clone()),
            },
        };
        Ok((base, platform))
    }

    fn stage_platform(&self, word: &Spanned<String>) -> Result<Platform, PlanProblem> {
        let text = self.expand_global(word)?;
        if text.is_empty() {
            let message = format!("empty platform value from expression {}", word.value);
            return Err(PlanProblem::input(message, word.span));
        }
        text.parse()
            .map_err(|e| PlanProblem::input(format!("failed to parse platform {text}: {e}"), word.span))
    }

    pub(super) fn expand_global(&self, word: &Spanned<String>) -> Result<String, PlanProblem> {
        let expander = Expander { escape: self.dockerfile.directives.escape };
        let expanded = expander.word(&word.value, &self.globals);
        Ok(expanded.map_err(|e| PlanProblem::input(e.to_string(), word.span))?.text)
    }

    /// Which stages the target needs, itself included.
    fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.dockerfile.stages.len()];
        let mut pending = vec![self.target];
        while let Some(index) = pending.pop() {
            if std::mem::replace(&mut needed[index], true) {
                continue;
            }
            if let Base::Stage(base) = self.bases[index].0 {
                pending.push(base);
            }
            for from in self.froms(index) {
                if let Ok(Base::Stage(source)) = self.find_source(index, &from) {
                    pending.push(source);
                }
            }
        }
        needed
    }

    /// Every `--from` of a stage, those in its base's triggers included.
    fn froms(&self, index: usize) -> Vec<String> {
        let mut froms = Vec::new();
        if self.is_replaced(index) {
            return froms;
        }
        self.dockerfile.stages[index].instructions.iter().for_each(|own| add_froms(own, &mut froms));
        match &self.bases[index].0 {
            Base::Stage(base) => {
                for instruction in &self.dockerfile.stages[*base].instructions {
                    if let Kind::Onbuild { instruction, .. } = &instruction.kind {
                        add_froms(instruction, &mut froms);
                    }
                }
            }
            Base::Image(reference, platform) => {
                let found = self.found.get(&(reference.clone(), platform.clone()));
                let config = found.and_then(|found| found.as_ref().ok()).map(|image| &image.config.config);
                for text in config.into_iter().flat_map(|config| &config.on_build) {
                    // What is wrong with a trigger is said where it is carried out.
                    let trigger = forge_parser::parse_trigger(text, '\\');
                    trigger.iter().for_each(|trigger| add_froms(trigger, &mut froms));
                }
            }
            Base::Scratch | Base::Context(_) | Base::Remote(_) => {}
        }
        froms
    }

    /// What a `--from` of stage `index` means.
    pub fn find_source(&self, index: usize, from: &str) -> Result<Base, NoSource> {
        let stages = &self.dockerfile.stages;
        let lower = from.to_lowercase();
        if let Some(found) = stages[..index].iter().rposition(|stage| is_named(stage, &lower)) {
            return Ok(Base::Stage(found));
        }
        if let Ok(number) = from.parse::<usize>() {
            return if number < index { Ok(Base::Stage(number)) } else { Err(NoSource::Index(number)) };
        }
        if let Some(named) = self.world.named(from, &self.options.platform) {
            return Ok(named_base(named, &self.options.platform));
        }
        if stages[index..].iter().any(|stage| is_named(stage, &lower)) {
            return Err(NoSource::Later { from: from.to_owned(), current: self.stage_name(index) });
        }
        Ok(if lower == "scratch" {
            Base::Scratch
        } else {
            Base::Image(from.to_owned(), self.options.platform.clone())
        })
    }

    /// Looks up every image that the needed stages name, at once.
    fn resolve_images(&mut self, needed: &[bool]) {
        let mut wanted: Vec<(String, Platform)> = Vec::new();
        for index in (0..needed.len()).filter(|index| needed[*index]) {
            let sources = self.froms(index);
            let bases = sources.iter().filter_map(|from| self.find_source(index, from).ok());
            for base in bases.chain([self.bases[index].0.clone()]) {
                if let Base::Image(reference, platform) = base {
                    wanted.push((reference, platform));
                }
            }
        }
        wanted.retain(|wanted| !self.found.contains_key(wanted));
        wanted.sort();
        wanted.dedup();
        let world = self.world;
        if self.offline {
            let at_hand = |wanted: (String, Platform)| {
                let image = world.image_at_hand(&wanted.0, &wanted.1)?;
                Some((wanted, Ok(image)))
            };
            self.found.extend(wanted.into_iter().filter_map(at_hand));
            return;
        }
        let results = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            let resolve = |(reference, platform): (String, Platform)| {
                let result = world.resolve_image(&reference, &platform);
                results.lock().expect("no holder panics").insert((reference, platform), result);
            };
            // The first one on this thread: most builds have but one.
            let mut wanted = wanted.into_iter();
            let first = wanted.next();
            for more in wanted {
                scope.spawn(move || resolve(more));
            }
            if let Some(first) = first {
                resolve(first);
            }
        });
        self.found.extend(results.into_inner().expect("no holder panics"));
    }

    /// An image, resolved before or now.
    fn image(
        &mut self,
        reference: &str,
        platform: &Platform,
        span: Span,
    ) -> Result<ResolvedImage, PlanProblem> {
        let key = (reference.to_owned(), platform.clone());
        let found = match self.found.remove(&key) {
            Some(found) => found,
            None => match self.images.get(&key) {
                Some(image) => return Ok(image.clone()),
                None if self.offline => return Err(PlanProblem::not_asked()),
                None => self.world.resolve_image(reference, platform),
            },
        };
        let image = found.map_err(|error: WorldError| self.no_image(error, reference, span))?;
        self.images.insert(key, image.clone());
        Ok(image)
    }

    /// The vertex that holds a base's files.
    pub fn source_vertex(&mut self, base: &Base, span: Span) -> Result<VertexId, PlanProblem> {
        if let Base::Stage(index) = base {
            // Absent only after that stage's own problems were reported.
            let state = self.states[*index].as_ref();
            return state.map(|state| state.files).ok_or_else(|| {
                PlanProblem::input(format!("stage {} has problems of its own", self.stage_name(*index)), span)
            });
        }
        if let Some(vertex) = self.sources.get(base) {
            return Ok(*vertex);
        }
        let (op, label) = match base {
            Base::Scratch => (Op::Scratch, "FROM scratch".to_owned()),
            Base::Context(name) => (Op::Context(ContextOp { name: name.clone() }), format!("context {name}")),
            Base::Image(reference, platform) => {
                let image = self.image(reference, platform, span)?;
                let label = format!("FROM {}@{}", image.reference, image.digest);
                let ResolvedImage { reference, digest, snapshot, config: _ } = image;
                (Op::Image(ImageOp { reference, digest, snapshot }), label)
            }
            Base::Remote(remote) => {
                let vertex = self.named_remote(remote, span)?;
                self.sources.insert(base.clone(), vertex);
                return Ok(vertex);
            }
            Base::Stage(_) => unreachable!("answered above"),
        };
        let vertex = self.add_source(op, label, span);
        self.sources.insert(base.clone(), vertex);
        Ok(vertex)
    }

    /// The files of a context from elsewhere: a repository's, or what an archive at a URL holds.
    fn named_remote(&mut self, remote: &Remote, span: Span) -> Result<VertexId, PlanProblem> {
        let source = self.remote_vertex(remote.clone(), span);
        if matches!(remote, Remote::Git(..)) {
            return Ok(source);
        }
        // The tree holds this one file; what an archive says of owners is no more a context's than a directory's is.
        let selection = Selection { required: true, ..Selection::path("*".into()) };
        self.onto_nothing(source, selection, Unpack::IfArchive, Some("0:0".into()), span)
    }

    /// Whether --build-context put something in the place of the whole stage.
    pub(super) fn is_replaced(&self, index: usize) -> bool {
        let name = self.dockerfile.stages[index].from.name.as_ref();
        name.is_some_and(|name| self.world.named(name, &self.bases[index].1).is_some())
    }

    pub(super) fn add_source(&mut self, op: Op, label: String, span: Span) -> VertexId {
        self.graph.add(Vertex {
            op,
            inputs: Vec::new(),
            span: Some(span),
            label,
            stage: String::new(),
            no_cache: false,
        })
    }

    fn lower_stage(&mut self, index: usize) -> Result<StageState, Vec<PlanProblem>> {
        let stage = &self.dockerfile.stages[index];
        let (base, platform) = self.bases[index].clone();
        let span = stage.span;
        let total = stage.instructions.iter().filter(|i| is_step(&i.kind)).count();
        let counts_from = matches!(base, Base::Image(..) | Base::Context(_) | Base::Remote(_));
        let named = stage.from.name.as_ref().map(|name| name.value.clone());
        let name = match named {
            Some(name) => name,
            None if self.dockerfile.stages.len() > 1 => format!("stage-{index}"),
            None => String::new(),
        };
        let shown = self.options.several_platforms.then_some(&platform);
        let state = match &base {
            Base::Stage(earlier) => match &self.states[*earlier] {
                Some(state) => {
                    let (weight, state) = (state.weight(), state.inherit());
                    self.carries(weight, span).map_err(|problem| vec![problem])?;
                    state
                }
                // Its problems were reported where it stands.
                None => return Err(Vec::new()),
            },
            Base::Scratch => {
                let files = self.source_vertex(&base, span).map_err(|p| vec![p])?;
                StageState::scratch(files, &platform)
            }
            Base::Context(_) | Base::Remote(_) => {
                let files = match &base {
                    Base::Context(_) => self.context_as_files(&base, span),
                    _ => self.source_vertex(&base, span),
                };
                let files = files.map_err(|p| vec![p])?;
                let mut state = StageState::scratch(files, &platform);
                // Every layer has its line of history.
                state.remember(format!("FROM {}", self.graph.vertex(files).label), Some(files));
                state
            }
            Base::Image(reference, platform) => {
                let image = self.image(reference, platform, stage.from.image.span).map_err(|p| vec![p])?;
                let files = self.source_vertex(&base, stage.from.image.span).map_err(|p| vec![p])?;
                self.check_platform(reference, &image.config, platform, span);
                // An image without layers is as good as nothing, and Docker treats it so.
                StageState::over(files, image.config, platform)
            }
        };
        // A stage that --build-context replaced is what stands there instead, and nothing is done to it.
        if self.is_replaced(index) {
            return Ok(state);
        }
        let triggers = self.triggers(&state, span)?;
        let steps = total + triggers.iter().filter(|t| is_step(&t.kind)).count();
        let mut names = StepNames::new(shown, &name, steps + usize::from(counts_from));
        if counts_from {
            let label = self.graph.vertex(state.files).label.clone();
            if !label.starts_with('[') {
                let label = names.next(&label);
                self.graph.set_label(state.files, label);
            } else {
                names.next("");
            }
        }
        Lowering::new(self, index, &name, state, names).lower(&triggers, &stage.instructions)
    }

    /// A directory as the files of a stage: all of it, copied onto nothing.
    fn context_as_files(&mut self, base: &Base, span: Span) -> Result<VertexId, PlanProblem> {
        let context = self.source_vertex(base, span)?;
        let selection = Selection { required: true, ..Selection::path(String::new()) };
        self.onto_nothing(context, selection, Unpack::Never, None, span)
    }

    /// A source's files as a tree of their own: copied onto nothing.
    fn onto_nothing(
        &mut self,
        source: VertexId,
        selection: Selection,
        unpack: Unpack,
        chown: Option<String>,
        span: Span,
    ) -> Result<VertexId, PlanProblem> {
        let nothing = self.source_vertex(&Base::Scratch, span)?;
        let op = Op::Copy(CopyOp {
            sources: vec![CopySource::Files { input: 1, selection, unpack }],
            dest: "/".into(),
            chown,
            chmod: None,
            parents: false,
            link: false,
            reset_owner: true,
        });
        let label = self.graph.vertex(source).label.clone();
        Ok(self.graph.add(Vertex {
            op,
            inputs: vec![nothing, source],
            span: Some(span),
            label,
            stage: String::new(),
            no_cache: false,
        }))
    }

    /// The base's ONBUILD triggers, parsed.
    fn triggers(&self, state: &StageState, span: Span) -> Result<Vec<Instruction>, Vec<PlanProblem>> {
        let mut triggers = Vec::new();
        for text in &state.image.config.on_build {
            match forge_parser::parse_trigger(text, '\\') {
                Ok(instruction) => triggers.push(instruction),
                Err(problems) => {
                    let say = |p: forge_parser::Problem| {
                        PlanProblem::input(
                            format!("ONBUILD trigger `{text}` of the base image: {}", p.message),
                            span,
                        )
                    };
                    return Err(problems.into_iter().map(say).collect());
                }
            }
        }
        Ok(triggers)
    }
}

/// Each problem once, in the order of the text.
fn in_order(mut problems: Vec<PlanProblem>) -> Vec<PlanProblem> {
    problems.retain(|problem| !problem.is_not_asked());
    problems.sort_by_key(|problem| problem.span.map_or(0, |span| span.start));
    problems.dedup_by(|one, other| one.span == other.span && one.message == other.message);
    problems.truncate(PROBLEMS_MAX);
    problems
}

/// What stands for a name that `--build-context` gave.
fn named_base(named: Named, platform: &Platform) -> Base {
    match named {
        Named::Directory(name) => Base::Context(name),
        Named::Image(reference) => Base::Image(reference, platform.clone()),
        // As BuildKit calls a file that is a context of its own.
        Named::Http(url) => {
            Base::Remote(Remote::Http(HttpSource { url, checksum: None, mtime: None }, "context".into()))
        }
        Named::Git(reference) => {
            let keep = reference.keep_git_dir.unwrap_or(false);
            Base::Remote(Remote::Git(*reference, keep, Access::User))
        }
    }
}

/// True for instructions that make a layer, and so a step.
fn is_step(kind: &Kind) -> bool {
    matches!(kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_))
}

fn is_named(stage: &Stage, name: &str) -> bool {
    stage.from.name.as_ref().is_some_and(|own| own.value == name)
}

/// The `--from`s of a COPY or of a RUN's mounts.
fn add_froms(instruction: &Instruction, froms: &mut Vec<String>) {
    match &instruction.kind {
        Kind::Copy(copy) => froms.extend(copy.from.iter().map(|from| from.value.clone())),
        Kind::Run(run) => froms.extend(run.mounts.iter().filter_map(|mount| mount.value.from.clone())),
        _ => {}
    }
}

fn find_target(dockerfile: &Dockerfile, target: Option<&str>) -> Result<usize, PlanProblem> {
    let Some(name) = target else { return Ok(dockerfile.stages.len() - 1) };
    let lower = name.to_lowercase();
    if let Some(found) = dockerfile.stages.iter().rposition(|stage| is_named(stage, &lower)) {
        return Ok(found);
    }
    if let Some(number) = name.parse().ok().filter(|number| *number < dockerfile.stages.len()) {
        return Ok(number);
    }
    let names: Vec<&str> =
        dockerfile.stages.iter().filter_map(|s| s.from.name.as_ref()).map(|n| n.value.as_str()).collect();
    let near = did_you_mean(&lower, names.iter().copied()).map(|near| format!(" (did you mean {near}?)"));
    let message = format!("target stage {name:?} could not be found{}", near.unwrap_or_default());
    let hint = match names.is_empty() {
        true => "no stage of this Dockerfile has a name: write FROM … AS name".to_owned(),
        false => format!("stages: {}", names.join(", ")),
    };
    Err(PlanProblem {
        kind: crate::TroubleKind::Input,
        message,
        span: dockerfile.stages.last().map(|stage| stage.span),
        hint: Some(hint),
    })
}
