//! containerd, by `ctr`: it lists the blobs it has, and imports an archive that holds only the others.
//!
//! The image is imported under a name of its own and gets its names once it is unpacked. `ctr` itself gives the names
//! first: then what they stood for is collected while the new image is still being unpacked onto snapshots that only
//! the old one held ("parent snapshot does not exist"). Until the end, both are held by names.

use std::collections::HashSet;
use std::process::{Command, Stdio};

use forge_store::{Blobs, Digest};

use super::{Loaded, Program, fail};
use crate::{ArchiveKind, Called, Contents, ExportError, copy_to_archive};

/// What an image is called while it is loaded.
const ASIDE: &str = "forge.invalid/loading";

/// `ctr`, as it is to be called.
pub struct Ctr<'a> {
    pub program: &'a Program,
    pub address: Option<&'a str>,
    pub namespace: &'a str,
}

impl Ctr<'_> {
    pub fn load(&self, contents: &Contents, called: &[Called], blobs: &Blobs) -> Result<Loaded, ExportError> {
        let names: Vec<&str> = called.iter().filter_map(|name| name.full.as_deref()).collect();
        if names.is_empty() {
            return Err(fail("containerd", "the image has no name; give one"));
        }
        let listed = self.run(&["content", "ls", "--quiet"])?;
        let has: HashSet<Digest> = listed.lines().filter_map(|line| line.trim().parse().ok()).collect();
        let is_whole = contents.blobs().iter().all(|blob| has.contains(&blob.digest));
        if is_whole && self.has_names(&names, &contents.root.digest)? {
            return Ok(Loaded::nothing());
        }
        match self.exchange(contents, &names, &has, blobs) {
            Err(e) if !has.is_empty() => {
                self.exchange(contents, &names, &HashSet::new(), blobs)?;
                Ok(Loaded::after(&e, contents))
            }
            other => other.map(|()| Loaded::sent(contents, &has)),
        }
    }

    fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let address = self.address.iter().flat_map(|address| ["--address", address]);
        address.chain(["--namespace", self.namespace]).chain(args.iter().copied()).collect()
    }

    fn run(&self, args: &[&str]) -> Result<String, ExportError> {
        self.program.run(&self.args(args))
    }

    /// Whether all names stand for this already.
    fn has_names(&self, names: &[&str], digest: &Digest) -> Result<bool, ExportError> {
        let listed = self.run(&["images", "ls"])?;
        let digest = digest.to_string();
        let is = |name: &&str| {
            listed.lines().any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words.first() == Some(name) && words.contains(&digest.as_str())
            })
        };
        Ok(names.iter().all(is))
    }

    /// Imports the image beside what its names stand for, and lets them stand for it.
    fn exchange(
        &self,
        contents: &Contents,
        names: &[&str],
        left_out: &HashSet<Digest>,
        blobs: &Blobs,
    ) -> Result<(), ExportError> {
        let aside = format!("{ASIDE}:{}", contents.root.digest.hex());
        let called = [Called { full: Some(aside.clone()), ..Called::default() }];
        self.import(contents, &called, left_out, blobs)?;
        for name in names {
            self.run(&["images", "tag", "--force", &aside, name])?;
        }
        self.run(&["images", "rm", &aside]).map(drop)
    }

    fn import(
        &self,
        contents: &Contents,
        called: &[Called],
        left_out: &HashSet<Digest>,
        blobs: &Blobs,
    ) -> Result<(), ExportError> {
        let mut command = Command::new(&self.program.path);
        command.args(self.args(&["images", "import", "-"]));
        command.env_clear().envs(self.program.environment.iter().map(|(name, value)| (name, value)));
        let run = |e: std::io::Error| ExportError::io("run", &self.program.path, e);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(run)?;
        let written = match child.stdin.take() {
            Some(mut out) => copy_to_archive(contents, ArchiveKind::Oci, called, left_out, blobs, &mut out),
            None => Ok(()),
        };
        let output = child.wait_with_output().map_err(run)?;
        if output.status.success() {
            return written;
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(fail("containerd", format!("ctr says: {}", said.trim().replace('\n', "; "))))
    }
}
