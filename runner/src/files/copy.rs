//! COPY and ADD, carried out: every source into one new layer, by the rules of BuildKit's copier.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use forge_solver::matching::{Chmod, IgnoreDirectory};
use forge_solver::op::{CopyOp, CopySource, Selection, Unpack};
use forge_store::layer::unpack::Owner;
use forge_store::rootdir::{Dir, FileKind, NewDir, RootDir, Stat};
use forge_store::tree::{OverlayXattrs, owner};
use forge_store::{Draft, layer};

use super::error::{At, FilesError};
use super::owner::lookup_owner;
use super::select::{Match, excludes, left_out_below, select};
use super::upper::{Upper, own, shown};
use super::view::{StackView, TreeView};

/// Where archives are unpacked before they are copied in: an empty draft per archive.
pub type Scratch<'a> = dyn Fn() -> Result<Draft, FilesError> + 'a;

/// Fills a draft with what `op` copies onto `below`; `inputs` are the op's sources, by input number.
pub fn copy(
    op: &CopyOp,
    below: &dyn TreeView,
    inputs: &[&dyn TreeView],
    draft: &Draft,
    marks: OverlayXattrs,
    scratch: &Scratch<'_>,
) -> Result<(), FilesError> {
    let upper = Upper::new(draft, below, marks)?;
    let (chmod, chown) = (chmod_of(op)?, chown_of(op, below)?);
    let mut copier = Copier {
        upper,
        op,
        chmod,
        chown,
        marks,
        reset_owner: op.reset_owner,
        replace: false,
        links: HashMap::new(),
    };
    for source in &op.sources {
        match source {
            CopySource::Inline { name, content } => copier.inline(name, content)?,
            CopySource::Files { input, selection, unpack } => {
                let view = inputs[*input - 1];
                copier.selection(view, selection, *unpack, scratch)?;
            }
        }
    }
    copier.upper.finish()
}

struct Copier<'a> {
    upper: Upper<'a>,
    op: &'a CopyOp,
    chmod: Option<Chmod>,
    chown: Option<(u32, u32)>,
    marks: OverlayXattrs,
    /// Sources' owners do not count: all files become root's.
    reset_owner: bool,
    /// What stands in the way is replaced rather than an error: archives.
    replace: bool,
    /// Hard links of the source being copied: the first name's place in the layer.
    links: HashMap<(u64, u64), (Dir, OsString)>,
}

impl Copier<'_> {
    // ---- What goes where ---------------------------------------------------------------------------------

    fn selection(
        &mut self,
        view: &dyn TreeView,
        selection: &Selection,
        unpack: Unpack,
        scratch: &Scratch<'_>,
    ) -> Result<(), FilesError> {
        let left_out = excludes(selection)?;
        for found in select(view, selection)? {
            self.links.clear();
            let below = left_out_below(&found, selection, &left_out);
            let is_file = found.stat.kind == FileKind::Regular;
            if is_file && unpack == Unpack::IfArchive && is_archive(view, &found)? {
                self.archive(view, &found, scratch)?;
            } else if self.op.parents {
                self.with_parents(view, &found, selection, below)?;
            } else if found.stat.kind == FileKind::Directory {
                let dest = self.dest()?;
                self.contents(view, &found.path, &dest, below)?;
            } else {
                let name = found.name.file_name().unwrap_or_default().to_owned();
                let dest = self.dest_of_file(&name)?;
                self.entry(view, &found.path, &found.stat, &dest, below)?;
            }
        }
        Ok(())
    }

    /// The destination, as a process in the image would resolve it.
    fn dest(&self) -> Result<PathBuf, FilesError> {
        self.upper.resolve(Path::new(&self.op.dest))
    }

    /// Where a file called `name` goes: into the destination if that is a directory, by form or in fact.
    fn dest_of_file(&self, name: &OsStr) -> Result<PathBuf, FilesError> {
        let dest = self.dest()?;
        let is_dir = self.upper.stat(&dest)?.is_some_and(|stat| stat.kind == FileKind::Directory);
        Ok(dest_of_file(self.op, dest, is_dir, name))
    }

    /// `--parents`: the source's path behind the pivot is kept below the destination.
    fn with_parents(
        &mut self,
        view: &dyn TreeView,
        found: &Match,
        selection: &Selection,
        left_out: IgnoreDirectory<'_>,
    ) -> Result<(), FilesError> {
        let kept: PathBuf = found.name.iter().skip(selection.pivot.unwrap_or(0)).collect();
        let mut dest = self.dest()?;
        let dropped = found.name.iter().count() - kept.iter().count();
        let mut source: PathBuf = found.name.iter().take(dropped).collect();
        // The directories on the way look as they do in the source.
        for name in kept.parent().into_iter().flat_map(Path::iter) {
            source.push(name);
            dest.push(name);
            let resolved = super::view::resolve(view, &source, true)?;
            if let Some(stat) = view.stat(&resolved)? {
                self.directory(&dest, &stat)?;
            }
        }
        if let Some(name) = kept.file_name() {
            dest.push(name);
        }
        self.entry(view, &found.path, &found.stat, &dest, left_out)
    }

    /// A file written in the Dockerfile: 0644, unless a flag says otherwise.
    fn inline(&mut self, name: &str, content: &str) -> Result<(), FilesError> {
        let dest = self.dest_of_file(OsStr::new(name))?;
        let (dir, name) = self.place(&dest)?;
        let mut file = dir.at(&name)?.create_file(0o644)?;
        file.write_all(content.as_bytes()).at("write", &shown(&dest))?;
        let at = dir.at(&name)?;
        let (uid, gid) = self.chown.unwrap_or((0, 0));
        owner::set(at, uid, gid, self.marks)?;
        let mode = self.chmod.as_ref().map_or(0o644, |chmod| chmod.apply(0o644, false));
        Ok(at.chmod(mode)?)
    }

    fn archive(
        &mut self,
        view: &dyn TreeView,
        found: &Match,
        scratch: &Scratch<'_>,
    ) -> Result<(), FilesError> {
        let fail =
            |e: layer::UnpackError| FilesError::Archive { path: shown(&found.name), detail: e.to_string() };
        let (file, _) = view.open(&found.path)?;
        let dest = self.dest()?;
        if self.upper.is_free(&dest)? {
            // Nothing to merge with: straight into the layer.
            self.upper.dir(&dest, self.new_parent())?;
            layer::unpack_archive(file, &self.upper.tree(&dest)?, &self.unpack_options()).map_err(fail)?;
            return Ok(());
        }
        let unpacked = scratch()?;
        let root = RootDir::open_host(unpacked.tree())?;
        layer::unpack_archive(file, &root, &layer::UnpackOptions::archive(self.marks)).map_err(fail)?;
        let tree = StackView::single(&unpacked.tree(), self.marks)?;
        let (reset_owner, replace) = (self.reset_owner, self.replace);
        // An archive's owners are its content, and what it holds takes the place of what is there.
        (self.reset_owner, self.replace) = (false, true);
        let ignore = forge_solver::matching::IgnorePatterns::default();
        let outcome = self.contents(&tree, Path::new(""), &dest, ignore.walker());
        (self.reset_owner, self.replace) = (reset_owner, replace);
        outcome
    }

    /// `--chown` and `--chmod`, for an archive that goes straight into the layer.
    fn unpack_options(&self) -> layer::UnpackOptions {
        let owner = self.chown.map_or(Owner::OfArchive, |(uid, gid)| Owner::Fixed { uid, gid });
        let chmod = self.chmod.clone().map(|chmod| {
            layer::unpack::Chmod::new(move |kind, mode| chmod.apply(mode, kind == FileKind::Directory))
        });
        layer::UnpackOptions { owner, chmod, ..layer::UnpackOptions::archive(self.marks) }
    }

    // ---- Entries -----------------------------------------------------------------------------------------

    /// A directory's content into the directory `dest`, which is made if it is not there.
    fn contents(
        &mut self,
        view: &dyn TreeView,
        source: &Path,
        dest: &Path,
        left_out: IgnoreDirectory<'_>,
    ) -> Result<(), FilesError> {
        let dir = self.upper.dir(dest, self.new_parent())?;
        self.children(view, source, dest, &dir, left_out)
    }

    fn children(
        &mut self,
        view: &dyn TreeView,
        source: &Path,
        dest: &Path,
        dir: &Dir,
        left_out: IgnoreDirectory<'_>,
    ) -> Result<(), FilesError> {
        // Listed once: asking for every name would walk down the stack of layers each time.
        let below = self.below(dest)?;
        for child in view.children(source)?.iter() {
            let verdict = left_out.entry(child.name.as_encoded_bytes());
            let is_dir = child.stat.kind == FileKind::Directory;
            if verdict.excluded && !(is_dir && verdict.descend) {
                continue;
            }
            let (from, to) = (source.join(&child.name), dest.join(&child.name));
            if is_dir {
                self.entry(view, &from, &child.stat, &to, verdict.directory())?;
            } else {
                self.clear(&to, dir, &child.name, below.get(&child.name).copied())?;
                self.file(view, &from, &child.stat, dir, &child.name)?;
            }
        }
        Ok(())
    }

    /// One entry, whatever it is, to exactly `dest`.
    fn entry(
        &mut self,
        view: &dyn TreeView,
        source: &Path,
        stat: &Stat,
        dest: &Path,
        left_out: IgnoreDirectory<'_>,
    ) -> Result<(), FilesError> {
        if stat.kind == FileKind::Directory {
            let dir = self.directory(dest, stat)?;
            self.children(view, source, dest, &dir, left_out)?;
            return Ok(dir.itself().set_mtime(stat.mtime)?);
        }
        let (dir, name) = self.place(dest)?;
        self.file(view, source, stat, &dir, &name)
    }

    /// The names that the layers below have in a directory.
    fn below(&self, dest: &Path) -> Result<HashMap<OsString, FileKind>, FilesError> {
        match self.upper.below().stat(dest)? {
            Some(stat) if stat.kind == FileKind::Directory => {
                let children = self.upper.below().children(dest)?;
                Ok(children.iter().map(|child| (child.name.clone(), child.stat.kind)).collect())
            }
            _ => Ok(HashMap::new()),
        }
    }

    /// The layer's directory at `dest`, with the metadata of a source's directory.
    fn directory(&mut self, dest: &Path, stat: &Stat) -> Result<Dir, FilesError> {
        let new = NewDir { mode: self.mode(stat), owner: Some(self.owner(stat)) };
        let there = self.upper.stat(dest)?;
        if let Some(there) = there.filter(|there| there.kind != FileKind::Directory) {
            let follows = there.kind == FileKind::Symlink && self.replace;
            if follows {
                // An archive's `lib/` onto a merged-/usr image's `lib -> usr/lib` means the directory behind it.
                let behind = self.upper.resolve(dest)?;
                return self.upper.dir(&behind, new);
            }
            if !self.replace {
                return Err(FilesError::DirectoryOverFile(shown(dest)));
            }
            let (parent, name) = self.place(dest)?;
            parent.at(&name)?.create_dir(new.mode)?;
            let dir = parent.at(&name)?.open_dir()?;
            own(&dir, new, self.marks)?;
            self.upper.hide_below(&dir, dest)?;
            return Ok(dir);
        }
        let parent = dest.parent().unwrap_or(Path::new(""));
        self.upper.dir(parent, self.new_parent())?;
        let dir = self.upper.dir(dest, new)?;
        own(&dir, new, self.marks)?;
        Ok(dir)
    }

    /// Everything but directories, under a name that is free.
    fn file(
        &mut self,
        view: &dyn TreeView,
        source: &Path,
        stat: &Stat,
        dir: &Dir,
        name: &OsStr,
    ) -> Result<(), FilesError> {
        let at = dir.at(name)?;
        if stat.nlink > 1 && stat.kind != FileKind::Directory {
            if let Some((first_dir, first_name)) = self.links.get(&(stat.dev, stat.ino)) {
                return Ok(at.hard_link_from(first_dir.at(first_name)?)?);
            }
            self.links.insert((stat.dev, stat.ino), (dir.clone(), name.to_owned()));
        }
        match stat.kind {
            FileKind::Regular => copy_bytes(view, source, stat, &at.create_file(0o600)?)?,
            FileKind::Symlink => at.symlink(view.read_link(source)?)?,
            FileKind::Fifo => at.mknod(FileKind::Fifo, 0o600, stat.rdev)?,
            FileKind::Char | FileKind::Block => {
                forge_store::tree::node::create(at, stat.kind, 0o600, stat.rdev, self.marks)?
            }
            // Sockets mean nothing without the process behind them; Docker leaves them out, too.
            FileKind::Socket | FileKind::Directory => {
                self.links.remove(&(stat.dev, stat.ino));
                return Ok(());
            }
        }
        let (uid, gid) = self.owner(stat);
        owner::set(at, uid, gid, self.marks)?;
        if stat.kind != FileKind::Symlink {
            at.chmod(self.mode(stat))?;
            for (attribute, value) in view.xattrs(source)? {
                at.set_xattr(&attribute, &value)?;
            }
        }
        Ok(at.set_mtime(stat.mtime)?)
    }

    /// Makes a name free in the layer, `below` being what the layers below have there.
    fn clear(&self, dest: &Path, dir: &Dir, name: &OsStr, below: Option<FileKind>) -> Result<(), FilesError> {
        let at = dir.at(name)?;
        let own = at.try_stat()?.map(|stat| stat.kind);
        match own.or(below) {
            Some(FileKind::Directory) if !self.replace => Err(FilesError::FileOverDirectory(shown(dest))),
            _ if own.is_some() => Ok(at.remove_tree()?),
            _ => Ok(()),
        }
    }

    /// The layer's directory for `dest`, made with its parents, and the last name, free.
    fn place(&self, dest: &Path) -> Result<(Dir, OsString), FilesError> {
        let name = dest.file_name().ok_or_else(|| FilesError::FileOverDirectory(shown(dest)))?;
        let parent = dest.parent().unwrap_or(Path::new(""));
        let dir = self.upper.dir(parent, self.new_parent())?;
        let below = self.upper.below().stat(dest)?.map(|stat| stat.kind);
        self.clear(dest, &dir, name, below)?;
        Ok((dir, name.to_owned()))
    }

    // ---- Metadata ----------------------------------------------------------------------------------------

    fn owner(&self, stat: &Stat) -> (u32, u32) {
        self.chown.unwrap_or(if self.reset_owner { (0, 0) } else { (stat.uid, stat.gid) })
    }

    fn mode(&self, stat: &Stat) -> u32 {
        mode(self.chmod.as_ref(), stat)
    }

    fn new_parent(&self) -> NewDir {
        new_parent(self.chmod.as_ref(), self.chown)
    }
}

/// `--chmod`, read.
pub(super) fn chmod_of(op: &CopyOp) -> Result<Option<Chmod>, FilesError> {
    let chmod = op.chmod.as_deref().map(Chmod::parse).transpose();
    chmod.map_err(|e| FilesError::Mode(e.to_string()))
}

/// `--chown`, looked up.
pub(super) fn chown_of(op: &CopyOp, below: &dyn TreeView) -> Result<Option<(u32, u32)>, FilesError> {
    op.chown.as_deref().map(|spec| lookup_owner(below, spec)).transpose()
}

/// Where a file called `name` goes: into the destination if that is a directory, by form or in fact.
pub(super) fn dest_of_file(op: &CopyOp, dest: PathBuf, is_dir: bool, name: &OsStr) -> PathBuf {
    if is_dir || op.dest.ends_with('/') { dest.join(name) } else { dest }
}

/// The mode of what is copied.
pub(super) fn mode(chmod: Option<&Chmod>, stat: &Stat) -> u32 {
    let is_dir = stat.kind == FileKind::Directory;
    chmod.map_or(stat.mode, |chmod| chmod.apply(stat.mode, is_dir))
}

/// The owner of what is copied from a source that owns nothing itself.
pub(super) fn owner(op: &CopyOp, chown: Option<(u32, u32)>, stat: &Stat) -> (u32, u32) {
    chown.unwrap_or(if op.reset_owner { (0, 0) } else { (stat.uid, stat.gid) })
}

/// Directories that nobody copied: 0755 (or an octal `--chmod`), owned as `--chown` says.
pub(super) fn new_parent(chmod: Option<&Chmod>, chown: Option<(u32, u32)>) -> NewDir {
    let mode = match chmod {
        Some(Chmod::Octal(mode)) => *mode,
        _ => 0o755,
    };
    NewDir { mode, owner: Some(chown.unwrap_or((0, 0))) }
}

/// Copies a file's bytes, in the kernel where it can, and sees to it that nobody changed them since they were hashed.
pub(crate) fn copy_bytes(
    view: &dyn TreeView,
    source: &Path,
    seen: &Stat,
    mut to: &File,
) -> Result<(), FilesError> {
    let (mut from, before) = view.open(source)?;
    if !view.is_as_hashed(source, seen, &before) {
        return Err(FilesError::Changed(source.to_owned()));
    }
    let copied = io::copy(&mut from, &mut to).at("copy", source)?;
    let after = Stat::of_fd(&from).at("stat", source)?;
    if copied != before.size
        || (after.mtime, after.ctime, after.size) != (before.mtime, before.ctime, before.size)
    {
        return Err(FilesError::Changed(source.to_owned()));
    }
    Ok(())
}

fn is_archive(view: &dyn TreeView, found: &Match) -> Result<bool, FilesError> {
    let (file, _) = view.open(&found.path)?;
    Ok(layer::is_archive(file))
}
