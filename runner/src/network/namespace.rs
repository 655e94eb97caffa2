//! Network namespaces held by descriptor. No name, no bind mount: when forge is gone, so are they.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::OwnedFd;

use super::NetworkError;
use super::resolv_conf::Forwarder;
use super::rtnetlink::Rtnetlink;
use super::userspace::Helper;
use super::veth::Subnet;
use crate::sys;

/// An address that is never ours, to ask the kernel whether there is a route to the outside.
const OUTSIDE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 254), 9);

/// A new namespace with nothing but loopback, and sockets that live in it.
#[derive(Debug)]
pub(super) struct Bare {
    pub(super) descriptor: OwnedFd,
    pub(super) rtnetlink: Rtnetlink,
    probe: UdpSocket,
}

impl Bare {
    /// Makes one. A thread of its own enters it, opens what is needed, and ends: the other threads never leave the
    /// host's.
    pub(super) fn new() -> Result<Bare, NetworkError> {
        let make = || -> io::Result<Bare> {
            sys::unshare(libc::CLONE_NEWNET)?;
            sys::bring_up_loopback()?;
            Ok(Bare {
                descriptor: File::open("/proc/thread-self/ns/net")?.into(),
                rtnetlink: Rtnetlink::open()?,
                probe: UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
            })
        };
        let made = std::thread::spawn(make).join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        made.map_err(NetworkError::kernel("create network namespace"))
    }

    /// Whether a packet to the outside would find a route.
    pub(super) fn has_route(&self) -> bool {
        self.probe.connect(OUTSIDE).is_ok()
    }
}

/// A namespace with a network.
#[derive(Debug)]
pub(super) struct Namespace {
    descriptor: OwnedFd,
    /// What carries its traffic.
    helper: Option<Helper>,
    subnet: Option<Subnet>,
    forwarder: Option<Forwarder>,
}

impl Namespace {
    pub(super) fn with_helper(bare: Bare, helper: Helper) -> Namespace {
        let forwarder = Some(helper.forwarder());
        Namespace { descriptor: bare.descriptor, helper: Some(helper), subnet: None, forwarder }
    }

    pub(super) fn with_subnet(bare: Bare, subnet: Subnet) -> Namespace {
        Namespace { descriptor: bare.descriptor, helper: None, subnet: Some(subnet), forwarder: None }
    }

    /// Nobody will use it any more. To wait for the end of what carries its traffic is left to the drop.
    pub(super) fn let_go(&mut self) {
        if let Some(helper) = &mut self.helper {
            helper.let_go();
        }
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// The host's end of a veth pair; the programs of users hide the host.
    pub(super) fn gateway(&self) -> Option<Ipv4Addr> {
        self.subnet.as_ref().map(Subnet::gateway)
    }

    pub(super) fn forwarder(&self) -> Option<Forwarder> {
        self.forwarder
    }
}
