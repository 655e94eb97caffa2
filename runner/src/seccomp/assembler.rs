//! Rules into classic BPF: a binary search over the ranges, so that a call costs about seven comparisons, and the
//! kernel's own pass over all numbers when a filter is loaded stays short.

use libc::sock_filter;

use super::table::AUDIT_ARCH;
use super::{Outcome, Rule, Test, Verdict};

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const SECCOMP_RET_ALLOW: u32 = 0x7fff_0000;
const SECCOMP_RET_ERRNO: u32 = 0x0005_0000;

/// Offsets in `struct seccomp_data`. The low half of the first argument comes first on little-endian machines, the
/// only ones supported.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// The whole filter: the native entry point by `rules`, and another one by rules of its own if there are any.
pub(super) fn assemble(rules: &[Rule], other: Option<(u32, &[Rule])>) -> Vec<sock_filter> {
    let mut native = vec![
        instruction(JUMP_EQUAL, 1, 0, AUDIT_ARCH),
        refuse(libc::ENOSYS),
        instruction(LOAD_WORD, 0, 0, NUMBER),
    ];
    native.extend(search(rules));
    let mut program = vec![instruction(LOAD_WORD, 0, 0, ARCHITECTURE)];
    if let Some((architecture, _)) = other {
        let distance = u32::try_from(native.len()).unwrap_or(u32::MAX);
        program.extend([instruction(JUMP_EQUAL, 0, 1, architecture), instruction(JUMP, 0, 0, distance)]);
    }
    program.extend(native);
    if let Some((_, rules)) = other {
        program.push(instruction(LOAD_WORD, 0, 0, NUMBER));
        program.extend(search(rules));
    }
    program
}

fn search(rules: &[Rule]) -> Vec<sock_filter> {
    if let [rule] = rules {
        return decide(rule.verdict);
    }
    let (left, right) = rules.split_at(rules.len() / 2);
    let border = right[0].first;
    let (left, right) = (search(left), search(right));
    // A conditional jump reaches 255 instructions; a plain one reaches any.
    let mut program = match u8::try_from(left.len()) {
        Ok(distance) => vec![instruction(JUMP_AT_LEAST, distance, 0, border)],
        Err(_) => vec![
            instruction(JUMP_AT_LEAST, 0, 1, border),
            instruction(JUMP, 0, 0, u32::try_from(left.len()).unwrap_or(u32::MAX)),
        ],
    };
    program.extend(left);
    program.extend(right);
    program
}

fn decide(verdict: Verdict) -> Vec<sock_filter> {
    match verdict {
        Verdict::Allow => vec![instruction(RETURN, 0, 0, SECCOMP_RET_ALLOW)],
        Verdict::Errno(errno) => vec![refuse(errno)],
        Verdict::Argument(tests) => {
            let mut program = vec![instruction(LOAD_WORD, 0, 0, FIRST_ARGUMENT)];
            for test in tests {
                let (jump, value, outcome) = match *test {
                    Test::Equal(value, outcome) => (JUMP_EQUAL, value, outcome),
                    Test::AnyBit(bits, outcome) => (JUMP_ANY_BIT, bits, outcome),
                    Test::Otherwise(outcome) => {
                        program.push(conclude(outcome));
                        continue;
                    }
                };
                program.extend([instruction(jump, 0, 1, value), conclude(outcome)]);
            }
            program
        }
    }
}

fn conclude(outcome: Outcome) -> sock_filter {
    match outcome {
        Outcome::Allow => instruction(RETURN, 0, 0, SECCOMP_RET_ALLOW),
        Outcome::Deny => refuse(libc::EPERM),
    }
}

fn refuse(errno: i32) -> sock_filter {
    instruction(RETURN, 0, 0, SECCOMP_RET_ERRNO | errno.cast_unsigned())
}

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}
