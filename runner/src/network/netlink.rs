//! Messages of netlink(7): a header, a family's own fields, and attributes that may hold attributes.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// Longer than any answer that is only an acknowledgement, with the refused request in it.
const ANSWER_BYTES: usize = 16 << 10;

/// A socket that speaks for the network namespace it was opened in.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

/// One message.
pub(super) struct Message(Vec<u8>);

/// What the kernel refused: the number that the message had, and the error.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) number: u32,
    pub(super) error: io::Error,
}

impl Socket {
    pub(super) fn open(protocol: Option<Protocol>) -> io::Result<Socket> {
        Ok(Socket(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?))
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    /// Sends messages at once and reads what the kernel has to say. The last of them asks for an acknowledgement; the
    /// kernel has carried out everything, and has answered, when the sending returns.
    pub(super) fn ask(&self, messages: &[u8]) -> Result<(), Refusal> {
        let failed = |error: io::Error| Refusal { number: 0, error };
        send(&self.0, messages, SendFlags::empty()).map_err(|error| failed(error.into()))?;
        let mut answers = vec![0_u8; ANSWER_BYTES];
        let mut flags = RecvFlags::empty();
        loop {
            let length = match recv(&self.0, &mut answers[..], flags) {
                Ok((length, _)) => length,
                Err(rustix::io::Errno::AGAIN) if !flags.is_empty() => return Ok(()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(failed(error.into())),
            };
            let refused =
                refusals(&answers[..length]).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
            if let Some(refusal) = refused.into_iter().find(|refusal| refusal.error.raw_os_error() != Some(0))
            {
                return Err(refusal);
            }
            flags = RecvFlags::DONTWAIT;
        }
    }
}

/// Reads acknowledgements, which are error messages with the number 0. `None` if there is anything else.
fn refusals(mut bytes: &[u8]) -> Option<Vec<Refusal>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let field = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let length = field(0)? as usize;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let code = field(HEADER_BYTES)?.cast_signed();
        if i32::from(kind) != libc::NLMSG_ERROR {
            return None;
        }
        // After the error comes the header of the message it is about; its number is the third field.
        let number = field(HEADER_BYTES + 4 + 8)?;
        found.push(Refusal { number, error: io::Error::from_raw_os_error(code.saturating_neg()) });
        bytes = bytes.get(length.max(HEADER_BYTES).next_multiple_of(4)..).unwrap_or_default();
    }
    Some(found)
}

impl Message {
    /// Begins a message; `flags` beside the one that says that it is a request.
    pub(super) fn new(kind: u16, flags: libc::c_int, number: u32) -> Message {
        let flags = u16::try_from(libc::NLM_F_REQUEST | flags).unwrap_or_default();
        let mut bytes = vec![0_u8; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(number.to_ne_bytes());
        bytes.extend([0_u8; 4]);
        Message(bytes)
    }

    /// Fields of the family.
    pub(super) fn fields(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.extend(bytes.as_ref());
    }

    /// `struct nlattr` and its value, padded to four bytes.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |inner| inner.0.extend(value));
    }

    /// The same for a string that ends with a zero.
    pub(super) fn string(&mut self, kind: u16, value: &str) {
        self.nested(kind, |inner| {
            inner.0.extend(value.as_bytes());
            inner.0.push(0);
        });
    }

    /// The same for attributes.
    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Message)) {
        let start = self.0.len();
        self.0.extend([0_u8; 2]);
        self.0.extend(kind.to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Asks for an answer even if all is well.
    pub(super) fn acknowledged(mut self) -> Message {
        // The flags are the second half of the second word.
        let flags = u16::from_ne_bytes([self.0[6], self.0[7]]) | libc::NLM_F_ACK as u16;
        self.0[6..8].copy_from_slice(&flags.to_ne_bytes());
        self
    }

    /// The bytes to send.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_nest_and_are_padded() {
        let mut message = Message::new(1, 0, 7);
        message.nested(3, |inner| inner.string(4, "ab"));
        let bytes = message.finish();
        assert_eq!(bytes.len(), 16 + 4 + 4 + 4);
        assert_eq!(bytes[..4], 28_u32.to_ne_bytes());
        assert_eq!(bytes[16..18], 12_u16.to_ne_bytes());
        assert_eq!(bytes[20..22], 7_u16.to_ne_bytes());
        assert_eq!(&bytes[24..], b"ab\0\0");
    }

    #[test]
    fn an_answer_names_the_message_that_was_refused() {
        let answer = |code: i32, number: u32| {
            let mut message = Message::new(libc::NLMSG_ERROR as u16, 0, number);
            message.fields(code.to_ne_bytes());
            message.fields(Message::new(9, 0, number).finish());
            message.finish()
        };
        let found = refusals(&[answer(0, 1), answer(-libc::EEXIST, 2)].concat()).unwrap();
        assert_eq!(found[0].error.raw_os_error(), Some(0));
        assert_eq!((found[1].number, found[1].error.raw_os_error()), (2, Some(libc::EEXIST)));
        assert!(refusals(&Message::new(9, 0, 0).finish()).is_none());
        assert!(refusals(&[1, 2, 3]).is_none());
    }
}
