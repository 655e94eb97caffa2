//! A walk over one tree: every entry once, parents before children, names of a directory sorted by their bytes.
//!
//! The order depends on nothing but the names, and is what makes layers reproducible. The walk works by open
//! directories, so it cannot be led astray by symlinks; it does not recurse, so depth cannot overflow its stack.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{Entry, ReadOptions, TreeError};
use crate::rootdir::{Descent, Dir, DirEntry, Stat};

/// The walk: an iterator over the entries of a tree, its root not among them. After an error it ends.
#[derive(Debug)]
pub struct Walk {
    options: ReadOptions,
    descent: Descent,
    levels: Vec<std::vec::IntoIter<DirEntry>>,
    path: PathBuf,
    /// The directory that was given last and is entered next.
    entering: Option<(OsString, Stat)>,
    failed: bool,
}

impl Walk {
    /// Walks over all that is in `root`.
    pub fn new(root: &Dir, options: ReadOptions) -> Result<Self, TreeError> {
        let levels = vec![root.read_dir()?.into_iter()];
        let descent = Descent::new(root.clone());
        Ok(Self { options, descent, levels, path: PathBuf::new(), entering: None, failed: false })
    }

    /// Leaves out what is in the directory that was given last; it is not even listed.
    pub fn skip_directory(&mut self) {
        self.entering = None;
    }

    fn advance(&mut self) -> Result<Option<Entry>, TreeError> {
        if let Some((name, stat)) = self.entering.take() {
            self.enter(name, &stat)?;
        }
        while let Some(level) = self.levels.last_mut() {
            match level.next() {
                Some(found) => {
                    if let Some(entry) = self.visit(found.name)? {
                        return Ok(Some(entry));
                    }
                }
                None => self.leave()?,
            }
        }
        Ok(None)
    }

    fn leave(&mut self) -> Result<(), TreeError> {
        self.levels.pop();
        if !self.levels.is_empty() {
            self.descent.pop(&self.path)?;
            self.path.pop();
        }
        Ok(())
    }

    fn enter(&mut self, name: OsString, stat: &Stat) -> Result<(), TreeError> {
        self.path.push(&name);
        let (dir, children) =
            self.descent.current().at(&name)?.read_dir().map_err(|error| error.with_path(&self.path))?;
        self.descent.push(dir, stat);
        self.levels.push(children.into_iter());
        Ok(())
    }

    fn visit(&mut self, name: OsString) -> Result<Option<Entry>, TreeError> {
        let at = self.descent.current().at(&name)?;
        let entry = Entry::read(at, self.path.join(&name), self.options)?;
        if let Some(entry) = &entry
            && entry.node.is_directory()
        {
            self.entering = Some((name, entry.stat));
        }
        Ok(entry)
    }
}

impl Iterator for Walk {
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
