//! Steps that are no vertices: loading, resolving, exporting.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use forge_solver::{Event, Events, StepId};

/// Numbers internal steps.
#[derive(Debug, Default)]
pub struct Steps(AtomicU32);

impl Steps {
    /// A step that someone else begins and ends.
    pub fn reserve(&self) -> StepId {
        StepId::Internal(self.0.fetch_add(1, Ordering::Relaxed))
    }

    /// Runs `work` as a step of its own, with its beginning and end shown.
    pub fn internal<T, E: std::fmt::Display>(
        &self,
        events: &dyn Events,
        label: impl Into<String>,
        work: impl FnOnce(StepId) -> Result<T, E>,
    ) -> Result<T, E> {
        let step = self.reserve();
        let began = Instant::now();
        events.emit(Event::Started { step, label: label.into() });
        let result = work(step);
        events.emit(match &result {
            Ok(_) => Event::Finished { step, took: began.elapsed() },
            Err(error) => Event::Failed { step, error: error.to_string() },
        });
        result
    }
}
