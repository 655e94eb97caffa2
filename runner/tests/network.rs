//! Build networks. Two network namespaces stand in for the host and for the internet behind it, so that nothing of
//! this machine is touched or depended on.

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use forge_runner::spec::{Network, OverlayXattrs, Rootfs};
use support::{Builder, Lab, run_tool};

/// Answers everybody who says something with the address it comes from.
const SERVER: &str = "import socket\n\
    s = socket.create_server(('0.0.0.0', 7070))\n\
    print('ready', flush=True)\n\
    while True:\n  c, a = s.accept(); c.recv(9); c.sendall(a[0].encode() + b'\\n'); c.close()";

/// Prints what the outside answers. busybox's nc may go on waiting after that; it ends with the step.
const ASK: &str = "(echo | nc -w 10 198.51.100.2 7070 >/answer &) ; i=0
    while [ ! -s /answer -a $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done; cat /answer\n";

/// The table of build networks on a host that did not forward.
const RULES: [&str; 23] = [
    "table inet forge_build {",
    "chain forward {",
    "type filter hook forward priority filter - 5; policy accept;",
    "iifname \"forge*\" oifname \"forge*\" drop",
    "iifname \"forge*\" meta nfproto ipv6 drop",
    "iifname \"forge*\" ct mark set 0x666f7267 accept",
    "oifname \"forge*\" ct state established,related accept",
    "oifname \"forge*\" drop",
    "drop",
    "}",
    "chain input {",
    "type filter hook input priority filter - 5; policy accept;",
    "iifname \"forge*\" ct state established,related accept",
    "iifname \"forgehost*\" meta nfproto ipv4 accept",
    "iifname \"forge*\" meta nfproto ipv4 udp dport 53 accept",
    "iifname \"forge*\" meta nfproto ipv4 tcp dport 53 accept",
    "iifname \"forge*\" drop",
    "}",
    "chain postrouting {",
    "type nat hook postrouting priority srcnat; policy accept;",
    "ct mark 0x666f7267 masquerade",
    "}",
    "}",
];

/// The stand-ins: `host` (198.51.100.1), and `outside` (198.51.100.2) behind it; a server in each, at port 7070.
struct World {
    host: Child,
    outside: Child,
}

impl World {
    fn new() -> World {
        let (host, outside) = (serve(), serve());
        let world = World { host, outside };
        let outside = world.outside.id();
        world.on_host(&format!("ip link add uplink0 type veth peer name eth0 netns {outside}"));
        world.on_host("ip addr add 198.51.100.1/30 dev uplink0");
        world.on_host("ip link set uplink0 up");
        world.on_host("ip link set lo up");
        world.on_host("ip route add default via 198.51.100.2");
        within(outside, "ip addr add 198.51.100.2/30 dev eth0");
        within(outside, "ip link set eth0 up");
        world
    }

    fn on_host(&self, command: &str) -> String {
        within(self.host.id(), command)
    }

    /// A lab whose builder lives on the host.
    fn lab(&self, builder: Builder) -> Lab {
        let mut lab = Lab::new(builder);
        lab.wrapper = vec!["nsenter".into(), format!("--net=/proc/{}/ns/net", self.host.id()), "--".into()];
        lab
    }

    /// What networks could leave behind: rules, forwarding, interfaces.
    fn state(&self) -> [String; 3] {
        let links = self.on_host("ip -o link");
        let names: Vec<&str> = links.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        [self.on_host("nft list ruleset"), self.on_host("cat /proc/sys/net/ipv4/ip_forward"), names.join(" ")]
    }

    /// Waits for what the kernel does in the background.
    #[track_caller]
    fn becomes(&self, wanted: &[String; 3]) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.state() != *wanted && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(self.state(), *wanted);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in [&mut self.host, &mut self.outside] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A server in a new network namespace, which lives as long as it.
fn serve() -> Child {
    let mut child = Command::new("unshare")
        .args(["--net", "python3", "-c", SERVER])
        .stdout(Stdio::piped())
        .spawn()
        .expect("install util-linux");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "install python3");
    child
}

/// Runs a command in the network namespace of a process.
#[track_caller]
fn within(process: u32, command: &str) -> String {
    let namespace = format!("--net=/proc/{process}/ns/net");
    let words: Vec<&str> = [namespace.as_str(), "--"].into_iter().chain(command.split(' ')).collect();
    run_tool("nsenter", &words)
}

#[test]
fn root_reaches_the_outside_but_not_the_host() {
    let world = World::new();
    let before = world.state();
    let lab = world.lab(Builder::Root);
    let mut spec = lab.script(&format!(
        "{ASK}
         gateway=$(ip route | awk '/default/ {{ print $3 }}')
         for address in $gateway 198.51.100.1 127.0.0.1; do echo | timeout 5 nc -w 1 $address 7070; done; true"
    ));
    spec.network = Network::Default;
    assert_eq!(
        lab.run_with(&spec, "veth").success(),
        "198.51.100.1\n",
        "one answer, to a masqueraded caller"
    );
    world.becomes(&before);
    // The server that did not answer is there.
    spec.network = Network::Host;
    spec.args[2] = "echo | timeout 20 nc -w 5 127.0.0.1 7070".into();
    assert_eq!(lab.run(&spec).success(), "127.0.0.1\n");
}

#[test]
fn sandboxes_do_not_see_each_other_and_the_last_one_tidies_up() {
    let world = World::new();
    // A new namespace takes it over from the machine, where other builds may run.
    world.on_host("sysctl -q -w net.ipv4.ip_forward=0");
    let before = world.state();
    let (first, second) = (world.lab(Builder::Root), world.lab(Builder::Root));
    // Both use one runtime directory, as two forge processes of one host do.
    std::os::unix::fs::symlink(first.directory("run"), second.path("run")).unwrap();
    let mut listen = first.script("ip -4 addr show eth0 | grep -o 'inet [0-9.]*' >/address; nc -l -p 7071");
    listen.network = Network::Default;
    let mut listener = first.start(&listen, "veth");
    let address = first.path("upper/address");
    let deadline = Instant::now() + Duration::from_secs(30);
    while fs::read_to_string(&address).unwrap_or_default().is_empty() {
        assert!(Instant::now() < deadline, "the first sandbox starts");
        std::thread::sleep(Duration::from_millis(10));
    }
    let address = fs::read_to_string(&address).unwrap().replace("inet ", "");
    let mut call =
        second.script(&format!("echo hello | nc -w 1 {} 7071 && echo reached; true", address.trim()));
    call.network = Network::Default;
    assert_eq!(second.run_with(&call, "veth").success(), "");
    // What the kernel was told, as nft reads it.
    let rules = world.on_host("nft list table inet forge_build");
    let rules: Vec<&str> = rules.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(rules, RULES, "still in use");
    // A killed forge tidies nothing; the next one does.
    listener.kill().unwrap();
    listener.wait().unwrap();
    assert!(world.on_host("nft list tables").contains("forge_build"));
    assert_eq!(world.on_host("cat /proc/sys/net/ipv4/ip_forward"), "1\n");
    call.args[2] = "true".into();
    second.run_with(&call, "veth").success();
    world.becomes(&before);
}

#[test]
fn a_host_that_forwards_keeps_doing_so() {
    let world = World::new();
    world.on_host("sysctl -q -w net.ipv4.ip_forward=1");
    let before = world.state();
    let lab = world.lab(Builder::Root);
    let mut spec = lab.script(ASK);
    spec.network = Network::Default;
    assert_eq!(lab.run_with(&spec, "veth").success(), "198.51.100.1\n");
    world.becomes(&before);
}

#[test]
fn what_keeps_a_user_from_a_network_is_said() {
    let world = World::new();
    let before = world.state();
    let lab = world.lab(Builder::User);
    let mut spec = lab.script("true");
    spec.network = Network::Default;
    let outcome = lab.run(&spec);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("refused: [(Veth, "), "{outcome:?}");
    let openable = Command::new("runuser")
        .args(["-u", support::USER, "--", "sh", "-c", "exec 3<>/dev/net/tun"])
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success();
    assert!(openable || outcome.stderr.contains("chmod 0666 /dev/net/tun"), "{outcome:?}");
    world.becomes(&before);
}

#[test]
fn helpers_carry_the_traffic_of_a_user_namespace() {
    for (helper, resolver) in [("pasta", "169.254.1.53"), ("slirp4netns", "10.0.2.3")] {
        let world = World::new();
        let before = world.state();
        // A user namespace made by root, who may open the device whatever its mode.
        let mut lab = world.lab(Builder::Root);
        lab.wrapper.extend(["unshare", "--user", "--map-root-user", "--mount"].map(str::to_owned));
        let mut spec = lab.script(&format!("{ASK}cat /etc/resolv.conf"));
        if let Rootfs::Overlay { xattrs, .. } = &mut spec.rootfs {
            *xattrs = OverlayXattrs::User;
        }
        spec.network = Network::Default;
        spec.resolv_conf = None;
        let seen = lab.run_with(&spec, helper).success();
        assert!(seen.starts_with("198.51.100.1\n"), "{helper}: {seen}");
        assert!(seen.ends_with(&format!("nameserver {resolver}\n")), "{helper}: {seen}");
        world.becomes(&before);
    }
}
