//! One blob on its way out: sent in chunks, resumed where the registry stands.
//!
//! A small blob goes in one PUT. A larger one goes in PATCHes of a chunk each; after a failure the registry is
//! asked how far it got, and at most one chunk is sent twice. Where it lost the session, a new one is opened.

use std::fs::File;
use std::io;
use std::sync::Arc;

use forge_store::digest::Hashing;
use forge_store::{Descriptor, StoreError};

use crate::client::blocking;
use crate::context::Context;
use crate::payload::{Part, Payload};
use crate::push::Push;
use crate::retry::{Again, Failure, Tries};
use crate::upload::{Begun, Peer, Session, Standing};
use crate::{ErrorKind, RegistryError};

/// One blob being uploaded.
pub(crate) struct Sending<'a> {
    pub push: &'a Push<'a>,
    pub descriptor: &'a Descriptor,
    pub file: Arc<File>,
}

impl Sending<'_> {
    /// Brings the blob to the registry; `session` is one that was opened for it already.
    pub async fn run(&self, mut session: Option<Session>) -> Result<(), RegistryError> {
        let object = self.push.name(&self.descriptor.digest);
        let (client, endpoint) = (self.push.client, &self.push.endpoint);
        let peer = Peer { client, context: Context::new(endpoint, &object), scopes: &self.push.scopes };
        let mut tries = client.tries(endpoint);
        loop {
            let failure = match self.attempt(&peer, &mut session, &mut tries).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            // A wrong digest may be the network's fault, the registry's, or that of the disk here.
            if failure.again == Again::Unlikely && failure.error.kind() == ErrorKind::Protocol {
                self.check_local().await?;
            }
            tries.wait(failure).await?;
        }
    }

    /// Brings the session to its end from wherever it stands.
    async fn attempt(
        &self,
        peer: &Peer<'_>,
        session: &mut Option<Session>,
        tries: &mut Tries<'_>,
    ) -> Result<(), Failure> {
        self.settle(peer, session).await?;
        let digest = &self.descriptor.digest;
        let Some(open) = session else {
            // The answer to the last PUT may have been lost.
            return Ok(());
        };
        let chunk = self.push.client.config.chunk_bytes.max(open.min_chunk).max(1);
        if open.offset == 0 && self.descriptor.size <= chunk {
            return peer.put(open, self.part(0, self.descriptor.size), digest).await;
        }
        while open.offset < self.descriptor.size {
            let length = chunk.min(self.descriptor.size - open.offset);
            peer.patch(open, self.part(open.offset, length)).await?;
            // The next chunk is another request, with tries of its own.
            tries.reset();
        }
        peer.put(open, Payload::None, digest).await
    }

    /// Makes sure that there is a session and that it is known how far it got. Leaves none where the blob turns
    /// out to be there.
    async fn settle(&self, peer: &Peer<'_>, session: &mut Option<Session>) -> Result<(), Failure> {
        if let Some(open) = session.as_mut().filter(|open| open.standing != Standing::Sure) {
            peer.make_sure(open).await?;
            if open.standing == Standing::Lost || open.offset > self.descriptor.size {
                open.standing = Standing::Lost;
                let is_there =
                    peer.client.has_blob_once(peer.context, peer.scopes, &self.descriptor.digest).await?;
                *session = None;
                if is_there {
                    return Ok(());
                }
            }
            let offset = session.as_ref().map_or(0, |open| open.offset);
            self.push.progress.on_rewind(&self.descriptor.digest, offset);
        }
        if session.is_none()
            && let Begun::Session(anew) = peer.begin(None).await?
        {
            *session = Some(anew);
        }
        Ok(())
    }

    /// Hashes the blob where it lies: a registry's "wrong digest" may be ours to answer for.
    async fn check_local(&self) -> Result<(), RegistryError> {
        let (file, expected) = (self.file.clone(), self.descriptor.digest);
        blocking("a blob of the store", move || {
            let mut hashing = Hashing::new(Whole { file: &file, at: 0 });
            let read = io::copy(&mut hashing, &mut io::sink());
            let (_, found, _) = hashing.finish();
            if read.is_ok() && found == expected {
                return Ok(());
            }
            let detail = format!("its bytes hash to {found}; remove it and pull or build it again");
            Err(StoreError::Corrupt { object: format!("blob {expected}"), detail })
        })
        .await
    }

    fn part(&self, offset: u64, length: u64) -> Payload {
        if length == 0 {
            return Payload::None;
        }
        let told = Some((self.push.progress.clone(), self.descriptor.digest));
        Payload::Part(Part { file: self.file.clone(), offset, length, told })
    }
}

/// A file read from its start without moving its cursor.
struct Whole<'a> {
    file: &'a File,
    at: u64,
}

impl io::Read for Whole<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let n = std::os::unix::fs::FileExt::read_at(self.file, bytes, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
