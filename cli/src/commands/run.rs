//! `forge run`: an image tried where it was built.

mod volumes;

use std::io::IsTerminal;
use std::sync::Arc;
use std::thread;

use forge_registry::Reference;
use forge_runner::container::{Container, run_container};
use forge_runner::spec::Network;
use forge_runner::step::{Bounds, Settings};
use forge_runner::{Exit, Running, terminal};
use forge_solver::{TroubleKind, WorldError};
use forge_store::image::RuntimeConfig;
use forge_store::{Platform, Store};
use tokio::signal::unix::{SignalKind, signal};

use super::Session;
use crate::args::{NetworkMode, ProgressMode, RegistryFlags, Run};
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
    if args.interactive && args.tty && !std::io::stdin().is_terminal() {
        let hint = Some("leave -t out".to_owned());
        return Err(Failure::new(Kind::Usage, "the input device is not a TTY", hint));
    }
    let bounds = args.step.bounds()?;
    let volumes = volumes::read(args)?;
    let store = session.store_for_steps()?;
    let image = image(&store, &args.image, &args.registry)?;
    let platform = image.config.platform();
    let container = Container { volumes, platform, ..container(&image.config.config, args)? };
    let files = snapshot(&image.manifest, &image.config)?;
    let settings = settings(session, bounds, args.isolation.hardened);
    let exit =
        run_container(&store, &files, &container, settings, pass_size_and_signals).map_err(start_failure)?;
    end_of(exit)
}

/// Settings of a container; what its isolation lacks is said.
pub fn settings(session: &Session, bounds: Bounds, hardened: bool) -> Settings {
    if let Some(remark) = session.identity.isolation.remark() {
        say(&remark);
    }
    Settings {
        runtime_dir: session.runtime_dir(),
        isolation: session.identity.isolation.clone(),
        hardened,
        search_path: environment::search_path().to_string_lossy().into_owned(),
        secrets: forge_runner::secrets::Secrets::default(),
        bounds,
        on_failure: None,
    }
}

/// A container's end as ours.
pub fn end_of(exit: Exit) -> Result<(), Failure> {
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
pub fn start_failure(error: WorldError) -> Failure {
    let kind = match error.kind {
        TroubleKind::Command(code) => Kind::Exit(u8::try_from(code).unwrap_or(126)),
        kind => kind.into(),
    };
    Failure::new(kind, error.message, error.hint)
}

/// The image, from the store or from its registry.
pub fn image(store: &Store, text: &str, registry: &RegistryFlags) -> Result<LocalImage, Failure> {
    let name = parse_reference(text)?;
    let platform = Platform::host();
    if find_image(store, &name, &platform)?.is_none() {
        pull(store, &name, &platform, registry)?;
    }
    find_image(store, &name, &platform)?.ok_or_else(|| super::inspect::no_such_image(text))
}

fn pull(
    store: &Store,
    name: &Reference,
    platform: &Platform,
    registry: &RegistryFlags,
) -> Result<(), Failure> {
    let registries = Registries::new(registry);
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
    let command = command(config, args)?;
    let mut env = forge_solver::plan::Env::from_config(&config.env);
    if env.value("PATH").is_none() {
        env.set("PATH", DEFAULT_PATH);
    }
    // As Docker: programs that draw want to know what on.
    if args.tty && env.value("TERM").is_none() {
        env.set("TERM", "xterm");
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
        platform: Platform::host(),
        volumes: Vec::new(),
        read_only: args.read_only,
        interactive: args.interactive,
        terminal: args.tty,
        network: match args.network {
            NetworkMode::Default => Network::Default,
            NetworkMode::None => Network::None,
            NetworkMode::Host => Network::Host,
        },
    })
}

/// ENTRYPOINT and CMD, or what stands in their place.
fn command(config: &RuntimeConfig, args: &Run) -> Result<Vec<String>, Failure> {
    let mut command = match args.entrypoint.as_deref() {
        // As Docker: an empty one takes the image's away.
        Some("") => Vec::new(),
        Some(entrypoint) => vec![entrypoint.to_owned()],
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
    Ok(command)
}

/// Twelve hex digits, another each time, as Docker names its containers.
pub fn hostname() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seed = format!("{}-{}", std::process::id(), now.as_nanos());
    forge_store::Digest::of(seed.as_bytes()).hex()[..12].to_owned()
}

/// Passes SIGINT, SIGTERM, SIGHUP and SIGQUIT on to the container, and the size of our terminal, for as long as it
/// runs.
///
/// The thread outlives the container, so it must not hold it: its cgroup goes with its last owner.
pub fn pass_size_and_signals(running: Arc<Running>) {
    let running = Arc::downgrade(&running);
    let (ready, until_ready) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async {
            let kinds = [
                SignalKind::interrupt(),
                SignalKind::terminate(),
                SignalKind::hangup(),
                SignalKind::quit(),
                SignalKind::window_change(),
            ];
            let [Ok(mut int), Ok(mut term), Ok(mut hup), Ok(mut quit), Ok(mut size)] = kinds.map(signal)
            else {
                return;
            };
            let _ = ready.send(());
            loop {
                let number = tokio::select! {
                    _ = int.recv() => Some(2),
                    _ = term.recv() => Some(15),
                    _ = hup.recv() => Some(1),
                    _ = quit.recv() => Some(3),
                    _ = size.recv() => None,
                };
                let Some(running) = running.upgrade() else { return };
                match number {
                    Some(number) => drop(running.signal(number)),
                    None => terminal::pass_size(&running),
                }
            }
        });
    });
    let _ = until_ready.recv();
}

/// Passes on the size of our terminal only: a build has its own way with signals.
pub fn pass_size(running: Arc<Running>) {
    let running = Arc::downgrade(&running);
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async {
            let Ok(mut size) = signal(SignalKind::window_change()) else { return };
            while size.recv().await.is_some() {
                let Some(running) = running.upgrade() else { return };
                terminal::pass_size(&running);
            }
        });
    });
}
