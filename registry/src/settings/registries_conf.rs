//! `registries.conf`, version 2 (containers-registries.conf(5)).
//!
//! Taken: `[[registry]]` with `prefix`, `location`, `insecure`, `blocked`, `mirror-by-digest-only` and `mirror`s.
//! Read past, because forge's names are Docker's: `unqualified-search-registries`, `short-name-mode` and aliases.
//! `credential-helpers` are podman's own; forge asks those of Docker's `config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::{failure, host, line_of, parse};
use crate::RegistryError;
use crate::config::{ClientConfig, Mirror, Route};
use crate::reference::check_registry;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    registry: Vec<Spanned<Registry>>,
    #[serde(rename = "unqualified-search-registries")]
    _search: Option<IgnoredAny>,
    #[serde(rename = "short-name-mode")]
    _mode: Option<IgnoredAny>,
    #[serde(rename = "credential-helpers")]
    _helpers: Option<IgnoredAny>,
    #[serde(rename = "additional-layer-store-auth-helper")]
    _layers: Option<IgnoredAny>,
    #[serde(rename = "aliases")]
    _aliases: Option<IgnoredAny>,
    /// Version 1, given up in 2019.
    registries: Option<Spanned<IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Registry {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Spanned<MirrorTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct MirrorTable {
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<PullFromMirror>,
}

#[derive(Deserialize, PartialEq, Eq, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum PullFromMirror {
    All,
    DigestOnly,
    TagOnly,
}

/// The tables of all files, by prefix: what comes later replaces what was there.
#[derive(Default)]
pub struct Registries {
    tables: BTreeMap<String, Table>,
}

struct Table {
    route: Route,
    insecure: Vec<String>,
}

impl Registries {
    /// Reads one more file.
    pub fn add(&mut self, path: &Path, text: &str) -> Result<(), RegistryError> {
        let file: File = parse(path, text)?;
        if let Some(old) = file.registries {
            let detail = "`[registries…]` is version 1 of this format; write `[[registry]]` tables";
            return Err(failure(path, Some(line_of(text, old.span().start)), detail));
        }
        for table in file.registry {
            let at = At { path, text, start: table.span().start };
            let table = at.table(table.into_inner())?;
            self.tables.insert(table.route.prefix.clone(), table);
        }
        Ok(())
    }

    /// Adds the routes, and the hosts that are called insecure.
    pub fn apply(self, config: &mut ClientConfig) {
        for Table { route, insecure } in self.tables.into_values() {
            config.routes.push(route);
            for name in insecure {
                let host = host(config, &name);
                host.insecure = true;
                host.trust_private_addresses = true;
            }
        }
    }
}

/// Where a table stands, for messages.
struct At<'a> {
    path: &'a Path,
    text: &'a str,
    start: usize,
}

impl At<'_> {
    fn fail(&self, detail: impl Into<String>) -> RegistryError {
        failure(self.path, Some(self.line()), detail)
    }

    fn line(&self) -> usize {
        line_of(self.text, self.start)
    }

    fn table(&self, table: Registry) -> Result<Table, RegistryError> {
        let location = table.location.filter(|location| !location.is_empty());
        let prefix = table.prefix.filter(|prefix| !prefix.is_empty()).or_else(|| location.clone());
        let prefix = prefix.ok_or_else(|| self.fail("this registry has neither `prefix` nor `location`"))?;
        let prefix = prefix.trim_end_matches('/').to_owned();
        match prefix.strip_prefix("*.") {
            Some(host) => self.check_host(host)?,
            None => self.check(&prefix)?,
        }
        let own = location.clone().unwrap_or_else(|| prefix.clone());
        let mut insecure = Vec::new();
        if table.insecure {
            if own.starts_with("*.") {
                let detail = "`insecure` for all hosts of a domain is not supported; \
                              name the hosts, or give a `location`";
                return Err(self.fail(detail));
            }
            insecure.push(host_of(&own).to_owned());
        }
        if let Some(location) = &location {
            self.check(location)?;
        }
        let mut mirrors = Vec::new();
        for mirror in table.mirror {
            let at = At { start: mirror.span().start, ..*self };
            let mirror = mirror.into_inner();
            at.check(&mirror.location)?;
            if mirror.insecure {
                insecure.push(host_of(&mirror.location).to_owned());
            }
            let digests = mirror.pull_from_mirror == Some(PullFromMirror::DigestOnly);
            let resolves_tags = !(digests || table.mirror_by_digest_only);
            mirrors.push(Mirror { location: mirror.location, resolves_tags });
        }
        let blocked = table.blocked.then(|| format!("{}:{}", self.path.display(), self.line()));
        let location = location.filter(|location| *location != prefix);
        Ok(Table { route: Route { prefix, location, mirrors, blocked }, insecure })
    }

    /// `host[:port][/path]`.
    fn check(&self, location: &str) -> Result<(), RegistryError> {
        if location.contains("://") {
            return Err(self.fail(format!("`{location}` has a scheme; write host[:port][/path]")));
        }
        let path = location.split_once('/').map_or("", |(_, path)| path);
        if path.contains(['@', ':']) {
            let detail = format!("`{location}` names a tag or a digest; forge takes repositories and above");
            return Err(self.fail(detail));
        }
        self.check_host(host_of(location))
    }

    fn check_host(&self, host: &str) -> Result<(), RegistryError> {
        check_registry(host).map_err(|e| self.fail(e.to_string()))
    }
}

fn host_of(location: &str) -> &str {
    location.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn read(texts: &[&str]) -> Result<ClientConfig, String> {
        let mut all = Registries::default();
        for text in texts {
            all.add(&PathBuf::from("r.conf"), text).map_err(|e| e.to_string())?;
        }
        let mut config = ClientConfig::default();
        all.apply(&mut config);
        Ok(config)
    }

    #[test]
    fn tables_become_routes() {
        let text = r#"
unqualified-search-registries = ["docker.io"]
short-name-mode = "enforcing"
[[registry]]
prefix = "example.com/foo"
location = "internal.tld:5000/bar"
insecure = true
[[registry.mirror]]
location = "m1.tld"
insecure = true
[[registry.mirror]]
location = "m2.tld/x"
pull-from-mirror = "digest-only"
[[registry]]
location = "docker.io"
mirror-by-digest-only = true
mirror = [{ location = "hub.tld", pull-from-mirror = "tag-only" }]
[[registry]]
prefix = "*.bad.tld"
blocked = true
[aliases]
debian = "docker.io/library/debian"
"#;
        let config = read(&[text]).unwrap();
        let mirror = |location: &str, resolves_tags| Mirror { location: location.into(), resolves_tags };
        let wanted = [
            Route { prefix: "*.bad.tld".into(), blocked: Some("r.conf:18".into()), ..Route::default() },
            Route { prefix: "docker.io".into(), mirrors: vec![mirror("hub.tld", false)], ..Route::default() },
            Route {
                prefix: "example.com/foo".into(),
                location: Some("internal.tld:5000/bar".into()),
                mirrors: vec![mirror("m1.tld", true), mirror("m2.tld/x", false)],
                ..Route::default()
            },
        ];
        assert_eq!(config.routes, wanted);
        let insecure: Vec<&String> = config.hosts.keys().collect();
        assert_eq!(insecure, ["internal.tld:5000", "m1.tld"]);
        assert!(config.hosts.values().all(|host| host.insecure && host.plain_http.is_none()));
    }

    #[test]
    fn later_files_replace_what_has_the_same_prefix() {
        let one =
            "[[registry]]\nlocation='a.tld'\nblocked=true\n[[registry]]\nlocation='b.tld'\ninsecure=true\n";
        let two = "[[registry]]\nlocation='a.tld'\n[[registry]]\nlocation='b.tld'\n";
        let config = read(&[one, two]).unwrap();
        assert!(config.routes.iter().all(|route| route.blocked.is_none()));
        assert!(config.hosts.is_empty());
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, why) in [
            ("\n[[registry]]\nlocation = 'a.tld'\nbloked = true\n", "r.conf:4: unknown field `bloked`"),
            (
                "[[registry]]\nlocation='b.tld'\n[[registry]]\nlocation='https://a.tld'",
                "r.conf:3: `https://a.tld` has a scheme",
            ),
            ("[[registry]]\nblocked=true", "r.conf:1: this registry has neither"),
            ("[[registry]]\nlocation='a.tld/x:1'", "r.conf:1: `a.tld/x:1` names a tag"),
            ("[[registry]]\nlocation='a b'", "r.conf:1: "),
            ("[registries.search]\nregistries=['a']", "r.conf:1: `[registries"),
            ("x = \n", "r.conf:1: "),
            ("[[registry]]\nlocation='a.tld'\ninsecure='yes'", "r.conf:3: invalid type"),
            ("[[registry]]\nprefix='*.a.tld'\ninsecure=true", "r.conf:1: `insecure` for all hosts"),
            (
                "[[registry]]\nlocation='a.tld'\n[[registry.mirror]]\nlocation='b.tld'\npull-from-mirror='no'",
                "r.conf:5: unknown variant",
            ),
        ] {
            let error = read(&[text]).map(drop).unwrap_err();
            assert!(error.contains(why), "{error}: wanted {why}");
        }
    }
}
