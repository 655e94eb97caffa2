//! `forge login`, the part that asks the registry.

use reqwest::Method;

use crate::call::Call;
use crate::context::Context;
use crate::endpoint::Endpoint;
use crate::{Client, RegistryError, Secret};

impl Client {
    /// Asks a registry whether it takes the credentials that the client has for it. Gives the identity token to
    /// keep in the password's place, if one was wanted and the registry's token server gives such.
    ///
    /// # Errors
    /// [`RegistryError::Unauthorized`] or [`RegistryError::Denied`] where it does not; others where it could not
    /// be asked.
    pub async fn check_login(&self, registry: &str) -> Result<Option<Secret>, RegistryError> {
        let endpoint = self.decided(Endpoint::root(&self.config, registry)?).await;
        let context = Context::new(&endpoint, "the login");
        let call = Call::new(context, Method::GET, endpoint.api.clone(), &[]);
        self.call(&call).await?;
        Ok(self.auth.identity())
    }
}
