//! Seals: what a tree is checked against. A tree that was built here is sealed by the content that its layer's id is
//! made of; one that was unpacked can be compared with its blob.

use super::Layers;
use crate::error::At;
use crate::index::Table;
use crate::layer::{UnpackOptions, unpack_blob};
use crate::rootdir::Mtime;
use crate::session::{Draft, remove_tree};
use crate::snapshot::Layer;
use crate::tree::{ContentOptions, Format, Mtimes, ReadOptions, TreeError, Walk, XattrFilter, content_of};
use crate::{ContentId, LayerId, RootDir, StoreError, Threads};

/// What checking a tree found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It is what it was.
    Whole,
    /// It is not.
    Damaged(String),
    /// Nothing is here to compare it with.
    Unknown,
}

/// Times that no file has are left out: all count.
const EVERY_TIME: Mtimes =
    Mtimes::OutsideWindow { from: Mtime { sec: 1, nsec: 0 }, to: Mtime { sec: 0, nsec: 0 } };

impl Layers {
    /// Turns a finished draft into the tree of the layer whose id is made of its content, read with these times.
    pub fn commit_sealed(
        &self,
        draft: Draft,
        id: &LayerId,
        size: u64,
        mtimes: Mtimes,
    ) -> Result<(), StoreError> {
        self.commit_with(draft, id, size, Some(&text(mtimes)))
    }

    /// Compares the layer's tree with what it was made of.
    pub(crate) fn check_tree(&self, id: &LayerId) -> Result<Checked, StoreError> {
        let sql = "SELECT seal FROM trees WHERE layer = ?1";
        let Some(seal) = self.index.row(sql, [id.hex()], |row| row.get::<_, Option<String>>(0))? else {
            return Ok(Checked::Unknown);
        };
        let root = match RootDir::open_host(self.path(id)) {
            Ok(root) => root,
            Err(error) if error.not_found() => return Ok(Checked::Damaged("its directory is gone".into())),
            Err(error) => return Err(error.into()),
        };
        match seal {
            Some(seal) => Ok(match parse(&seal).map(|mtimes| self.content(&root, mtimes)) {
                Some(Ok(content)) if LayerId::of_content(&content) == *id => Checked::Whole,
                Some(Err(error)) => Checked::Damaged(error.to_string()),
                _ => Checked::Damaged("its files are not those that were built".into()),
            }),
            None => self.compare_with_blob(id, &root),
        }
    }

    fn compare_with_blob(&self, id: &LayerId, root: &RootDir) -> Result<Checked, StoreError> {
        let Some((digest, diff_id)) = self.blob_of(&Layer::built(*id))? else { return Ok(Checked::Unknown) };
        // A blob that is damaged itself proves nothing.
        let Some((blob, _)) = self.blobs.open(&digest)? else { return Ok(Checked::Unknown) };
        if self.blobs.damage(&digest)?.is_some() {
            return Ok(Checked::Unknown);
        }
        let draft = match self.session.with(|session| session.draft()) {
            // Where nothing can be unpacked nothing can be compared.
            Err(error) if error.is_read_only() => return Ok(Checked::Unknown),
            other => other?,
        };
        let fresh = RootDir::open_host(draft.tree())?;
        unpack_blob(blob, &diff_id, &fresh, &UnpackOptions::layer(self.xattrs))
            .map_err(|e| StoreError::Unpack { object: digest.to_string(), detail: e.to_string() })?;
        let wanted = self.content(&fresh, EVERY_TIME).map_err(|e| StoreError::Pack(e.to_string()))?;
        Ok(match self.content(root, EVERY_TIME) {
            Ok(found) if found == wanted => Checked::Whole,
            Ok(_) => Checked::Damaged(format!("its files are not those of blob {digest}")),
            Err(error) => Checked::Damaged(error.to_string()),
        })
    }

    fn content(&self, root: &RootDir, mtimes: Mtimes) -> Result<ContentId, TreeError> {
        let read = ReadOptions { format: Format::Overlay(self.xattrs), xattrs: XattrFilter::Portable };
        content_of(
            Walk::new(root.dir(), read)?,
            ContentOptions { mtimes, owners: true },
            Threads::available(),
        )
    }

    /// Trees of earlier forges may have changed since: before one leaves the store it is checked.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a tree that is not what it was; it is dropped.
    pub fn check_before_export(&self, layer: &Layer) -> Result<(), StoreError> {
        if self.is_fresh(&layer.id) {
            return Ok(());
        }
        match self.check_tree(&layer.id)? {
            Checked::Damaged(detail) => {
                self.drop_tree(&layer.id)?;
                let detail = format!("{detail}; it was dropped and will be made anew");
                Err(StoreError::Corrupt { object: format!("layer {}", layer.id.hex()), detail })
            }
            Checked::Whole | Checked::Unknown => {
                self.note_fresh(&layer.id);
                Ok(())
            }
        }
    }

    /// Drops every tree that cannot be shown to be what it was: for an index that was made anew.
    pub(crate) fn forget_doubtful(&self) -> Result<(), StoreError> {
        let rows = self.index.rows("SELECT layer FROM trees", [], |row| row.get::<_, String>(0))?;
        for id in rows.iter().filter_map(|hex| LayerId::from_hex(hex)) {
            if self.check_tree(&id)? != Checked::Whole {
                self.drop_tree(&id)?;
            }
        }
        Ok(())
    }

    /// Drops a tree; the layer's blobs stay.
    pub(crate) fn drop_tree(&self, id: &LayerId) -> Result<(), StoreError> {
        let _lock = self.lock(id)?;
        self.held().remove(id);
        self.index.execute(Table::Trees.delete(), [id.hex()])?;
        let draft = self.session.with(|session| session.draft())?;
        let aside = draft.tree().join("damaged");
        match std::fs::rename(self.path(id), &aside) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => {
                other.at("move away", &self.path(id)).and_then(|()| remove_tree(&aside).at("remove", &aside))
            }
        }
    }
}

fn text(mtimes: Mtimes) -> String {
    match mtimes {
        Mtimes::Ignore => "ignore".into(),
        Mtimes::OutsideWindow { from, to } => {
            format!("outside {} {} {} {}", from.sec, from.nsec, to.sec, to.nsec)
        }
    }
}

fn parse(text: &str) -> Option<Mtimes> {
    if text == "ignore" {
        return Some(Mtimes::Ignore);
    }
    let numbers: Vec<i64> =
        text.strip_prefix("outside ")?.split(' ').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let [from_sec, from_nsec, to_sec, to_nsec] = numbers.try_into().ok()?;
    let time = |sec, nsec| Some(Mtime { sec, nsec: u32::try_from(nsec).ok()? });
    Some(Mtimes::OutsideWindow { from: time(from_sec, from_nsec)?, to: time(to_sec, to_nsec)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seals_read_back_what_they_wrote() {
        let window = Mtimes::OutsideWindow {
            from: Mtime { sec: -1, nsec: 999_999_999 },
            to: Mtime { sec: 7, nsec: 0 },
        };
        for mtimes in [Mtimes::Ignore, EVERY_TIME, window] {
            assert_eq!(parse(&text(mtimes)), Some(mtimes));
        }
        for bad in ["", "outside", "outside 1 2 3", "outside 1 -2 3 4", "outside 1 2 3 4 5"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
