//! Podman, by its program: it pulls from an image layout whose blobs are the store's own, so nothing is copied, and
//! of those it reads only what it lacks.

use std::collections::HashSet;
use std::os::unix::fs::symlink;
use std::path::Path;

use forge_store::Blobs;
use forge_store::image::to_json;

use super::{Loaded, Program, fail};
use crate::copy_out::entries;
use crate::layout::{LAYOUT, merge};
use crate::{Called, Contents, ExportError};

/// The layout's directory, and for a moment podman's name of the image.
const LAYOUT_DIR: &str = "forge-load";

pub fn load(
    program: &Program,
    contents: &Contents,
    called: &[Called],
    blobs: &Blobs,
) -> Result<Loaded, ExportError> {
    let manifest =
        contents.only().ok_or_else(|| fail("podman", "it takes one platform at a time; give --platform"))?;
    let id = manifest.config.digest.hex();
    if program.run(&["image", "exists", &id]).is_ok() {
        name(program, &id, called)?;
        return Ok(Loaded::nothing());
    }
    let dir = tempfile::Builder::new().prefix("forge-load-").tempdir();
    let dir = dir.map_err(|e| ExportError::io("create", "a directory for podman", e))?;
    // Podman names the image after the directory: a relative path gives a name that is one.
    let layout = dir.path().join(LAYOUT_DIR);
    std::fs::create_dir(&layout).map_err(|e| ExportError::io("create", &layout, e))?;
    let put = |name: &str, bytes: &[u8]| {
        let path = layout.join(name);
        std::fs::write(&path, bytes).map_err(|e| ExportError::io("write", path, e))
    };
    put("oci-layout", LAYOUT)?;
    put("index.json", &to_json(&merge(None, entries(&contents.root, &[]))))?;
    let all = blobs.path(&contents.root.digest);
    let all = all.parent().and_then(Path::parent).unwrap_or(&all);
    let link = layout.join("blobs");
    symlink(all, &link).map_err(|e| ExportError::io("link", link, e))?;
    program.run_in(Some(dir.path()), &["pull", "--quiet", &format!("oci:{LAYOUT_DIR}")])?;
    name(program, &id, called)?;
    let _ = program.run(&["untag", &id, &format!("localhost/{LAYOUT_DIR}:latest")]);
    Ok(Loaded::sent(contents, &HashSet::new()))
}

fn name(program: &Program, id: &str, called: &[Called]) -> Result<(), ExportError> {
    let names: Vec<&str> = called.iter().filter_map(|name| name.full.as_deref()).collect();
    if names.is_empty() {
        return Ok(());
    }
    program.run(&[&["tag", id][..], &names].concat()).map(drop)
}

impl Program {
    /// Runs it to its end; gives what it wrote.
    pub(super) fn run(&self, args: &[&str]) -> Result<String, ExportError> {
        self.run_in(None, args)
    }

    fn run_in(&self, dir: Option<&Path>, args: &[&str]) -> Result<String, ExportError> {
        let mut command = std::process::Command::new(&self.path);
        if let Some(dir) = dir {
            command.current_dir(dir);
        }
        command.args(args).env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        let output = command
            .stdin(std::process::Stdio::null())
            .output()
            .map_err(|e| ExportError::io("run", &self.path, e))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        Err(fail(&name, format!("`{name} {}` says: {}", args.join(" "), said.trim())))
    }
}
