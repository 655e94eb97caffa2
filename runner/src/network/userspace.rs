//! The network of an ordinary user: a program that opens a tap device in the namespace and carries its packets as
//! ordinary sockets of the host. The host's loopback is out of reach, and no port is forwarded inwards.

use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::NetworkError;
use super::namespace::Bare;
use super::resolv_conf::Forwarder;
use crate::userns::find_program;

const NAMESPACE: &str = "/proc/self/fd/0";
const TUN: &str = "/dev/net/tun";
/// How long a helper may take to configure the namespace.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);
/// Where pasta is told to take queries for the host's resolver; nothing else lives at this link-local address.
const PASTA_DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 53);
/// Where slirp4netns takes them, always.
const SLIRP_DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// The programs that can do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Pasta,
    Slirp4netns,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Program::Pasta => "pasta",
            Program::Slirp4netns => "slirp4netns",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Program::Pasta => "passt",
            Program::Slirp4netns => "slirp4netns",
        }
    }

    /// The namespace is the program's standard input: it may open its own descriptors by path, but not ours.
    fn arguments(self) -> Vec<String> {
        let dns = PASTA_DNS.to_string();
        let words: Vec<&str> = match self {
            Program::Pasta => vec![
                "--foreground",
                "--quiet",
                "--config-net",
                "--ipv4-only",
                "--no-map-gw",
                "--netns-only",
                "--dns-forward",
                &dns,
                "-t",
                "none",
                "-u",
                "none",
                "-T",
                "none",
                "-U",
                "none",
                "-I",
                "eth0",
                "--netns",
                NAMESPACE,
            ],
            Program::Slirp4netns => vec![
                "--configure",
                "--disable-host-loopback",
                "--mtu=65520",
                "--netns-type=path",
                NAMESPACE,
                "eth0",
            ],
        };
        words.into_iter().map(str::to_owned).collect()
    }
}

/// A running helper; ended when dropped, and by the kernel when forge dies.
#[derive(Debug)]
pub(super) struct Helper {
    program: Program,
    stop: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Helper {
    /// Starts `program` for `namespace` and waits until there is a route to the outside.
    pub(super) fn start(
        program: Program,
        namespace: &Bare,
        search_path: &str,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Helper, NetworkError> {
        let path = find_program(program.name(), search_path).ok_or_else(|| NetworkError::NoProgram {
            program: program.name(),
            search_path: search_path.to_owned(),
            package: program.package(),
        })?;
        File::options().read(true).write(true).open(TUN).map_err(|error| NetworkError::Unusable {
            path: TUN.into(),
            error,
            remedy: "as root: modprobe tun; chmod 0666 /dev/net/tun",
        })?;
        let inherited =
            namespace.descriptor.try_clone().map_err(NetworkError::kernel("pass network namespace on"))?;
        let (helper, failure) = Helper::keep(program, path, inherited);
        let deadline = Instant::now() + PATIENCE;
        while !namespace.has_route() {
            if let Ok(message) = failure.try_recv() {
                return Err(NetworkError::Program { program: program.name(), message });
            }
            if Instant::now() > deadline || !is_wanted() {
                let message = format!("no route after {} s", PATIENCE.as_secs());
                return Err(NetworkError::Program { program: program.name(), message });
            }
            std::thread::sleep(PAUSE);
        }
        Ok(helper)
    }

    /// Runs the program from a thread that lives as long as the helper: the kernel ends the program when the thread
    /// that started it is gone, which covers a killed forge.
    fn keep(
        program: Program,
        path: PathBuf,
        namespace: OwnedFd,
    ) -> (Helper, std::sync::mpsc::Receiver<String>) {
        let (stop, stopped) = channel::<()>();
        let (tell, failure) = channel();
        let keeper = std::thread::spawn(move || {
            let mut command = Command::new(path);
            command.args(program.arguments()).stdin(namespace).stdout(Stdio::null()).stderr(Stdio::piped());
            crate::sys::die_with_this_thread(&mut command);
            match command.spawn() {
                Ok(mut child) => wait_for_either(&mut child, &stopped, &tell),
                Err(error) => drop(tell.send(error.to_string())),
            }
        });
        (Helper { program, stop: Some(stop), keeper: Some(keeper) }, failure)
    }

    /// Has it ended, without waiting for that.
    pub(super) fn let_go(&mut self) {
        drop(self.stop.take());
    }

    /// Where the namespace reaches the host's resolver.
    pub(super) fn forwarder(&self) -> Forwarder {
        match self.program {
            Program::Pasta => Forwarder(PASTA_DNS),
            Program::Slirp4netns => Forwarder(SLIRP_DNS),
        }
    }
}

/// Until we are told to stop, or the program ends by itself, which is a failure.
fn wait_for_either(child: &mut Child, stopped: &std::sync::mpsc::Receiver<()>, tell: &Sender<String>) {
    const CHECK: Duration = Duration::from_millis(20);
    while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(CHECK) {
        if let Ok(Some(status)) = child.try_wait() {
            let mut message = String::new();
            if let Some(stderr) = &mut child.stderr {
                let _ = stderr.read_to_string(&mut message);
            }
            let _ = tell.send(format!("{status}: {}", message.trim()));
            return;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.let_go();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}
