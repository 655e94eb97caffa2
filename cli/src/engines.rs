//! Engines on this machine that run images: which one `--load` means, and how it is reached.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use forge_exporter::Called;
use forge_exporter::load::{Address, Engine, Program};
use forge_registry::Reference;

use crate::docker_host;
use crate::environment;
use crate::failure::{Failure, Kind};

/// Docker's socket where nothing else is said.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// containerd's.
const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
/// The namespace that `ctr` and `nerdctl` work in.
const CONTAINERD_NAMESPACE: &str = "default";

/// Where `--load` loads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// What is there: Docker, then podman, then containerd
    #[default]
    Auto,
    /// Docker, by DOCKER_HOST (unix, tcp with or without TLS, ssh), its context, or its usual socket
    Docker,
    /// Podman, by its program
    Podman,
    /// containerd, by ctr; CONTAINERD_ADDRESS and CONTAINERD_NAMESPACE count
    Containerd,
}

/// Finds the engine. `is_inside` is true in a user namespace of forge's own: podman, started there, would take
/// itself for root's.
pub fn find(choice: EngineChoice, is_inside: bool) -> Result<Engine, Failure> {
    match choice {
        EngineChoice::Docker => docker(is_inside),
        EngineChoice::Podman => podman(is_inside),
        EngineChoice::Containerd => containerd(),
        EngineChoice::Auto => what_is_there(is_inside),
    }
}

fn what_is_there(is_inside: bool) -> Result<Engine, Failure> {
    if docker_host::is_named() || docker_sockets().iter().any(|path| is_alive(path)) {
        return docker(is_inside);
    }
    if program("podman").is_some() {
        return podman(is_inside);
    }
    if environment::variable("CONTAINERD_ADDRESS").is_some() || is_alive(Path::new(CONTAINERD_SOCKET)) {
        return containerd();
    }
    let hint = "start one, or write an archive with -o type=docker,dest=FILE";
    Err(Failure::new(
        Kind::NotFound,
        "there is no Docker, podman or containerd to load into",
        Some(hint.into()),
    ))
}

/// Whether somebody listens: a socket's file may outlive its engine.
fn is_alive(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

fn docker_sockets() -> Vec<PathBuf> {
    let own = environment::variable("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("docker.sock"));
    std::iter::once(DOCKER_SOCKET.into()).chain(own).collect()
}

fn docker(is_inside: bool) -> Result<Engine, Failure> {
    if let Some(address) = docker_host::find(is_inside)? {
        return Ok(Engine::Docker(address));
    }
    let sockets = docker_sockets();
    let socket = sockets.iter().find(|path| is_alive(path)).unwrap_or(&sockets[0]);
    Ok(Engine::Docker(Address::Unix(socket.clone())))
}

fn podman(is_inside: bool) -> Result<Engine, Failure> {
    if is_inside {
        let hint = "build with -t NAME, then run `forge copy NAME containers-storage:NAME`";
        let message = "podman cannot be reached from a build without root";
        return Err(Failure::new(Kind::Sandbox, message, Some(hint.into())));
    }
    Ok(Engine::Podman(needed("podman")?))
}

fn containerd() -> Result<Engine, Failure> {
    let namespace = environment::variable("CONTAINERD_NAMESPACE").filter(|name| !name.is_empty());
    Ok(Engine::Containerd {
        program: needed("ctr")?,
        address: environment::variable("CONTAINERD_ADDRESS").filter(|address| !address.is_empty()),
        namespace: namespace.unwrap_or_else(|| CONTAINERD_NAMESPACE.into()),
    })
}

fn program(name: &str) -> Option<PathBuf> {
    let path = environment::search_path();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// A program, and what it gets of our environment.
pub fn needed(name: &str) -> Result<Program, Failure> {
    let path = program(name).ok_or_else(|| {
        Failure::new(Kind::NotFound, format!("{name} is not installed"), Some(format!("install {name}")))
    })?;
    Ok(Program { path, environment: environment::for_helpers() })
}

/// A name, as engines and layouts write it.
pub fn called(reference: &Reference) -> Called {
    Called {
        tag: Some(reference.tag().unwrap_or("latest").to_owned()),
        full: Some(reference.canonical()),
        familiar: Some(reference.to_string()),
    }
}

/// What came of a load, in a line.
pub fn outcome(engine: &Engine, loaded: forge_exporter::load::Loaded) -> String {
    match (loaded.was_there, loaded.instead) {
        (true, _) => format!("{} has the image already", engine.name()),
        (false, None) => format!("loaded into {}, {} bytes of layers", engine.name(), loaded.layer_bytes),
        (false, Some(why)) => {
            format!("loaded into {}, all {} bytes of layers, since: {why}", engine.name(), loaded.layer_bytes)
        }
    }
}
