//! Where Docker is, as its own client finds it: `DOCKER_HOST` with its certificates, else the context that
//! `DOCKER_CONTEXT` or `docker context use` names (github.com/docker/cli, `cli/context/store`).

use std::fs;
use std::path::{Path, PathBuf};

use forge_exporter::load::Address;
use forge_registry::tls::{self, Trust};
use forge_store::Digest;
use serde::Deserialize;

use crate::engines::needed;
use crate::environment;
use crate::failure::{Failure, Kind};

/// A place that the user named.
struct Named {
    host: String,
    trust: Option<Trust>,
    /// By what it was named, for messages.
    by: String,
}

/// The address that the user set up; nothing where there is none, and Docker is at its usual socket.
pub fn find(is_inside: bool) -> Result<Option<Address>, Failure> {
    let Some(named) = by_variable()?.map_or_else(by_context, |named| Ok(Some(named)))? else {
        return Ok(None);
    };
    let wrong = |detail: String| {
        let hint = "set DOCKER_HOST, or choose another with `docker context use`";
        Failure::new(Kind::Usage, format!("{}: {detail}", named.by), Some(hint.into()))
    };
    if let Some(rest) = named.host.strip_prefix("ssh://") {
        if is_inside {
            let hint = "build with -t NAME, then run `forge copy NAME docker-daemon:NAME`";
            let message = "ssh cannot be used from a build without root: it would not find the user's keys";
            return Err(Failure::new(Kind::Sandbox, message, Some(hint.into())));
        }
        let args = ssh_arguments(rest).map_err(wrong)?;
        return Ok(Some(Address::Command { program: needed("ssh")?, args, shown: named.host.clone() }));
    }
    let config = named.trust.as_ref().map(tls::config).transpose().map_err(wrong)?;
    Address::parse(&named.host, config).map(Some).map_err(wrong)
}

/// True where the user set Docker up to be somewhere.
pub fn is_named() -> bool {
    set("DOCKER_HOST").is_some() || context_name().is_some()
}

fn set(name: &str) -> Option<String> {
    environment::variable(name).filter(|value| !value.is_empty())
}

fn by_variable() -> Result<Option<Named>, Failure> {
    let Some(host) = set("DOCKER_HOST") else { return Ok(None) };
    let verifies = set("DOCKER_TLS_VERIFY").is_some();
    if !verifies && set("DOCKER_TLS").is_none() {
        return Ok(Some(Named { host, trust: None, by: "DOCKER_HOST".into() }));
    }
    let dir = set("DOCKER_CERT_PATH").map(PathBuf::from).or_else(environment::docker_dir).unwrap_or_default();
    let trust = trust(&dir, !verifies)?;
    Ok(Some(Named { host, trust: Some(trust), by: "DOCKER_HOST".into() }))
}

/// `ca.pem`, `cert.pem` and `key.pem` of a directory.
fn trust(dir: &Path, skip_verify: bool) -> Result<Trust, Failure> {
    let read = |name: &str| match fs::read(dir.join(name)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(|e| unreadable(&dir.join(name), &e.to_string())),
    };
    let identity = match (read("cert.pem")?, read("key.pem")?) {
        (Some(cert), Some(key)) => Some([cert, b"\n".to_vec(), key].concat()),
        (None, None) => None,
        _ => return Err(unreadable(dir, "it has only one of cert.pem and key.pem")),
    };
    match read("ca.pem")? {
        None if !skip_verify => Err(unreadable(dir, "it has no ca.pem to know Docker by")),
        authorities => Ok(Trust { authorities: authorities.unwrap_or_default(), identity, skip_verify }),
    }
}

fn unreadable(path: &Path, detail: &str) -> Failure {
    let hint = "DOCKER_CERT_PATH names the directory of ca.pem, cert.pem and key.pem";
    Failure::new(Kind::Input, format!("cannot use {}: {detail}", path.display()), Some(hint.into()))
}

/// The context that is in use, unless that is Docker's default one.
fn context_name() -> Option<String> {
    #[derive(Deserialize)]
    struct Settings {
        #[serde(rename = "currentContext")]
        current: Option<String>,
    }
    let kept = || {
        let text = fs::read(environment::docker_dir()?.join("config.json")).ok()?;
        serde_json::from_slice::<Settings>(&text).ok()?.current
    };
    set("DOCKER_CONTEXT").or_else(kept).filter(|name| !name.is_empty() && name != "default")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Context {
    endpoints: std::collections::BTreeMap<String, Endpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    #[serde(default)]
    host: String,
    #[serde(default, rename = "SkipTLSVerify")]
    skip_verify: bool,
}

fn by_context() -> Result<Option<Named>, Failure> {
    let (Some(name), Some(dir)) = (context_name(), environment::docker_dir()) else { return Ok(None) };
    let id = Digest::of(name.as_bytes()).hex();
    let meta = dir.join("contexts/meta").join(&id).join("meta.json");
    let wrong = |detail: String| {
        let hint = "`docker context ls` lists what there is";
        let message = format!("cannot use the Docker context `{name}`: {}: {detail}", meta.display());
        Failure::new(Kind::Input, message, Some(hint.into()))
    };
    let text = fs::read(&meta).map_err(|e| wrong(e.to_string()))?;
    let mut context: Context = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
    let endpoint = context.endpoints.remove("docker").ok_or_else(|| wrong("it names no Docker".into()))?;
    if endpoint.host.is_empty() {
        return Ok(None);
    }
    let certificates = dir.join("contexts/tls").join(&id).join("docker");
    let wants_tls = certificates.is_dir() || endpoint.skip_verify;
    let trust = wants_tls.then(|| trust(&certificates, endpoint.skip_verify)).transpose()?;
    Ok(Some(Named { host: endpoint.host, trust, by: format!("the Docker context `{name}`") }))
}

/// What ssh is called with for `[user@]host[:port][/socket]`, as Docker's client does it.
fn ssh_arguments(rest: &str) -> Result<Vec<String>, String> {
    let (at, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, at) = at.rsplit_once('@').map_or((None, at), |(user, at)| (Some(user), at));
    let (host, port) = match at.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (at, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_plain = |text: &str| !text.is_empty() && !text.starts_with('-');
    if !is_plain(host) || user.is_some_and(|user| !is_plain(user) || user.contains(':')) {
        return Err(format!("`ssh://{rest}` is not ssh://[user@]host[:port]"));
    }
    let mut args = vec!["-o".to_owned(), "ConnectTimeout=30".into(), "-T".into()];
    for (flag, value) in [("-l", user), ("-p", port)] {
        args.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value.to_owned()]));
    }
    args.extend(["--".to_owned(), host.to_owned(), "docker".to_owned()]);
    if !path.is_empty() {
        args.extend(["--host".to_owned(), format!("unix:///{path}")]);
    }
    args.extend(["system".to_owned(), "dial-stdio".to_owned()]);
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_is_called_as_docker_calls_it() {
        let before = "-o ConnectTimeout=30 -T";
        for (rest, want) in [
            ("host", "-- host docker system dial-stdio"),
            ("me@host:2222", "-l me -p 2222 -- host docker system dial-stdio"),
            ("[fd00::1]:22", "-p 22 -- fd00::1 docker system dial-stdio"),
            ("host/run/d.sock", "-- host docker --host unix:///run/d.sock system dial-stdio"),
        ] {
            assert_eq!(ssh_arguments(rest).unwrap().join(" "), format!("{before} {want}"));
        }
        for bad in ["", "-oProxyCommand=x", "-l@host", "me:pw@host", "@host"] {
            assert!(ssh_arguments(bad).is_err(), "{bad}");
        }
    }
}
