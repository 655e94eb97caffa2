//! How many threads a piece of work may use. Never changes what comes out of it.

use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::thread::available_parallelism;

/// From one to [`Threads::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads(usize);

impl Threads {
    /// More do not help: the thread that feeds the others is then the slowest.
    pub const MAX: usize = 16;

    /// One for each core that this process may use.
    pub fn available() -> Self {
        // Asking reads several files of the control group each time.
        static AVAILABLE: OnceLock<NonZeroUsize> = OnceLock::new();
        Self::new(*AVAILABLE.get_or_init(|| available_parallelism().unwrap_or(NonZeroUsize::MIN)))
    }

    /// As many, but at most [`Threads::MAX`].
    pub fn new(count: NonZeroUsize) -> Self {
        Self(count.get().min(Self::MAX))
    }

    /// The number.
    pub fn get(self) -> usize {
        self.0
    }
}

impl Default for Threads {
    fn default() -> Self {
        Self::available()
    }
}
