//! One stage's instructions, lowered in order: some edit the configuration, some add a vertex.

use forge_parser::ast::{Arg, Command, Healthcheck, Instruction, Kind, Pairs, Words};
use forge_parser::expand::{ExpandError, Expanded, Expander};
use forge_parser::{Span, Spanned, redacted};
use forge_store::image::{Empty, HealthConfig};

use super::error::PlanProblem;
use super::history;
use super::path::{absolute, too_long};
use super::stage::{StageState, StepNames};
use super::stages::Planner;
use super::{ports, signal};
use crate::limits::VARIABLES_MAX;
use crate::op::{Op, WorkdirOp};
use crate::{Vertex, VertexId};

/// Lowers one stage.
pub struct Lowering<'p, 'a> {
    pub(super) planner: &'p mut Planner<'a>,
    /// The stage's number.
    pub(super) index: usize,
    stage: String,
    pub(super) state: StageState,
    names: StepNames,
    pub(super) span: Span,
}

impl<'p, 'a> Lowering<'p, 'a> {
    /// Starts behind the stage's FROM.
    pub fn new(
        planner: &'p mut Planner<'a>,
        index: usize,
        stage: &str,
        state: StageState,
        names: StepNames,
    ) -> Self {
        let span = planner.dockerfile.stages[index].span;
        let stage = if stage.is_empty() { planner.stage_name(index) } else { stage.to_owned() };
        Self { planner, index, stage, state, names, span }
    }

    /// Lowers the base's triggers and then the stage's own instructions; goes on behind a problem.
    pub fn lower(
        mut self,
        triggers: &[Instruction],
        instructions: &[Instruction],
    ) -> Result<StageState, Vec<PlanProblem>> {
        self.state.image.config.on_build.clear();
        let mut problems = Vec::new();
        for trigger in triggers {
            // A trigger stands in another file: its problems are shown at this stage's FROM.
            problems.extend(self.instruction(trigger).err());
        }
        for instruction in instructions {
            self.span = instruction.span;
            if self.planner.budget.is_spent {
                break;
            }
            problems.extend(self.instruction(instruction).err());
        }
        if problems.is_empty() { Ok(self.state) } else { Err(problems) }
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), PlanProblem> {
        match &instruction.kind {
            Kind::Arg(args) => args.iter().try_for_each(|arg| self.arg(arg)),
            Kind::Env(pairs) => self.env(pairs),
            Kind::Label(pairs) => self.label(pairs),
            Kind::Run(run) => self.run(run, instruction),
            Kind::Copy(copy) => self.copy(copy, instruction),
            Kind::Add(add) => self.add(add, instruction),
            Kind::Cmd(command) => self.cmd(command),
            Kind::Entrypoint(command) => self.entrypoint(command),
            Kind::Healthcheck(health) => self.healthcheck(health),
            Kind::Shell(shell) => {
                self.state.image.config.shell = Some(shell.clone());
                self.remember(format!("SHELL {}", history::go_list(shell)))
            }
            Kind::Stopsignal(word) => self.stopsignal(word),
            Kind::User(word) => {
                let user = self.word(&word.value)?;
                self.state.image.config.user.clone_from(&user);
                self.remember(format!("USER {user}"))
            }
            Kind::Workdir(word) => self.workdir(word),
            Kind::Volume(words) => self.volume(words),
            Kind::Expose(words) => self.expose(words),
            Kind::Onbuild { trigger, .. } => {
                self.state.image.config.on_build.push(trigger.value.clone());
                Ok(())
            }
            Kind::Maintainer(name) => {
                self.state.image.author.clone_from(&name.value);
                self.remember(format!("MAINTAINER {}", name.value))
            }
        }
    }

    // ---- Words -------------------------------------------------------------------------------------------

    pub(super) fn expander(&self) -> Expander {
        Expander { escape: self.planner.dockerfile.directives.escape }
    }

    /// Expands a word in the stage's variables.
    pub(super) fn word(&mut self, text: &str) -> Result<String, PlanProblem> {
        let expanded = self.expander().word(text, &self.state.env);
        self.settle(expanded)
    }

    /// Expands the body of a heredoc: variables only, quotes stay.
    pub(super) fn raw(&mut self, text: &str) -> Result<String, PlanProblem> {
        let expanded = self.expander().raw(text, &self.state.env);
        self.settle(expanded)
    }

    fn settle(&mut self, expanded: Result<Expanded, ExpandError>) -> Result<String, PlanProblem> {
        let Expanded { text, undefined, .. } =
            expanded.map_err(|e| PlanProblem::input(e.to_string(), self.span))?;
        self.planner.expands(text.len(), self.span)?;
        self.note_undefined(&undefined);
        Ok(text)
    }

    /// A step's name: variables that are set are shown with their values.
    pub(super) fn step_label(&mut self, instruction: &Instruction) -> Result<String, PlanProblem> {
        let shown = self.expander().keep_unset(instruction.source.trim(), &self.state.env);
        let shown = if matches!(instruction.kind, Kind::Add(_)) { redacted(&shown) } else { shown };
        self.planner.carries(shown.len(), self.span)?;
        Ok(self.names.next(&shown))
    }

    // ---- Results -----------------------------------------------------------------------------------------

    pub(super) fn remember(&mut self, created_by: String) -> Result<(), PlanProblem> {
        self.carry(&created_by)?;
        self.state.remember(created_by, None);
        Ok(())
    }

    /// Makes room for a line of history.
    pub(super) fn carry(&mut self, created_by: &str) -> Result<(), PlanProblem> {
        self.planner.carries(created_by.len() + self.state.image.author.len(), self.span)
    }

    /// Adds a vertex that makes the stage's next layer.
    pub(super) fn push(
        &mut self,
        op: Op,
        more_inputs: Vec<VertexId>,
        label: String,
        created_by: String,
    ) -> Result<(), PlanProblem> {
        self.carry(&created_by)?;
        let mut inputs = vec![self.state.files];
        inputs.extend(more_inputs);
        let options = self.planner.options;
        let no_cache = options.no_cache || options.no_cache_stages.contains(&self.stage);
        let vertex = Vertex { op, inputs, span: Some(self.span), label, stage: self.stage.clone(), no_cache };
        self.state.files = self.planner.graph.add(vertex);
        self.state.remember(created_by, Some(self.state.files));
        Ok(())
    }

    // ---- Instructions that edit the configuration --------------------------------------------------------

    fn arg(&mut self, arg: &Spanned<Arg>) -> Result<(), PlanProblem> {
        let name = arg.name.as_str();
        self.planner.declared.insert(name.to_owned());
        let given = self.planner.build_arg(name);
        let value = match (given, &arg.default) {
            (Some(given), _) => Some(given),
            (None, Some(default)) => Some(self.word(default)?),
            (None, None) => self.planner.globals.values.get(name).cloned(),
        };
        let text = match &value {
            Some(value) => format!("ARG {name}={value}"),
            None => format!("ARG {name}"),
        };
        // These two speak to the builder, not to the steps.
        let is_exported = !name.starts_with("BUILDKIT_SBOM_SCAN_");
        if let Some(value) = value.as_ref().filter(|_| is_exported) {
            self.set_variable(name, value)?;
        }
        self.state.build_args.push((name.to_owned(), value));
        self.remember(text)
    }

    fn set_variable(&mut self, name: &str, value: &str) -> Result<(), PlanProblem> {
        self.state.env.set(name, value);
        if self.state.env.0.len() <= VARIABLES_MAX {
            return Ok(());
        }
        self.planner.budget.is_spent = true;
        Err(PlanProblem::input(format!("the stage has more than {VARIABLES_MAX} variables"), self.span))
    }

    fn pairs(&mut self, pairs: &Pairs) -> Result<Vec<(String, String)>, PlanProblem> {
        // All of an instruction is expanded in the variables as they were before it.
        pairs
            .pairs
            .iter()
            .map(|(key, value)| Ok((self.word(&key.value)?, self.word(&value.value)?)))
            .collect()
    }

    fn env(&mut self, pairs: &Pairs) -> Result<(), PlanProblem> {
        let pairs = self.pairs(pairs)?;
        for (name, value) in &pairs {
            if name.is_empty() {
                return Err(PlanProblem::input("ENV names can not be blank", self.span));
            }
            self.set_variable(name, value)?;
            // In place: taking the whole environment apart for each ENV would cost its square.
            let (line, start) = (format!("{name}={value}"), format!("{name}="));
            let lines = &mut self.state.image.config.env;
            match lines.iter_mut().find(|line| line.starts_with(&start)) {
                Some(old) => *old = line,
                None => lines.push(line),
            }
        }
        self.remember(format!("ENV {}", joined(&pairs)))
    }

    fn label(&mut self, pairs: &Pairs) -> Result<(), PlanProblem> {
        let pairs = self.pairs(pairs)?;
        self.state.image.config.labels.extend(pairs.iter().cloned());
        self.remember(format!("LABEL {}", joined(&pairs)))
    }

    /// A command's arguments, with the stage's shell where it is in shell form.
    pub(super) fn args(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(args) => args.clone(),
            Command::Shell(text) => {
                let mut args = self.state.shell();
                args.push(text.clone());
                args
            }
        }
    }

    fn cmd(&mut self, command: &Command) -> Result<(), PlanProblem> {
        let args = self.args(command);
        let text = format!("CMD {}", history::go_quoted_list(&args));
        let config = &mut self.state.image.config;
        config.cmd = Some(args).filter(|args| !args.is_empty());
        // What BuildKit writes on every platform, for old clients.
        config.args_escaped = true;
        self.state.cmd_set = true;
        self.remember(text)
    }

    fn entrypoint(&mut self, command: &Command) -> Result<(), PlanProblem> {
        let args = self.args(command);
        let text = format!("ENTRYPOINT {}", history::go_quoted_list(&args));
        self.state.image.config.entrypoint = Some(args).filter(|args| !args.is_empty());
        if !self.state.cmd_set {
            self.state.image.config.cmd = None;
        }
        self.remember(text)
    }

    fn healthcheck(&mut self, health: &Healthcheck) -> Result<(), PlanProblem> {
        let health = match health {
            Healthcheck::None => HealthConfig { test: vec!["NONE".into()], ..HealthConfig::default() },
            Healthcheck::Cmd {
                command,
                interval_ns,
                timeout_ns,
                start_period_ns,
                start_interval_ns,
                retries,
            } => {
                let test = match command {
                    Command::Shell(text) => vec!["CMD-SHELL".into(), text.clone()],
                    Command::Exec(args) => [vec!["CMD".into()], args.clone()].concat(),
                };
                HealthConfig {
                    test,
                    interval: *interval_ns,
                    timeout: *timeout_ns,
                    start_period: *start_period_ns,
                    start_interval: *start_interval_ns,
                    retries: *retries,
                    ..HealthConfig::default()
                }
            }
        };
        let text = history::healthcheck(&health);
        self.state.image.config.healthcheck = Some(health);
        self.remember(text)
    }

    fn stopsignal(&mut self, word: &Spanned<String>) -> Result<(), PlanProblem> {
        let name = self.word(&word.value)?;
        if !signal::is_signal(&name) {
            let problem = PlanProblem::input(format!("invalid signal: {name}"), word.span);
            return Err(problem.hint("write a name such as SIGTERM, or a number from 1 to 64"));
        }
        self.state.image.config.stop_signal.clone_from(&name);
        self.remember(format!("STOPSIGNAL {name}"))
    }

    fn workdir(&mut self, word: &Spanned<String>) -> Result<(), PlanProblem> {
        let text = self.word(&word.value)?;
        self.check_workdir(word, &text);
        let path = absolute(self.state.workdir(), &text);
        if let Some(why) = too_long(&path) {
            let message = format!("WORKDIR is {why}");
            return Err(PlanProblem::input(message, word.span).hint("choose a shorter one"));
        }
        self.state.image.config.working_dir.clone_from(&path);
        let label = self.names.next(&format!("WORKDIR {text}"));
        let created_by = format!("WORKDIR {path}");
        if path == "/" {
            return self.remember(created_by);
        }
        let op = Op::Workdir(WorkdirOp { path, user: self.state.image.config.user.clone() });
        self.push(op, Vec::new(), label, created_by)
    }

    fn volume(&mut self, words: &Words) -> Result<(), PlanProblem> {
        let mut volumes = Vec::new();
        for word in &words.words {
            let volume = self.word(&word.value)?;
            if volume.is_empty() {
                return Err(PlanProblem::input("VOLUME specified can not be an empty string", word.span));
            }
            volumes.push(volume);
        }
        let text = format!("VOLUME {}", history::go_list(&volumes));
        self.state.image.config.volumes.extend(volumes.into_iter().map(|volume| (volume, Empty {})));
        self.remember(text)
    }

    fn expose(&mut self, words: &[Spanned<String>]) -> Result<(), PlanProblem> {
        let mut expanded = Vec::new();
        for word in words {
            let (words, all) = self
                .expander()
                .words(&word.value, &self.state.env)
                .map_err(|e| PlanProblem::input(e.to_string(), word.span))?;
            self.note_undefined(&all.undefined);
            if !all.used.is_empty() {
                self.check_ports(&words, word.span);
            }
            expanded.extend(words);
        }
        expanded.sort();
        let mut listed = Vec::new();
        for word in expanded {
            // `1-65535` is short, and long when it is written out.
            self.planner.carries(ports::weight(&word), self.span)?;
            let ports = ports::parse(&word).map_err(|message| {
                PlanProblem::input(message, self.span).hint("EXPOSE takes port[-port][/tcp|udp|sctp]")
            })?;
            listed.extend(ports);
        }
        let text = format!("EXPOSE {}", history::go_list(&listed));
        self.state.image.config.exposed_ports.extend(listed.into_iter().map(|port| (port, Empty {})));
        self.remember(text)
    }
}

fn joined(pairs: &[(String, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(" ")
}
