//! Who we are, to whom: explicit credentials, Docker's and podman's files, and credential helpers.

use std::collections::BTreeMap;
use std::fmt;

use crate::auth_file::Entry;
use crate::{AuthFile, Helpers, RegistryError};

/// A text that no message, log or debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Guards a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("xxxxx")
    }
}

/// What proves to a registry who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// User name and password.
    Basic {
        /// The user name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// An OAuth2 refresh token, changed for access tokens at the token server (`identitytoken`).
    Identity(Secret),
    /// An access token, sent as it is (`registrytoken`).
    Bearer(Secret),
}

impl Credential {
    /// A user name and a password.
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Basic { username: username.into(), password: Secret::new(password) }
    }

    /// The secret inside.
    pub(crate) fn secret(&self) -> &str {
        match self {
            Self::Basic { password: secret, .. } | Self::Identity(secret) | Self::Bearer(secret) => {
                secret.expose()
            }
        }
    }
}

/// Where credentials come from. They are looked up only when a registry asks for them.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    explicit: BTreeMap<String, Credential>,
    files: Vec<AuthFile>,
    helpers: Helpers,
}

impl Credentials {
    /// Adds a credential for one registry; it goes before all files.
    pub fn with(mut self, registry: impl Into<String>, credential: Credential) -> Self {
        self.explicit.insert(registry.into(), credential);
        self
    }

    /// Adds a file; earlier files go before later ones.
    pub fn with_file(mut self, file: AuthFile) -> Self {
        self.files.push(file);
        self
    }

    /// Says how credential helpers are run.
    pub fn with_helpers(mut self, helpers: Helpers) -> Self {
        self.helpers = helpers;
        self
    }

    /// What to show `registry` for the repository at `path`; `None` is anonymous.
    ///
    /// # Errors
    /// [`RegistryError::AuthFile`] for an entry that cannot be read, [`RegistryError::Helper`] for a helper that
    /// failed otherwise than by having nothing.
    pub async fn lookup(&self, registry: &str, path: &str) -> Result<Option<Credential>, RegistryError> {
        if let Some(explicit) = self.explicit.get(registry) {
            return Ok(Some(explicit.clone()));
        }
        for file in &self.files {
            if let Some(helper) = file.helper_for(registry)
                && let Some(credential) = self.helpers.get(helper, registry).await?
            {
                return Ok(Some(credential));
            }
            if let Some(Entry::Credential(credential)) = file.entry(registry, path)? {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }
}
