//! What forge takes from its environment. No other file reads it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use forge_registry::SettingsFiles;

use crate::failure::{Failure, Kind};

/// Where the store is if the user says nothing.
pub fn default_root(is_root: bool) -> Result<PathBuf, Failure> {
    if is_root {
        return Ok("/var/lib/forge".into());
    }
    let data = env::var_os("XDG_DATA_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = env::var_os("HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    data.or_else(|| home.map(|home| home.join(".local/share"))).map(|data| data.join("forge")).ok_or_else(
        || {
            Failure::new(
                Kind::Usage,
                "there is no HOME to keep images in",
                Some("say where with --root DIR".into()),
            )
        },
    )
}

/// Where small files of the running system go: network leases.
pub fn runtime_dir(is_root: bool) -> PathBuf {
    if is_root {
        return "/run/forge".into();
    }
    env::var_os("XDG_RUNTIME_DIR")
        .filter(|path| !path.is_empty())
        .map(|path| PathBuf::from(path).join("forge"))
        .unwrap_or_else(|| env::temp_dir().join(format!("forge-{}", forge_runner::userns::outer_uid())))
}

/// The command line, without forge's own name; none where it is no text.
pub fn words() -> Option<Vec<String>> {
    env::args_os().skip(1).map(|word| word.into_string().ok()).collect()
}

/// Where forge was started.
pub fn directory() -> Option<PathBuf> {
    env::current_dir().ok()
}

/// A variable's value, as `--build-arg NAME` and `-e NAME` take it over.
pub fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// `SOURCE_DATE_EPOCH`, as written; an empty one counts as none.
pub fn source_date_epoch() -> Option<String> {
    variable("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty())
}

/// Where Docker's client keeps its settings, contexts and certificates.
pub fn docker_dir() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    set("DOCKER_CONFIG").or_else(|| set("HOME").map(|home| home.join(".docker")))
}

/// Files that may hold credentials, the first that exists counts: Docker's, then podman's.
pub fn auth_files() -> Vec<PathBuf> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let docker =
        env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(|| home.map(|home| home.join(".docker")));
    let named = env::var_os("REGISTRY_AUTH_FILE").map(PathBuf::from);
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("containers/auth.json"));
    named.into_iter().chain(docker.map(|dir| dir.join("config.json"))).chain(runtime).collect()
}

/// Where registries are set up: podman's files, containerd's, and the certificates of Docker and both. Where the
/// user has a `registries.conf`, the system's is not read, as podman does it.
pub fn registry_settings() -> SettingsFiles {
    let config = env::var_os("XDG_CONFIG_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = env::var_os("HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let user = config.or_else(|| home.map(|home| home.join(".config")));
    let named = env::var_os("CONTAINERS_REGISTRIES_CONF").filter(|path| !path.is_empty()).map(PathBuf::from);
    let system = Path::new("/etc/containers");
    let own = user.as_ref().map(|dir| dir.join("containers"));
    let own_file = own.as_ref().map(|dir| dir.join("registries.conf")).filter(|path| path.exists());
    let system_file = Some(system.join("registries.conf")).filter(|path| path.exists());
    let is_own = named.is_none() && own_file.is_some();
    let drop_ins = [(!is_own).then(|| system.to_owned()), own.clone()];
    let under = |name: &str, system: &[&str]| {
        let own = user.iter().map(|dir| dir.join(name));
        own.chain(system.iter().map(PathBuf::from)).collect::<Vec<_>>()
    };
    SettingsFiles {
        registries_conf: named.or(own_file).or(system_file),
        registries_conf_dirs: drop_ins
            .into_iter()
            .flatten()
            .map(|dir| dir.join("registries.conf.d"))
            .collect(),
        hosts_dirs: under("containerd/certs.d", &["/etc/containerd/certs.d"]),
        certificate_dirs: under("containers/certs.d", &["/etc/containers/certs.d", "/etc/docker/certs.d"]),
    }
}

/// `PATH`, to find helpers in.
pub fn search_path() -> OsString {
    env::var_os("PATH")
        .unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into())
}

/// Proxy variables, for registries.
pub fn proxies() -> BTreeMap<String, String> {
    let names = [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "NO_PROXY",
        "no_proxy",
        "ALL_PROXY",
        "all_proxy",
    ];
    names.iter().filter_map(|name| Some(((*name).to_owned(), env::var(name).ok()?))).collect()
}

/// What git needs to reach the network: proxies and certificates.
pub fn for_git() -> Vec<(OsString, OsString)> {
    let certificates = ["SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO"];
    let certificates = certificates.iter().filter_map(|name| Some(((*name).into(), env::var_os(name)?)));
    certificates.chain(proxies().into_iter().map(|(name, value)| (name.into(), value.into()))).collect()
}

/// The user's home and agent, for repositories that the user names.
pub fn of_user() -> Vec<(OsString, OsString)> {
    let names = ["HOME", "USER", "LOGNAME", "SSH_AUTH_SOCK"];
    names.iter().filter_map(|name| Some(((*name).into(), env::var_os(name)?))).collect()
}

/// What credential helpers get to see.
pub fn for_helpers() -> Vec<(OsString, OsString)> {
    env::vars_os().collect()
}
