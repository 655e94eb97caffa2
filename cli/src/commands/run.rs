//! `forge run`: an image tried where it was built.

use std::sync::Arc;
use std::thread;

use forge_registry::Reference;
use forge_runner::container::{Container, run_container};
use forge_runner::spec::Network;
use forge_runner::step::Settings;
use forge_runner::{Exit, Running};
use forge_solver::{TroubleKind, WorldError};
use forge_store::image::RuntimeConfig;
use forge_store::{Platform, Store};
use tokio::signal::unix::{SignalKind, signal};

use super::Session;
use crate::args::{NetworkMode, ProgressMode, Run};
use crate::environment;
use crate::failure::{Failure, Kind};
use crate::local::{LocalImage, Shared, find_image, snapshot};
use crate::progress::{Display, say};
use crate::registries::{Registries, Travelling, parse_reference};
use crate::steps::Steps;

/// The path that images without one get.
const DEFAULT_PATH: &str = forge_solver::plan::DEFAULT_PATH;

/// Runs a container; its exit code becomes ours.
pub fn run(session: &Session, args: &Run) -> Result<(), Failure> {
    let store = session.store_for_steps()?;
    let image = image(&store, args)?;
    let container = container(&image.config.config, args)?;
    let settings = Settings {
        runtime_dir: session.runtime_dir(),
        isolation: session.identity.isolation.clone(),
        hardened: args.isolation.hardened,
        search_path: environment::search_path().to_string_lossy().into_owned(),
        secrets: forge_runner::secrets::Secrets::default(),
        bounds: args.step.bounds()?,
    };
    if let Some(remark) = session.identity.isolation.remark() {
        say(&remark);
    }
    let exit =
        run_container(&store, &snapshot(&image.manifest, &image.config)?, &container, settings, pass_signals)
            .map_err(start_failure)?;
    match exit {
        Exit::Code(0) => Ok(()),
        Exit::Code(code) => Err(Failure::silent(Kind::Exit(u8::try_from(code).unwrap_or(255)))),
        Exit::Signal(number) => Err(Failure::silent(Kind::Signal(u8::try_from(number).unwrap_or(127)))),
        Exit::OutOfMemory { limit_bytes, code } => {
            let message = format!("the container ran out of memory; its limit is {limit_bytes} bytes");
            Err(Failure::new(Kind::Exit(u8::try_from(code).unwrap_or(255)), message, None))
        }
    }
}

/// As with Docker, the exit code of a command that could not be started is a shell's.
fn start_failure(error: WorldError) -> Failure {
    let kind = match error.kind {
        TroubleKind::Command(code) => Kind::Exit(u8::try_from(code).unwrap_or(126)),
        kind => kind.into(),
    };
    Failure::new(kind, error.message, error.hint)
}

/// The image, from the store or from its registry.
fn image(store: &Store, args: &Run) -> Result<LocalImage, Failure> {
    let name = parse_reference(&args.image)?;
    let platform = Platform::host();
    if find_image(store, &name, &platform)?.is_none() {
        pull(store, &name, &platform, args)?;
    }
    find_image(store, &name, &platform)?.ok_or_else(|| super::inspect::no_such_image(&args.image))
}

fn pull(store: &Store, name: &Reference, platform: &Platform, args: &Run) -> Result<(), Failure> {
    let registries = Registries::new(&args.registry);
    let display = Arc::new(Display::new(ProgressMode::Auto, false));
    let pulled = Steps::default().internal(&*display, format!("pulling {}", name.canonical()), |step| {
        let image = registries.fetch_image(name, platform, store.blobs())?;
        let progress = Arc::new(Travelling::new(step, Shared(display.clone())));
        registries.fetch_blobs(name, &image.manifest.layers, store.blobs(), progress)?;
        Ok::<_, forge_registry::RegistryError>(image)
    });
    display.finish();
    Ok(store.commit(&[name.canonical()], Some(&pulled?.manifest_descriptor))?)
}

fn container(config: &RuntimeConfig, args: &Run) -> Result<Container, Failure> {
    let mut command = match &args.entrypoint {
        Some(entrypoint) => vec![entrypoint.clone()],
        None => config.entrypoint.clone().unwrap_or_default(),
    };
    if !args.command.is_empty() {
        command.extend(args.command.iter().cloned());
    } else if args.entrypoint.is_none() {
        command.extend(config.cmd.iter().flatten().cloned());
    }
    if command.is_empty() {
        let hint = Some("give one behind the image's name".to_owned());
        return Err(Failure::new(Kind::Usage, "the image names no command to run", hint));
    }
    let mut env = forge_solver::plan::Env::from_config(&config.env);
    if env.value("PATH").is_none() {
        env.set("PATH", DEFAULT_PATH);
    }
    for text in &args.env {
        match text.split_once('=') {
            Some((name, value)) => env.set(name, value),
            None => {
                if let Some(value) = environment::variable(text) {
                    env.set(text, &value);
                }
            }
        }
    }
    let hostname = hostname();
    env.set("HOSTNAME", &hostname);
    Ok(Container {
        args: command,
        env: env.to_config(),
        cwd: args.workdir.clone().unwrap_or_else(|| match config.working_dir.as_str() {
            "" => "/".into(),
            dir => dir.into(),
        }),
        user: args.user.clone().unwrap_or_else(|| config.user.clone()),
        hostname,
        ulimits: args.step.ulimits()?,
        shm_size: args.step.shm_size()?,
        network: match args.network {
            NetworkMode::Default => Network::Default,
            NetworkMode::None => Network::None,
            NetworkMode::Host => Network::Host,
        },
    })
}

/// Twelve hex digits, another each time, as Docker names its containers.
fn hostname() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seed = format!("{}-{}", std::process::id(), now.as_nanos());
    forge_store::Digest::of(seed.as_bytes()).hex()[..12].to_owned()
}

/// Passes SIGINT, SIGTERM, SIGHUP and SIGQUIT on to the container, for as long as it runs.
///
/// The thread outlives the container, so it must not hold it: its cgroup goes with its last owner.
fn pass_signals(running: Arc<Running>) {
    let running = Arc::downgrade(&running);
    let (ready, until_ready) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async {
            let kinds =
                [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
            let [Ok(mut int), Ok(mut term), Ok(mut hup), Ok(mut quit)] = kinds.map(signal) else { return };
            let _ = ready.send(());
            loop {
                let number = tokio::select! {
                    _ = int.recv() => 2,
                    _ = term.recv() => 15,
                    _ = hup.recv() => 1,
                    _ = quit.recv() => 3,
                };
                let Some(running) = running.upgrade() else { return };
                let _ = running.signal(number);
            }
        });
    });
    let _ = until_ready.recv();
}
