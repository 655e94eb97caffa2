//! `forge build`: load, plan, solve, export, print the digest.

mod call;
mod carry_out;
mod export;
mod keep;
mod request;
mod wanted;

use std::path::Path;
use std::sync::Arc;

use forge_exporter::Images;
use forge_parser::{Warning, redacted};
use forge_runner::files::LocalContext;
use forge_runner::sources::Sources;
use forge_runner::sources::git::GitSettings;
use forge_solver::{Named, Plan};
use forge_store::Store;
use forge_store::gc::{Disk, Limits};

use self::call::Method;
use self::carry_out::{Planned, tail};
use self::request::Request;
use super::{Session, print};
use crate::args::{Build, ProgressMode};
use crate::contexts::{CONTEXT, MainContext, NamedContexts, NamedSource, Place};
use crate::diagnostics::Report;
use crate::disk_flags::GcFlags;
use crate::dockerfile::{self, Home, LoadedDockerfile};
use crate::downloads::Downloads;
use crate::failure::{Failure, Kind};
use crate::kept::Recorder;
use crate::local::LocalWorld;
use crate::locking::{Beside, Locking};
use crate::progress::{Display, say};
use crate::registries::Registries;
use crate::steps::Steps;
use crate::{environment, ignore_files};

/// Builds an image.
pub fn build(session: &Session, args: &Build) -> Result<(), Failure> {
    let request = Request::new(args)?;
    args.gc.limits()?;
    let store = session.store_for_steps()?;
    let display = Arc::new(Display::new(args.progress, args.quiet));
    let recorder = keep::begin(args, &request, &store, &display);
    let recorder = recorder.as_ref();
    let building = Building { session, args, request: &request, store: &store, display: &display, recorder };
    let outcome = building.run().and_then(|images| match images {
        Some(images) => print(&images.root.digest.to_string()),
        None => Ok(()),
    });
    display.finish();
    collect(&store, &args.gc, outcome.as_ref().err())?;
    let Err(mut failure) = outcome else { return Ok(()) };
    keep::last_words(recorder, session, args, &mut failure);
    let Some(text) = request.call.refusal(&failure) else { return Err(failure) };
    print(&text)?;
    Err(Failure::silent(failure.kind))
}

/// Builds the image of a recipe again, in another store: the one that was the `target`th, and nothing else.
pub fn rebuild(
    session: &Session,
    args: &Build,
    store: &Store,
    target: usize,
) -> Result<Option<Images>, Failure> {
    let mut request = Request::new(args)?;
    request.wanted.only(target);
    let display = Arc::new(Display::new(args.progress, args.quiet));
    let building = Building { session, args, request: &request, store, display: &display, recorder: None };
    let outcome = building.run();
    display.finish();
    outcome
}

/// Keeps the store within its limits. What was built stays built if that fails.
fn collect(store: &Store, flags: &GcFlags, failure: Option<&Failure>) -> Result<(), Failure> {
    let limits = flags.limits()?;
    let is_stopped = failure.is_some_and(|failure| matches!(failure.kind, Kind::Signal(_)));
    if !flags.gc || is_stopped {
        return Ok(());
    }
    let collected = Disk::of(store.root()).and_then(|disk| store.collect(limits.or(Limits::of_disk(disk))));
    match collected {
        // Who cannot write collects nothing.
        Ok(_) => {}
        Err(error) if error.is_read_only() => {}
        Err(error) => say(&format!("warning: the store was not tidied up: {error}")),
    }
    Ok(())
}

/// A build under way.
pub struct Building<'a> {
    session: &'a Session,
    args: &'a Build,
    request: &'a Request,
    store: &'a Store,
    display: &'a Arc<Display>,
    recorder: Option<&'a Recorder>,
}

impl Building<'_> {
    /// Gives the image that the build is about, if one was made.
    fn run(&self) -> Result<Option<Images>, Failure> {
        self.say_no_effect();
        let steps = Steps::default();
        let registries = Registries::new(&self.args.registry);
        let downloads = Downloads { store: self.store, registries: &registries };
        let sources = Sources {
            store: self.store,
            download: &downloads,
            git: git_settings(),
            secrets: &self.request.secrets,
        };
        let context = self.main_context(&steps, &sources)?;
        let loaded = self.load(&steps, &context, &sources)?;
        let checks = self.request.options.build_args.get("BUILDKIT_DOCKERFILE_CHECK");
        let parsed = dockerfile::parse(&loaded, checks.map(String::as_str))?;
        let Request { call, options, .. } = self.request;
        let answer = call.answer(&parsed, &loaded, &options.build_args, options.target.as_deref())?;
        if let Some(answer) = answer {
            self.display.finish();
            return print(&answer).map(|()| None);
        }
        let contexts = self.contexts(&context, &loaded)?;
        let locking = self.locking(&context, &loaded)?;
        let local = LocalWorld {
            store: self.store,
            registries: &registries,
            main: Some(&context),
            contexts: contexts.clone(),
            always_pull: self.args.pull,
            display: self.display.clone(),
            steps: &steps,
            sources: &sources,
        };
        let locked = locking.world(&local);
        let world = locked.as_world();
        let platforms = &self.request.wanted.platforms;
        let plans = forge_solver::plan_platforms(&parsed, &self.request.options, platforms, world)
            .map_err(|problems| self.plan_failure(problems, &loaded))?;
        // All have the same graph, and warn of the same Dockerfile.
        let plan = &plans[0];
        let warnings = dockerfile::all_warnings(&parsed, plan);
        if call.method == Method::Check {
            self.display.finish();
            let (text, end) = call.findings(&warnings, &loaded);
            print(&text)?;
            return end.map(|()| None);
        }
        if let Some(violation) = forge_parser::violation(&warnings, &parsed.checks) {
            self.display.finish();
            self.say_warnings(&warnings, &loaded);
            let hint = "the Dockerfile's `# check=error=true` makes warnings fail the build";
            return Err(Failure::new(Kind::Input, violation, Some(hint.into())));
        }
        self.request.wanted.check_epoch(plan.epoch)?;
        self.say_unused(plan);
        let planned = Planned {
            context: &context,
            loaded: &loaded,
            contexts: &contexts,
            plans: &plans,
            warnings: &warnings,
            world,
            sources: &sources,
            registries: &registries,
        };
        if let Some(format) = self.args.print {
            return self.show(&planned, format).map(|()| None);
        }
        let images = self.carry_out(&planned, &steps)?;
        locking.keep(&locked)?;
        self.display.finish();
        self.say_warnings(&warnings, &loaded);
        Ok(images)
    }

    fn locking(&self, context: &MainContext, loaded: &LoadedDockerfile) -> Result<Locking, Failure> {
        let inside;
        let beside = match &loaded.home {
            Home::Host(path) => Beside { dockerfile: Some(path), foreign: None },
            Home::Nowhere => Beside { dockerfile: None, foreign: None },
            Home::Inside(name) => {
                inside = context.dir.join(name);
                Beside { dockerfile: Some(&inside), foreign: Some(&context.dir) }
            }
        };
        Locking::open(&self.args.lock, beside)
    }

    fn say_no_effect(&self) {
        let flags = self.args.docker.without_effect();
        if !flags.is_empty() && !self.is_quiet() {
            say(&format!("[Warning] without effect: {}", flags.join(" ")));
        }
    }

    fn is_quiet(&self) -> bool {
        self.args.progress == ProgressMode::Quiet || self.args.quiet
    }

    fn say_warnings(&self, warnings: &[Warning], loaded: &LoadedDockerfile) {
        if self.is_quiet() {
            return;
        }
        dockerfile::warning_lines(warnings, &loaded.bytes).iter().for_each(|line| say(line));
    }

    /// What was given and is not used: slips of the pen, more often than not.
    fn say_unused(&self, plan: &Plan) {
        if self.is_quiet() {
            return;
        }
        if !plan.unused_args.is_empty() {
            let names = plan.unused_args.join(" ");
            say(&format!("[Warning] One or more build-args [{names}] were not consumed"));
        }
        if !plan.unneeded.is_empty() {
            let names = plan.unneeded.join(", ");
            say(&format!("not built, since {} needs nothing of it: {names}", plan.target_name));
        }
    }

    fn main_context(&self, steps: &Steps, sources: &Sources<'_>) -> Result<MainContext, Failure> {
        let open = || MainContext::open(&self.request.place, sources, self.request.keep_git_dir);
        let label = match &self.request.place {
            Place::Directory(_) => return open(),
            Place::Stdin => "[internal] load build context from standard input".to_owned(),
            Place::Url(url) => format!("[internal] load remote build context {}", redacted(url)),
            Place::Git(reference) => format!("[internal] load git source {}", reference.shown_remote()),
        };
        steps.internal(&**self.display, label, |_| open())
    }

    fn load(
        &self,
        steps: &Steps,
        context: &MainContext,
        sources: &Sources<'_>,
    ) -> Result<LoadedDockerfile, Failure> {
        let shown =
            self.args.file.as_deref().map_or("Dockerfile", |file| file.rsplit('/').next().unwrap_or(file));
        let label = format!("[internal] load build definition from {shown}");
        let file = self.args.file.as_deref();
        steps.internal(&**self.display, label, |_| {
            dockerfile::load(&self.request.place, context, file, sources)
        })
    }

    fn contexts(&self, main: &MainContext, loaded: &LoadedDockerfile) -> Result<NamedContexts, Failure> {
        let mut contexts = NamedContexts::default();
        let ignore = ignore_files::of_main(main, &loaded.home)?;
        let opened = match main.is_transient() {
            true => LocalContext::open_transient(&main.dir, ignore).map_err(of_files)?,
            false => self.open_context(&main.dir, ignore)?,
        };
        contexts.directories.insert(CONTEXT.to_owned(), Arc::new(opened));
        for (name, source) in &self.request.contexts {
            let named = match source {
                NamedSource::Image(reference) => Named::Image(reference.clone()),
                NamedSource::Http(url) => Named::Http(url.clone()),
                NamedSource::Git(reference) => Named::Git(reference.clone()),
                NamedSource::Directory(dir) => {
                    let opened = self.open_context(dir, ignore_files::of_directory(dir)?)?;
                    contexts.directories.insert(name.to_string(), Arc::new(opened));
                    Named::Directory(name.to_string())
                }
            };
            contexts.named.push((name.clone(), named));
        }
        Ok(contexts)
    }

    fn open_context(
        &self,
        dir: &Path,
        ignore: forge_parser::IgnorePatterns,
    ) -> Result<LocalContext, Failure> {
        let dir = dir.canonicalize().map_err(|e| {
            Failure::new(Kind::Input, format!("cannot open the context {}: {e}", dir.display()), None)
        })?;
        LocalContext::open(&dir, ignore, &self.store.state_dir()).map_err(of_files)
    }

    fn plan_failure(&self, problems: Vec<forge_solver::PlanProblem>, loaded: &LoadedDockerfile) -> Failure {
        let kind = problems.first().map_or(Kind::Input, |problem| problem.kind.into());
        let draw = |p: &forge_solver::PlanProblem| {
            loaded.source.error(&Report { message: &p.message, span: p.span, hint: p.hint.as_deref() })
        };
        Failure { kind, reports: problems.iter().map(draw).collect() }
    }
}

/// How git is run.
pub fn git_settings() -> GitSettings {
    GitSettings {
        search_path: environment::search_path().to_string_lossy().into_owned(),
        environment: environment::for_git(),
        user: environment::of_user(),
    }
}

fn of_files(error: forge_runner::files::FilesError) -> Failure {
    forge_runner::trouble::of_files(error).into()
}
