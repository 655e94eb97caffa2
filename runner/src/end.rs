//! How a RUN ended, and what that means for the build.

use forge_solver::op::RunOp;
use forge_solver::{TroubleKind, WorldError};

use crate::Exit;

/// How a step went.
pub(crate) struct End {
    pub(crate) exit: Exit,
    /// Its limit on processes, if it met it.
    pub(crate) out_of_pids: Option<u64>,
    /// The last of its output.
    pub(crate) output: Vec<u8>,
}

/// What a step's end means for the build.
pub(crate) fn judge(End { exit, out_of_pids, output }: End, op: &RunOp) -> Result<(), WorldError> {
    if exit == Exit::Code(0) {
        return Ok(());
    }
    let code = exit.code();
    let mut how = format!("exit code: {code}");
    let mut hint = None;
    match exit {
        Exit::OutOfMemory { limit_bytes, .. } => {
            how.push_str(&format!(" (out of memory: its limit is {limit_bytes} bytes)"));
            hint = Some("give it more with --memory, or let it need less".to_owned());
        }
        Exit::Signal(signal) => how.push_str(&format!(" (killed by signal {signal})")),
        Exit::Code(_) => {}
    }
    if let Some(limit) = out_of_pids {
        how.push_str(&format!(" (it reached its limit of {limit} processes)"));
        hint = Some("give it more with --resource pids=N".to_owned());
    }
    if exit == Exit::Signal(libc::SIGKILL) {
        hint = Some("if nobody killed it, the machine ran out of memory: see dmesg".to_owned());
    }
    let message = format!("process {:?} did not complete successfully: {how}", op.args.join(" "));
    Err(WorldError { output, hint, ..WorldError::new(TroubleKind::Command(code), message) })
}
