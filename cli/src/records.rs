//! The solver's cache records, kept in the store.
//!
//! ```text
//! <key>     {"stack": <stack>, "created_ns": …}      what a vertex gave, under each of its keys
//! <stack>   {"below": <stack>, "layer": {…}}         one layer on a stack, under the stack's own id
//! ```
//!
//! Steps stand on each other, so a record does not list what lies below: a stack is written once, whoever stands on it.
//! Records of earlier forges list all layers (`snapshot`) and are read as they are.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use forge_solver::{CacheKey, Record, Records, TroubleKind, WorldError};
use forge_store::{Layer, Snapshot, StackId, Store};
use serde::{Deserialize, Serialize};

use crate::failure::world_error_of_store;

/// Records of one store.
pub struct StoreRecords<'a> {
    store: &'a Store,
    /// Stacks that the store is known to have.
    stacks: Mutex<HashMap<StackId, Snapshot>>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    stack: String,
    created_ns: i128,
}

#[derive(Serialize, Deserialize)]
struct WrittenStack {
    below: String,
    layer: Layer,
}

impl<'a> StoreRecords<'a> {
    /// Reads nothing yet.
    pub fn of(store: &'a Store) -> Self {
        let nothing = Snapshot::default();
        Self { store, stacks: Mutex::new(HashMap::from([(nothing.id(), nothing)])) }
    }

    fn stacks(&self) -> MutexGuard<'_, HashMap<StackId, Snapshot>> {
        self.stacks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, keys: &[String]) -> Result<Vec<Option<String>>, WorldError> {
        self.store.cache().get_all(keys).map_err(world_error_of_store)
    }

    /// Reads stacks that are not known yet, with all that lies below them. What is missing, or is not what its name
    /// says, stays unknown.
    fn learn(&self, wanted: impl Iterator<Item = StackId>) -> Result<(), WorldError> {
        let mut found: HashMap<StackId, (StackId, Layer)> = HashMap::new();
        let mut asked: Vec<StackId> = wanted.collect();
        loop {
            {
                let known = self.stacks();
                asked.retain(|id| !known.contains_key(id) && !found.contains_key(id));
            }
            asked.sort_unstable();
            asked.dedup();
            if asked.is_empty() {
                break;
            }
            let names: Vec<String> = asked.iter().map(StackId::hex).collect();
            let texts = self.read(&names)?;
            let mut below = Vec::new();
            for (id, text) in asked.drain(..).zip(texts) {
                let stack: Option<WrittenStack> = text.and_then(|text| serde_json::from_str(&text).ok());
                if let Some(stack) = stack
                    && let Some(under) = StackId::from_hex(&stack.below)
                {
                    below.push(under);
                    found.insert(id, (under, stack.layer));
                }
            }
            asked = below;
        }
        self.build(found);
        Ok(())
    }

    /// Puts together what was read, from below.
    fn build(&self, mut found: HashMap<StackId, (StackId, Layer)>) {
        let mut known = self.stacks();
        while let Some(start) = found.keys().next().copied() {
            let mut chain = vec![start];
            // What is taken out cannot be met again: rows that lead in a circle end, too.
            let mut links = Vec::new();
            while let Some(id) = chain.pop()
                && let Some((below, layer)) = found.remove(&id)
            {
                links.push((id, below, layer));
                chain.push(below);
            }
            for (id, below, layer) in links.into_iter().rev() {
                let Some(stack) = known.get(&below).map(|below| below.push(layer)) else { break };
                if stack.id() == id {
                    known.insert(id, stack);
                }
            }
        }
    }

    fn record(&self, text: &str) -> Option<Record> {
        if let Ok(written) = serde_json::from_str::<Written>(text) {
            let snapshot = self.stacks().get(&StackId::from_hex(&written.stack)?)?.clone();
            return Some(Record { snapshot, created_ns: written.created_ns });
        }
        // A record that cannot be read is as good as none: the cache may be deleted at any time.
        serde_json::from_str(text).ok()
    }

    /// Stacks of a snapshot that the store may not have, ready to be written.
    fn unknown(&self, snapshot: &Snapshot) -> Result<Vec<(StackId, Snapshot, String)>, WorldError> {
        let known = self.stacks();
        let mut rows = Vec::new();
        let mut stack = snapshot;
        while let Some((layer, below)) = stack.top()
            && !known.contains_key(&stack.id())
        {
            let written = WrittenStack { below: below.id().hex(), layer: layer.clone() };
            rows.push((stack.id(), stack.clone(), json(&written)?));
            stack = below;
        }
        Ok(rows)
    }
}

fn json(value: &impl Serialize) -> Result<String, WorldError> {
    serde_json::to_string(value)
        .map_err(|e| WorldError::new(TroubleKind::System, format!("cannot write a cache record: {e}")))
}

/// The stack that a record names, if it names one.
fn stack_of(text: &str) -> Option<StackId> {
    StackId::from_hex(&serde_json::from_str::<Written>(text).ok()?.stack)
}

impl Records for StoreRecords<'_> {
    fn get(&self, key: &CacheKey) -> Result<Option<Record>, WorldError> {
        Ok(self.get_all(&[*key])?.pop().flatten())
    }

    fn get_all(&self, keys: &[CacheKey]) -> Result<Vec<Option<Record>>, WorldError> {
        let names: Vec<String> = keys.iter().map(CacheKey::hex).collect();
        let texts = self.read(&names)?;
        self.learn(texts.iter().flatten().filter_map(|text| stack_of(text)))?;
        Ok(texts.iter().map(|text| self.record(text.as_ref()?)).collect())
    }

    fn put(&self, keys: &[CacheKey], record: &Record) -> Result<(), WorldError> {
        let stacks = self.unknown(&record.snapshot)?;
        let written = Written { stack: record.snapshot.id().hex(), created_ns: record.created_ns };
        let text = json(&written)?;
        let mut rows: Vec<(String, String)> =
            stacks.iter().map(|(id, _, text)| (id.hex(), text.clone())).collect();
        rows.extend(keys.iter().map(|key| (key.hex(), text.clone())));
        self.store.cache().put_all(&rows).map_err(world_error_of_store)?;
        self.stacks().extend(stacks.into_iter().map(|(id, stack, _)| (id, stack)));
        Ok(())
    }

    fn lock(&self, key: &CacheKey) -> Result<Box<dyn Any + Send>, WorldError> {
        let lock = self.store.locks().lock(&format!("key-{key}")).map_err(world_error_of_store)?;
        Ok(Box::new(lock))
    }

    fn now_ns(&self) -> i128 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128)
    }
}

#[cfg(test)]
mod tests {
    use forge_store::tree::OverlayXattrs;
    use forge_store::{ContentId, LayerId};

    use super::*;

    fn layer(n: usize) -> Layer {
        Layer::built(LayerId::from_hex(&format!("{n:064x}")).unwrap())
    }

    fn key(n: usize) -> CacheKey {
        let content = ContentId::from_hex(&format!("{n:064x}")).unwrap();
        CacheKey::new(&forge_solver::Op::Scratch, &[forge_solver::InputKey::Content(vec![content])])
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), OverlayXattrs::User).unwrap();
        (dir, store)
    }

    /// A record for each of so many steps on top of each other.
    fn chain(steps: usize) -> Vec<Record> {
        let mut snapshot = Snapshot::default();
        let mut step = |n| {
            snapshot = snapshot.push(layer(n));
            Record { snapshot: snapshot.clone(), created_ns: n as i128 }
        };
        (0..steps).map(&mut step).collect()
    }

    #[test]
    fn what_was_written_is_read_by_another_forge() {
        let (_dir, store) = store();
        let records = chain(50);
        let writer = StoreRecords::of(&store);
        for (n, record) in records.iter().enumerate() {
            writer.put(&[key(n), key(1000 + n)], record).unwrap();
        }
        let reader = StoreRecords::of(&store);
        let keys: Vec<CacheKey> = [7, 49, 99, 1007].map(key).to_vec();
        let found = reader.get_all(&keys).unwrap();
        let wanted = [Some(&records[7]), Some(&records[49]), None, Some(&records[7])];
        assert_eq!(found.iter().map(Option::as_ref).collect::<Vec<_>>(), wanted);
        let size = |n: usize| store.cache().get(&key(n).hex()).unwrap().unwrap().len();
        assert!(size(49) <= size(0) + 1, "a record does not grow with what lies below it");
    }

    #[test]
    fn records_of_earlier_forges_are_read() {
        let (_dir, store) = store();
        let record = chain(3).pop().unwrap();
        store.cache().put(&key(1).hex(), &serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(StoreRecords::of(&store).get(&key(1)).unwrap(), Some(record));
    }

    #[test]
    fn a_record_whose_stack_is_gone_or_is_another_is_none() {
        let (_dir, store) = store();
        let records = chain(3);
        StoreRecords::of(&store).put(&[key(1)], &records[2]).unwrap();
        let [middle, other] = [1, 0].map(|n: usize| records[n].snapshot.id().hex());
        let text = store.cache().get(&middle).unwrap().unwrap();
        for damage in
            [None, Some("nonsense".to_owned()), Some(text.replace(&layer(1).id.hex(), &layer(8).id.hex()))]
        {
            store.cache().remove(&middle).unwrap();
            if let Some(damage) = damage {
                store.cache().put(&middle, &damage).unwrap();
            }
            assert_eq!(StoreRecords::of(&store).get(&key(1)).unwrap(), None);
        }
        // One that leads in a circle, too.
        store.cache().put(&middle, &text.replace(&other, &records[2].snapshot.id().hex())).unwrap();
        assert_eq!(StoreRecords::of(&store).get(&key(1)).unwrap(), None);
        store.cache().put(&middle, &text).unwrap();
        assert_eq!(StoreRecords::of(&store).get(&key(1)).unwrap().as_ref(), Some(&records[2]));
    }
}
