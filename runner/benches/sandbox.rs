//! What a sandbox costs: medians of start to end for a static `true`, beside the fork and exec of the same program,
//! with each kind of network, and with many layers.
//!
//! ```text
//! cargo bench -p forge-runner --bench sandbox [-- subids]
//! ```
//!
//! Needs busybox-static and, without `subids`, root.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program, not a library")]

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio as Streams};
use std::time::{Duration, Instant};

use forge_runner::network::{Lease, Networks, Options};
use forge_runner::spec::{Network, OverlayXattrs, Rootfs, SandboxSpec, Upper};
use forge_runner::userns::{self, Mapping, Subids};
use forge_runner::{Cgroup, Exit, Job, Stdio, Zygote, serve_if_zygote};

const ROUNDS: usize = 60;
const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
const BUSYBOX: &str = "/bin/busybox";

fn main() -> ExitCode {
    if let Some(code) = serve_if_zygote(std::env::args_os().next().as_deref()) {
        return code;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let user = std::env::args().any(|argument| argument == "subids");
    if user {
        userns::enter(&Mapping::Subids(Subids::of_this_user(SEARCH_PATH)?))?;
    }
    // In memory: after many deletions ext4 looks for a free inode for a long time, and would be what is measured.
    let directory = tempfile::tempdir_in("/dev/shm")?;
    let mut bench = Bench::new(directory.path(), user)?;
    let floor = median(ROUNDS, || bench.fork_and_exec())?;
    report("fork and exec of `true`", floor, Duration::ZERO);
    for (name, network, cgroup) in [
        ("host network", Network::Host, false),
        ("host network, cgroup", Network::Host, true),
        ("new namespace, loopback only", Network::None, false),
        ("leased namespace", Network::Default, false),
        ("leased namespace, cgroup", Network::Default, true),
    ] {
        let took = median(ROUNDS, || bench.sandbox(network, cgroup, 1))?;
        report(&format!("sandbox, {name}"), took, floor);
    }
    for layers in [2, 60, 490] {
        let took = median(ROUNDS / 3, || bench.sandbox(Network::Host, false, layers))?;
        report(&format!("sandbox of {layers} layers"), took, floor);
    }
    let start = Instant::now();
    for _ in 0..100 {
        bench.sandbox(Network::Default, true, 4)?;
    }
    println!("{:<44}{:>9.1} ms", "100 sandboxes, 4 layers, leased, cgroup", millis(start.elapsed()));
    Ok(())
}

struct Bench {
    directory: PathBuf,
    zygote: Zygote,
    networks: Networks,
    xattrs: OverlayXattrs,
    drafts: usize,
}

impl Bench {
    fn new(directory: &Path, user: bool) -> Result<Bench, Box<dyn Error>> {
        let bin = directory.join("layers/0/bin");
        fs::create_dir_all(&bin)?;
        fs::copy(BUSYBOX, bin.join("busybox")).map_err(|_| "install busybox-static")?;
        symlink("busybox", bin.join("true"))?;
        for layer in 1..490 {
            fs::create_dir_all(directory.join(format!("layers/{layer}/usr/share/{layer}")))?;
        }
        Ok(Bench {
            directory: directory.to_owned(),
            zygote: Zygote::start(&directory.join("skeleton"))?,
            networks: Networks::new(Options {
                runtime_dir: directory.join("run"),
                search_path: SEARCH_PATH.into(),
                backend: None,
                reach_host: false,
            }),
            xattrs: if user { OverlayXattrs::User } else { OverlayXattrs::Trusted },
            drafts: 0,
        })
    }

    fn fork_and_exec(&mut self) -> Result<Duration, Box<dyn Error>> {
        let start = Instant::now();
        let status =
            Command::new(self.directory.join("layers/0/bin/true")).stdin(Streams::null()).status()?;
        if status.success() { Ok(start.elapsed()) } else { Err("true failed".into()) }
    }

    fn sandbox(&mut self, network: Network, cgroup: bool, layers: usize) -> Result<Duration, Box<dyn Error>> {
        self.drafts += 1;
        let draft = self.directory.join(format!("draft/{}", self.drafts));
        let (upper, work) = (draft.join("upper"), draft.join("work"));
        fs::create_dir_all(&upper)?;
        fs::create_dir_all(&work)?;
        let lowers = (0..layers).rev().map(|layer| self.directory.join(format!("layers/{layer}"))).collect();
        let upper = Some(Upper { upper, work });
        let mut spec =
            SandboxSpec::new(Rootfs::Overlay { lowers, upper, xattrs: self.xattrs }, vec!["true".into()]);
        spec.resolv_conf = Some("nameserver 192.0.2.1\n".into());
        spec.hosts = Some("127.0.0.1 localhost\n".into());

        let start = Instant::now();
        let lease = if network == Network::Default { Some(self.networks.lease()?) } else { None };
        spec.network = lease.as_ref().map_or(network, Lease::network);
        let null = || fs::File::options().read(true).write(true).open("/dev/null");
        let job = Job {
            spec: &spec,
            stdio: Stdio { stdin: null()?.into(), stdout: null()?.into(), stderr: null()?.into() },
            handles: Vec::new(),
            netns: lease.as_ref().and_then(Lease::netns),
            cgroup: if cgroup { Cgroup::create(&spec.limits, None)?.cgroup } else { None },
        };
        let running = self.zygote.spawn(job)?;
        let exit = running.wait()?;
        drop(running);
        let took = start.elapsed();
        if exit == Exit::Code(0) { Ok(took) } else { Err(format!("{exit:?}").into()) }
    }
}

fn median(
    rounds: usize,
    mut once: impl FnMut() -> Result<Duration, Box<dyn Error>>,
) -> Result<Duration, Box<dyn Error>> {
    once()?;
    let mut times = (0..rounds).map(|_| once()).collect::<Result<Vec<_>, _>>()?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn report(name: &str, took: Duration, floor: Duration) {
    println!("{name:<44}{:>9.2} ms   {:>+7.2}", millis(took), millis(took) - millis(floor));
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
