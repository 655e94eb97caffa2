//! What happens, for whoever draws it. Everything long emits these; only the command line prints.

use std::time::Duration;

use crate::VertexId;

/// A line of progress: a vertex, or something that is done for the build as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepId {
    /// A vertex of the graph.
    Vertex(VertexId),
    /// Loading, resolving, exporting: numbered by whoever starts it.
    Internal(u32),
}

/// Which stream a line of output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Work on a step began.
    Started {
        /// Which.
        step: StepId,
        /// Its name.
        label: String,
    },
    /// A step's result was at hand.
    Cached {
        /// Which.
        step: StepId,
        /// Its name.
        label: String,
    },
    /// A step said something.
    Output {
        /// Which.
        step: StepId,
        /// Where.
        stream: Stream,
        /// Whole lines or parts of one, as they came.
        bytes: Vec<u8>,
    },
    /// A step remarks something of its own, such as `exporting layers`.
    Note {
        /// Which.
        step: StepId,
        /// The remark.
        text: String,
    },
    /// Why a step that just started was not at hand, though an earlier build had it.
    Missed {
        /// Which.
        step: StepId,
        /// The reason, as `forge explain` says it later.
        reason: String,
    },
    /// Bytes moved.
    Progress {
        /// Which step.
        step: StepId,
        /// What moves, for instance a blob's digest.
        item: String,
        /// Bytes so far.
        done: u64,
        /// Bytes in all, where that is known.
        total: Option<u64>,
    },
    /// A step is done.
    Finished {
        /// Which.
        step: StepId,
        /// How long it took.
        took: Duration,
    },
    /// A step failed.
    Failed {
        /// Which.
        step: StepId,
        /// Why.
        error: String,
    },
    /// A step was stopped because another failed or the user asked.
    Cancelled {
        /// Which.
        step: StepId,
    },
}

/// Takes events from any thread.
pub trait Events: Sync {
    /// Takes one.
    fn emit(&self, event: Event);
}

/// Takes events and forgets them.
pub struct Silent;

impl Events for Silent {
    fn emit(&self, _: Event) {}
}
