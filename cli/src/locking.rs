//! `--lock`: where the lock file lies, and the world that a build sees through it.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use forge_solver::lock::{Frozen, Lock, Recording};
use forge_solver::{TroubleKind, World, WorldError};
use forge_store::RootDir;

use crate::failure::{Failure, Kind};

/// What a lock file is called where the user gives no other name.
const NAME: &str = "forge.lock";

/// The most that a lock file may have, in bytes.
const MOST_BYTES: u64 = 16 << 20;

/// How `forge build` settles what names stand for.
#[derive(Debug, Args)]
pub struct LockFlags {
    /// What tags, URLs and branches stand for: `live` finds out and notes nothing, `update` notes it in the lock
    /// file, `frozen` builds from the lock file only
    #[arg(long = "lock", value_name = "MODE", default_value = "live")]
    pub mode: LockMode,

    /// The lock file of --lock [default: forge.lock beside the Dockerfile]
    #[arg(long, value_name = "FILE")]
    pub lock_file: Option<PathBuf>,
}

/// The modes of `--lock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LockMode {
    /// Names stand for what they stand for now; no lock file is read
    #[default]
    Live,
    /// The same, and it is written to the lock file
    Update,
    /// Names stand for what the lock file says
    Frozen,
}

impl LockFlags {
    /// What cannot be meant together.
    pub fn check(&self, always_pull: bool) -> Result<(), Failure> {
        let usage = |message: &str, hint: &str| Err(Failure::new(Kind::Usage, message, Some(hint.into())));
        match self.mode {
            LockMode::Live if self.lock_file.is_some() => {
                usage("--lock-file names a file that no build looks at", "add --lock=update or --lock=frozen")
            }
            LockMode::Frozen if always_pull => usage(
                "--pull asks for newer images, and --lock=frozen takes none",
                "leave one of them out; --lock=update --pull renews the lock file",
            ),
            _ => Ok(()),
        }
    }
}

/// The lock of one build.
#[derive(Debug)]
pub struct Locking {
    mode: LockMode,
    path: PathBuf,
    lock: Lock,
}

/// Where a Dockerfile lies, for finding the lock file beside it.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// The Dockerfile; none for standard input.
    pub dockerfile: Option<&'a Path>,
    /// The context, if it is gone with the build and was packed by somebody else.
    pub foreign: Option<&'a Path>,
}

impl Locking {
    /// Finds the lock file, and reads it where it counts.
    pub fn open(flags: &LockFlags, beside: Beside<'_>) -> Result<Self, Failure> {
        if flags.mode == LockMode::Live {
            return Ok(Self { mode: LockMode::Live, path: PathBuf::new(), lock: Lock::default() });
        }
        let path = path_of(flags.lock_file.as_deref(), beside)?;
        let foreign = beside.foreign.filter(|_| flags.lock_file.is_none());
        if foreign.is_some() && flags.mode == LockMode::Update {
            let hint = "say where it is to be kept with --lock-file FILE";
            return Err(Failure::new(
                Kind::Usage,
                "the context is gone after the build, and its lock file with it",
                Some(hint.into()),
            ));
        }
        let lock = match read(&path, foreign) {
            Ok(bytes) => parse(&path, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && flags.mode == LockMode::Update => {
                Lock::default()
            }
            Err(error) => return Err(unreadable(&path, &error)),
        };
        Ok(Self { mode: flags.mode, path, lock })
    }

    /// The lock file of a command that only reads it.
    pub fn read(file: Option<&Path>, beside: Beside<'_>) -> Result<Self, Failure> {
        let path = path_of(file, beside)?;
        let bytes = read(&path, None).map_err(|error| unreadable(&path, &error))?;
        Ok(Self { mode: LockMode::Frozen, lock: parse(&path, &bytes)?, path })
    }

    /// What it says.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// The world as the lock lets it be seen.
    pub fn world<'a>(&'a self, world: &'a dyn World) -> Locked<'a> {
        match self.mode {
            LockMode::Live => Locked::Live(world),
            LockMode::Update => Locked::Update(Recording::new(world)),
            LockMode::Frozen => {
                let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or(NAME);
                Locked::Frozen(Frozen::new(world, &self.lock, name))
            }
        }
    }

    /// Writes down what a build that succeeded saw; what other builds left there stays.
    pub fn keep(&self, locked: &Locked<'_>) -> Result<(), Failure> {
        let Locked::Update(recording) = locked else { return Ok(()) };
        let mut lock = self.lock.clone();
        lock.merge(recording.seen());
        if lock == self.lock && self.path.exists() {
            return Ok(());
        }
        write(&self.path, &lock.to_text()).map_err(|error| Failure::of_output(&self.path, &error))
    }
}

/// A world behind a lock.
pub enum Locked<'a> {
    /// As it is.
    Live(&'a dyn World),
    /// As it is, and noted.
    Update(Recording<'a>),
    /// As the lock says.
    Frozen(Frozen<'a>),
}

impl Locked<'_> {
    /// For planning and solving.
    pub fn as_world(&self) -> &dyn World {
        match self {
            Self::Live(world) => *world,
            Self::Update(world) => world,
            Self::Frozen(world) => world,
        }
    }
}

fn path_of(file: Option<&Path>, beside: Beside<'_>) -> Result<PathBuf, Failure> {
    match (file, beside.dockerfile) {
        (Some(file), _) => Ok(file.to_owned()),
        (None, Some(dockerfile)) => Ok(dockerfile.with_file_name(NAME)),
        (None, None) => {
            let hint = "name it with --lock-file FILE";
            let message = "there is no place beside a Dockerfile on standard input for a lock file";
            Err(Failure::new(Kind::Usage, message, Some(hint.into())))
        }
    }
}

fn read(path: &Path, foreign: Option<&Path>) -> io::Result<Vec<u8>> {
    let file = match foreign {
        // Somebody else's links must not lead to files of this machine.
        Some(context) => {
            let inside = path.strip_prefix(context).unwrap_or(Path::new(NAME));
            let of_root = |error: forge_store::rootdir::RootDirError| match error.not_found() {
                true => io::Error::from(io::ErrorKind::NotFound),
                false => io::Error::other(error),
            };
            RootDir::open_host(context).map_err(of_root)?.open_file(inside).map_err(of_root)?.0
        }
        None => fs::File::open(path)?,
    };
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::other(format!("it is larger than {MOST_BYTES} bytes")));
    }
    Ok(bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Lock, Failure> {
    Lock::parse(bytes).map_err(|error| {
        let hint = "take it from version control again, or remove it and run `forge build --lock=update`";
        WorldError::new(TroubleKind::Input, format!("cannot read {}: {error}", path.display()))
            .hint(hint)
            .into()
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let kind = if error.kind() == io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Input };
    let hint = "`forge build --lock=update` writes it";
    Failure::new(kind, format!("cannot read {}: {error}", path.display()), Some(hint.into()))
}

/// Aside and renamed, so that a reader never sees half of it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut aside = tempfile::Builder::new().prefix(".forge-").tempfile_in(dir)?;
    aside.write_all(text.as_bytes())?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    aside.as_file().set_permissions(mode)?;
    aside.as_file().sync_all()?;
    aside.persist(path).map(drop).map_err(|error| error.error)
}
