//! Runs one sandbox: its specification as JSON on standard input, its exit code as ours.
//!
//! The tests drive this as a child process, because a test harness is threaded and the sandbox wants its own life;
//! it is also the quickest way to try one by hand. The step's standard input is empty.
//!
//! ```text
//! sandbox DIRECTORY [root|subids|single] [auto|veth|pasta|slirp4netns|host] <spec.json
//! ```
//!
//! `DIRECTORY` receives the empty mount points and the locks of networks. How the step ended is the last line of
//! standard error. The exit code is 125 if the sandbox could not be made, 127 if its program could not be started.

#![allow(clippy::print_stderr, reason = "a program, not a library")]

use std::error::Error;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use forge_runner::network::{Backend, Lease, Networks, Options};
use forge_runner::spec::{Network, SandboxSpec};
use forge_runner::userns::{self, Mapping, Subids};
use forge_runner::{Cgroup, Exit, Job, Stdio, Zygote, serve_if_zygote};

const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

fn main() -> ExitCode {
    if let Some(code) = serve_if_zygote(std::env::args_os().next().as_deref()) {
        return code;
    }
    run().unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(125)
    })
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize| args.get(index).map(String::as_str);
    let directory =
        Path::new(argument(0).ok_or("usage: sandbox DIRECTORY [ISOLATION] [BACKEND] <spec.json")?);
    match argument(1) {
        Some("subids") => userns::enter(&Mapping::Subids(Subids::of_this_user(SEARCH_PATH)?))?,
        Some("single") => userns::enter(&Mapping::Single)?,
        _ => {}
    }
    let mut json = String::new();
    std::io::stdin().read_to_string(&mut json)?;
    let mut spec: SandboxSpec = serde_json::from_str(&json)?;
    let zygote = Zygote::start(&directory.join("skeleton"))?;
    let networks = Networks::new(Options {
        runtime_dir: directory.join("run"),
        search_path: SEARCH_PATH.into(),
        backend: backend(argument(2)),
        reach_host: false,
    });
    let lease = if spec.network == Network::Default { Some(connect(&networks, &mut spec)?) } else { None };
    let job = Job {
        spec: &spec,
        stdio: Stdio {
            stdin: std::fs::File::open("/dev/null")?.into(),
            stdout: std::io::stdout().as_fd().try_clone_to_owned()?,
            stderr: std::io::stderr().as_fd().try_clone_to_owned()?,
        },
        handles: Vec::new(),
        netns: lease.as_ref().and_then(Lease::netns),
        cgroup: Cgroup::create(&spec.limits, spec.cgroup_parent.as_deref())?.cgroup,
    };
    let end = zygote.spawn(job)?.wait();
    Ok(match end {
        Ok(exit) => {
            eprintln!("{exit:?}");
            code_of(exit)
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(127)
        }
    })
}

fn connect<'a>(networks: &'a Networks, spec: &mut SandboxSpec) -> Result<Lease<'a>, Box<dyn Error>> {
    let lease = networks.lease()?;
    eprintln!("{:?}", networks.chosen());
    spec.network = lease.network();
    spec.resolv_conf.get_or_insert_with(|| lease.resolv_conf());
    Ok(lease)
}

fn backend(name: Option<&str>) -> Option<Backend> {
    Some(match name? {
        "veth" => Backend::Veth,
        "pasta" => Backend::Pasta,
        "slirp4netns" => Backend::Slirp4netns,
        "host" => Backend::Host,
        _ => return None,
    })
}

fn code_of(exit: Exit) -> ExitCode {
    ExitCode::from(u8::try_from(exit.code()).unwrap_or(u8::MAX))
}
