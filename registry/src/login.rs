//! `forge login`, the part that asks the registry.

use reqwest::Method;

use crate::call::Call;
use crate::context::Context;
use crate::endpoint::Endpoint;
use crate::{Client, RegistryError};

impl Client {
    /// Asks a registry whether it takes the credentials that the client has for it.
    ///
    /// # Errors
    /// [`RegistryError::Unauthorized`] or [`RegistryError::Denied`] where it does not; others where it could not
    /// be asked.
    pub async fn check_login(&self, registry: &str) -> Result<(), RegistryError> {
        let endpoint = Endpoint::root(&self.config, registry)?;
        let context = Context::new(&endpoint, "the login");
        let call = Call::new(context, Method::GET, endpoint.api.clone(), &[]);
        self.call(&call).await.map(drop)
    }
}
