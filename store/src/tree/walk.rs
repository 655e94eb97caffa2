//! A walk over one tree: every entry once, parents before children, names of a directory sorted by their bytes.
//!
//! The order depends on nothing but the names, and is what makes layers reproducible. The walk works by open
//! directories, so it cannot be led astray by symlinks; it does not recurse, so depth cannot overflow its stack.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::{Entry, ReadOptions, TreeError};
use crate::rootdir::{Descent, Dir, DirEntry};

/// The walk: an iterator over the entries of a tree, its root not among them. After an error it ends.
#[derive(Debug)]
pub struct Walk {
    options: ReadOptions,
    descent: Descent,
    levels: Vec<std::vec::IntoIter<DirEntry>>,
    path: PathBuf,
    failed: bool,
}

impl Walk {
    /// Walks over all that is in `root`.
    pub fn new(root: &Dir, options: ReadOptions) -> Result<Self, TreeError> {
        let levels = vec![root.read_dir()?.into_iter()];
        Ok(Self { options, descent: Descent::new(root.clone()), levels, path: PathBuf::new(), failed: false })
    }

    fn advance(&mut self) -> Result<Option<Entry>, TreeError> {
        while let Some(level) = self.levels.last_mut() {
            match level.next() {
                Some(found) => {
                    if let Some(entry) = self.visit(&found.name)? {
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

    /// Looks at one name, and enters it when it is a directory.
    fn visit(&mut self, name: &OsStr) -> Result<Option<Entry>, TreeError> {
        let at = self.descent.current().at(name)?;
        let entry = Entry::read(at, self.path.join(name), self.options)?;
        if let Some(entry) = &entry
            && entry.node.is_directory()
        {
            let (dir, children) = at.read_dir().map_err(|error| error.with_path(&entry.path))?;
            self.descent.push(dir, &entry.stat);
            self.levels.push(children.into_iter());
            self.path.push(name);
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
