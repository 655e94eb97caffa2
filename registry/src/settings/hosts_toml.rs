//! containerd's `certs.d/<registry>/hosts.toml` (containerd docs/hosts.md).
//!
//! The hosts of a file are mirrors, in the order in which they stand there; `server` is where the registry itself
//! is. A host without the capability `resolve` is not asked for tags, one without `pull` is not asked at all.
//! Pushes go to the registry itself, whatever capabilities a mirror has.

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::Url;
use serde::Deserialize;
use toml::Spanned;

use super::certificates;
use super::{failure, host, line_of, parse, read};
use crate::address::host_of;
use crate::config::{ClientConfig, Mirror, Route};
use crate::reference::{DOCKER_HUB, api_host, check_registry};
use crate::{RegistryError, Secret};

/// The directory for registries without one of their own.
const DEFAULT_DIR: &str = "_default";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    server: Option<String>,
    #[serde(default)]
    host: BTreeMap<String, Spanned<HostTable>>,
    // The server's own settings stand beside it. Not a flattened `HostTable`: that would lose the line numbers.
    #[serde(rename = "capabilities")]
    _capabilities: Option<Vec<String>>,
    ca: Option<OneOrMore>,
    client: Option<Clients>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: BTreeMap<String, OneOrMore>,
    #[serde(rename = "dial_timeout")]
    _dial_timeout: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct HostTable {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMore>,
    client: Option<Clients>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: BTreeMap<String, OneOrMore>,
    #[serde(rename = "dial_timeout")]
    _dial_timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// A file with certificate and key in one; several; or pairs of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Clients {
    One(String),
    More(Vec<String>),
    Pairs(Vec<(String, String)>),
}

impl OneOrMore {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::More(texts) => texts,
        }
    }
}

/// Adds what the directory of one registry says: its `hosts.toml`, or without one its certificates.
pub fn apply(dir: &Path, config: &mut ClientConfig) -> Result<(), RegistryError> {
    let Some(name) = dir.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    let file = dir.join("hosts.toml");
    if !file.exists() {
        certificates::apply(dir, config);
        return Ok(());
    }
    let Some(prefix) = registry_of(name) else { return Ok(()) };
    if config.routes.iter().any(|route| route.prefix == prefix) {
        return Ok(());
    }
    let text = read(&file)?;
    let parsed: File = parse(&file, &text)?;
    let mut route = Route { prefix: prefix.clone(), ..Route::default() };
    let server = HostTable {
        ca: parsed.ca,
        client: parsed.client,
        skip_verify: parsed.skip_verify,
        header: parsed.header,
        ..HostTable::default()
    };
    let own = match &parsed.server {
        Some(text_of_server) => {
            let (location, host) = place(text_of_server, parsed.override_path)
                .map_err(|detail| failure(&file, line_with(&text, "server"), detail))?;
            if host != prefix && host != api_host(&prefix) {
                route.location = Some(location.clone());
            }
            Some((location, host))
        }
        None => None,
    };
    let own_host = own.as_ref().map_or(prefix.clone(), |(_, host)| host.clone());
    if !own_host.is_empty() {
        let plain = own.is_some_and(|(location, _)| location.starts_with("http://"));
        let settings = Settings { dir, file: &file, line: None, plain };
        settings.apply(server, &own_host, config)?;
    }
    // The order of the file is the order in which hosts are asked; a map has lost it.
    let mut hosts: Vec<_> = parsed.host.into_iter().collect();
    hosts.sort_by_key(|(_, table)| table.span().start);
    for (url, table) in hosts {
        let line = Some(line_of(&text, table.span().start));
        let table = table.into_inner();
        let (location, name) =
            place(&url, table.override_path).map_err(|detail| failure(&file, line, detail))?;
        let (pulls, resolves_tags) = capabilities(&table).map_err(|detail| failure(&file, line, detail))?;
        let plain = location.starts_with("http://");
        Settings { dir, file: &file, line, plain }.apply(table, &name, config)?;
        if pulls {
            route.mirrors.push(Mirror { location, resolves_tags });
        }
    }
    config.routes.push(route);
    Ok(())
}

/// The registry that a directory is for: `host:port`, also written `host_port_`; nothing for all.
fn registry_of(dir: &str) -> Option<String> {
    if dir == DEFAULT_DIR {
        return Some(String::new());
    }
    let name = match dir.strip_suffix('_').and_then(|rest| rest.rsplit_once('_')) {
        Some((host, port)) => format!("{host}:{port}"),
        None => dir.to_owned(),
    };
    check_registry(&name).is_ok().then_some(name)
}

/// The root of the API at a host's URL, and the host as settings know it.
fn place(text: &str, override_path: bool) -> Result<(String, String), String> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url: Url = with_scheme.parse().map_err(|_| format!("`{text}` is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("`{text}` is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a host with a user name in it; use `forge login`".into());
    }
    let path = url.path().trim_end_matches('/');
    let path = match override_path || path.ends_with("/v2") {
        true => path.to_owned(),
        false => format!("{path}/v2"),
    };
    let host = host_of(&url);
    let name = if host == api_host(DOCKER_HUB) { DOCKER_HUB.to_owned() } else { host.clone() };
    Ok((format!("{}://{host}{path}", url.scheme()), name))
}

/// Whether a host serves content, and whether it says what tags mean.
fn capabilities(table: &HostTable) -> Result<(bool, bool), String> {
    let Some(list) = &table.capabilities else { return Ok((true, true)) };
    if let Some(odd) =
        list.iter().find(|word| !matches!(word.as_str(), "pull" | "resolve" | "push" | "referrers"))
    {
        return Err(format!("there is no capability `{odd}`; there are pull, resolve, push"));
    }
    let has = |word: &str| list.iter().any(|own| own == word);
    Ok((has("pull"), has("resolve")))
}

/// Where one host's settings come from.
struct Settings<'a> {
    dir: &'a Path,
    file: &'a Path,
    line: Option<usize>,
    /// Its address says plain http.
    plain: bool,
}

impl Settings<'_> {
    fn apply(&self, table: HostTable, name: &str, config: &mut ClientConfig) -> Result<(), RegistryError> {
        let mut authorities = Vec::new();
        for path in table.ca.map(OneOrMore::into_vec).unwrap_or_default() {
            authorities.push(self.pem(&path)?);
        }
        let identity = match table.client {
            None => None,
            Some(Clients::One(path)) => Some(self.pem(&path)?),
            Some(Clients::More(paths)) if paths.is_empty() => None,
            Some(Clients::More(paths)) => Some(self.pem(&paths[0])?),
            Some(Clients::Pairs(pairs)) => match pairs.first() {
                Some((cert, key)) => Some([self.pem(cert)?, b"\n".to_vec(), self.pem(key)?].concat()),
                None => None,
            },
        };
        let headers = table.header.into_iter().flat_map(|(name, values)| {
            values.into_vec().into_iter().map(move |value| (name.clone(), Secret::new(value)))
        });
        let headers: Vec<_> = headers.collect();
        let untouched = authorities.is_empty() && identity.is_none() && headers.is_empty();
        if untouched && !table.skip_verify && !self.plain {
            return Ok(());
        }
        let host = host(config, name);
        host.ca_certificates.extend(authorities);
        host.identity = identity.or(host.identity.take());
        host.skip_tls_verify |= table.skip_verify;
        host.headers.extend(headers);
        if self.plain {
            host.plain_http = Some(true);
        }
        Ok(())
    }

    /// A file named by the settings, relative to them.
    fn pem(&self, path: &str) -> Result<Vec<u8>, RegistryError> {
        let path = self.dir.join(path);
        std::fs::read(&path)
            .map_err(|e| failure(self.file, self.line, format!("cannot read {}: {e}", path.display())))
    }
}

/// The line that a key stands on.
fn line_with(text: &str, key: &str) -> Option<usize> {
    text.lines().position(|line| line.trim_start().starts_with(key)).map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_of(registry: &str, text: &str) -> Result<ClientConfig, String> {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(registry);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("hosts.toml"), text).unwrap();
        std::fs::write(dir.join("ca.pem"), "CA").unwrap();
        let mut config = ClientConfig::default();
        apply(&dir, &mut config).map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn hosts_are_mirrors_in_the_order_of_the_file() {
        let text = r#"
server = "https://registry-1.docker.io"
[host."https://z.tld"]
  capabilities = ["pull", "resolve"]
  ca = "ca.pem"
  [host."https://z.tld".header]
    x-one = "1"
    x-two = ["2", "3"]
[host."http://a.tld:5000/hub"]
  capabilities = ["pull"]
[host."https://m.tld/api/x"]
  override_path = true
  skip_verify = true
[host."https://p.tld"]
  capabilities = ["push"]
"#;
        let config = config_of("docker.io", text).unwrap();
        let route = &config.routes[0];
        assert_eq!((route.prefix.as_str(), route.location.as_ref()), ("docker.io", None));
        let mirrors: Vec<_> = route.mirrors.iter().map(|m| (m.location.as_str(), m.resolves_tags)).collect();
        assert_eq!(
            mirrors,
            [("https://z.tld/v2", true), ("http://a.tld:5000/hub/v2", false), ("https://m.tld/api/x", true)]
        );
        let z = &config.hosts["z.tld"];
        assert_eq!(z.ca_certificates, [b"CA".to_vec()]);
        let headers: Vec<_> = z.headers.iter().map(|(n, v)| (n.as_str(), v.expose())).collect();
        assert_eq!(headers, [("x-one", "1"), ("x-two", "2"), ("x-two", "3")]);
        assert_eq!(config.hosts["a.tld:5000"].plain_http, Some(true));
        assert!(config.hosts["m.tld"].skip_tls_verify);
    }

    #[test]
    fn a_server_elsewhere_is_where_the_registry_is() {
        let config = config_of("r.tld_5000_", "server = 'http://s.tld/x'\nskip_verify = true\n").unwrap();
        let route = &config.routes[0];
        assert_eq!(route.prefix, "r.tld:5000");
        assert_eq!(route.location.as_deref(), Some("http://s.tld/x/v2"));
        let all = config_of("_default", "[host.'https://m.tld']\n").unwrap();
        assert_eq!(all.routes[0].prefix, "");
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, why) in [
            ("\nserver = 'ftp://x.tld'\n", "hosts.toml:2: `ftp://x.tld` is neither"),
            ("\n[host.'https://a.tld']\ncapabilities=['pul']", "hosts.toml:2: there is no capability `pul`"),
            ("\n[host.'https://a.tld']\nca='none.pem'", "none.pem"),
            ("[host.'https://u:p@a.tld']\n", "hosts.toml:1: a host with a user name"),
            ("server = 3", "hosts.toml:1: "),
        ] {
            let error = config_of("r.tld", text).map(drop).unwrap_err();
            assert!(error.contains(why), "{error}: wanted {why}");
        }
    }
}
