//! `-v`, `--mount` and `--tmpfs` of `forge run`, in Docker's words.

use std::path::PathBuf;

use forge_runner::container::{Volume, VolumeSource};

use crate::args::Run;
use crate::failure::{Failure, Kind};

/// Reads all of them; a later one of the same place is mounted over an earlier one.
pub fn read(args: &Run) -> Result<Vec<Volume>, Failure> {
    let volumes = args.volumes.iter().map(|text| volume(text));
    let mounts = args.mounts.iter().map(|text| mount(text));
    let tmpfs = args.tmpfs.iter().map(|text| tmpfs(text));
    volumes.chain(mounts).chain(tmpfs).collect()
}

/// `HOST:CONTAINER[:ro|rw]`.
fn volume(text: &str) -> Result<Volume, Failure> {
    let fail = |why: &str| usage(&format!("--volume {text}: {why}"), "write HOST-PATH:CONTAINER-PATH[:ro]");
    let parts: Vec<&str> = text.split(':').collect();
    let (host, target, options) = match parts.as_slice() {
        [host, target] => (*host, *target, ""),
        [host, target, options] => (*host, *target, *options),
        [_] => return Err(fail("this version of forge keeps no volumes of its own")),
        _ => return Err(fail("it has too many parts")),
    };
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" | "readonly" => read_only = true,
            "rw" => read_only = false,
            _ => return Err(fail(&format!("there is no option `{option}`"))),
        }
    }
    Ok(Volume { source: host_path("--volume", text, host)?, target: target_path(target, &fail)?, read_only })
}

/// `type=bind,source=…,target=…[,readonly]` or `type=tmpfs,target=…[,tmpfs-size=…][,tmpfs-mode=…]`.
fn mount(text: &str) -> Result<Volume, Failure> {
    let fail = |why: &str| {
        usage(&format!("--mount {text}: {why}"), "write type=bind,source=PATH,target=PATH[,readonly]")
    };
    let (mut kind, mut source, mut target, mut read_only) = ("volume", None, None, false);
    let (mut size_bytes, mut mode) = (None, 0o1777);
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match key {
            "type" => kind = value,
            "source" | "src" => source = Some(value),
            "target" | "destination" | "dst" => target = Some(value),
            "readonly" | "ro" => read_only = matches!(value, "" | "true" | "1"),
            "tmpfs-size" => {
                size_bytes = Some(forge_parser::parse_size(value).map_err(|e| fail(&e.to_string()))?)
            }
            "tmpfs-mode" => {
                mode = u32::from_str_radix(value, 8).map_err(|_| fail("the mode is not octal"))?
            }
            _ => return Err(fail(&format!("there is no `{key}`"))),
        }
    }
    let target = target_path(target.ok_or_else(|| fail("it has no target"))?, &fail)?;
    let source = match (kind, source) {
        ("bind", Some(source)) => host_path("--mount", text, source)?,
        ("bind", None) => return Err(fail("it has no source")),
        ("tmpfs", None) => VolumeSource::Tmpfs { size_bytes, mode },
        ("tmpfs", Some(_)) => return Err(fail("memory has no source")),
        (other, _) => return Err(fail(&format!("there is no type `{other}`; there are bind and tmpfs"))),
    };
    Ok(Volume { source, target, read_only })
}

/// `PATH[:size=…,mode=…,ro]`.
fn tmpfs(text: &str) -> Result<Volume, Failure> {
    let fail = |why: &str| usage(&format!("--tmpfs {text}: {why}"), "write PATH[:size=SIZE,mode=OCTAL]");
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut size_bytes, mut mode, mut read_only) = (None, 0o1777, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=').unwrap_or((option, "")) {
            ("size", size) => {
                size_bytes = Some(forge_parser::parse_size(size).map_err(|e| fail(&e.to_string()))?)
            }
            ("mode", octal) => {
                mode = u32::from_str_radix(octal, 8).map_err(|_| fail("the mode is not octal"))?
            }
            ("ro", "") => read_only = true,
            // What every tmpfs has here anyway.
            ("rw" | "nosuid" | "nodev", "") => {}
            _ => return Err(fail(&format!("there is no option `{option}`"))),
        }
    }
    Ok(Volume {
        source: VolumeSource::Tmpfs { size_bytes, mode },
        target: target_path(target, &fail)?,
        read_only,
    })
}

fn target_path(target: &str, fail: &dyn Fn(&str) -> Failure) -> Result<String, Failure> {
    if !target.starts_with('/') || target.trim_matches('/').is_empty() {
        return Err(fail("the place in the container must be an absolute path, and not `/`"));
    }
    Ok(target.to_owned())
}

/// A path of the host, which must be there: one that was made by accident helps nobody.
fn host_path(flag: &str, text: &str, path: &str) -> Result<VolumeSource, Failure> {
    if !path.starts_with(['/', '.']) {
        let message = format!(
            "{flag} {text}: `{path}` would be a volume of forge's own, which this version does not have"
        );
        return Err(usage(&message, "give a path: /… or ./…"));
    }
    let found = PathBuf::from(path).canonicalize().map_err(|error| {
        usage(&format!("{flag} {text}: {path}: {error}"), "make it first, as a file or directory")
    })?;
    Ok(VolumeSource::Host(found))
}

fn usage(message: &str, hint: &str) -> Failure {
    Failure::new(Kind::Usage, message, Some(hint.to_owned()))
}
