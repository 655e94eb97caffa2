//! Messages between the caller, the zygote and PID 1.
//!
//! A request to the zygote is one packet: which namespaces to make, and descriptors. The first descriptor is the
//! sandbox's own control socket, on which everything else is said; then, if asked for, the cgroup v2 directory to be
//! born in; the rest goes to PID 1 unread. The specification travels as a memory file among them, so no packet grows
//! with it, and the zygote never parses it.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::sandbox::spec::SandboxSpec;

/// The kernel's SCM_MAX_FD: how many descriptors one message carries.
pub(crate) const MAX_DESCRIPTORS: usize = 253;

/// Says that PID 1 exists, with its descriptor.
pub(crate) const BORN: &[u8] = b"born";
/// Says that the sandbox has a terminal, with our end of it.
pub(crate) const TERMINAL: &[u8] = b"terminal";

/// Longer than any message.
const BUFFER_BYTES: usize = 64 << 10;

/// The specification, and what the descriptors beside it are.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope {
    pub(crate) spec: SandboxSpec,
    /// The directory of empty mount points that lies below every overlay.
    pub(crate) skeleton: PathBuf,
    /// After the standard streams comes a network namespace.
    pub(crate) has_netns: bool,
    /// How many `tasks` of cgroups come then; the rest are mounts.
    pub(crate) cgroups: usize,
}

impl Envelope {
    /// Writes it into a memory file.
    pub(crate) fn write(&self) -> io::Result<OwnedFd> {
        let mut file = File::from(memfd_create("forge-sandbox-spec", MemfdFlags::CLOEXEC)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        file.rewind()?;
        Ok(file.into())
    }

    /// Reads it back.
    pub(crate) fn read(file: OwnedFd) -> io::Result<Envelope> {
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    }
}

/// A request, as the zygote receives it.
pub(crate) struct Parcel {
    pub(crate) namespaces: u64,
    pub(crate) control: OwnedFd,
    pub(crate) cgroup: Option<OwnedFd>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// Sends a request.
pub(crate) fn send_request(
    socket: &OwnedFd,
    namespaces: u64,
    into_cgroup: bool,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut bytes = namespaces.to_le_bytes().to_vec();
    bytes.push(u8::from(into_cgroup));
    send_with(socket, &bytes, descriptors)
}

/// Receives a request; `None` when the caller is gone.
pub(crate) fn receive_request(socket: &OwnedFd) -> io::Result<Option<Parcel>> {
    let (bytes, descriptors) = receive(socket)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let (namespaces, into_cgroup) = match <[u8; 9]>::try_from(bytes) {
        Ok([namespaces @ .., into_cgroup]) => (u64::from_le_bytes(namespaces), into_cgroup != 0),
        Err(_) => return Err(Errno::PROTO.into()),
    };
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or(Errno::PROTO);
    let control = next()?;
    let cgroup = if into_cgroup { Some(next()?) } else { None };
    Ok(Some(Parcel { namespaces, control, cgroup, descriptors: descriptors.collect() }))
}

/// Sends bytes and descriptors as one packet.
pub(crate) fn send_with(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOMANYREFS.into());
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => return other.map(drop).map_err(Into::into),
        }
    }
}

/// Receives one packet; empty when the other side is gone.
pub(crate) fn receive(socket: &OwnedFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; BUFFER_BYTES];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        match recvmsg(socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    bytes.truncate(received.bytes);
    Ok((bytes, descriptors))
}
