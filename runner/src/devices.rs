//! `RUN --device`: devices of the host by the names that the Container Device Interface gives them (CDI,
//! github.com/cncf-tags/container-device-interface).
//!
//! Specifications are read from `/etc/cdi` and `/var/run/cdi`, the later directory first where both name a device.
//! JSON only: that is what a specification may be written in everywhere, and it needs no further parser. Hooks are
//! programs that the host's container runtime would execute as root around the start; forge executes none, and says
//! so.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use forge_solver::event::Event;
use forge_solver::op::DeviceOp;
use forge_solver::{Job, TroubleKind, WorldError};
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use crate::detach;
use crate::sandbox::spec::{Device, Mount, MountSource, SandboxSpec};

/// Where specifications lie; a later directory wins.
const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// The largest specification that is read, in bytes.
const SPECIFICATION_BYTES_MAX: u64 = 8 << 20;
/// The annotation by which BuildKit lets a device be asked for by its class.
const CLASS_ANNOTATION: &str = "org.mobyproject.buildkit.device.class";

#[derive(Debug, Deserialize)]
struct Specification {
    kind: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    devices: Vec<NamedDevice>,
    #[serde(default, rename = "containerEdits")]
    edits: Edits,
}

#[derive(Debug, Deserialize)]
struct NamedDevice {
    name: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    #[serde(default, rename = "containerEdits")]
    edits: Edits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Edits {
    #[serde(default)]
    env: Vec<String>,
    #[serde(default)]
    device_nodes: Vec<Node>,
    #[serde(default)]
    mounts: Vec<BindMount>,
    #[serde(default)]
    hooks: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: String,
    host_path: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindMount {
    host_path: PathBuf,
    container_path: String,
    #[serde(default)]
    options: Vec<String>,
}

/// Adds the devices that a step asks for to its sandbox.
pub(crate) fn add(
    wanted: &[DeviceOp],
    spec: &mut SandboxSpec,
    handles: &mut Vec<OwnedFd>,
    job: &Job<'_>,
) -> Result<(), WorldError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let known = Known::read(&DIRECTORIES.map(Path::new))?;
    let say = |text: String| job.events.emit(Event::Note { step: job.step, text });
    for device in wanted {
        let found = known.find(&device.name);
        if found.is_empty() {
            if device.required {
                return Err(known.missing(&device.name));
            }
            say(format!("warning: device {} is not there, and not required", device.name));
        }
        for edits in found {
            apply(edits, spec, handles)?;
            if !edits.hooks.is_empty() {
                say(format!("warning: the hooks of device {} are not executed", device.name));
            }
        }
    }
    Ok(())
}

/// Every specification that can be read.
struct Known {
    specifications: Vec<Specification>,
    /// Some are written in YAML.
    has_yaml: bool,
}

impl Known {
    fn read(directories: &[&Path]) -> Result<Known, WorldError> {
        let mut known = Known { specifications: Vec::new(), has_yaml: false };
        for directory in directories.iter().rev() {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            paths.sort();
            for path in paths {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("json") => known.specifications.push(parse(&path)?),
                    Some("yaml" | "yml") => known.has_yaml = true,
                    _ => {}
                }
            }
        }
        Ok(known)
    }

    /// The edits of all devices that a name means, those of their specification before their own.
    fn find(&self, name: &str) -> Vec<&Edits> {
        let Some((kind, wanted)) =
            name.split_once('=').map(|(kind, name)| (kind, Some(name))).or_else(|| {
                let is_kind = name.contains('/');
                is_kind.then_some((name, None))
            })
        else {
            return self.select(|specification, device| {
                [&device.annotations, &specification.annotations]
                    .iter()
                    .any(|annotations| annotations.get(CLASS_ANNOTATION).is_some_and(|class| class == name))
            });
        };
        let all = self.select(|specification, device| {
            specification.kind == kind && wanted.is_none_or(|wanted| wanted == "*" || wanted == device.name)
        });
        match wanted {
            Some("*") => all,
            // A specification's own edits and the device's: the first that has the name, or the first of the kind.
            _ => all.into_iter().take(2).collect(),
        }
    }

    fn select(&self, fits: impl Fn(&Specification, &NamedDevice) -> bool) -> Vec<&Edits> {
        let mut found = Vec::new();
        for specification in &self.specifications {
            for device in specification.devices.iter().filter(|device| fits(specification, device)) {
                found.extend([&specification.edits, &device.edits]);
            }
        }
        found
    }

    fn missing(&self, name: &str) -> WorldError {
        let names: Vec<String> = self
            .specifications
            .iter()
            .flat_map(|spec| spec.devices.iter().map(move |device| format!("{}={}", spec.kind, device.name)))
            .collect();
        let hint = match (names.is_empty(), self.has_yaml) {
            (false, false) => format!("there are {}", names.join(", ")),
            (false, true) => {
                format!("there are {}; specifications in YAML are not read, only JSON", names.join(", "))
            }
            (true, false) => format!("describe it in a JSON file in {}", DIRECTORIES.join(" or ")),
            (true, true) => {
                "this version of forge reads specifications in JSON only: for example nvidia-ctk cdi generate \
                 --format=json --output=/etc/cdi/nvidia.json"
                    .into()
            }
        };
        WorldError::new(TroubleKind::NotFound, format!("device {name}: no specification names it")).hint(hint)
    }
}

fn parse(path: &Path) -> Result<Specification, WorldError> {
    let fail = |cause: String| {
        WorldError::new(
            TroubleKind::Input,
            format!("cannot read device specification {}: {cause}", path.display()),
        )
    };
    let size = fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
    if size > SPECIFICATION_BYTES_MAX {
        return Err(fail(format!("it has more than {SPECIFICATION_BYTES_MAX} bytes")));
    }
    serde_json::from_slice(&fs::read(path).map_err(|e| fail(e.to_string()))?).map_err(|e| fail(e.to_string()))
}

fn apply(edits: &Edits, spec: &mut SandboxSpec, handles: &mut Vec<OwnedFd>) -> Result<(), WorldError> {
    for variable in &edits.env {
        let name = variable.split('=').next().unwrap_or(variable);
        let is_set = |known: &String| known.strip_prefix(name).is_some_and(|rest| rest.starts_with('='));
        spec.env.retain(|known| !is_set(known));
        spec.env.push(variable.clone());
    }
    for node in &edits.device_nodes {
        if !node.path.starts_with("/dev/") {
            let message = format!("cannot place device node {}: it does not lie in /dev", node.path);
            return Err(WorldError::new(TroubleKind::Input, message));
        }
        let host = node.host_path.clone().unwrap_or_else(|| node.path.clone().into());
        let device = Device { host, target: node.path.clone() };
        if !spec.devices.contains(&device) {
            spec.devices.push(device);
        }
    }
    for mount in &edits.mounts {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&mount.host_path, flags, Mode::empty()).map_err(std::io::Error::from);
        let handle = opened.and_then(|file| detach(file.as_fd(), true)).map_err(|error| {
            let message = format!("cannot mount {} of a device: {error}", mount.host_path.display());
            WorldError::new(TroubleKind::Input, message)
        })?;
        handles.push(handle);
        spec.mounts.push(Mount {
            target: mount.container_path.clone(),
            source: MountSource::Handle(handles.len() - 1),
            read_only: mount.options.iter().any(|option| option == "ro"),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let text = r#"{"cdiVersion": "0.6.0", "kind": "vendor.com/gpu",
            "containerEdits": {"env": ["ALL=1"]},
            "devices": [
                {"name": "one", "containerEdits": {"deviceNodes": [{"path": "/dev/one", "hostPath": "/dev/null"}]}},
                {"name": "two", "annotations": {"org.mobyproject.buildkit.device.class": "fast"},
                 "containerEdits": {"env": ["TWO=2"]}}
            ]}"#;
        Known { specifications: vec![serde_json::from_str(text).unwrap()], has_yaml: false }
    }

    #[test]
    fn a_device_is_found_by_name_kind_star_and_class() {
        let known = known();
        let env = |name: &str| -> Vec<String> {
            known.find(name).iter().flat_map(|edits| edits.env.clone()).collect()
        };
        assert_eq!(env("vendor.com/gpu=two"), ["ALL=1", "TWO=2"]);
        assert_eq!(known.find("vendor.com/gpu=one")[1].device_nodes[0].path, "/dev/one");
        assert_eq!(env("vendor.com/gpu"), ["ALL=1"], "the first");
        assert_eq!(env("vendor.com/gpu=*"), ["ALL=1", "ALL=1", "TWO=2"]);
        assert_eq!(env("fast"), ["ALL=1", "TWO=2"]);
        assert!(known.find("vendor.com/gpu=three").is_empty());
        assert!(known.find("slow").is_empty());
    }
}
