//! `forge build`: load, plan, solve, export, print the digest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forge_exporter::{
    Image, ImageOptions, Name, Output, assemble, write_directory, write_docker_archive, write_oci_archive,
    write_oci_directory, write_tar,
};
use forge_parser::ast::Network;
use forge_registry::Reference;
use forge_runner::executor::LocalExecutor;
use forge_runner::files::LocalContext;
use forge_runner::secrets::Secrets;
use forge_runner::step::Settings;
use forge_solver::explain::Explainer;
use forge_solver::print::Inspected;
use forge_solver::{Event, Events, Plan, PlanOptions, SolveError, Solved, Solver, StepId};
use forge_store::layer::Compression;
use forge_store::{Layer, Platform, Snapshot, Store};

use super::{Session, print};
use crate::args::{Build, NetworkMode, PrintFormat, ProgressMode};
use crate::diagnostics::Report;
use crate::dockerfile::{self, LoadedDockerfile};
use crate::failure::{Failure, Kind, world_error_of_store};
use crate::history::{History, KeptBuild};
use crate::local::{Fetcher, LocalWorld, Shared};
use crate::progress::{Display, for_terminal, say};
use crate::records::StoreRecords;
use crate::registries::{Registries, Travelling, parse_reference};
use crate::steps::Steps;
use crate::{environment, secrets, signals};

/// The name that the build context has in the graph.
const CONTEXT: &str = "context";

/// Builds an image.
pub fn build(session: &Session, args: &Build) -> Result<(), Failure> {
    let request = Request::new(args)?;
    let store = session.store()?;
    let display = Arc::new(Display::new(args.progress, args.quiet || writes_to_stdout(&request.outputs)));
    let outcome = Building { session, args, request: &request, store: &store, display: &display }.run();
    display.finish();
    outcome
}

/// The words of the command line, read.
struct Request {
    options: PlanOptions,
    names: Vec<Reference>,
    outputs: Vec<Output>,
    contexts: Vec<(String, PathBuf)>,
    epoch: Option<i64>,
    secrets: Secrets,
}

impl Request {
    fn new(args: &Build) -> Result<Self, Failure> {
        let host = Platform::host();
        let platform = match &args.platform {
            Some(text) if text.contains(',') => {
                return Err(usage(
                    "this version of forge builds one platform at a time",
                    "give one --platform",
                ));
            }
            Some(text) => text.parse().map_err(|e| Failure::new(Kind::Usage, e, None))?,
            None => host.clone(),
        };
        let options = PlanOptions {
            target: args.target.clone(),
            build_args: build_args(&args.build_args)?,
            labels: args.labels.iter().map(|label| pair(label)).collect(),
            explicit_platform: args.platform.is_some(),
            platform,
            build_platform: host,
            no_cache: args.no_cache,
            no_cache_stages: args.no_cache_filter.iter().map(|stage| stage.to_lowercase()).collect(),
            network: network(args.network),
            allowed: allowed(&args.allow)?,
        };
        let outputs = args.outputs.iter().map(|text| Output::parse(text)).collect::<Result<_, _>>();
        let mut request = Self {
            options,
            names: Vec::new(),
            outputs: outputs.map_err(|e| Failure::new(Kind::Usage, e, None))?,
            contexts: args.build_contexts.iter().map(|text| named_context(text)).collect::<Result<_, _>>()?,
            epoch: environment::source_date_epoch()?,
            secrets: secrets::read(&args.secrets, &args.ssh)?,
        };
        let named = request.outputs.iter().flat_map(|output| match output {
            Output::Image { names, .. } => names.clone(),
            _ => Vec::new(),
        });
        for name in args.tags.iter().cloned().chain(named) {
            let reference = parse_reference(&name)?;
            if reference.digest().is_some() {
                return Err(usage(&format!("cannot tag `{name}`: it holds a digest"), "write NAME[:TAG]"));
            }
            request.names.push(reference);
        }
        if request.pushes(args) && request.names.is_empty() {
            return Err(usage("there is no name to push to", "give one with -t NAME"));
        }
        Ok(request)
    }

    fn pushes(&self, args: &Build) -> bool {
        args.push || self.outputs.iter().any(|output| matches!(output, Output::Image { push: true, .. }))
    }

    /// Whether the image itself is wanted in the store, under its names.
    fn keeps_image(&self) -> bool {
        self.outputs.is_empty()
            || !self.names.is_empty()
            || self.outputs.iter().any(|output| matches!(output, Output::Image { .. }))
    }

    /// Whether anyone wants an image, rather than just files.
    fn wants_image(&self) -> bool {
        self.keeps_image()
            || self.outputs.iter().any(|o| matches!(o, Output::Oci { .. } | Output::Docker { .. }))
    }
}

fn writes_to_stdout(outputs: &[Output]) -> bool {
    // Progress goes to standard error, so that even then nothing mixes.
    let _ = outputs;
    false
}

/// A build under way.
struct Building<'a> {
    session: &'a Session,
    args: &'a Build,
    request: &'a Request,
    store: &'a Store,
    display: &'a Arc<Display>,
}

impl Building<'_> {
    fn run(&self) -> Result<(), Failure> {
        let context_dir = PathBuf::from(&self.args.context);
        check_context(&self.args.context, &context_dir)?;
        let steps = Steps::default();
        let loaded = self.load(&steps, &context_dir)?;
        let parsed = dockerfile::parse(&loaded)?;
        let registries = Registries::new(&self.args.registry);
        let contexts = self.contexts(&context_dir, &loaded)?;
        let world = LocalWorld {
            store: self.store,
            registries: &registries,
            contexts: contexts.clone(),
            always_pull: self.args.pull,
            display: self.display.clone(),
            steps: &steps,
        };
        let plan = forge_solver::plan(&parsed.dockerfile, &self.request.options, &world)
            .map_err(|problems| self.plan_failure(problems, &loaded))?;
        let fetcher = Fetcher { store: self.store, registries: &registries, display: self.display.clone() };
        let executor = LocalExecutor::new(self.store, contexts.clone(), &fetcher, self.settings());
        let what = self.identity(&context_dir, &loaded, &plan);
        let history = History::of(self.store);
        let last = history.last(&what).unwrap_or_default();
        let listing = |content: &str| {
            contexts
                .values()
                .find_map(|context| context.listing_of(content))
                .or_else(|| history.listing(content))
        };
        let explainer = Explainer::new(&last.log, &listing);
        let records = StoreRecords(self.store);
        let solver = Solver {
            world: &world,
            executor: &executor,
            records: &records,
            events: &**self.display,
            jobs: self.args.jobs.unwrap_or_else(default_jobs),
            explainer: Some(&explainer),
            cancelled: &|| false,
        };
        if let Some(format) = self.args.print {
            let inspected = solver.inspect(&plan.graph, &[plan.target]);
            let inspected = inspected.map_err(|error| self.solve_failure(error, &plan, &loaded))?;
            self.display.finish();
            return print_graph(&plan, &inspected, format);
        }
        let solved = signals::cancelling(&executor, |cancelled| {
            Solver { cancelled, ..solver }.solve(&plan.graph, &[plan.target])
        });
        contexts.values().for_each(|context| context.remember());
        let solved = solved.map_err(|error| self.solve_failure(error, &plan, &loaded))?;
        let export = Export {
            building: self,
            plan: &plan,
            solved: &solved,
            registries: &registries,
            fetcher: &fetcher,
        };
        let kept = KeptBuild {
            names: self.request.names.iter().map(Reference::canonical).collect(),
            dockerfile: loaded.source.name.clone(),
            target: plan.target_name.clone(),
            log: solved.log(),
        };
        history.keep(&what, &kept, contexts.values().map(|context| &**context));
        let image = steps.internal(&**self.display, "exporting to image", |step| export.run(step))?;
        self.display.finish();
        let warnings: Vec<_> = parsed.warnings.into_iter().chain(plan.warnings.iter().cloned()).collect();
        if self.args.progress != ProgressMode::Quiet && !self.args.quiet {
            dockerfile::warning_lines(&warnings, &loaded.bytes).iter().for_each(|line| say(line));
        }
        match image {
            Some(image) => print(&image.descriptor.digest.to_string()),
            None => Ok(()),
        }
    }

    /// What is built, so that the next build of it meets this one.
    fn identity(&self, context: &Path, loaded: &LoadedDockerfile, plan: &Plan) -> String {
        let context = context.canonicalize().unwrap_or_else(|_| context.to_owned());
        let platform = &self.request.options.platform;
        format!("{} {} {} {platform}", context.display(), loaded.source.name, plan.target_name)
    }

    fn load(&self, steps: &Steps, context: &Path) -> Result<LoadedDockerfile, Failure> {
        let shown =
            self.args.file.as_deref().map_or("Dockerfile", |file| file.rsplit('/').next().unwrap_or(file));
        let label = format!("[internal] load build definition from {shown}");
        steps.internal(&**self.display, label, |_| dockerfile::load(context, self.args.file.as_deref()))
    }

    fn contexts(
        &self,
        context_dir: &Path,
        loaded: &LoadedDockerfile,
    ) -> Result<HashMap<String, Arc<LocalContext>>, Failure> {
        let mut contexts = HashMap::new();
        let own = dockerfile::ignore_patterns(context_dir, loaded.path.as_deref())?;
        let all = self.request.contexts.iter().map(|(name, dir)| (name.as_str(), dir.as_path(), None));
        for (name, dir, ignore) in all.chain([(CONTEXT, context_dir, Some(own))]) {
            let ignore = match ignore {
                Some(ignore) => ignore,
                None => dockerfile::ignore_patterns(dir, None)?,
            };
            let dir = dir.canonicalize().map_err(|e| {
                Failure::new(Kind::Input, format!("cannot open the context {}: {e}", dir.display()), None)
            })?;
            let opened = LocalContext::open(&dir, ignore, &self.store.state_dir());
            let opened = opened.map_err(|e| Failure::from(forge_runner::trouble::of_files(e)))?;
            contexts.insert(name.to_owned(), Arc::new(opened));
        }
        Ok(contexts)
    }

    fn settings(&self) -> Settings {
        Settings {
            runtime_dir: environment::runtime_dir(self.session.is_machine_root),
            search_path: environment::search_path().to_string_lossy().into_owned(),
            secrets: self.request.secrets.clone(),
        }
    }

    fn plan_failure(&self, problems: Vec<forge_solver::PlanProblem>, loaded: &LoadedDockerfile) -> Failure {
        let kind = problems.first().map_or(Kind::Input, |problem| problem.kind.into());
        let draw = |p: &forge_solver::PlanProblem| {
            loaded.source.error(&Report { message: &p.message, span: p.span, hint: p.hint.as_deref() })
        };
        Failure { kind, reports: problems.iter().map(draw).collect() }
    }

    fn solve_failure(&self, error: SolveError, plan: &Plan, loaded: &LoadedDockerfile) -> Failure {
        let SolveError { vertex, error } = error;
        if let Some(signal) = signals::received() {
            return Failure {
                kind: Kind::Signal(signal),
                reports: vec!["error: stopped by the user".into()],
            };
        }
        let vertex = vertex.map(|id| plan.graph.vertex(id));
        let mut report = String::new();
        if !error.output.is_empty() {
            let label = vertex.map_or("", |vertex| &vertex.label);
            report.push_str(&tail(label, &error.output));
        }
        let span = vertex.and_then(|vertex| vertex.span);
        let drawn = Report { message: &error.message, span, hint: error.hint.as_deref() };
        report.push_str(&loaded.source.error(&drawn));
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
fn tail(label: &str, output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    let last: Vec<String> = last.iter().map(|line| for_terminal(line)).collect();
    format!("------\n > {}:\n{}\n------\n", for_terminal(label), last.join("\n"))
}

/// Writing what was built.
struct Export<'a> {
    building: &'a Building<'a>,
    plan: &'a Plan,
    solved: &'a Solved,
    registries: &'a Registries,
    fetcher: &'a Fetcher<'a>,
}

impl Export<'_> {
    fn run(&self, step: StepId) -> Result<Option<Image>, Failure> {
        let request = self.building.request;
        let image = match request.wants_image() {
            true => Some(self.image(step)?),
            false => None,
        };
        for output in &request.outputs {
            self.output(output, image.as_ref(), step)?;
        }
        if let Some(image) = &image {
            self.name(image, step)?;
            self.files_about(image)?;
            if request.pushes(self.building.args) {
                self.push(image, step)?;
            }
        }
        Ok(image)
    }

    fn note(&self, step: StepId, text: impl Into<String>) {
        self.building.display.emit(Event::Note { step, text: text.into() });
    }

    fn store(&self) -> &Store {
        self.building.store
    }

    fn snapshot(&self) -> Result<&Snapshot, Failure> {
        let record = self.solved.record(self.plan.target);
        record
            .map(|record| &record.snapshot)
            .ok_or_else(|| Failure::new(Kind::System, "the build has no result", None))
    }

    fn image(&self, step: StepId) -> Result<Image, Failure> {
        self.fetch_base(step)?;
        self.note(step, "exporting layers");
        let options = ImageOptions {
            compression: Compression::Gzip(forge_store::layer::GzipLevel::default()),
            epoch: self.building.request.epoch,
            annotations: BTreeMap::new(),
        };
        let image = assemble(self.store(), self.plan, self.solved, &options)?;
        self.note(step, format!("exporting manifest {}", image.descriptor.digest));
        self.note(step, format!("exporting config {}", image.id()));
        Ok(image)
    }

    /// Layers of the base that nobody looked into may not be here yet.
    fn fetch_base(&self, step: StepId) -> Result<(), Failure> {
        let mut missing: Vec<Layer> = Vec::new();
        for layer in &self.snapshot()?.layers {
            if let Some(pulled) = &layer.pulled
                && !self.store().blobs().contains(&pulled.descriptor.digest)?
            {
                missing.push(layer.clone());
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let images = self.plan.graph.ids().filter_map(|id| match &self.plan.graph.vertex(id).op {
            forge_solver::Op::Image(image) => Some(image),
            _ => None,
        });
        for image in images {
            let own: Vec<Layer> =
                missing.iter().filter(|layer| image.snapshot.layers.contains(layer)).cloned().collect();
            if !own.is_empty() {
                use forge_runner::executor::Fetch;
                self.fetcher.fetch(&image.reference, &own, step, &**self.building.display)?;
            }
        }
        Ok(())
    }

    /// Makes everything durable and names the image.
    fn name(&self, image: &Image, step: StepId) -> Result<(), Failure> {
        let request = self.building.request;
        let names: Vec<String> = request.names.iter().map(Reference::canonical).collect();
        if !request.keeps_image() {
            return Ok(());
        }
        for name in &names {
            self.note(step, format!("naming to {name}"));
        }
        Ok(self.store().commit(&names, Some(&image.descriptor))?)
    }

    fn push(&self, image: &Image, step: StepId) -> Result<(), Failure> {
        for name in &self.building.request.names {
            self.note(step, format!("pushing layers to {}", name.canonical()));
            let progress = Arc::new(Travelling::new(step, Shared(self.building.display.clone())));
            self.registries.push(name, &image.descriptor, self.store().blobs(), progress)?;
            self.note(step, format!("pushing manifest for {}@{}", name.canonical(), image.descriptor.digest));
        }
        Ok(())
    }

    fn output(&self, output: &Output, image: Option<&Image>, step: StepId) -> Result<(), Failure> {
        let names: Vec<Name> = self.building.request.names.iter().map(name_of).collect();
        let blobs = self.store().blobs();
        match (output, image) {
            (Output::Oci { dest, tar: false }, Some(image)) => {
                Ok(write_oci_directory(image, &names, blobs, dest)?)
            }
            (Output::Oci { dest, .. }, Some(image)) => {
                to_file(dest, |out| Ok(write_oci_archive(image, &names, blobs, out)?))
            }
            (Output::Docker { dest }, Some(image)) => {
                to_file(dest, |out| Ok(write_docker_archive(image, &names, blobs, out)?))
            }
            (Output::Local { dest }, _) => {
                self.unpack(step)?;
                Ok(write_directory(self.store(), self.snapshot()?, dest)?)
            }
            (Output::Tar { dest }, _) => {
                self.unpack(step)?;
                to_file(dest, |out| {
                    Ok(write_tar(self.store(), self.snapshot()?, self.building.request.epoch, out)?)
                })
            }
            _ => Ok(()),
        }
    }

    /// Files are written from trees, so every layer needs one.
    fn unpack(&self, step: StepId) -> Result<(), Failure> {
        self.fetch_base(step)?;
        for layer in &self.snapshot()?.layers {
            self.store().layers().ensure_tree(layer).map_err(world_error_of_store)?;
        }
        Ok(())
    }

    fn files_about(&self, image: &Image) -> Result<(), Failure> {
        let args = self.building.args;
        if let Some(path) = &args.iidfile {
            write_file(path, image.id().to_string().as_bytes())?;
        }
        if let Some(path) = &args.metadata_file {
            let names: Vec<String> = self.building.request.names.iter().map(Reference::canonical).collect();
            let metadata = serde_json::json!({
                "containerimage.digest": image.descriptor.digest,
                "containerimage.config.digest": image.id(),
                "containerimage.descriptor": image.descriptor,
                "image.name": names.join(","),
            });
            write_file(path, format!("{metadata:#}\n").as_bytes())?;
        }
        Ok(())
    }
}

/// Writes a file aside and renames it; `-` is standard output.
fn to_file(dest: &Path, write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    let fail =
        |e: io::Error| Failure::new(Kind::System, format!("cannot write {}: {e}", dest.display()), None);
    if dest == Path::new("-") {
        let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
        write(&mut out)?;
        return out.flush().map_err(fail);
    }
    let dir = dest.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let aside = tempfile::Builder::new().prefix(".forge-").tempfile_in(dir).map_err(fail)?;
    let mut out = BufWriter::with_capacity(1 << 20, aside);
    write(&mut out)?;
    let aside = out.into_inner().map_err(|e| fail(e.into_error()))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    aside.as_file().set_permissions(mode).map_err(fail)?;
    aside.persist(dest).map_err(|e| fail(e.error)).map(drop)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes)
        .map_err(|e| Failure::new(Kind::System, format!("cannot write {}: {e}", path.display()), None))
}

fn name_of(reference: &Reference) -> Name {
    Name {
        full: reference.canonical(),
        familiar: reference.to_string(),
        tag: reference.tag().unwrap_or("latest").to_owned(),
    }
}

fn check_context(text: &str, dir: &Path) -> Result<(), Failure> {
    if text == "-" || forge_parser::is_url(text) || forge_parser::is_git_reference(text) {
        let message = format!("this version of forge builds from directories only, not from `{text}`");
        return Err(usage(
            &message,
            "fetch it and give the directory; `-f -` reads a Dockerfile from standard input",
        ));
    }
    if dir.is_dir() {
        return Ok(());
    }
    let message = format!("unable to prepare context: path {text:?} not found");
    Err(Failure::new(
        Kind::Input,
        message,
        Some("give the directory that the Dockerfile's files are in".into()),
    ))
}

fn usage(message: &str, hint: &str) -> Failure {
    Failure::new(Kind::Usage, message, Some(hint.to_owned()))
}

fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

fn build_args(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut args = BTreeMap::new();
    for text in texts {
        match text.split_once('=') {
            Some(("", _)) => {
                return Err(usage(&format!("--build-arg {text} has no name"), "write NAME=VALUE"));
            }
            Some((name, value)) => {
                args.insert(name.to_owned(), value.to_owned());
            }
            // As Docker: a name alone takes the variable of that name, if there is one.
            None => args.extend(environment::variable(text).map(|value| (text.clone(), value))),
        }
    }
    Ok(args)
}

fn named_context(text: &str) -> Result<(String, PathBuf), Failure> {
    let Some((name, source)) = text.split_once('=') else {
        return Err(usage(&format!("--build-context {text} has no value"), "write NAME=DIR"));
    };
    let name = name.to_lowercase();
    if matches!(name.as_str(), "context" | "scratch" | "") {
        return Err(usage(&format!("`{name}` cannot be the name of a build context"), "choose another name"));
    }
    if source.contains("://") || forge_parser::is_git_reference(source) {
        let message =
            format!("this version of forge takes directories as build contexts only, not `{source}`");
        return Err(usage(&message, "fetch it and give the directory"));
    }
    Ok((name, PathBuf::from(source)))
}

fn network(mode: NetworkMode) -> Network {
    match mode {
        NetworkMode::Default => Network::Default,
        NetworkMode::None => Network::None,
        NetworkMode::Host => Network::Host,
    }
}

fn allowed(texts: &[String]) -> Result<BTreeSet<String>, Failure> {
    for text in texts {
        if !matches!(text.as_str(), "network.host" | "security.insecure") {
            return Err(usage(
                &format!("there is no entitlement `{text}`"),
                "there are network.host and security.insecure",
            ));
        }
    }
    Ok(texts.iter().cloned().collect())
}

/// Enough that steps which wait do not hold up others; the kernel shares the cores among those which work.
fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) * 4
}
