//! Namespaces to start forge in: a network of its own, so that tests which need fixed ports do not meet; users
//! without the right to namespaces.

use std::process::{Child, Command, Stdio};

use super::{soon, tool, try_tool};

/// A network namespace with loopback only; gone with the value.
pub struct NetNs(Child);

impl NetNs {
    pub fn new() -> Self {
        let child = Command::new("unshare")
            .args(["--net", "sleep", "3600"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{e}; install util-linux"));
        let netns = Self(child);
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let its = format!("/proc/{}/ns/net", netns.0.id());
        soon("a network namespace is there", || std::fs::read_link(&its).is_ok_and(|its| its != own));
        tool(
            &netns.enter()[0],
            &[&netns.enter()[1..], &["ip", "link", "set", "lo", "up"].map(String::from)].concat(),
        );
        netns
    }

    /// The command and its first arguments that start another command in here.
    pub fn enter(&self) -> Vec<String> {
        ["nsenter", "--net", "--target"]
            .map(String::from)
            .into_iter()
            .chain([self.0.id().to_string()])
            .collect()
    }

    /// What a server at a port of loopback answers to `GET /`; empty if there is none.
    pub fn get(&self, port: u16) -> String {
        let script = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port} && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && timeout 5 cat <&3"
        );
        let words = [&self.enter()[1..], &["bash".into(), "-c".into(), script]].concat();
        String::from_utf8_lossy(&try_tool("nsenter", &words).stdout).into_owned()
    }
}

/// A user namespace where every user is itself, and in which no other namespace may be made; gone with the value.
pub struct UserNs(Child);

impl UserNs {
    pub fn without_others() -> Self {
        let child =
            Command::new("unshare").args(["--user", "sleep", "3600"]).stdin(Stdio::null()).spawn().unwrap();
        let userns = Self(child);
        let pid = userns.0.id();
        let own = std::fs::read_link("/proc/self/ns/user").unwrap();
        let its = format!("/proc/{pid}/ns/user");
        soon("a user namespace is there", || std::fs::read_link(&its).is_ok_and(|its| its != own));
        for map in ["uid_map", "gid_map"] {
            std::fs::write(format!("/proc/{pid}/{map}"), "0 0 1000000").unwrap();
        }
        userns
    }

    /// The command and its first arguments that start another command in here.
    pub fn enter(&self) -> Vec<String> {
        let pid = self.0.id().to_string();
        let limit = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
        let words =
            ["nsenter", "--user", "--preserve-credentials", "--target", &pid, "sh", "-c", limit, "sh"];
        words.map(String::from).into()
    }
}

impl Drop for UserNs {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
