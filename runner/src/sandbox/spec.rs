//! [`SandboxSpec`]: one sandbox as plain data.
//!
//! Paths on the host are absolute: the process that opens them has its own working directory.
//!
//! A pure plan makes it, [`super::init`] carries it out. It holds no descriptor, clock or handle, so it can be
//! written to a file, compared with a golden one, and sent to another process. What needs a descriptor (standard
//! streams, mount sources held open) travels beside it in [`crate::Job`] and is named here by number.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::capabilities::Capabilities;

/// The host name BuildKit gives to build containers; forge keeps it.
pub const DEFAULT_HOSTNAME: &str = "buildkitsandbox";
/// The size of /dev/shm, in bytes.
pub const DEFAULT_SHM_SIZE_BYTES: u64 = 64 << 20;
/// How many processes and threads a step may have at once.
pub const DEFAULT_PIDS_MAX: u64 = 16_384;
/// The search path of a process whose environment has no PATH.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything a sandbox is, apart from its descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxSpec {
    /// The tree that becomes `/`.
    pub rootfs: Rootfs,
    /// The program and its arguments; a program without a slash is looked for in the PATH of `env`.
    pub args: Vec<String>,
    /// The whole environment, as `NAME=value`.
    pub env: Vec<String>,
    /// The working directory, absolute in the rootfs; it must exist.
    pub cwd: String,
    /// Who the process is.
    pub user: User,
    /// The UTS host name.
    pub hostname: String,
    /// Which network it sees.
    pub network: Network,
    /// Further mounts, in the order in which they are made.
    pub mounts: Vec<Mount>,
    /// What /etc/resolv.conf says; `None` leaves the image's.
    pub resolv_conf: Option<String>,
    /// What /etc/hosts says; `None` leaves the image's.
    pub hosts: Option<String>,
    /// Size of /dev/shm in bytes.
    pub shm_size_bytes: u64,
    /// Resource limits that replace the default ones of the same name.
    pub rlimits: Vec<Rlimit>,
    /// Bounds that the sandbox's cgroup enforces.
    pub limits: Limits,
    /// The cgroup to make the sandbox's own one under: from the root of each hierarchy if it begins with a slash,
    /// else from forge's own.
    pub cgroup_parent: Option<String>,
    /// What the process may do.
    pub security: Security,
    /// Device nodes of the host that appear in /dev beside the default six.
    pub devices: Vec<Device>,
    /// The standard streams are a terminal made inside, instead of those that the caller hands in; it is the
    /// controlling one, and the caller gets its other end ([`crate::Running::terminal`]).
    pub terminal: bool,
}

impl SandboxSpec {
    /// A sandbox with every default: root, `/`, no network, the default hardening, nothing mounted.
    #[must_use]
    pub fn new(rootfs: Rootfs, args: Vec<String>) -> SandboxSpec {
        SandboxSpec {
            rootfs,
            args,
            env: vec![format!("PATH={DEFAULT_PATH}")],
            cwd: "/".into(),
            user: User::default(),
            hostname: DEFAULT_HOSTNAME.into(),
            network: Network::None,
            mounts: Vec::new(),
            resolv_conf: None,
            hosts: None,
            shm_size_bytes: DEFAULT_SHM_SIZE_BYTES,
            rlimits: Vec::new(),
            limits: Limits::default(),
            cgroup_parent: None,
            security: Security::sandbox(),
            devices: Vec::new(),
            terminal: false,
        }
    }
}

/// Where `/` comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Rootfs {
    /// An overlay mount made for this sandbox alone.
    Overlay {
        /// Read-only layer trees, the topmost first; may be empty.
        lowers: Vec<PathBuf>,
        /// Where writes go; `None` gives a read-only root.
        upper: Option<Upper>,
        /// Which extended attributes mark opaque directories.
        xattrs: OverlayXattrs,
    },
    /// A directory, used as it is. Mount points that it lacks are made, and removed when the sandbox ends.
    Directory {
        /// The directory on the host.
        path: PathBuf,
        /// Whether nothing in it may be written.
        read_only: bool,
    },
    /// A directory as another program's mount namespace shows it, and otherwise used as [`Rootfs::Directory`] is.
    Mounted {
        /// The directory there.
        path: PathBuf,
        /// The program's process id.
        program: u32,
    },
    /// A directory that becomes the root by `chroot(2)`: no namespace is made and nothing is mounted. What the spec
    /// mounts is laid into it, and taken out again when the sandbox ends.
    Chroot {
        /// The directory on the host; nobody else uses it meanwhile.
        path: PathBuf,
        /// An empty directory of the same file system, for what is covered.
        aside: PathBuf,
    },
}

impl Rootfs {
    /// Whether the sandbox has namespaces of its own.
    #[must_use]
    pub const fn has_namespaces(&self) -> bool {
        !matches!(self, Rootfs::Chroot { .. })
    }
}

/// The writable part of an overlay: two directories of one file system that no other mount uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upper {
    /// Receives the changes.
    pub upper: PathBuf,
    /// Overlay's scratch space, empty at the start.
    pub work: PathBuf,
}

/// The namespace of overlay's own extended attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlayXattrs {
    /// `trusted.overlay.*`: needs root in the initial user namespace.
    Trusted,
    /// `user.overlay.*`: for user namespaces.
    User,
}

/// Who the process is. A missing HOME is added to the environment from the image's passwd file, as runc does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum User {
    /// Numbers that are already known.
    Ids {
        /// User id.
        uid: u32,
        /// Primary group id.
        gid: u32,
        /// Supplementary groups; exactly these are set.
        groups: Vec<u32>,
    },
    /// What `USER` says, looked up in the mounted rootfs by the rules of [`crate::user`].
    Named(String),
}

impl Default for User {
    fn default() -> User {
        User::Ids { uid: 0, gid: 0, groups: vec![0] }
    }
}

/// Which network the process sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// An own namespace with a way out; the caller hands in a prepared one.
    Default,
    /// An own namespace with loopback only.
    None,
    /// The host's.
    Host,
}

/// One further mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Where, absolute in the rootfs; symbolic links are followed inside it. Made if missing, and never left in the
    /// layer.
    pub target: String,
    /// What.
    pub source: MountSource,
    /// Whether it may be written.
    pub read_only: bool,
}

/// What a [`Mount`] shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum MountSource {
    /// A file or directory that the caller holds open: the n-th of [`crate::Job::handles`], made by
    /// [`crate::detach`]. The way to mount what an untrusted process could move.
    Handle(usize),
    /// A file or directory of the host by its path, which nobody untrusted can change.
    Path(PathBuf),
    /// A new, empty tmpfs.
    Tmpfs {
        /// Its size in bytes; `None` is the kernel's default, half of the memory.
        size_bytes: Option<u64>,
        /// Permission bits of its root.
        mode: u32,
    },
    /// A file with these contents.
    File {
        /// The contents.
        bytes: Vec<u8>,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// One resource limit. Raising a hard limit may be refused; the process then keeps what it had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// The name as Docker's `--ulimit` spells it: `nofile`, `core`, …
    pub name: String,
    /// Soft limit; `None` is unlimited.
    pub soft: Option<u64>,
    /// Hard limit; `None` is unlimited.
    pub hard: Option<u64>,
}

/// Bounds for everything in the sandbox together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Swap beside a bound on memory; `None` is as much as there is memory.
    pub swap: Option<Swap>,
    /// Processor time, in thousandths of one CPU.
    pub cpu_millis: Option<u64>,
    /// Weight against other cgroups, 2 to 262144; 1024 is what others have.
    pub cpu_shares: Option<u64>,
    /// Length of the period that a quota is for, in microseconds.
    pub cpu_period_us: Option<u64>,
    /// Processor time in each period, in microseconds; instead of `cpu_millis`.
    pub cpu_quota_us: Option<u64>,
    /// The processors, as `0-2,5`.
    pub cpuset_cpus: Option<String>,
    /// The memory nodes.
    pub cpuset_mems: Option<String>,
    /// Processes and threads; `None` is no bound.
    pub pids: Option<u64>,
}

/// How much swap may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Swap {
    /// As much as the host has.
    Unlimited,
    /// So that memory and swap together have this many bytes.
    Total(u64),
}

impl Limits {
    /// No bound at all.
    #[must_use]
    pub const fn none() -> Limits {
        Limits {
            memory_bytes: None,
            swap: None,
            cpu_millis: None,
            cpu_shares: None,
            cpu_period_us: None,
            cpu_quota_us: None,
            cpuset_cpus: None,
            cpuset_mems: None,
            pids: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { pids: Some(DEFAULT_PIDS_MAX), ..Limits::none() }
    }
}

/// What the process may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// The bounding set, and for uid 0 the permitted and effective ones.
    pub capabilities: Capabilities,
    /// Also inheritable and ambient, so that a user other than root has them: only for `--security=insecure`.
    pub ambient: bool,
    /// Whether the seccomp filter is loaded.
    pub seccomp: bool,
    /// Whether that lets the 32-bit entry point of x86 be used: for programs of `linux/386`.
    pub entry_386: bool,
    /// Whether set-uid programs lose their power.
    pub no_new_privs: bool,
    /// Whether dangerous files below /proc and /sys are hidden or read-only, and device nodes dead but for the few
    /// that are bound in.
    pub confined: bool,
}

impl Security {
    /// The default: Docker's fourteen capabilities, seccomp, masks.
    #[must_use]
    pub const fn sandbox() -> Security {
        Security {
            capabilities: Capabilities::DEFAULT,
            ambient: false,
            seccomp: true,
            entry_386: false,
            no_new_privs: false,
            confined: true,
        }
    }

    /// `--hardened`: podman's eleven capabilities and no_new_privs.
    #[must_use]
    pub const fn hardened() -> Security {
        Security { capabilities: Capabilities::HARDENED, no_new_privs: true, ..Security::sandbox() }
    }

    /// `--security=insecure`: every capability, no filter, no masks.
    #[must_use]
    pub const fn insecure() -> Security {
        Security {
            capabilities: Capabilities::ALL,
            ambient: true,
            seccomp: false,
            entry_386: false,
            no_new_privs: false,
            confined: false,
        }
    }
}

/// A device node of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its path on the host.
    pub host: PathBuf,
    /// Where it appears, absolute, below /dev.
    pub target: String,
}
