//! The solver's cache records, kept in the store.

use std::any::Any;
use std::time::{SystemTime, UNIX_EPOCH};

use forge_solver::{CacheKey, Record, Records, TroubleKind, WorldError};
use forge_store::Store;

use crate::failure::world_error_of_store;

/// Records of one store.
pub struct StoreRecords<'a>(pub &'a Store);

impl Records for StoreRecords<'_> {
    fn get(&self, key: &CacheKey) -> Result<Option<Record>, WorldError> {
        let text = self.0.cache().get(&key.hex()).map_err(world_error_of_store)?;
        // A record that cannot be read is as good as none: the cache may be deleted at any time.
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    fn put(&self, key: &CacheKey, record: &Record) -> Result<(), WorldError> {
        let text = serde_json::to_string(record)
            .map_err(|e| WorldError::new(TroubleKind::System, format!("cannot write a cache record: {e}")))?;
        self.0.cache().put(&key.hex(), &text).map_err(world_error_of_store)
    }

    fn lock(&self, key: &CacheKey) -> Result<Box<dyn Any + Send>, WorldError> {
        let lock = self.0.locks().lock(&format!("key-{key}")).map_err(world_error_of_store)?;
        Ok(Box::new(lock))
    }

    fn now_ns(&self) -> i128 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128)
    }
}
