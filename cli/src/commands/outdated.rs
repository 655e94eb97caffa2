//! `forge outdated`: which things that a lock file names have moved since.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use forge_runner::sources::Sources;
use forge_solver::lock::Lock;
use forge_solver::op::types::GitReference;
use forge_solver::op::{Access, HttpSource};
use forge_solver::{TroubleKind, World, WorldError};
use forge_store::Platform;
use serde::Serialize;

use super::{Session, print};
use crate::args::{ProgressMode, RegistryFlags};
use crate::commands::build::git_settings;
use crate::contexts::NamedContexts;
use crate::downloads::Downloads;
use crate::failure::{Failure, Kind};
use crate::local::LocalWorld;
use crate::locking::{Beside, Locking};
use crate::progress::{Display, say};
use crate::registries::Registries;
use crate::steps::Steps;
use crate::{dockerfile, secrets};

/// How many things are asked for at once.
const MOST_AT_ONCE: usize = 8;

/// `forge outdated`.
#[derive(Debug, Args)]
pub struct Outdated {
    /// The build context, whose Dockerfile the lock file lies beside
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub context: PathBuf,

    /// The Dockerfile [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// The lock file [default: forge.lock beside the Dockerfile]
    #[arg(long, value_name = "FILE")]
    pub lock_file: Option<PathBuf>,

    /// Print JSON: everything that is locked, moved or not
    #[arg(long)]
    pub json: bool,

    /// A secret that private sources ask for, as of `forge build` (repeatable)
    #[arg(long = "secret", value_name = "SPEC")]
    pub secrets: Vec<String>,

    /// An ssh agent for private repositories (repeatable)
    #[arg(long = "ssh", value_name = "ID[=SOCKET]")]
    pub ssh: Vec<String>,

    #[command(flatten)]
    pub registry: RegistryFlags,
}

/// One locked thing.
#[derive(Debug, Serialize)]
struct Entry {
    kind: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    locked: String,
    /// What it stands for now; none if that could not be found out.
    now: Option<String>,
    moved: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    trouble: Option<TroubleKind>,
}

/// Lists what moved. Exits with the code of [`Kind::Outdated`] if something did.
pub fn outdated(session: &Session, args: &Outdated) -> Result<(), Failure> {
    let path = args.file.clone().unwrap_or_else(|| dockerfile::default_path(&args.context));
    let locking =
        Locking::read(args.lock_file.as_deref(), Beside { dockerfile: Some(&path), foreign: None })?;
    let secrets = secrets::read(&args.secrets, &args.ssh)?;
    let store = session.store()?;
    let registries = Registries::new(&args.registry);
    let downloads = Downloads { store: &store, registries: &registries };
    let sources = Sources { store: &store, download: &downloads, git: git_settings(), secrets: &secrets };
    let display = Arc::new(Display::new(ProgressMode::None, true));
    let steps = Steps::default();
    let world = |always_pull| LocalWorld {
        main: None,
        store: &store,
        registries: &registries,
        contexts: NamedContexts::default(),
        always_pull,
        display: display.clone(),
        steps: &steps,
        sources: &sources,
    };
    let entries = ask_all(entries(locking.lock()), &world(true), &world(false));
    show(&entries, args.json)?;
    verdict(&entries)
}

fn entries(lock: &Lock) -> Vec<Entry> {
    let entry = |kind, name: &str, platform: Option<&str>, locked: String| Entry {
        kind,
        name: name.to_owned(),
        platform: platform.map(str::to_owned),
        locked,
        now: None,
        moved: false,
        error: None,
        trouble: None,
    };
    let images = lock.images.iter().flat_map(|(name, platforms)| {
        let of = move |(platform, digest): (&String, &forge_store::Digest)| {
            entry("image", name, Some(platform), digest.to_string())
        };
        platforms.iter().map(of)
    });
    let http = lock.http.iter().map(|(url, file)| entry("http", url, None, file.digest.to_string()));
    let git = lock.git.iter().map(|(name, commit)| entry("git", name, None, commit.clone()));
    images.chain(http).chain(git).collect()
}

fn ask_all(entries: Vec<Entry>, registry: &LocalWorld<'_>, store: &LocalWorld<'_>) -> Vec<Entry> {
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Entry>> = entries.into_iter().map(Mutex::new).collect();
    let work = || {
        while let Some(slot) = slots.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut entry = slot.lock().unwrap_or_else(PoisonError::into_inner);
            match ask(&entry, registry, store) {
                Ok(now) => {
                    entry.moved = now != entry.locked;
                    entry.now = Some(now);
                }
                Err(error) => {
                    entry.trouble = Some(error.kind);
                    entry.error = Some(error.message);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        (1..slots.len().min(MOST_AT_ONCE)).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    slots.into_iter().map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

/// What an entry's name stands for now.
fn ask(entry: &Entry, registry: &LocalWorld<'_>, store: &LocalWorld<'_>) -> Result<String, WorldError> {
    let input = |error: &dyn std::fmt::Display| {
        WorldError::new(TroubleKind::Input, format!("cannot read {}: {error}", entry.name))
    };
    match entry.kind {
        "image" => {
            let platform: Platform =
                entry.platform.as_deref().unwrap_or_default().parse().map_err(|e| input(&e))?;
            let found = registry.resolve_image(&entry.name, &platform).or_else(|error| {
                // An image that was built here and never pushed is what the store says.
                match store.is_stored(&entry.name, &platform) {
                    true => store.resolve_image(&entry.name, &platform),
                    false => Err(error),
                }
            });
            Ok(found?.digest.to_string())
        }
        "http" => {
            let source = HttpSource { url: entry.name.clone(), checksum: None, mtime: None };
            Ok(registry.resolve_http(&source)?.digest.to_string())
        }
        _ => {
            let reference = GitReference::parse(&entry.name).map_err(|e| input(&e))?;
            registry.resolve_git(&reference, Access::Given)
        }
    }
}

fn show(entries: &[Entry], json: bool) -> Result<(), Failure> {
    if json {
        let text = serde_json::to_string_pretty(entries)
            .map_err(|e| Failure::new(Kind::System, format!("cannot write JSON: {e}"), None))?;
        return print(&text);
    }
    for entry in entries.iter().filter(|entry| entry.moved) {
        let platform = entry.platform.as_ref().map(|platform| format!(" ({platform})")).unwrap_or_default();
        let now = entry.now.as_deref().unwrap_or_default();
        print(&format!(
            "{:<5} {}{platform}\n      locked {}\n      now    {now}",
            entry.kind, entry.name, entry.locked
        ))?;
    }
    Ok(())
}

fn verdict(entries: &[Entry]) -> Result<(), Failure> {
    let failed: Vec<&Entry> = entries.iter().filter(|entry| entry.trouble.is_some()).collect();
    if let Some(trouble) = failed.first().and_then(|entry| entry.trouble) {
        let say = |entry: &&Entry| {
            let error = entry.error.as_deref().unwrap_or_default();
            format!("error: cannot find out what {} stands for now: {error}", entry.name)
        };
        return Err(Failure { kind: trouble.into(), reports: failed.iter().map(say).collect() });
    }
    let moved = entries.iter().filter(|entry| entry.moved).count();
    if moved == 0 {
        return Ok(());
    }
    say(&format!(
        "{moved} of {} moved; `forge build --lock=update --pull` takes them as they are now",
        entries.len()
    ));
    Err(Failure::silent(Kind::Outdated))
}
