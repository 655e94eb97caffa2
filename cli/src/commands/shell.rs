//! `forge shell`: a look around in an image, or in a stage of the last build. Nothing of it is kept.

use forge_runner::container::Container;
use forge_runner::container::run_container;
use forge_runner::spec::Network;
use forge_runner::terminal;
use forge_solver::plan::Env;
use forge_store::{Platform, Snapshot, Store};

use super::{Session, run};
use crate::args::{NetworkMode, Shell};
use crate::failure::Failure;
use crate::kept::{KeptBuilds, KeptStage};
use crate::local::snapshot;
use crate::progress::say;

/// What stands before a stage's name, where an image has the same.
const LAST: &str = "last:";

/// Opens a shell, on our terminal if there is one, else on our standard streams.
pub fn shell(session: &Session, args: &Shell) -> Result<(), Failure> {
    let store = session.store_for_steps()?;
    let place = match stage(&store, &args.place) {
        Some(stage) => Place::of_stage(stage),
        None if args.place.starts_with(LAST) => return Err(no_such_stage(&store, &args.place)),
        None => Place::of_image(&store, args)?,
    };
    let is_terminal = terminal::is_interactive();
    let hostname = run::hostname();
    let container = Container {
        args: vec![args.shell.clone().unwrap_or_else(|| "/bin/sh".into())],
        env: place.env.to_config(),
        cwd: place.cwd,
        user: args.user.clone().unwrap_or(place.user),
        hostname,
        platform: place.platform,
        network: match args.network {
            NetworkMode::Default => Network::Default,
            NetworkMode::None => Network::None,
            NetworkMode::Host => Network::Host,
        },
        ulimits: Vec::new(),
        shm_size: None,
        volumes: Vec::new(),
        read_only: false,
        interactive: true,
        terminal: is_terminal,
    };
    let settings = run::settings(session, forge_runner::step::Bounds::default(), args.isolation.hardened);
    let exit = run_container(&store, &place.files, &container, settings, run::pass_size_and_signals)
        .map_err(run::start_failure)?;
    run::end_of(exit)
}

/// Where the shell opens.
struct Place {
    files: Snapshot,
    platform: Platform,
    env: Env,
    cwd: String,
    user: String,
}

impl Place {
    fn of_stage(stage: KeptStage) -> Self {
        say(&format!("stage {} of the last build; nothing of what you do here is kept", stage.name));
        Self {
            files: stage.files,
            platform: stage.platform,
            env: Env(stage.env),
            cwd: stage.workdir,
            user: stage.user,
        }
    }

    fn of_image(store: &Store, args: &Shell) -> Result<Self, Failure> {
        let image = run::image(store, &args.place, &args.registry)?;
        let config = &image.config.config;
        let mut env = Env::from_config(&config.env);
        if env.value("PATH").is_none() {
            env.set("PATH", forge_solver::plan::DEFAULT_PATH);
        }
        let cwd = if config.working_dir.is_empty() { "/".into() } else { config.working_dir.clone() };
        let platform = image.config.platform();
        Ok(Self {
            files: snapshot(&image.manifest, &image.config)?,
            platform,
            env,
            cwd,
            user: config.user.clone(),
        })
    }
}

/// A stage of the last build, by its name or number.
fn stage(store: &Store, place: &str) -> Option<KeptStage> {
    let name = place.strip_prefix(LAST).unwrap_or(place);
    let (kept, _) = KeptBuilds::of(store).find(None)?;
    kept.stages.into_iter().find(|stage| stage.name.eq_ignore_ascii_case(name))
}

fn no_such_stage(store: &Store, place: &str) -> Failure {
    let known = KeptBuilds::of(store).find(None).map(|(kept, _)| kept.stages).unwrap_or_default();
    let names: Vec<String> = known.into_iter().map(|stage| stage.name).collect();
    let hint = if names.is_empty() {
        "there is no finished stage".into()
    } else {
        format!("there are {}", names.join(", "))
    };
    let name = place.strip_prefix(LAST).unwrap_or(place);
    Failure::new(
        crate::failure::Kind::NotFound,
        format!("the last build has no finished stage {name}"),
        Some(hint),
    )
}
