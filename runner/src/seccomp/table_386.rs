//! The 32-bit entry point of x86, for steps of `linux/386`: the same verdicts under other numbers.
//!
//! What `socketcall(2)` does is hidden behind a pointer, so address families cannot be told apart there; Docker's
//! profile lets it pass, too. Everyone else is kept from this entry point altogether.

use super::table::{CLONE, PERSONALITY, SOCKET, ranges};
use super::{Rule, Verdict};

/// AUDIT_ARCH_I386.
pub(super) const AUDIT_ARCH: u32 = 0x4000_0003;

/// In the order of the native table.
const DENIED: &[u32] = &[
    // acct, bpf, clock_settime, clock_settime64, stime, delete_module, finit_module, init_module
    51, 357, 264, 404, 25, 129, 350, 128, //
    // kexec_load, lookup_dcookie, nfsservctl, perf_event_open, quotactl, quotactl_fd, reboot
    283, 253, 169, 336, 131, 443, 88, //
    // setdomainname, sethostname, settimeofday, swapoff, swapon, syslog, vhangup
    121, 74, 79, 115, 87, 103, 111, //
    // add_key, keyctl, request_key
    286, 288, 287, //
    // fsconfig, fsmount, fsopen, fspick, mount, mount_setattr, move_mount, open_tree, pivot_root, setns, umount, umount2,
    // unshare
    431, 432, 430, 433, 21, 442, 429, 428, 217, 346, 22, 52, 310, //
    // get_mempolicy, kcmp, mbind, migrate_pages, move_pages, pidfd_getfd, process_madvise, set_mempolicy,
    // set_mempolicy_home_node, userfaultfd
    275, 349, 274, 294, 317, 438, 440, 276, 450, 374, //
    // fanotify_init, io_uring_setup, io_uring_enter, io_uring_register, open_by_handle_at, lsm_*
    338, 425, 426, 427, 342, 459, 460, 461, //
    // _sysctl, create_module, get_kernel_syms, ioperm, iopl, query_module, sysfs, uselib, ustat, vm86old, vm86
    149, 127, 130, 101, 110, 167, 135, 86, 62, 113, 166,
];

const CALL_SOCKET: u32 = 359;
const CALL_CLONE: u32 = 120;
const CALL_PERSONALITY: u32 = 136;
const CALL_CLONE3: u32 = 435;

/// The verdict on every call number, as ranges in ascending order from 0.
pub(super) fn rules() -> Vec<Rule> {
    let mut special: Vec<(u32, Verdict)> = vec![
        (CALL_SOCKET, Verdict::Argument(SOCKET)),
        (CALL_CLONE, Verdict::Argument(CLONE)),
        (CALL_PERSONALITY, Verdict::Argument(PERSONALITY)),
        (CALL_CLONE3, Verdict::Errno(libc::ENOSYS)),
    ];
    special.extend(DENIED.iter().map(|&call| (call, Verdict::Errno(libc::EPERM))));
    ranges(special)
}
