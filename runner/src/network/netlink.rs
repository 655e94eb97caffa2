//! The few rtnetlink(7) requests that a veth pair needs, sent and acknowledged one by one.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send, socket_with,
};

const HEADER_BYTES: usize = 16;
/// linux/veth.h
const VETH_INFO_PEER: u16 = 1;

/// A socket that speaks for the network namespace it was opened in.
#[derive(Debug)]
pub(super) struct Netlink(OwnedFd);

/// One request.
struct Request(Vec<u8>);

impl Netlink {
    pub(super) fn open() -> io::Result<Netlink> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Netlink(socket))
    }

    /// The index of an interface.
    pub(super) fn index(&self, name: &str) -> io::Result<u32> {
        Ok(netdevice::name_to_index(&self.0, name)?)
    }

    /// Makes a veth pair: `name` here, up; `peer` in `namespace`, down.
    pub(super) fn add_veth(
        &self,
        name: &str,
        peer: &str,
        namespace: BorrowedFd<'_>,
        mtu: u32,
    ) -> io::Result<()> {
        let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        request.link(0, libc::IFF_UP);
        request.attribute(libc::IFLA_IFNAME, &c_name(name));
        request.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
        request.nested(libc::IFLA_LINKINFO, |info| {
            info.attribute(libc::IFLA_INFO_KIND, b"veth\0");
            info.nested(libc::IFLA_INFO_DATA, |data| {
                data.nested(VETH_INFO_PEER, |other| {
                    other.link(0, 0);
                    other.attribute(libc::IFLA_IFNAME, &c_name(peer));
                    other.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
                    other.attribute(libc::IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
                });
            });
        });
        self.ask(request)
    }

    /// Removes an interface, and with a veth its peer.
    pub(super) fn delete(&self, index: u32) -> io::Result<()> {
        let mut request = Request::new(libc::RTM_DELLINK, 0);
        request.link(index, 0);
        self.ask(request)
    }

    /// Sets an interface up.
    pub(super) fn set_up(&self, index: u32) -> io::Result<()> {
        let mut request = Request::new(libc::RTM_NEWLINK, 0);
        request.link(index, libc::IFF_UP);
        self.ask(request)
    }

    /// Gives an interface an address.
    pub(super) fn add_address(&self, index: u32, address: Ipv4Addr, prefix_bits: u8) -> io::Result<()> {
        let mut request = Request::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        request.0.extend([libc::AF_INET as u8, prefix_bits, 0, 0]);
        request.0.extend(index.to_ne_bytes());
        request.attribute(libc::IFA_LOCAL, &address.octets());
        request.attribute(libc::IFA_ADDRESS, &address.octets());
        self.ask(request)
    }

    /// Makes `gateway` the default route.
    pub(super) fn add_default_route(&self, gateway: Ipv4Addr) -> io::Result<()> {
        let mut request = Request::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        let (any, table, protocol, scope) =
            (0, libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, libc::RT_SCOPE_UNIVERSE);
        request.0.extend([libc::AF_INET as u8, any, any, 0, table, protocol, scope, libc::RTN_UNICAST]);
        request.0.extend(0_u32.to_ne_bytes());
        request.attribute(libc::RTA_GATEWAY, &gateway.octets());
        self.ask(request)
    }

    /// Sends a request and reads the acknowledgement, which is an error message with the number 0.
    fn ask(&self, request: Request) -> io::Result<()> {
        send(&self.0, &request.finish(), SendFlags::empty())?;
        let mut answer = [0_u8; 4096];
        let (length, _) = recv(&self.0, &mut answer[..], RecvFlags::empty())?;
        let kind = u16::from_ne_bytes([answer[4], answer[5]]);
        if length < HEADER_BYTES + 4 || i32::from(kind) != libc::NLMSG_ERROR {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut number = [0_u8; 4];
        number.copy_from_slice(&answer[HEADER_BYTES..HEADER_BYTES + 4]);
        match i32::from_ne_bytes(number) {
            0 => Ok(()),
            number => Err(io::Error::from_raw_os_error(-number)),
        }
    }
}

impl Request {
    fn new(kind: u16, flags: libc::c_int) -> Request {
        let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags).unwrap_or_default();
        let mut bytes = vec![0_u8; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0_u8; 8]);
        Request(bytes)
    }

    /// `struct ifinfomsg`.
    fn link(&mut self, index: u32, flags: libc::c_int) {
        self.0.extend([0_u8; 4]);
        self.0.extend(index.to_ne_bytes());
        self.0.extend(flags.to_ne_bytes());
        self.0.extend(flags.to_ne_bytes());
    }

    /// `struct rtattr` and its value, padded to four bytes.
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |inner| inner.0.extend(value));
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Request)) {
        let start = self.0.len();
        self.0.extend([0_u8; 2]);
        self.0.extend(kind.to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

fn c_name(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}
