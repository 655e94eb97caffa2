//! Runs one sandbox: its specification as JSON on standard input, its exit code as ours.
//!
//! The tests drive this as a child process, because a test harness is threaded and the sandbox wants its own life;
//! it is also the quickest way to try one by hand. The step's standard input is empty.

#![allow(clippy::print_stderr, reason = "a program, not a library")]

use std::io::Read;
use std::os::fd::AsFd;
use std::process::ExitCode;

use forge_runner::userns::{self, Mapping, Subids};
use forge_runner::{Cgroup, Exit, Job, Stdio, Zygote, serve_if_zygote, spec::SandboxSpec};

fn main() -> ExitCode {
    if let Some(code) = serve_if_zygote(std::env::args_os().next().as_deref()) {
        return code;
    }
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(125)
        }
    }
}

fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let skeleton = args.next().ok_or("usage: sandbox SKELETON-DIR [subids|single] <spec.json")?;
    match args.next().as_deref() {
        Some("subids") => userns::enter(&Mapping::Subids(Subids::of_this_user("/usr/bin:/bin")?))?,
        Some("single") => userns::enter(&Mapping::Single)?,
        _ => {}
    }
    let mut json = String::new();
    std::io::stdin().read_to_string(&mut json)?;
    let spec: SandboxSpec = serde_json::from_str(&json)?;
    let zygote = Zygote::start(skeleton.as_ref())?;
    let stdio = Stdio {
        stdin: std::fs::File::open("/dev/null")?.into(),
        stdout: std::io::stdout().as_fd().try_clone_to_owned()?,
        stderr: std::io::stderr().as_fd().try_clone_to_owned()?,
    };
    let cgroup = Cgroup::create(&spec.limits, spec.cgroup_parent.as_deref())?;
    let job = Job { spec: &spec, stdio, handles: Vec::new(), netns: None, cgroup };
    let exit = zygote.spawn(job)?.wait()?;
    eprintln!("{exit:?}");
    Ok(match exit {
        Exit::Code(code) => ExitCode::from(u8::try_from(code)?),
        Exit::Signal(signal) => ExitCode::from(128 + u8::try_from(signal)?),
        Exit::OutOfMemory { .. } => ExitCode::from(137),
    })
}
