//! The distribution protocol in both directions: names of images, logging in, pulling into the store and pushing
//! out of it (OCI distribution-spec v1.1, and Docker's conventions around it). And plain files at URLs, so that all
//! bytes from the network come in by one door.
//!
//! Nothing that a registry says is believed because it said so: bytes are checked against digest and size
//! before they get a name in the store, addresses that it sends us to are checked before anything is sent there,
//! and credentials go to the registry they are for and to the token server it names, nowhere else.
//!
//! It knows nothing of Dockerfiles or mounts, reads no environment and prints nothing: paths, credentials,
//! proxies and limits come in through [`ClientConfig`].

pub mod auth_file;
pub mod config;
pub mod credentials;
pub mod error;
pub mod helper;
pub mod limits;
pub mod progress;
pub mod reference;
pub mod settings;
pub mod tls;

mod address;
mod ahead;
mod auth;
mod blob;
mod call;
mod challenge;
mod client;
mod context;
mod document;
mod download;
mod endpoint;
mod handshake;
mod image;
mod json;
mod login;
mod manifest;
mod payload;
mod platform;
mod push;
mod retry;
mod segments;
mod sending;
mod tags;
mod text;
mod token;
mod transport;
mod upload;

pub use ahead::{BlobAhead, PushAhead};
pub use auth_file::AuthFile;
pub use client::Client;
pub use config::{ClientConfig, HostConfig, Mirror, Proxies, RetryPolicy, Route, Timeouts};
pub use credentials::{Credential, Credentials, Secret};
pub use document::Document;
pub use download::{Download, Fetched, OnBytes, Wanted};
pub use error::{ErrorKind, RegistryError};
pub use helper::Helpers;
pub use image::PulledImage;
pub use manifest::Resolved;
pub use progress::Progress;
pub use push::PushOptions;
pub use reference::{Reference, ReferenceError, Repository};
pub use settings::SettingsFiles;
pub use upload::Upload;
