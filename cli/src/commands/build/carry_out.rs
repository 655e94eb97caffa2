//! The second half of a build: a plan is solved and its result exported.

use std::path::Path;

use forge_exporter::{Ahead, Images, Uploads};
use forge_parser::Warning;
use forge_registry::Reference;
use forge_runner::executor::LocalExecutor;
use forge_runner::sources::Sources;
use forge_runner::step::Settings;
use forge_solver::explain::Explainer;
use forge_solver::print::Inspected;
use forge_solver::{Executor, Jobs, Plan, SolveError, Solver, StepId, VertexId, World};

use super::export::Export;
use super::{Building, keep};
use crate::args::PrintFormat;
use crate::commands::print;
use crate::contexts::{MainContext, NamedContexts};
use crate::diagnostics::Report;
use crate::dockerfile::LoadedDockerfile;
use crate::early_push::{self, EarlyPush};
use crate::failure::{Failure, Kind};
use crate::history::{History, KeptBuild, Subject};
use crate::local::Fetcher;
use crate::progress::for_terminal;
use crate::records::StoreRecords;
use crate::registries::Registries;
use crate::steps::Steps;
use crate::{environment, signals};

/// All that is known once there is a plan.
pub struct Planned<'a> {
    /// The directory that the build is about.
    pub context: &'a MainContext,
    /// The Dockerfile.
    pub loaded: &'a LoadedDockerfile,
    /// All contexts by name.
    pub contexts: &'a NamedContexts,
    /// One for each platform, over the same graph.
    pub plans: &'a [Plan],
    /// What the checks found.
    pub warnings: &'a [Warning],
    /// What the plan was made from.
    pub world: &'a dyn World,
    /// Where remote files come from.
    pub sources: &'a Sources<'a>,
    /// Where images come from and go to.
    pub registries: &'a Registries,
}

impl Planned<'_> {
    /// All plans have the same graph, and warn of the same Dockerfile.
    fn first(&self) -> &Plan {
        &self.plans[0]
    }

    fn targets(&self) -> Vec<VertexId> {
        self.plans.iter().map(|plan| plan.target).collect()
    }
}

impl Building<'_> {
    /// Solves the plan and exports what it gave; the images, if any were wanted.
    pub fn carry_out(&self, planned: &Planned<'_>, steps: &Steps) -> Result<Option<Images>, Failure> {
        let fetcher = self.fetcher(planned);
        let graph = &planned.first().graph;
        let times = self.request.wanted.times(planned.first().epoch);
        let line = early_push::line(steps.reserve(), self.display);
        let early = self.request.wanted.first_push(times).map(|(form, name)| {
            let (to, blobs) = (name.repository().clone(), self.store.blobs());
            (form, EarlyPush::new(planned.registries, to, blobs, line.clone()))
        });
        let uploads = early.as_ref().map(|(form, early)| (*form, early as &dyn Uploads));
        let forms = self.request.wanted.layer_forms(times);
        let ahead = Ahead::new(self.store, graph, &planned.targets(), forms, line.clone()).sending(uploads);
        let packed_at_once = self.request.wanted.packed_at_once();
        let follower = |step| match step {
            StepId::Vertex(vertex) => packed_at_once.map(|as_| ahead.follow(vertex, as_.into())),
            StepId::Internal(_) => None,
        };
        let executor = self.executor(planned, &fetcher).packing(packed_at_once, &follower);
        let directories = || planned.contexts.directories.values();
        let what = self.identity(planned);
        let history = History::of(self.store);
        let last = history.last(&what).unwrap_or_default();
        let listing = |content: &str| {
            directories().find_map(|context| context.listing_of(content)).or_else(|| history.listing(content))
        };
        let explainer = Explainer::new(&last.log, what.platform.clone(), &listing);
        let records = StoreRecords::of(self.store);
        let solver = self.solver(planned, &executor, &records, Some(&explainer));
        let solved = ahead.beside(|results| {
            let cancel = || {
                executor.cancel();
                planned.registries.stop();
            };
            signals::cancelling(&cancel, |cancelled| {
                Solver { cancelled, results, ..solver }.solve(graph, &planned.targets())
            })
        });
        executor.expect_no_more();
        let early = early.as_ref().map(|(_, early)| early);
        if solved.is_err() {
            early.iter().for_each(|early| early.stop());
            line.end(false);
        }
        directories().for_each(|context| context.remember());
        self.keep(planned.context, planned.loaded, planned.plans, &solver, &solved);
        let solved = solved.map_err(|error| self.solve_failure(error, planned))?;
        let kept = KeptBuild {
            names: self.request.names.iter().map(Reference::canonical).collect(),
            dockerfile: planned.loaded.source.name.clone(),
            target: planned.first().target_name.clone(),
            log: solved.log().clone(),
        };
        history.keep(&what, &kept, directories().map(|context| &**context));
        let export = Export {
            building: self,
            plans: planned.plans,
            solved: &solved,
            registries: planned.registries,
            fetcher: &fetcher,
            warnings: planned.warnings,
            dockerfile: planned.loaded,
            ahead: &ahead,
            early,
            line: &line,
        };
        let cancel = || {
            ahead.stop();
            early.iter().for_each(|early| early.give_up());
            planned.registries.stop();
        };
        let exported = signals::cancelling(&cancel, |_| {
            steps.internal(&**self.display, "exporting to image", |step| export.run(step))
        });
        let exported = exported.map_err(|failure| stopped().unwrap_or(failure));
        if exported.is_err() {
            early.iter().for_each(|early| early.stop());
        }
        line.end(exported.is_ok());
        exported
    }

    /// `--print`: the graph with its keys and hits.
    pub fn show(&self, planned: &Planned<'_>, format: PrintFormat) -> Result<(), Failure> {
        let fetcher = self.fetcher(planned);
        let executor = self.executor(planned, &fetcher);
        let records = StoreRecords::of(self.store);
        let solver = self.solver(planned, &executor, &records, None);
        let inspected = solver.inspect(&planned.first().graph, &planned.targets());
        let inspected = inspected.map_err(|error| self.solve_failure(error, planned))?;
        planned.contexts.directories.values().for_each(|context| context.remember());
        self.display.finish();
        print_graph(planned.first(), &inspected, format)
    }

    fn fetcher<'b>(&'b self, planned: &Planned<'b>) -> Fetcher<'b> {
        Fetcher { store: self.store, registries: planned.registries, display: self.display.clone() }
    }

    fn executor<'b>(&'b self, planned: &Planned<'b>, fetcher: &'b Fetcher<'b>) -> LocalExecutor<'b> {
        let directories = planned.contexts.directories.clone();
        LocalExecutor::new(self.store, directories, fetcher, planned.sources, self.settings())
    }

    fn solver<'b>(
        &'b self,
        planned: &Planned<'b>,
        executor: &'b LocalExecutor<'b>,
        records: &'b StoreRecords<'b>,
        explainer: Option<&'b Explainer<'b>>,
    ) -> Solver<'b> {
        Solver {
            world: planned.world,
            executor,
            records,
            events: &**self.display,
            results: &(),
            jobs: self.args.jobs.map_or_else(default_jobs, Jobs::at_most),
            explainer,
            cancelled: &|| false,
        }
    }

    /// What is built, so that the next build of it meets this one.
    fn identity(&self, planned: &Planned<'_>) -> Subject {
        let context = Path::new(&self.args.context);
        let context = context.canonicalize().unwrap_or_else(|_| context.to_owned());
        let platforms: Vec<String> = self.request.wanted.platforms.iter().map(ToString::to_string).collect();
        Subject {
            what: format!(
                "{} {} {}",
                context.display(),
                planned.loaded.source.name,
                planned.first().target_name
            ),
            platform: platforms.join(","),
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            runtime_dir: self.session.runtime_dir(),
            isolation: self.session.identity.isolation.clone(),
            hardened: self.args.isolation.hardened,
            search_path: environment::search_path().to_string_lossy().into_owned(),
            secrets: self.request.secrets.clone(),
            bounds: self.request.bounds.clone(),
            on_failure: keep::on_failure(self.args, self.display),
        }
    }

    fn solve_failure(&self, error: SolveError, planned: &Planned<'_>) -> Failure {
        let SolveError { vertex, error } = error;
        if let Some(failure) = stopped() {
            return failure;
        }
        let vertex = vertex.map(|id| planned.first().graph.vertex(id));
        let mut report = String::new();
        if !error.output.is_empty() {
            let label = vertex.map_or("", |vertex| &vertex.label);
            report.push_str(&tail(label, &error.output));
        }
        let span = vertex.and_then(|vertex| vertex.span);
        let drawn = Report { message: &error.message, span, hint: error.hint.as_deref() };
        report.push_str(&planned.loaded.source.error(&drawn));
        Failure { kind: error.kind.into(), reports: vec![report] }
    }
}

fn print_graph(plan: &Plan, inspected: &[Inspected], format: PrintFormat) -> Result<(), Failure> {
    match format {
        PrintFormat::Dot => print(forge_solver::print::dot(&plan.graph, inspected).trim_end()),
        PrintFormat::Json => print(&format!("{:#}", forge_solver::print::json(&plan.graph, inspected))),
    }
}

/// How many lines of a failed step's output are repeated below it.
const TAIL_LINES: usize = 20;

/// The last of what a failed step said.
pub fn tail(label: &str, output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    let last: Vec<String> = last.iter().map(|line| for_terminal(line)).collect();
    format!("------\n > {}:\n{}\n------\n", for_terminal(label), last.join("\n"))
}

/// What a signal of the user's is told as.
pub fn stopped() -> Option<Failure> {
    let kind = Kind::Signal(signals::received()?);
    Some(Failure { kind, reports: vec!["error: stopped by the user".into()] })
}

fn default_jobs() -> Jobs {
    Jobs::for_cores(std::thread::available_parallelism().map_or(1, usize::from))
}
