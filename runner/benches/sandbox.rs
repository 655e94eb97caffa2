//! What a sandbox costs: start to end of a static `true`, beside the fork and exec of the same program, with each kind
//! of network, and with many layers.
//!
//! ```text
//! [SUBIDS=1] cargo bench -p forge-runner --bench sandbox [-- FILTER]
//! ```
//!
//! Needs busybox-static, and root; or with `SUBIDS`, an ordinary user's subordinate ids.

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio as Streams};
use std::time::{Duration, Instant};

use criterion::{Bencher, Criterion};
use forge_runner::network::{Lease, Networks, Options};
use forge_runner::spec::{Network, OverlayXattrs, Rootfs, SandboxSpec, Upper};
use forge_runner::userns::{self, Mapping, Subids};
use forge_runner::{Cgroup, Exit, Job, Stdio, Zygote, serve_if_zygote};

const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
const BUSYBOX: &str = "/bin/busybox";

fn main() -> ExitCode {
    if let Some(code) = serve_if_zygote(std::env::args_os().next().as_deref()) {
        return code;
    }
    let user = std::env::var_os("SUBIDS").is_some();
    if user {
        let ids = Subids::of_this_user(SEARCH_PATH).expect("subordinate ids");
        userns::enter(&Mapping::Subids(ids)).expect("a user namespace");
    }
    // In memory: after many deletions ext4 looks for a free inode for a long time, and would be what is measured.
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let mut bench = Bench::new(directory.path(), user).expect("a sandbox can be prepared");
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    starts(&mut criterion, &mut bench);
    layers(&mut criterion, &mut bench);
    criterion.final_summary();
    ExitCode::SUCCESS
}

fn starts(criterion: &mut Criterion, bench: &mut Bench) {
    let mut group = criterion.benchmark_group("sandbox");
    group.bench_function("fork and exec alone", |bencher| each(bencher, || bench.fork_and_exec()));
    for (name, network, cgroup) in [
        ("host network", Network::Host, false),
        ("host network, cgroup", Network::Host, true),
        ("new namespace, loopback only", Network::None, false),
        ("leased namespace", Network::Default, false),
        ("leased namespace, cgroup", Network::Default, true),
    ] {
        group.bench_function(name, |bencher| each(bencher, || bench.sandbox(network, cgroup, 1)));
    }
}

fn layers(criterion: &mut Criterion, bench: &mut Bench) {
    let mut group = criterion.benchmark_group("sandbox over a stack");
    for layers in [2, 60, 300, 490] {
        group.bench_function(format!("{layers} layers"), |bencher| {
            each(bencher, || bench.sandbox(Network::Host, false, layers));
        });
    }
}

/// What is measured says itself how long it took: its preparations do not count.
fn each(bencher: &mut Bencher, mut once: impl FnMut() -> Result<Duration, Box<dyn Error>>) {
    bencher.iter_custom(|rounds| (0..rounds).map(|_| once().expect("it ends well")).sum());
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
