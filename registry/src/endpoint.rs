//! One place that serves a repository: the registry itself, or a mirror of it.

use reqwest::Url;

use crate::address::is_loopback;
use crate::config::{ClientConfig, HostConfig, Mirror};
use crate::reference::{api_host, check_registry};
use crate::{RegistryError, Repository};

/// Where requests for a repository go.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The registry as people name it: what to log in to, and whose credentials to show.
    pub registry: String,
    /// `scheme://host/v2/`.
    pub api: Url,
    /// The repository's path in the registry, as tokens are asked for it.
    pub path: String,
    /// Private addresses that it sends us to are fine.
    pub trusted: bool,
    /// Set on mirrors.
    pub mirror: Option<MirrorOf>,
}

/// What a mirror stands for.
#[derive(Clone, Debug)]
pub struct MirrorOf {
    /// The registry, told to the mirror as `?ns=`: one mirror may serve several (containerd's convention).
    pub registry: String,
    /// It may say what a tag means.
    pub resolves_tags: bool,
}

impl Endpoint {
    /// The registry that the repository names.
    pub fn of(config: &ClientConfig, repository: &Repository) -> Result<Self, RegistryError> {
        Self::at(config, repository.registry(), repository.path().to_owned(), None)
    }

    /// A registry itself, without a repository.
    pub fn root(config: &ClientConfig, registry: &str) -> Result<Self, RegistryError> {
        Self::at(config, registry, String::new(), None)
    }

    /// The mirrors in their order, then the registry.
    pub fn all(config: &ClientConfig, repository: &Repository) -> Result<Vec<Self>, RegistryError> {
        let mirrors = config.hosts.get(repository.registry()).map_or(&[][..], |host| &host.mirrors);
        let mirrors = mirrors.iter().map(|mirror| Self::mirror(config, repository, mirror));
        mirrors.chain([Self::of(config, repository)]).collect()
    }

    fn mirror(
        config: &ClientConfig,
        repository: &Repository,
        mirror: &Mirror,
    ) -> Result<Self, RegistryError> {
        let (host, prefix) = mirror.location.split_once('/').unwrap_or((&mirror.location, ""));
        let path = match prefix.trim_matches('/') {
            "" => repository.path().to_owned(),
            prefix => format!("{prefix}/{}", repository.path()),
        };
        let of = MirrorOf { registry: repository.registry().to_owned(), resolves_tags: mirror.resolves_tags };
        Self::at(config, host, path, Some(of))
    }

    fn at(
        config: &ClientConfig,
        registry: &str,
        path: String,
        mirror: Option<MirrorOf>,
    ) -> Result<Self, RegistryError> {
        check_registry(registry)?;
        let host = config.hosts.get(registry);
        let scheme = if is_plain(registry, host) { "http" } else { "https" };
        let api = format!("{scheme}://{}/v2/", api_host(registry));
        let bad =
            |e| RegistryError::Config { host: registry.into(), detail: format!("its address {api}: {e}") };
        Ok(Self {
            registry: registry.to_owned(),
            api: Url::parse(&api).map_err(bad)?,
            path,
            trusted: host.is_some_and(|host| host.trust_private_addresses),
            mirror,
        })
    }

    /// The address of something in the repository: `manifests/latest`, `blobs/sha256:…`.
    pub fn url(&self, tail: &str) -> Url {
        let mut url = self.api.clone();
        // Path and tail come from checked references and digests; `set_path` escapes what it must.
        url.set_path(&format!("/v2/{}/{tail}", self.path));
        if let Some(mirror) = &self.mirror {
            url.query_pairs_mut().append_pair("ns", &mirror.registry);
        }
        url
    }

    /// The right to do `actions` in this repository, as tokens are asked for it.
    pub fn scope(&self, actions: &str) -> String {
        format!("repository:{}:{actions}", self.path)
    }

    /// Host and port, for messages.
    pub fn host(&self) -> String {
        crate::address::host_of(&self.api)
    }
}

fn is_plain(registry: &str, host: Option<&HostConfig>) -> bool {
    let tls = host.is_some_and(HostConfig::speaks_of_tls);
    host.and_then(|host| host.plain_http).unwrap_or(!tls && is_loopback(registry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(config: &ClientConfig, name: &str) -> String {
        let repository = name.parse().unwrap();
        Endpoint::of(config, &repository).unwrap().url("manifests/1").to_string()
    }

    #[test]
    fn plain_http_is_for_literal_loopback_or_by_option() {
        let mut config = ClientConfig::default();
        for (name, want) in [
            ("debian", "https://registry-1.docker.io/v2/library/debian/manifests/1"),
            ("localhost:5000/x", "http://localhost:5000/v2/x/manifests/1"),
            ("[::1]:5000/x", "http://[::1]:5000/v2/x/manifests/1"),
            ("localhost.evil.com/x", "https://localhost.evil.com/v2/x/manifests/1"),
            ("10.0.0.1:5000/x", "https://10.0.0.1:5000/v2/x/manifests/1"),
        ] {
            assert_eq!(endpoint(&config, name), want);
        }
        let plain = |plain| HostConfig { plain_http: Some(plain), ..HostConfig::default() };
        config.hosts.insert("h.tld".into(), plain(true));
        config.hosts.insert("localhost:1".into(), plain(false));
        let tls = HostConfig { ca_certificates: vec![vec![]], ..HostConfig::default() };
        config.hosts.insert("localhost:2".into(), tls);
        assert!(endpoint(&config, "h.tld/x").starts_with("http://"));
        assert!(endpoint(&config, "localhost:1/x").starts_with("https://"));
        assert!(endpoint(&config, "localhost:2/x").starts_with("https://"));
    }

    #[test]
    fn mirrors_come_first() {
        let mut config = ClientConfig::default();
        let mirrors = vec![Mirror { location: "m.tld/hub".into(), resolves_tags: false }];
        config.hosts.insert("docker.io".into(), HostConfig { mirrors, ..HostConfig::default() });
        let all = Endpoint::all(&config, &"debian".parse().unwrap()).unwrap();
        let urls: Vec<String> = all.iter().map(|e| e.url("blobs/x").to_string()).collect();
        assert_eq!(
            urls,
            [
                "https://m.tld/v2/hub/library/debian/blobs/x?ns=docker.io",
                "https://registry-1.docker.io/v2/library/debian/blobs/x"
            ]
        );
        assert_eq!(all[0].scope("pull"), "repository:hub/library/debian:pull");
    }
}
