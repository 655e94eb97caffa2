//! A walk over a stack of layers, in the order and with the guarantees of [`super::Walk`].

use std::ffi::OsString;
use std::iter::Peekable;
use std::path::PathBuf;

use super::merged::{Marks, merge};
use super::{Entry, ReadOptions, TreeError};
use crate::rootdir::{Descent, Dir, DirEntry, Stat};

/// How many directories are kept open, beside one for each layer, unless there are more layers than that.
const OPEN_DIRECTORIES: usize = 256;

/// The walk: an iterator over the entries of the merged directory, itself not among them. After an error it ends.
#[derive(Debug)]
pub struct MergedWalk {
    options: ReadOptions,
    marks: Marks,
    /// Each layer's way down: as far as it contributes to where the walk is.
    descents: Vec<Descent>,
    levels: Vec<Level>,
    path: PathBuf,
    /// The directory that was given last and is entered next, and the layers that contribute to it.
    entering: Option<(OsString, Vec<(usize, Stat)>)>,
    failed: bool,
}

/// A directory being walked: its contributing layers, and what is left of all their names, sorted by name and layer.
#[derive(Debug)]
struct Level {
    layers: Vec<usize>,
    names: Peekable<std::vec::IntoIter<(OsString, usize)>>,
}

impl MergedWalk {
    /// Walks over a directory that is in these layers, the topmost first.
    pub(super) fn new(
        dirs: Vec<(usize, Dir)>,
        options: ReadOptions,
        marks: Marks,
    ) -> Result<Self, TreeError> {
        let open_levels = (OPEN_DIRECTORIES / dirs.len().max(1)).max(1);
        let mut names = Vec::new();
        let mut descents = Vec::new();
        // Layers above a directory's topmost have no part in the walk: numbers are positions here.
        for (layer, (_, dir)) in dirs.into_iter().enumerate() {
            add_names(&mut names, layer, dir.read_dir()?);
            descents.push(Descent::with_open_levels(dir, open_levels));
        }
        let levels = vec![Level::new((0..descents.len()).collect(), names)];
        Ok(Self { options, marks, descents, levels, path: PathBuf::new(), entering: None, failed: false })
    }

    /// Leaves out what is in the directory that was given last; it is not even listed.
    pub fn skip_directory(&mut self) {
        self.entering = None;
    }

    fn advance(&mut self) -> Result<Option<Entry>, TreeError> {
        if let Some((name, layers)) = self.entering.take() {
            self.enter(name, layers)?;
        }
        while let Some(level) = self.levels.last_mut() {
            match level.next() {
                Some((name, layers)) => {
                    if let Some(entry) = self.visit(name, &layers)? {
                        return Ok(Some(entry));
                    }
                }
                None => self.leave()?,
            }
        }
        Ok(None)
    }

    fn enter(&mut self, name: OsString, layers: Vec<(usize, Stat)>) -> Result<(), TreeError> {
        self.path.push(&name);
        let mut names = Vec::new();
        for (layer, stat) in &layers {
            let descent = &mut self.descents[*layer];
            let (dir, children) =
                descent.current().at(&name)?.read_dir().map_err(|error| error.with_path(&self.path))?;
            add_names(&mut names, *layer, children);
            descent.push(dir, stat);
        }
        self.levels.push(Level::new(layers.into_iter().map(|(layer, _)| layer).collect(), names));
        Ok(())
    }

    fn leave(&mut self) -> Result<(), TreeError> {
        let left = self.levels.pop();
        if !self.levels.is_empty() {
            for layer in left.into_iter().flat_map(|level| level.layers) {
                self.descents[layer].pop(&self.path)?;
            }
            self.path.pop();
        }
        Ok(())
    }

    fn visit(&mut self, name: OsString, layers: &[usize]) -> Result<Option<Entry>, TreeError> {
        let mut candidates = Vec::with_capacity(layers.len());
        for layer in layers {
            candidates.push((*layer, self.descents[*layer].current().at(&name)?));
        }
        let path = self.path.join(&name);
        let Some(merged) = merge(&candidates, &path, self.options, self.marks)? else { return Ok(None) };
        if merged.entry.node.is_directory() {
            self.entering = Some((name, merged.layers));
        }
        Ok(Some(merged.entry))
    }
}

impl Iterator for MergedWalk {
    type Item = Result<Entry, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let result = self.advance();
        self.failed = result.is_err();
        result.transpose()
    }
}

impl Level {
    fn new(layers: Vec<usize>, mut names: Vec<(OsString, usize)>) -> Self {
        names.sort_unstable();
        Self { layers, names: names.into_iter().peekable() }
    }

    /// The next name, and the layers that have it, the topmost first.
    fn next(&mut self) -> Option<(OsString, Vec<usize>)> {
        let (name, layer) = self.names.next()?;
        let mut layers = vec![layer];
        while let Some((_, layer)) = self.names.next_if(|(next, _)| *next == name) {
            layers.push(layer);
        }
        Some((name, layers))
    }
}

fn add_names(names: &mut Vec<(OsString, usize)>, layer: usize, entries: Vec<DirEntry>) {
    names.extend(entries.into_iter().map(|entry| (entry.name, layer)));
}
