//! The tags of a repository, page by page.

use reqwest::header::{HeaderMap, LINK};
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::address::Origin;
use crate::call::Call;
use crate::context::{Context, read_document};
use crate::limits::{ANSWER_BYTES, TAG_PAGES};
use crate::retry::Failure;
use crate::{Client, RegistryError, Repository};

#[derive(Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
}

impl Client {
    /// All tags of a repository, in the registry's order.
    ///
    /// # Errors
    /// [`RegistryError`] of any kind; [`RegistryError::Protocol`] where a page leads to another host.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<String>, RegistryError> {
        let endpoint = self.endpoint(repository).await?;
        let object = format!("the tags of {repository}");
        let context = Context::new(&endpoint, &object);
        let mut tags = Vec::new();
        let mut url = endpoint.url("tags/list");
        for _ in 0..TAG_PAGES {
            let (page, next) = self.page(context, url).await?;
            tags.extend(page);
            match next {
                Some(next) => url = next,
                None => return Ok(tags),
            }
        }
        Err(context.protocol(&format!("it has more than {TAG_PAGES} pages")))
    }

    async fn page(
        &self,
        context: Context<'_>,
        url: Url,
    ) -> Result<(Vec<String>, Option<Url>), RegistryError> {
        let scopes = [context.endpoint.scope("pull")];
        let call = Call::new(context, Method::GET, url, &scopes);
        let mut tries = self.tries(context.endpoint);
        loop {
            match self.page_once(&call).await {
                Ok(page) => return Ok(page),
                Err(failure) => tries.wait(failure).await?,
            }
        }
    }

    async fn page_once(&self, call: &Call<'_>) -> Result<(Vec<String>, Option<Url>), Failure> {
        let context = &call.context;
        let response = self.once(call).await?;
        let next = next_page(response.headers(), &call.url, context)?;
        let time = self.config.timeouts.document;
        let bytes = read_document(&self.transport, response, ANSWER_BYTES, time, context).await?;
        let page: Page =
            serde_json::from_slice(&bytes).map_err(|_| context.protocol("it is no list of tags"))?;
        Ok((page.tags.unwrap_or_default(), next))
    }
}

/// `Link: <…>; rel="next"`: on the same origin, or not at all.
fn next_page(headers: &HeaderMap, from: &Url, context: &Context<'_>) -> Result<Option<Url>, RegistryError> {
    let Some(link) = headers.get(LINK).and_then(|value| value.to_str().ok()) else { return Ok(None) };
    let Some((target, rest)) = link.strip_prefix('<').and_then(|rest| rest.split_once('>')) else {
        return Ok(None);
    };
    if !rest.contains("next") {
        return Ok(None);
    }
    let next = from.join(target).ok().filter(|next| Origin::of(next) == Origin::of(from));
    next.map(Some).ok_or_else(|| context.protocol("its next page is on another host"))
}
