//! The guards around a step, by name, so that a test can ask what happens without one.
//!
//! A test of an attack proves something once the attack was seen to succeed. So `runner/unguarded` compiles these
//! same sources once more, for tests alone, and there each guard can be left out. Here all of them stand: the question
//! is a constant, and nothing of it is left in the program.

/// What stands between a step and the machine. The name says what holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Guard {
    /// Paths of an image's tree are resolved inside it, and no link is followed where something is made.
    InRoot,
    /// What is missing of a path is made below the directory that was looked up, not by the path once more.
    ByDescriptor,
    /// /proc, /sys and /dev are ordinary directories of the image, or the step is refused.
    OrdinaryDirectories,
    /// /dev is a file system of forge's own, with nodes of the machine; masks come from the machine's /dev/null.
    OwnDev,
    /// /sys is a read-only file system of the step's own namespaces.
    OwnSys,
    /// Files of the kernel are hidden or read-only.
    Masks,
    /// Device nodes are dead on every mount.
    Nodev,
    /// System calls have verdicts.
    Seccomp,
    /// Landlock keeps the step from abstract sockets and processes outside, where the kernel has it.
    Scope,
    /// The step has few capabilities, and can get no others.
    Capabilities,
    /// No capability is inheritable.
    NotInheritable,
    /// The supplementary groups are those of USER.
    ExactGroups,
    /// Ids are numbers of 31 bits, or refused.
    ExactIds,
    /// Processes of forge that a step can see can be neither read nor traced.
    NotDumpable,
    /// Descriptors beyond the standard ones are closed.
    ClosedDescriptors,
    /// The working directory lies in the root.
    DirectoryInside,
    /// forge's own program cannot be written through a process that runs it.
    SealedProgram,
    /// `source` of a cache is resolved inside the cache, once.
    InCache,
}

#[cfg(not(feature = "unguarded"))]
mod standing {
    use super::Guard;

    impl Guard {
        /// Whether it stands: it does.
        pub(crate) const fn holds(self) -> bool {
            true
        }
    }

    /// Between the look at a path and its use: where a race is lost. Nothing happens here.
    pub(crate) const fn meanwhile() {}

    /// Tells a helper process which guards are left out: none.
    pub(crate) const fn hand_on(_helper: &mut std::process::Command) {}

    /// The number that a careless reader would see.
    pub(crate) const fn careless_number(_text: &str) -> Option<u32> {
        None
    }
}

#[cfg(not(feature = "unguarded"))]
pub(crate) use standing::{careless_number, hand_on, meanwhile};

#[cfg(feature = "unguarded")]
#[path = "../unguarded/left_out.rs"]
mod left_out;

#[cfg(feature = "unguarded")]
pub(crate) use left_out::{careless_number, hand_on, meanwhile};
