//! One place that serves a repository: the registry itself, or a mirror of it.
//!
//! Where that is, routes say: the longest prefix of the repository's name that one of them has, replaced by the
//! route's or the mirror's location.

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use crate::address::{host_of, is_loopback};
use crate::config::{ClientConfig, HostConfig, Mirror, Route};
use crate::reference::{DOCKER_HUB, api_host, check_registry};
use crate::{RegistryError, Repository};

/// Where requests for a repository go.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The registry as people name it: what to log in to, and whose credentials to show.
    pub registry: String,
    /// The API's root: `scheme://host/v2/`.
    pub api: Url,
    /// The repository's path in the registry, as tokens are asked for it.
    pub path: String,
    /// Private addresses that it sends us to are fine.
    pub trusted: bool,
    /// Plain http is fine where it speaks no TLS: that has to be found out ([`crate::Client::endpoint`]).
    pub undecided: bool,
    /// What its own requests carry besides.
    pub headers: Vec<(HeaderName, HeaderValue)>,
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
    /// Where the repository itself is.
    pub fn of(config: &ClientConfig, repository: &Repository) -> Result<Self, RegistryError> {
        let route = route(config, repository)?;
        match route.as_ref().and_then(|route| Some((route, route.route.location.as_deref()?))) {
            Some((route, location)) => Self::located(config, location, &route.rest, None),
            None => Self::at(config, repository.registry(), None, repository.path().to_owned(), None),
        }
    }

    /// A registry itself, without a repository.
    pub fn root(config: &ClientConfig, registry: &str) -> Result<Self, RegistryError> {
        Self::at(config, registry, None, String::new(), None)
    }

    /// The mirrors in their order, then the registry.
    pub fn all(config: &ClientConfig, repository: &Repository) -> Result<Vec<Self>, RegistryError> {
        let Some(found) = route(config, repository)? else { return Ok(vec![Self::of(config, repository)?]) };
        let mirror = |mirror: &Mirror| {
            let of =
                MirrorOf { registry: repository.registry().to_owned(), resolves_tags: mirror.resolves_tags };
            Self::located(config, &mirror.location, &found.rest, Some(of))
        };
        found.route.mirrors.iter().map(mirror).chain([Self::of(config, repository)]).collect()
    }

    /// At a location of a route: `rest` is what the prefix leaves of the repository's name.
    fn located(
        config: &ClientConfig,
        location: &str,
        rest: &str,
        mirror: Option<MirrorOf>,
    ) -> Result<Self, RegistryError> {
        if location.contains("://") {
            let bad = |detail: &str| RegistryError::Config { host: location.into(), detail: detail.into() };
            let mut api = Url::parse(location).map_err(|e| bad(&format!("its address: {e}")))?;
            if !matches!(api.scheme(), "http" | "https") || api.host_str().is_none() {
                return Err(bad("its address is neither http nor https"));
            }
            let root = format!("{}/", api.path().trim_end_matches('/'));
            api.set_path(&root);
            let registry = match host_of(&api) {
                host if host == api_host(DOCKER_HUB) => DOCKER_HUB.to_owned(),
                host => host,
            };
            return Self::at(config, &registry, Some(api), rest.to_owned(), mirror);
        }
        let (host, prefix) = location.split_once('/').unwrap_or((location, ""));
        let path: Vec<&str> =
            [prefix.trim_matches('/'), rest].into_iter().filter(|p| !p.is_empty()).collect();
        Self::at(config, host, None, path.join("/"), mirror)
    }

    fn at(
        config: &ClientConfig,
        registry: &str,
        api: Option<Url>,
        path: String,
        mirror: Option<MirrorOf>,
    ) -> Result<Self, RegistryError> {
        check_registry(registry)?;
        let bad = |detail: String| RegistryError::Config { host: registry.into(), detail };
        let host = config.hosts.get(registry);
        if let Some(detail) = host.and_then(|host| host.broken.as_ref()) {
            return Err(bad(detail.clone()));
        }
        // An address with a scheme was decided by whoever wrote it.
        let undecided = api.is_none() && host.is_some_and(|host| host.insecure && host.plain_http.is_none());
        let scheme = if !undecided && is_plain(registry, host) { "http" } else { "https" };
        let text = format!("{scheme}://{}/v2/", api_host(registry));
        let api = match api {
            Some(api) => api,
            None => Url::parse(&text).map_err(|e| bad(format!("its address {text}: {e}")))?,
        };
        Ok(Self {
            registry: registry.to_owned(),
            api,
            path,
            trusted: host.is_some_and(|host| host.trust_private_addresses),
            undecided,
            headers: headers(host).map_err(bad)?,
            mirror,
        })
    }

    /// The same, by plain http.
    pub fn plain(mut self) -> Self {
        // Cannot fail between http and https.
        let _ = self.api.set_scheme("http");
        self.undecided = false;
        self
    }

    /// The address of something in the repository: `manifests/latest`, `blobs/sha256:…`.
    pub fn url(&self, tail: &str) -> Url {
        let mut url = self.api.clone();
        // Path and tail come from checked references and digests; `set_path` escapes what it must.
        url.set_path(&format!("{}{}/{tail}", self.api.path(), self.path));
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
        host_of(&self.api)
    }
}

/// The route of a repository, and what its prefix leaves of the name.
struct Found<'a> {
    route: &'a Route,
    rest: String,
}

fn route<'a>(config: &'a ClientConfig, repository: &Repository) -> Result<Option<Found<'a>>, RegistryError> {
    let name = repository.to_string();
    let mut best: Option<Found<'_>> = None;
    for route in &config.routes {
        let Some(rest) = rest(&route.prefix, repository, &name) else { continue };
        if best.as_ref().is_none_or(|best| best.route.prefix.len() < route.prefix.len()) {
            best = Some(Found { route, rest });
        }
    }
    match best.as_ref().and_then(|found| found.route.blocked.clone()) {
        Some(by) => Err(RegistryError::Blocked { name, by }),
        None => Ok(best),
    }
}

/// What a prefix leaves of a repository's name; `None` where it is no prefix of it.
fn rest(prefix: &str, repository: &Repository, name: &str) -> Option<String> {
    let covers_host =
        prefix.is_empty() || prefix.strip_prefix('*').is_some_and(|end| repository.registry().ends_with(end));
    if covers_host {
        return Some(repository.path().to_owned());
    }
    let rest = name.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/').to_owned())
}

fn headers(host: Option<&HostConfig>) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let own = host.map_or(&[][..], |host| &host.headers);
    let read = |(name, value): &(String, crate::Secret)| {
        let bad = || format!("`{name}` is no header");
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| bad())?;
        value.set_sensitive(true);
        Ok((name.parse().map_err(|_| bad())?, value))
    };
    own.iter().map(read).collect()
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

    fn all(config: &ClientConfig, name: &str) -> Vec<String> {
        let all = Endpoint::all(config, &name.parse().unwrap()).unwrap();
        all.iter().map(|e| e.url("blobs/x").to_string()).collect()
    }

    fn mirror(location: &str) -> Mirror {
        Mirror { location: location.into(), resolves_tags: false }
    }

    fn route(prefix: &str, location: Option<&str>, mirrors: &[&str]) -> Route {
        Route {
            prefix: prefix.into(),
            location: location.map(str::to_owned),
            mirrors: mirrors.iter().map(|m| mirror(m)).collect(),
            blocked: None,
        }
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
        let routes = vec![route("docker.io", None, &["m.tld/hub", "https://n.tld/cache/v2/"])];
        let config = ClientConfig { routes, ..ClientConfig::default() };
        assert_eq!(
            all(&config, "debian"),
            [
                "https://m.tld/v2/hub/library/debian/blobs/x?ns=docker.io",
                "https://n.tld/cache/v2/library/debian/blobs/x?ns=docker.io",
                "https://registry-1.docker.io/v2/library/debian/blobs/x"
            ]
        );
        let first = Endpoint::all(&config, &"debian".parse().unwrap()).unwrap().remove(0);
        assert_eq!(first.scope("pull"), "repository:hub/library/debian:pull");
    }

    #[test]
    fn the_longest_prefix_says_where_a_repository_is() {
        let routes = vec![
            route("", None, &["every.tld"]),
            route("a.tld", Some("b.tld"), &[]),
            route("a.tld/team", Some("c.tld/x"), &["m.tld/y"]),
            route("a.tld/team/one", Some("http://d.tld:8080/v2"), &[]),
            route("*.wild.tld", Some("e.tld/w"), &[]),
            route("*.wild.tld", Some("second.tld"), &[]),
        ];
        let config = ClientConfig { routes, ..ClientConfig::default() };
        for (name, want) in [
            ("z.tld/p", &["https://every.tld/v2/p/blobs/x?ns=z.tld", "https://z.tld/v2/p/blobs/x"][..]),
            ("a.tld/p/q", &["https://b.tld/v2/p/q/blobs/x"]),
            ("a.tld/teams/q", &["https://b.tld/v2/teams/q/blobs/x"]),
            ("a.tld/team/q", &["https://m.tld/v2/y/q/blobs/x?ns=a.tld", "https://c.tld/v2/x/q/blobs/x"]),
            ("a.tld/team/one/q", &["http://d.tld:8080/v2/q/blobs/x"]),
            ("x.wild.tld/p", &["https://e.tld/v2/w/p/blobs/x"]),
            ("wild.tld/p", &["https://every.tld/v2/p/blobs/x?ns=wild.tld", "https://wild.tld/v2/p/blobs/x"]),
        ] {
            assert_eq!(all(&config, name), want, "{name}");
        }
    }

    #[test]
    fn what_is_blocked_is_not_asked() {
        let blocked = Route { blocked: Some("file:3".into()), ..route("bad.tld/x", None, &[]) };
        let config = ClientConfig { routes: vec![blocked], ..ClientConfig::default() };
        let ask = |name: &str| Endpoint::of(&config, &name.parse().unwrap());
        let error = ask("bad.tld/x/y").unwrap_err().to_string();
        assert!(error.contains("bad.tld/x/y is blocked by file:3"), "{error}");
        assert!(ask("bad.tld/y").is_ok());
    }
}
