//! The plan of one build: its state, the order in which stages are lowered, and each stage over its base.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use forge_parser::ast::{Dockerfile, Instruction, Kind};
use forge_parser::check::{CheckConfig, Warning};
use forge_parser::{Parsed, Span};
use forge_store::Platform;

use super::base::{Base, find_target};
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
use crate::op::{ResolvedImage, Selection};
use crate::world::{World, WorldError};
use crate::{Graph, VertexId};

/// Plans one build.
pub struct Planner<'a> {
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) checks: &'a CheckConfig,
    pub(super) options: &'a PlanOptions,
    pub(super) world: &'a dyn World,
    pub(super) globals: Globals,
    pub(super) bases: Vec<(Base, Platform)>,
    /// Remote sources, each with its vertex and the first place that names it.
    pub(super) remotes: Vec<(Remote, VertexId, Span)>,
    /// What is wanted of contexts, each with the place that says so.
    pub(super) wanted: Vec<(String, Selection, Span)>,
    pub(super) graph: Graph,
    pub(super) states: Vec<Option<StageState>>,
    pub(super) sources: HashMap<Base, VertexId>,
    /// Images that were looked up and not asked for yet.
    pub(super) found: BTreeMap<(String, Platform), Result<ResolvedImage, WorldError>>,
    pub(super) images: BTreeMap<(String, Platform), ResolvedImage>,
    pub(super) warnings: Vec<Warning>,
    /// The ARGs that stages declared, triggers of base images included.
    pub(super) declared: BTreeSet<String>,
    pub(super) target: usize,
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

    /// The stage's name, or its number.
    pub fn stage_name(&self, index: usize) -> String {
        let name = self.dockerfile.stages[index].from.name.as_ref();
        name.map_or_else(|| index.to_string(), |name| name.value.clone())
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

/// True for instructions that make a layer, and so a step.
fn is_step(kind: &Kind) -> bool {
    matches!(kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_))
}
