//! Messages between the caller, the zygote and PID 1.
//!
//! A request to the zygote is one packet: which namespaces to make, and descriptors: the sandbox's own control socket,
//! on which everything else is said, and, if asked for, the cgroup v2 directory to be born in. PID 1 hears two things
//! there. The first is its [`Cradle`], with the cgroups to join: all that it can make ready on its own. The second,
//! at once or much later, is what it is to run: the specification, as a memory file, so that no packet grows with it,
//! and the descriptors that it speaks of.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::sandbox::cradle::Cradle;
use crate::sandbox::spec::SandboxSpec;

/// The kernel's SCM_MAX_FD: how many descriptors one message carries.
pub(crate) const MAX_DESCRIPTORS: usize = 253;

/// Gives PID 1 its work.
pub(crate) const WORK: &[u8] = b"work";
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
}

/// Sends a request.
pub(crate) fn send_request(
    socket: &OwnedFd,
    namespaces: u64,
    control: BorrowedFd<'_>,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let descriptors: Vec<BorrowedFd<'_>> = std::iter::once(control).chain(cgroup).collect();
    send_with(socket, &namespaces.to_le_bytes(), &descriptors)
}

/// Receives a request; `None` when the caller is gone.
pub(crate) fn receive_request(socket: &OwnedFd) -> io::Result<Option<Parcel>> {
    let (bytes, descriptors) = receive(socket)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let namespaces = u64::from_le_bytes(bytes.try_into().map_err(|_| Errno::PROTO)?);
    let mut descriptors = descriptors.into_iter();
    let control = descriptors.next().ok_or(Errno::PROTO)?;
    Ok(Some(Parcel { namespaces, control, cgroup: descriptors.next() }))
}

/// Tells a first process what to make ready, and which cgroups to join.
pub(crate) fn send_cradle(control: &OwnedFd, cradle: &Cradle, tasks: &[OwnedFd]) -> io::Result<()> {
    let tasks: Vec<BorrowedFd<'_>> = tasks.iter().map(AsFd::as_fd).collect();
    send_with(control, &serde_json::to_vec(cradle)?, &tasks)
}

/// Hears it.
pub(crate) fn receive_cradle(control: &OwnedFd) -> io::Result<(Cradle, Vec<OwnedFd>)> {
    let (bytes, tasks) = receive(control)?;
    Ok((serde_json::from_slice(&bytes)?, tasks))
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
            // The other side ended without hearing all that we sent. What it said before that is still to be read.
            Err(Errno::INTR | Errno::CONNRESET) => {}
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
