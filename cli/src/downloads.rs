//! Files at URLs, fetched by the client of registries: all bytes from the network come in by one door.

use forge_registry::{Download as Answer, Fetched, Secret, Wanted as Question};
use forge_runner::sources::{Download, Downloaded, Wanted};
use forge_solver::WorldError;
use forge_store::Store;

use crate::failure::world_error_of_registry;
use crate::registries::Registries;

/// Fetches files into a store.
pub struct Downloads<'a> {
    /// Where they go.
    pub store: &'a Store,
    /// Whose connections, proxies and certificates are used.
    pub registries: &'a Registries,
}

impl Download for Downloads<'_> {
    fn download(&self, wanted: &Wanted<'_>) -> Result<Downloaded, WorldError> {
        let question = Question {
            url: wanted.url.to_owned(),
            etag: wanted.etag.map(str::to_owned),
            last_modified: wanted.last_modified.map(str::to_owned),
            authorization: wanted.authorization.clone().map(Secret::new),
            most_bytes: wanted.most_bytes,
        };
        let answer = self.registries.download(&question, self.store.blobs());
        Ok(match answer.map_err(world_error_of_registry)? {
            Answer::Unchanged => Downloaded::Unchanged,
            Answer::Fetched(Fetched { digest, size: _, etag, last_modified, mtime }) => {
                Downloaded::Fetched { digest, etag, last_modified, mtime }
            }
        })
    }
}
