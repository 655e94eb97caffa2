//! The few rtnetlink(7) requests that a veth pair needs, sent and acknowledged one by one.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::net::netdevice;

use super::netlink::{Message, Socket};

/// linux/veth.h
const VETH_INFO_PEER: u16 = 1;

/// A socket that speaks for the network namespace it was opened in.
#[derive(Debug)]
pub(super) struct Rtnetlink(Socket);

impl Rtnetlink {
    pub(super) fn open() -> io::Result<Rtnetlink> {
        Socket::open(None).map(Rtnetlink)
    }

    /// The index of an interface.
    pub(super) fn index(&self, name: &str) -> io::Result<u32> {
        Ok(netdevice::name_to_index(self.0.descriptor(), name)?)
    }

    /// Makes a veth pair: `name` here, up; `peer` in `namespace`, down.
    pub(super) fn add_veth(
        &self,
        name: &str,
        peer: &str,
        namespace: BorrowedFd<'_>,
        mtu: u32,
    ) -> io::Result<()> {
        let mut request = new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        link(&mut request, 0, libc::IFF_UP);
        request.string(libc::IFLA_IFNAME, name);
        request.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
        request.nested(libc::IFLA_LINKINFO, |info| {
            info.string(libc::IFLA_INFO_KIND, "veth");
            info.nested(libc::IFLA_INFO_DATA, |data| {
                data.nested(VETH_INFO_PEER, |other| {
                    link(other, 0, 0);
                    other.string(libc::IFLA_IFNAME, peer);
                    other.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
                    other.attribute(libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
                });
            });
        });
        self.ask(request)
    }

    /// Sets an interface up.
    pub(super) fn set_up(&self, index: u32) -> io::Result<()> {
        let mut request = new(libc::RTM_NEWLINK, 0);
        link(&mut request, index, libc::IFF_UP);
        self.ask(request)
    }

    /// Gives an interface an address.
    pub(super) fn add_address(&self, index: u32, address: Ipv4Addr, prefix_bits: u8) -> io::Result<()> {
        let mut request = new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        request.fields([libc::AF_INET as u8, prefix_bits, 0, 0]);
        request.fields(index.to_ne_bytes());
        request.attribute(libc::IFA_LOCAL, &address.octets());
        request.attribute(libc::IFA_ADDRESS, &address.octets());
        self.ask(request)
    }

    /// Makes `gateway` the default route.
    pub(super) fn add_default_route(&self, gateway: Ipv4Addr) -> io::Result<()> {
        let mut request = new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        let (any, table, protocol, scope) =
            (0, libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, libc::RT_SCOPE_UNIVERSE);
        request.fields([libc::AF_INET as u8, any, any, 0, table, protocol, scope, libc::RTN_UNICAST]);
        request.fields(0_u32.to_ne_bytes());
        request.attribute(libc::RTA_GATEWAY, &gateway.octets());
        self.ask(request)
    }

    fn ask(&self, request: Message) -> io::Result<()> {
        self.0.ask(&request.finish()).map_err(|refusal| refusal.error)
    }
}

fn new(kind: u16, flags: libc::c_int) -> Message {
    Message::new(kind, libc::NLM_F_ACK | flags, 0)
}

/// `struct ifinfomsg`.
fn link(request: &mut Message, index: u32, flags: libc::c_int) {
    request.fields([0_u8; 4]);
    request.fields(index.to_ne_bytes());
    request.fields(flags.to_ne_bytes());
    request.fields(flags.to_ne_bytes());
}
