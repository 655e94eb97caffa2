//! Reading everything once more: which blobs, layers, records and images are not what they were.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::index::agrees;
use crate::layers::Checked;
use crate::usage::Kind;
use crate::usage::graph::Graph;
use crate::{Digest, LayerId, Store, StoreError, Threads};

/// One thing that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub id: String,
    /// What is wrong.
    pub detail: String,
}

/// What verifying found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Blobs that were read.
    pub blobs: u64,
    /// Trees that were read.
    pub layers: u64,
    /// Trees that there is nothing to compare with.
    pub unknown_layers: u64,
    /// Cache records that were read.
    pub records: u64,
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// Names of images that lack something, with what they lack.
    pub incomplete: Vec<(String, Digest)>,
}

impl Store {
    /// Reads every blob, every tree and every row; with `repair`, drops what is damaged.
    pub fn verify(&self, repair: bool) -> Result<Verified, StoreError> {
        self.index().check()?;
        let mut found = Verified::default();
        let blobs: Vec<Digest> = self.blobs().list()?.into_iter().map(|(digest, _)| digest).collect();
        found.blobs = blobs.len() as u64;
        found.damage = in_parallel(&blobs, |digest| {
            let detail = self.blobs().damage(digest)?;
            Ok(detail.map(|detail| Damage { kind: Kind::Blob, id: digest.hex(), detail }))
        })?;
        self.verify_layers(&mut found)?;
        self.verify_records(&mut found)?;
        found.damage.sort();
        if repair {
            for damage in &found.damage {
                self.drop_damaged(damage)?;
            }
        }
        found.incomplete = self.incomplete_images(&found.damage)?;
        Ok(found)
    }

    fn verify_layers(&self, found: &mut Verified) -> Result<(), StoreError> {
        let rows =
            self.index().rows("SELECT layer FROM trees ORDER BY layer", [], |row| row.get::<_, String>(0))?;
        for id in rows.iter().filter_map(|hex| LayerId::from_hex(hex)) {
            found.layers += 1;
            match self.layers().check_tree(&id)? {
                Checked::Whole => {}
                Checked::Unknown => found.unknown_layers += 1,
                Checked::Damaged(detail) => {
                    found.damage.push(Damage { kind: Kind::Layer, id: id.hex(), detail });
                }
            }
        }
        Ok(())
    }

    fn verify_records(&self, found: &mut Verified) -> Result<(), StoreError> {
        let rows = self.index().rows("SELECT key, record, sum FROM cache", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?))
        })?;
        found.records = rows.len() as u64;
        let damaged = rows.into_iter().filter(|(key, record, sum)| !agrees(*sum, &[key, record]));
        let detail = "it is not what was written";
        found.damage.extend(damaged.map(|(id, ..)| Damage { kind: Kind::Record, id, detail: detail.into() }));
        Ok(())
    }

    fn drop_damaged(&self, damage: &Damage) -> Result<(), StoreError> {
        match damage.kind {
            Kind::Blob => match format!("sha256:{}", damage.id).parse() {
                Ok(digest) => self.blobs().remove(&digest),
                Err(_) => Ok(()),
            },
            Kind::Layer => LayerId::from_hex(&damage.id).map_or(Ok(()), |id| self.layers().drop_tree(&id)),
            _ => self.cache().remove(&damage.id),
        }
    }

    /// Images that lack a blob, or have a damaged one.
    fn incomplete_images(&self, damage: &[Damage]) -> Result<Vec<(String, Digest)>, StoreError> {
        let damaged: BTreeSet<&str> = damage.iter().map(|damage| damage.id.as_str()).collect();
        let mut incomplete = Vec::new();
        for tag in self.tags().list()? {
            for part in Graph::parts_of_image(self, &tag.descriptor.digest) {
                if damaged.contains(part.hex().as_str()) || !self.blobs().contains(&part)? {
                    incomplete.push((tag.name.clone(), part));
                }
            }
        }
        Ok(incomplete)
    }
}

/// Runs `work` over all of these, on all cores; what it gives, in no order.
fn in_parallel<T: Sync, R: Send>(
    all: &[T],
    work: impl Fn(&T) -> Result<Option<R>, StoreError> + Sync,
) -> Result<Vec<R>, StoreError> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let run = || {
        while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(result) = work(one).transpose() else { continue };
            results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(result);
        }
    };
    std::thread::scope(|scope| {
        (1..Threads::available().get().min(all.len().max(1))).for_each(|_| drop(scope.spawn(run)));
        run();
    });
    results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_iter().collect()
}
