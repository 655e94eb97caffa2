//! An ssh agent for a step: the user's own, reduced to listing keys and signing with them.
//!
//! The step gets a socket of ours. Each message is looked at before it is passed on (draft-miller-ssh-agent): what
//! is neither a request for identities nor for a signature is answered with a failure, so a step can neither add,
//! remove nor lock keys, nor use extensions. The socket is gone with the step.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The largest message that is passed on, in bytes (OpenSSH's own bound).
const MESSAGE_BYTES_MAX: u32 = 256 << 10;

const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;
/// `SSH_AGENT_FAILURE`, framed.
const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];

/// A listening socket for one step; gone when dropped.
#[derive(Debug)]
pub struct AgentSocket {
    path: PathBuf,
    over: Arc<AtomicBool>,
}

impl AgentSocket {
    /// Listens at `path` for the agent behind `agent`, for the given owner.
    pub fn listen(path: &Path, agent: &Path, mode: u32, owner: (u32, u32)) -> io::Result<Self> {
        // Fail now, with the user's path in the message, rather than inside the step.
        UnixStream::connect(agent)?;
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1))?;
        let over = Arc::new(AtomicBool::new(false));
        let (agent, ended) = (agent.to_owned(), over.clone());
        thread::spawn(move || {
            for client in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { return };
                let agent = agent.clone();
                thread::spawn(move || {
                    // Either side going away ends the conversation; there is nobody to tell.
                    let _ = converse(client, &agent);
                });
            }
        });
        Ok(Self { path: path.to_owned(), over })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is over.
        let _ = UnixStream::connect(&self.path);
        let _ = fs::remove_file(&self.path);
    }
}

fn converse(mut client: UnixStream, agent: &Path) -> io::Result<()> {
    let mut agent = UnixStream::connect(agent)?;
    while let Some(request) = read_message(&mut client)? {
        match request.first() {
            Some(&(REQUEST_IDENTITIES | SIGN_REQUEST)) => {
                write_message(&mut agent, &request)?;
                let answer = read_message(&mut agent)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                write_message(&mut client, &answer)?;
            }
            _ => client.write_all(&FAILURE)?,
        }
    }
    Ok(())
}

/// One message without its length; `None` at the end.
fn read_message(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_be_bytes(length);
    if length > MESSAGE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length as usize];
    stream.read_exact(&mut message)?;
    Ok(Some(message))
}

fn write_message(stream: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    stream.write_all(&(message.len() as u32).to_be_bytes())?;
    stream.write_all(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agent that answers every request with its own type and payload.
    fn echo_agent(path: &Path) {
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    while let Ok(Some(message)) = read_message(&mut stream) {
                        write_message(&mut stream, &message).unwrap();
                    }
                });
            }
        });
    }

    #[test]
    fn only_listing_and_signing_reach_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let (agent, socket) = (dir.path().join("agent"), dir.path().join("socket"));
        echo_agent(&agent);
        let uid = rustix::process::getuid().as_raw();
        let gid = rustix::process::getgid().as_raw();
        let listening = AgentSocket::listen(&socket, &agent, 0o600, (uid, gid)).unwrap();
        let mut client = UnixStream::connect(listening.path()).unwrap();
        for (request, passes) in [
            (11, true),
            (13, true),
            (17, false),
            (18, false),
            (19, false),
            (22, false),
            (25, false),
            (27, false),
        ] {
            write_message(&mut client, &[request, 1, 2]).unwrap();
            let answer = read_message(&mut client).unwrap().unwrap();
            let want: &[u8] = if passes { &[request, 1, 2] } else { &[5] };
            assert_eq!(answer, want, "request {request}");
        }
        drop(listening);
        assert!(UnixStream::connect(&socket).is_err());
        assert!(!socket.exists());
    }
}
