//! `RUN --mount`: what each mount shows, made ready before the step starts.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forge_solver::op::types::{MountKind, Sharing};
use forge_solver::op::{CopyOp, CopySource, MountOp, RunOp, Unpack};
use forge_solver::{Job, TroubleKind, WorldError};
use forge_store::{Draft, Lock, RootDir, Snapshot, Store};

use crate::files::{self, FilesError, LocalContext, StackView, TreeView};
use crate::sandbox::spec::{Mount, MountSource};
use crate::secrets::Secrets;
use crate::ssh_agent::AgentSocket;
use crate::{cache_part, detach, trouble};

/// Mounts of one step, and what must live as long as it runs.
pub struct Mounted {
    /// For the sandbox's description.
    pub mounts: Vec<Mount>,
    /// The descriptors that those name by number.
    pub handles: Vec<OwnedFd>,
    /// Variables that secrets and agents come as.
    pub env: Vec<String>,
    /// Drafts and locks; dropped after the step.
    pub keep: Vec<Box<dyn Keep>>,
    placing: Placing,
}

impl Mounted {
    /// A source that lies at `path`.
    fn source(&mut self, path: &Path) -> Result<MountSource, WorldError> {
        if self.placing == Placing::Moved {
            return Ok(MountSource::Path(path.to_owned()));
        }
        self.handles.push(detached(path)?);
        Ok(MountSource::Handle(self.handles.len() - 1))
    }
}

/// How a file or directory gets into a step's tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placing {
    /// As a detached mount.
    Detached,
    /// Moved there and back, where nothing can be mounted.
    Moved,
}

/// Something held while a step runs: files made for it, or the lock of a cache.
pub trait Keep: Send {}
impl Keep for Draft {}
impl Keep for Lock {}
impl Keep for AgentSocket {}

/// Makes the mounts of a RUN ready.
pub fn prepare(
    store: &Store,
    op: &RunOp,
    job: &Job<'_>,
    contexts: &HashMap<String, Arc<LocalContext>>,
    secrets: &Secrets,
    placing: Placing,
) -> Result<Mounted, WorldError> {
    let (mounts, handles, env, keep) = Default::default();
    let mut mounted = Mounted { mounts, handles, env, keep, placing };
    for mount in &op.mounts {
        let source = match mount.kind {
            MountKind::Tmpfs => {
                let size_bytes = (mount.size > 0).then_some(mount.size);
                Some(MountSource::Tmpfs { size_bytes, mode: 0o1777 })
            }
            MountKind::Bind => Some(bind(store, mount, job, contexts, &mut mounted)?),
            MountKind::Cache => Some(cache(store, mount, job, contexts, &mut mounted)?),
            MountKind::Secret => secret(mount, secrets, &mut mounted)?,
            MountKind::Ssh => agent(store, mount, secrets, &mut mounted)?,
        };
        if let Some(source) = source {
            mounted.mounts.push(Mount { target: mount.target.clone(), source, read_only: mount.readonly });
        }
    }
    Ok(mounted)
}

/// A secret: a file, a variable, or both. One that nobody gave is simply not there, unless it is required.
fn secret(
    mount: &MountOp,
    secrets: &Secrets,
    mounted: &mut Mounted,
) -> Result<Option<MountSource>, WorldError> {
    let Some(bytes) = secrets.read(&mount.id)? else {
        return missing(mount, "secret", "--secret id=ID,src=FILE");
    };
    if let Some(name) = &mount.env {
        let text = String::from_utf8(bytes.clone()).ok().filter(|text| !text.contains('\0'));
        let text = text.ok_or_else(|| {
            WorldError::new(
                TroubleKind::Input,
                format!("secret {} cannot be a variable: it is no text", mount.id),
            )
        })?;
        mounted.env.push(format!("{name}={text}"));
    }
    let mode = mount.mode.unwrap_or(0o400);
    Ok((!mount.target.is_empty()).then_some(MountSource::File {
        bytes,
        mode,
        uid: mount.uid,
        gid: mount.gid,
    }))
}

/// The user's ssh agent, behind a socket that lets through listing and signing only.
fn agent(
    store: &Store,
    mount: &MountOp,
    secrets: &Secrets,
    mounted: &mut Mounted,
) -> Result<Option<MountSource>, WorldError> {
    let Some(agent) = secrets.agents.get(&mount.id) else {
        return missing(mount, "ssh agent", "--ssh ID=SOCKET");
    };
    let scratch = store.scratch().map_err(trouble::of_store)?;
    let path = scratch.tree().join("agent");
    let socket = AgentSocket::listen(&path, agent, mount.mode.unwrap_or(0o600), (mount.uid, mount.gid));
    let socket = socket.map_err(|e| {
        let message = format!("cannot reach the ssh agent {} at {}: {e}", mount.id, agent.display());
        WorldError::new(TroubleKind::Input, message)
            .hint("start one with ssh-agent, or name its socket with --ssh")
    })?;
    let source = mounted.source(socket.path())?;
    mounted.env.push(format!("SSH_AUTH_SOCK={}", mount.target));
    // The socket goes before the directory that it lies in.
    mounted.keep.push(Box::new(socket));
    mounted.keep.push(Box::new(scratch));
    Ok(Some(source))
}

fn missing(mount: &MountOp, what: &str, flag: &str) -> Result<Option<MountSource>, WorldError> {
    if !mount.required {
        return Ok(None);
    }
    let message = format!("{what} {}: not found", mount.id);
    Err(WorldError::new(TroubleKind::Input, message)
        .hint(format!("give it with {}", flag.replace("ID", &mount.id))))
}

/// Files of the context, a stage or an image: a copy of what is selected, thrown away after the step.
fn bind(
    store: &Store,
    mount: &MountOp,
    job: &Job<'_>,
    contexts: &HashMap<String, Arc<LocalContext>>,
    mounted: &mut Mounted,
) -> Result<MountSource, WorldError> {
    let draft = copy_of_input(store, mount, job, contexts)?;
    let tree = RootDir::open_host(draft.tree()).map_err(|e| trouble::of_files(e.into()))?;
    // A selected file stands alone under its own name; a directory's content is the tree.
    let source = Path::new(&mount.selection.pattern);
    let single = match source.file_name() {
        Some(name) if is_single_file(&tree, name) => Some(draft.tree().join(name)),
        _ => None,
    };
    let source = mounted.source(&single.unwrap_or_else(|| draft.tree()))?;
    mounted.keep.push(Box::new(draft));
    Ok(source)
}

/// True if the tree holds nothing but a file of that name, put there because the selection named a file.
fn is_single_file(tree: &RootDir, name: &std::ffi::OsStr) -> bool {
    tree.dir().read_dir().is_ok_and(|entries| {
        matches!(entries.as_slice(), [only] if only.name == name
            && tree.stat_nofollow(name).is_ok_and(|stat| stat.kind != forge_store::rootdir::FileKind::Directory))
    })
}

/// A directory that is kept between builds, named by a hash of its id: an id is never a path.
fn cache(
    store: &Store,
    mount: &MountOp,
    job: &Job<'_>,
    contexts: &HashMap<String, Arc<LocalContext>>,
    mounted: &mut Mounted,
) -> Result<MountSource, WorldError> {
    let name = blake3::hash(mount.id.as_bytes()).to_hex()[..32].to_owned();
    // What is moved into one step's tree is not there for another.
    let sharing = match mounted.placing {
        Placing::Moved if mount.sharing == Sharing::Shared => Sharing::Locked,
        _ => mount.sharing,
    };
    let (dir, lock) = claim(store, mount, sharing, &name)?;
    mounted.keep.push(Box::new(lock));
    if !dir.exists() {
        // Two steps may get here at once: the loser uses what the winner made.
        let _making = store.locks().lock(&format!("make-cache-{name}")).map_err(trouble::of_store)?;
        if !dir.exists() {
            fill_cache(store, mount, job, contexts, &dir)?;
        }
    }
    match mount.selection.pattern.as_str() {
        // With `from`, `source` has said what the new cache is filled with.
        "" | "/" => mounted.source(&dir),
        _ if mount.input.is_some() => mounted.source(&dir),
        source => part_of_cache(&dir, source, mount, mounted),
    }
}

/// A file or directory of the cache itself.
fn part_of_cache(
    dir: &Path,
    source: &str,
    mount: &MountOp,
    mounted: &mut Mounted,
) -> Result<MountSource, WorldError> {
    let part = cache_part::open(dir, source).map_err(|error| {
        let message = format!("cannot mount {source} of cache {}: {error}", mount.id);
        WorldError::new(TroubleKind::Input, message)
            .hint("a step that mounts the cache without `source` can make it")
    })?;
    if mounted.placing == Placing::Moved {
        return Ok(MountSource::Path(cache_part::path_of(&part).map_err(|e| io_trouble("find", dir, &e))?));
    }
    mounted.handles.push(detach(part.as_fd(), false).map_err(|e| io_trouble("mount", dir, &e))?);
    Ok(MountSource::Handle(mounted.handles.len() - 1))
}

/// The cache's directory, and the lock that goes with it. The store is told before the directory is looked for, so
/// that no collector takes it.
fn claim(
    store: &Store,
    mount: &MountOp,
    sharing: Sharing,
    name: &str,
) -> Result<(PathBuf, Lock), WorldError> {
    let caches = store.state_dir().join("caches");
    std::fs::create_dir_all(&caches).map_err(|e| io_trouble("create", &caches, &e))?;
    let place = |name: &str| {
        store.cache_mount(name, &format!("{} (id {})", mount.target, mount.id)).map_err(trouble::of_store)
    };
    if sharing == Sharing::Locked {
        let lock = store.locks().lock(&format!("cache-{name}")).map_err(trouble::of_store)?;
        return Ok((place(name)?, lock));
    }
    // As BuildKit: who finds the directory taken by somebody who wants it alone gets another one.
    for n in 0.. {
        let own = if n == 0 { name.to_owned() } else { format!("{name}.{n}") };
        let lock = format!("cache-{own}");
        let taken = match sharing {
            Sharing::Private => store.locks().try_lock(&lock),
            _ => store.locks().try_lock_shared(&lock),
        };
        if let Some(lock) = taken.map_err(trouble::of_store)? {
            return Ok((place(&own)?, lock));
        }
    }
    unreachable!("one of all numbers is free")
}

fn fill_cache(
    store: &Store,
    mount: &MountOp,
    job: &Job<'_>,
    contexts: &HashMap<String, Arc<LocalContext>>,
    dir: &Path,
) -> Result<(), WorldError> {
    let draft = match mount.input {
        Some(_) => copy_of_input(store, mount, job, contexts)?,
        None => store.draft().map_err(trouble::of_store)?,
    };
    let tree = RootDir::open_host(draft.tree()).map_err(|e| trouble::of_files(e.into()))?;
    if mount.input.is_none() {
        let place = tree.dir().itself();
        let owned = forge_store::tree::owner::set(place, mount.uid, mount.gid, store.layers().xattrs())
            .and_then(|()| place.chmod(mount.mode.unwrap_or(0o755)));
        owned.map_err(|e| trouble::of_files(e.into()))?;
    }
    std::fs::rename(draft.tree(), dir).map_err(|e| io_trouble("create", dir, &e))
}

/// What a mount selects of its input, copied into a draft.
fn copy_of_input(
    store: &Store,
    mount: &MountOp,
    job: &Job<'_>,
    contexts: &HashMap<String, Arc<LocalContext>>,
) -> Result<Draft, WorldError> {
    let at = mount.input.expect("only mounts with files are copied");
    let source = CopySource::Files { input: 1, selection: mount.selection.clone(), unpack: Unpack::Never };
    let op = CopyOp {
        sources: vec![source],
        dest: "/".into(),
        chown: None,
        chmod: None,
        parents: false,
        link: false,
        reset_owner: job.contexts[at].is_some(),
    };
    let stack;
    let view: &dyn TreeView = match (&job.inputs[at], &job.contexts[at]) {
        (_, Some(name)) => &**contexts
            .get(name)
            .ok_or_else(|| WorldError::new(TroubleKind::System, format!("there is no context {name}")))?,
        (Some(snapshot), _) => {
            stack = StackView::open(store, snapshot).map_err(trouble::of_files)?;
            &stack
        }
        _ => return Err(WorldError::new(TroubleKind::System, "a mount's files were not made")),
    };
    let nothing = StackView::open(store, &Snapshot::default()).map_err(trouble::of_files)?;
    let draft = store.draft().map_err(trouble::of_store)?;
    let scratch = || store.scratch().map_err(FilesError::from);
    files::copy(&op, &nothing, &[view], &draft, store.layers().xattrs(), &scratch)
        .map_err(trouble::of_files)?;
    Ok(draft)
}

fn detached(path: &Path) -> Result<OwnedFd, WorldError> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
    let open = rustix::fs::open(path, flags, rustix::fs::Mode::empty());
    let handle = open.map_err(std::io::Error::from).and_then(|file| detach(file.as_fd(), false));
    handle.map_err(|e| io_trouble("mount", path, &e))
}

fn io_trouble(verb: &str, path: &Path, error: &std::io::Error) -> WorldError {
    WorldError::new(TroubleKind::System, format!("cannot {verb} {}: {error}", path.display()))
}
