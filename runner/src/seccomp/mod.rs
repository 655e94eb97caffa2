//! The seccomp filter: which system calls a step may make.
//!
//! The verdicts are those of Docker's default profile for the default fourteen capabilities, written down the other
//! way round: what is refused ([`table`]). A call newer than the table knows gets ENOSYS, so that a C library falls
//! back to an older one; calls by the 32-bit and x32 entry points get it too, as their numbers mean other calls and
//! their arguments cannot be checked (`socketcall` hides the address family behind a pointer).

mod assembler;
mod table;
#[cfg(target_arch = "x86_64")]
mod table_386;

use libc::sock_filter;

/// A filter ready to be loaded.
#[derive(Debug, Clone)]
pub struct Program(Vec<sock_filter>);

impl Program {
    /// The filter for this machine's architecture.
    #[must_use]
    pub fn compile() -> Program {
        Program(assembler::assemble(&table::rules(), None))
    }

    /// The same, with the 32-bit entry point open to what it may do: for `linux/386`.
    #[must_use]
    pub fn compile_with_386() -> Program {
        #[cfg(target_arch = "x86_64")]
        let other = table_386::rules();
        #[cfg(target_arch = "x86_64")]
        let other = Some((table_386::AUDIT_ARCH, other.as_slice()));
        #[cfg(not(target_arch = "x86_64"))]
        let other = None;
        Program(assembler::assemble(&table::rules(), other))
    }

    /// Its instructions.
    pub(crate) fn instructions(&self) -> &[sock_filter] {
        &self.0
    }
}

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    /// It fails with this error.
    Errno(i32),
    /// It depends on the first argument, of which the kernel looks at the lower 32 bits.
    Argument(&'static [Test]),
}

/// One test of an argument; the first that matches decides, and nothing matching is EPERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Equal(u32, Outcome),
    /// Any of these bits is set.
    AnyBit(u32, Outcome),
    Otherwise(Outcome),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Allow,
    Deny,
}

/// From call number `first` up to the next rule's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    first: u32,
    verdict: Verdict,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would, for the few kinds of instruction that it consists of.
    fn verdict(arch: u32, number: u32, argument: u32) -> u32 {
        verdict_of(&Program::compile(), arch, number, argument)
    }

    fn verdict_of(program: &Program, arch: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut accumulator) = (0_usize, 0_u32);
        loop {
            let sock_filter { code, jt, jf, k } = program.0[at];
            let jump = |condition: bool| usize::from(if condition { jt } else { jf });
            at += 1;
            match u32::from(code) {
                0x20 => {
                    accumulator = match k {
                        0 => number,
                        4 => arch,
                        16 => argument,
                        other => panic!("load from {other}"),
                    }
                }
                0x05 => at += k as usize,
                0x15 => at += jump(accumulator == k),
                0x35 => at += jump(accumulator >= k),
                0x45 => at += jump(accumulator & k != 0),
                0x06 => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn native(number: libc::c_long, argument: u32) -> u32 {
        verdict(table::AUDIT_ARCH, u32::try_from(number).unwrap(), argument)
    }

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0000 | libc::EPERM as u32;
    const ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS as u32;

    #[test]
    fn ordinary_calls_pass_and_dangerous_ones_do_not() {
        for call in [libc::SYS_read, libc::SYS_openat2, libc::SYS_ptrace, libc::SYS_chroot, libc::SYS_mknodat]
        {
            assert_eq!(native(call, 0), ALLOW, "{call}");
        }
        for call in [
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_keyctl,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_open_by_handle_at,
            libc::SYS_move_mount,
            libc::SYS_mount_setattr,
            libc::SYS_kexec_load,
        ] {
            assert_eq!(native(call, 0), EPERM, "{call}");
        }
    }

    #[test]
    fn arguments_decide_where_they_should() {
        assert_eq!(native(libc::SYS_socket, 2), ALLOW, "AF_INET");
        assert_eq!(native(libc::SYS_socket, 38), EPERM, "AF_ALG");
        assert_eq!(native(libc::SYS_socket, 40), EPERM, "AF_VSOCK");
        assert_eq!(native(libc::SYS_clone, 0x0001_0f00), ALLOW, "a thread");
        assert_eq!(native(libc::SYS_clone, 0x1000_0000), EPERM, "a user namespace");
        assert_eq!(native(libc::SYS_personality, 0x0002_0008), ALLOW);
        assert_eq!(native(libc::SYS_personality, 0x0040_0000), EPERM, "ADDR_NO_RANDOMIZE");
    }

    #[test]
    fn calls_with_an_older_stand_in_do_not_exist() {
        assert_eq!(native(libc::SYS_clone3, 0), ENOSYS);
        assert_eq!(native(10_000, 0), ENOSYS);
        assert_eq!(verdict(table::AUDIT_ARCH, 0x4000_0001, 0), ENOSYS, "x32");
        assert_eq!(verdict(0x4000_0003, 1, 0), ENOSYS, "i386");
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_32_bit_entry_point_has_the_same_verdicts_where_it_is_open() {
        let program = Program::compile_with_386();
        let verdict = |number, argument| verdict_of(&program, 0x4000_0003, number, argument);
        for (call, name) in
            [(1, "exit"), (5, "open"), (11, "execve"), (102, "socketcall"), (123, "modify_ldt")]
        {
            assert_eq!(verdict(call, 0), ALLOW, "{name}");
        }
        for (call, name) in
            [(21, "mount"), (310, "unshare"), (357, "bpf"), (288, "keyctl"), (425, "io_uring_setup")]
        {
            assert_eq!(verdict(call, 0), EPERM, "{name}");
        }
        assert_eq!(verdict(359, 38), EPERM, "socket of AF_ALG");
        assert_eq!(verdict(120, 0x1000_0000), EPERM, "clone of a user namespace");
        assert_eq!((verdict(435, 0), verdict(10_000, 0)), (ENOSYS, ENOSYS));
        let native =
            |call: libc::c_long| verdict_of(&program, table::AUDIT_ARCH, u32::try_from(call).unwrap(), 0);
        assert_eq!((native(libc::SYS_read), native(libc::SYS_mount)), (ALLOW, EPERM));
    }
}
