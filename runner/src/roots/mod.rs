//! The tree that a step runs in, put together from layers, and what the step did to it as a layer.
//!
//! ```text
//! overlay         the kernel stacks the layers; what changes lies in the draft      (nearly always)
//! fuse-overlayfs  a program stacks them, where the kernel does not let us
//! copies          all layers copied into one directory, which the next step uses again; a walk finds what changed
//! ```
//!
//! Which of them works is found out by the first step: the overlay is tried, and only if the kernel refuses it the next
//! one is, for this step and all that follow. On the chroot rung nothing can be mounted, so it is copies from the start.

mod changes;
mod copies;
mod fuse;
mod kept;
mod stamps;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use forge_solver::{TroubleKind, WorldError};
use forge_store::{Draft, Snapshot, Store};

use crate::files::{StackView, Upper};
use crate::isolation::{Climbed, Rung};
use crate::sandbox::spec::{OverlayXattrs, Rootfs, Upper as UpperDirs};
use crate::{Exit, Failure, Phase, trouble};

use copies::Copied;
use kept::Pool;

/// How the tree comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    Overlay,
    /// By this program.
    Fuse(PathBuf),
    Copies,
}

/// Makes the trees of all steps of a build.
pub(crate) struct Roots<'a> {
    store: &'a Store,
    isolation: Climbed,
    search_path: String,
    way: Mutex<Way>,
    copies: Pool,
}

/// A step in its tree: how it ended, or why it did not begin.
pub(crate) type Attempt<T> = Result<(Exit, T), Failure>;

impl<'a> Roots<'a> {
    pub(crate) fn new(store: &'a Store, isolation: &Climbed, search_path: &str) -> Roots<'a> {
        let way = if isolation.rung.has_namespaces() { Way::Overlay } else { Way::Copies };
        Roots {
            store,
            isolation: isolation.clone(),
            search_path: search_path.to_owned(),
            way: Mutex::new(way),
            copies: Pool::default(),
        }
    }

    /// Runs something over `below`, its changes going into `draft`; `note` gets a remark if the way changed. What a
    /// step that failed did is not looked at.
    pub(crate) fn run<T>(
        &self,
        below: &Snapshot,
        draft: &Draft,
        note: &dyn Fn(String),
        run: &mut dyn FnMut(Rootfs) -> Result<Attempt<T>, WorldError>,
    ) -> Result<(Exit, T), WorldError> {
        self.run_in_any(below, draft, true, note, run)
    }

    /// The same for something whose changes nobody wants.
    pub(crate) fn run_only<T>(
        &self,
        below: &Snapshot,
        draft: &Draft,
        run: &mut dyn FnMut(Rootfs) -> Result<Attempt<T>, WorldError>,
    ) -> Result<(Exit, T), WorldError> {
        self.run_in_any(below, draft, false, &drop, run)
    }

    fn run_in_any<T>(
        &self,
        below: &Snapshot,
        draft: &Draft,
        keeps: bool,
        note: &dyn Fn(String),
        run: &mut dyn FnMut(Rootfs) -> Result<Attempt<T>, WorldError>,
    ) -> Result<(Exit, T), WorldError> {
        loop {
            let way = self.way().clone();
            let attempt = match &way {
                Way::Overlay => run(self.overlay(below, draft)?)?,
                Way::Fuse(program) => match self.fuse(program, below, draft)? {
                    Ok(stack) => {
                        let attempt = run(stack.rootfs())?;
                        drop(stack);
                        if keeps && attempt.is_ok() {
                            fuse::translate(draft, &self.view(below)?, self.store.layers().xattrs())
                                .map_err(trouble::of_files)?;
                        }
                        attempt
                    }
                    Err(failure) => Err(failure),
                },
                Way::Copies => return self.in_copies(below, draft, keeps, run),
            };
            match attempt {
                Err(failure) if is_refused(&failure) => self.descend(&way, &failure, note),
                Err(failure) => return Err(self.explain(&failure)),
                Ok(ended) => return Ok(ended),
            }
        }
    }

    fn explain(&self, failure: &Failure) -> WorldError {
        if self.isolation.rung != Rung::UsernsSingle || failure.phase != Phase::Privileges {
            return trouble::of_start(failure);
        }
        let message = format!("USER names another id than 0, and no other exists here: {failure}");
        let error = WorldError::new(TroubleKind::Sandbox, message);
        match self.isolation.refused.last() {
            Some(refusal) => error.hint(format!("for more ids, {}", refusal.remedy)),
            None => error,
        }
    }

    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn descend(&self, from: &Way, failure: &Failure, note: &dyn Fn(String)) {
        let mut way = self.way();
        // Another step may have been here before.
        if *way != *from {
            return;
        }
        *way = match from {
            // The program would not know whiteouts that are records of ours.
            Way::Overlay if forge_store::tree::takes_whiteouts(&self.store.state_dir()) => {
                fuse::find(&self.search_path).map_or(Way::Copies, Way::Fuse)
            }
            _ => Way::Copies,
        };
        let what = match &*way {
            Way::Fuse(program) => format!("{} stacks the layers", program.display()),
            _ => "layers are copied for each step, which is slower".to_owned(),
        };
        note(format!("warning: {what}, because the kernel refused: {failure}"));
    }

    fn overlay(&self, below: &Snapshot, draft: &Draft) -> Result<Rootfs, WorldError> {
        let lowers = self.store.layers().stack(below).map_err(trouble::of_store)?;
        let xattrs = self.store.layers().xattrs();
        // The layer's root directory looks as the one below; overlayfs shows the upper one's metadata.
        let root = StackView::root_of(&lowers, xattrs).map_err(trouble::of_files)?;
        let upper = Upper::new(draft, &root, xattrs).map_err(trouble::of_files)?;
        upper.finish().map_err(trouble::of_files)?;
        let upper = UpperDirs { upper: draft.tree(), work: draft.work() };
        Ok(Rootfs::Overlay { lowers, upper: Some(upper), xattrs: marks(self.store) })
    }

    fn fuse(
        &self,
        program: &std::path::Path,
        below: &Snapshot,
        draft: &Draft,
    ) -> Result<Result<fuse::Stack, Failure>, WorldError> {
        let Rootfs::Overlay { lowers, .. } = self.overlay(below, draft)? else {
            unreachable!("an overlay is an overlay")
        };
        let skeleton = self.store.state_dir().join("skeleton");
        let place = self.store.scratch().map_err(trouble::of_store)?;
        Ok(fuse::Stack::mount(program, &lowers, &skeleton, draft, place))
    }

    fn in_copies<T>(
        &self,
        below: &Snapshot,
        draft: &Draft,
        keeps: bool,
        run: &mut dyn FnMut(Rootfs) -> Result<Attempt<T>, WorldError>,
    ) -> Result<(Exit, T), WorldError> {
        let view = self.view(below)?;
        let marks = self.store.layers().xattrs();
        let copied = self.copied(below, &view)?;
        let ended = run(copied.rootfs())?.map_err(|failure| self.explain(&failure))?;
        // What a step that failed left in a tree is thrown away with it.
        if keeps && ended.0 == Exit::Code(0) {
            let kept = copied.changes(below, &view, draft, marks).map_err(trouble::of_files)?;
            kept.into_iter().for_each(|kept| self.copies.put(kept));
        }
        Ok(ended)
    }

    /// The layers in one directory: one that an earlier step used, or a new one.
    fn copied(&self, below: &Snapshot, view: &StackView) -> Result<Copied, WorldError> {
        let is_mounted = self.isolation.rung.has_namespaces();
        let again = |kept| Copied::again(kept, self.store, below, view, is_mounted);
        if let Some(copied) = self.copies.take(below).and_then(again) {
            return Ok(copied);
        }
        let place = self.store.scratch().map_err(trouble::of_store)?;
        Copied::make(place, view, self.store.layers().xattrs(), is_mounted).map_err(trouble::of_files)
    }

    fn view(&self, below: &Snapshot) -> Result<StackView, WorldError> {
        StackView::open(self.store, below).map_err(trouble::of_files)
    }
}

/// Whether it was the stack of layers that was refused, rather than anything of the step's.
fn is_refused(failure: &Failure) -> bool {
    let stack = failure.object.starts_with("overlay") || failure.object.starts_with("fuse-overlayfs");
    failure.phase == Phase::Rootfs && stack && failure.errno != libc::ENOSPC
}

/// How overlayfs' marks are written in a store's trees, in the sandbox's terms.
fn marks(store: &Store) -> OverlayXattrs {
    match store.layers().xattrs() {
        forge_store::tree::OverlayXattrs::Trusted => OverlayXattrs::Trusted,
        forge_store::tree::OverlayXattrs::User | forge_store::tree::OverlayXattrs::Single => {
            OverlayXattrs::User
        }
    }
}
