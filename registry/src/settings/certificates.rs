//! Certificate directories, the same for Docker, podman and containerd: in `certs.d/<host:port>/`, `*.crt` are
//! authorities to trust, and `x.cert` with `x.key` is who we are.

use std::fs;
use std::path::Path;

use super::{children, host};
use crate::config::ClientConfig;
use crate::reference::check_registry;

/// Adds the certificates in one host's directory. What is wrong with them is told to whoever uses that host: other
/// registries do not need them.
pub fn apply(dir: &Path, config: &mut ClientConfig) {
    let Some(name) = dir.file_name().and_then(|name| name.to_str()) else { return };
    if check_registry(name).is_err() || !dir.is_dir() {
        return;
    }
    if let Err(detail) = add(dir, name, config) {
        host(config, name).broken = Some(detail);
    }
}

fn add(dir: &Path, name: &str, config: &mut ClientConfig) -> Result<(), String> {
    let read = |path: &Path| fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()));
    let list = |end: &'static str| children(dir, |name| name.ends_with(end)).map_err(|e| e.to_string());
    for path in list(".crt")? {
        let pem = read(&path)?;
        host(config, name).ca_certificates.push(pem);
    }
    let cert = list(".cert")?.into_iter().next();
    if let (None, Some(key)) = (&cert, list(".key")?.first()) {
        return Err(format!("there is no .cert beside {}", key.display()));
    }
    if let Some(cert) = cert {
        let key = cert.with_extension("key");
        if !key.exists() {
            return Err(format!("there is no {} for {}", key.display(), cert.display()));
        }
        let pem = [read(&cert)?, b"\n".to_vec(), read(&key)?].concat();
        host(config, name).identity = Some(pem);
    }
    Ok(())
}
