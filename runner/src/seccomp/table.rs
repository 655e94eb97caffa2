//! What the filter refuses, as data.
//!
//! From Docker's default profile with its fourteen capabilities (moby/profiles). Calls that only exist on one
//! architecture stand in its own list.

use super::{Outcome, Rule, Test, Verdict};

/// AUDIT_ARCH_* of the native entry point.
#[cfg(target_arch = "x86_64")]
pub(super) const AUDIT_ARCH: u32 = 0xc000_003e;
/// AUDIT_ARCH_* of the native entry point.
#[cfg(target_arch = "aarch64")]
pub(super) const AUDIT_ARCH: u32 = 0xc000_00b7;

/// `removexattrat`, the newest call of the profile; what comes after is unknown.
const NEWEST: u32 = 466;

/// Calls newer than libc's table; the numbers are the same on every architecture.
const QUOTACTL_FD: libc::c_long = 443;
const SET_MEMPOLICY_HOME_NODE: libc::c_long = 450;
const LSM_GET_SELF_ATTR: libc::c_long = 459;
const LSM_SET_SELF_ATTR: libc::c_long = 460;
const LSM_LIST_MODULES: libc::c_long = 461;

/// Calls so old that libc has forgotten them.
#[cfg(target_arch = "x86_64")]
const CREATE_MODULE: libc::c_long = 174;
#[cfg(target_arch = "x86_64")]
const GET_KERNEL_SYMS: libc::c_long = 177;
#[cfg(target_arch = "x86_64")]
const QUERY_MODULE: libc::c_long = 178;

const DENIED: &[libc::c_long] = &[
    // the kernel and the machine
    libc::SYS_acct,
    libc::SYS_bpf,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_perf_event_open,
    libc::SYS_quotactl,
    QUOTACTL_FD,
    libc::SYS_reboot,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    // keys
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    // namespaces and mounts
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    // memory policy and other processes' memory
    libc::SYS_get_mempolicy,
    libc::SYS_kcmp,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_set_mempolicy,
    SET_MEMPOLICY_HOME_NODE,
    libc::SYS_userfaultfd,
    // ways around path look-up and around this filter
    libc::SYS_fanotify_init,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_open_by_handle_at,
    LSM_GET_SELF_ATTR,
    LSM_LIST_MODULES,
    LSM_SET_SELF_ATTR,
];

#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[libc::c_long] = &[
    libc::SYS__sysctl,
    CREATE_MODULE,
    GET_KERNEL_SYMS,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    QUERY_MODULE,
    libc::SYS_sysfs,
    libc::SYS_uselib,
    libc::SYS_ustat,
];
#[cfg(target_arch = "aarch64")]
const DENIED_HERE: &[libc::c_long] = &[];

const AF_ALG: u32 = 38;
const AF_VSOCK: u32 = 40;
/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;

pub(super) const SOCKET: &[Test] = &[
    Test::Equal(AF_ALG, Outcome::Deny),
    Test::Equal(AF_VSOCK, Outcome::Deny),
    Test::Otherwise(Outcome::Allow),
];
pub(super) const CLONE: &[Test] =
    &[Test::AnyBit(CLONE_NAMESPACES, Outcome::Deny), Test::Otherwise(Outcome::Allow)];
pub(super) const PERSONALITY: &[Test] = &[
    Test::Equal(0, Outcome::Allow),
    Test::Equal(0x8, Outcome::Allow),
    Test::Equal(0x2_0000, Outcome::Allow),
    Test::Equal(0x2_0008, Outcome::Allow),
    Test::Equal(0xffff_ffff, Outcome::Allow),
    Test::Otherwise(Outcome::Deny),
];

/// The verdict on every call number, as ranges in ascending order from 0.
pub(super) fn rules() -> Vec<Rule> {
    let mut special: Vec<(u32, Verdict)> = vec![
        (number(libc::SYS_socket), Verdict::Argument(SOCKET)),
        (number(libc::SYS_clone), Verdict::Argument(CLONE)),
        (number(libc::SYS_personality), Verdict::Argument(PERSONALITY)),
        (number(libc::SYS_clone3), Verdict::Errno(libc::ENOSYS)),
    ];
    special.extend(DENIED.iter().chain(DENIED_HERE).map(|&call| (number(call), Verdict::Errno(libc::EPERM))));
    ranges(special)
}

/// Single calls with their verdicts, and everything between them allowed up to the newest call that is known.
pub(super) fn ranges(mut special: Vec<(u32, Verdict)>) -> Vec<Rule> {
    special.sort_unstable_by_key(|(number, _)| *number);
    let mut rules = vec![Rule { first: 0, verdict: Verdict::Allow }];
    for (number, verdict) in special {
        push(&mut rules, number, verdict);
        push(&mut rules, number + 1, Verdict::Allow);
    }
    push(&mut rules, NEWEST + 1, Verdict::Errno(libc::ENOSYS));
    rules
}

/// Appends a range, merging it with an equal neighbour and dropping an empty one.
fn push(rules: &mut Vec<Rule>, first: u32, verdict: Verdict) {
    if rules.last().is_some_and(|last| last.first == first) {
        rules.pop();
    }
    if rules.last().is_none_or(|last| last.verdict != verdict) {
        rules.push(Rule { first, verdict });
    }
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX - 1)
}
