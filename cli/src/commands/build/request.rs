//! The words of `forge build`, read: whatever is wrong with them is said before anything is done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use forge_parser::ast::Network;
use forge_registry::Reference;
use forge_runner::secrets::Secrets;
use forge_runner::step::Bounds;
use forge_solver::PlanOptions;
use forge_store::Platform;

use super::call::{Call, Method};
use super::wanted::{self, Wanted};
use crate::args::{Build, NetworkMode};
use crate::contexts::{ContextName, NamedSource, Place, parse_named};
use crate::dockerfile::read_regular;
use crate::failure::{Failure, Kind};
use crate::limits::ARGUMENT_FILE_BYTES_MAX;
use crate::{environment, secrets};

/// The words of the command line, read.
pub struct Request {
    /// For the plan.
    pub options: PlanOptions,
    /// Whether it is a build at all.
    pub call: Call,
    /// All names that images get.
    pub names: Vec<Reference>,
    /// Images and files that are wanted.
    pub wanted: Wanted,
    /// CONTEXT.
    pub place: Place,
    /// `--build-context`.
    pub contexts: Vec<(ContextName, NamedSource)>,
    /// `BUILDKIT_CONTEXT_KEEP_GIT_DIR`: `.git` is part of a context from a repository.
    pub keep_git_dir: bool,
    /// `--secret` and `--ssh`.
    pub secrets: Secrets,
    /// What steps may use.
    pub bounds: Bounds,
}

impl Request {
    /// Reads all flags, before anything is done.
    pub fn new(args: &Build) -> Result<Self, Failure> {
        args.lock.check(args.pull)?;
        let mut build_args = build_args(&args.build_args, &args.docker.build_arg_files)?;
        let keep_git_dir = keeps_git_dir(&build_args)?;
        let place = Place::parse(&args.context)?;
        if place == Place::Stdin && args.file.as_deref() == Some("-") {
            let message = "can't use stdin for both build context and dockerfile";
            return Err(usage(message, "pipe the context, and give the Dockerfile in it with -f FILE"));
        }
        let wanted = Wanted::new(args, &build_args)?;
        if wanted.is_reproducible {
            // Steps that ask for it learn what the image's times are.
            build_args.entry("SOURCE_DATE_EPOCH".into()).or_insert_with(|| "0".into());
        }
        let call = Call::new(args)?;
        let options = PlanOptions {
            target: args.target.clone(),
            build_args,
            labels: args.labels.iter().map(|label| pair(label)).collect(),
            several_platforms: false,
            platform: wanted.platforms[0].clone(),
            build_platform: Platform::host(),
            no_cache: args.no_cache,
            no_cache_stages: args.no_cache_filter.iter().map(|stage| stage.to_lowercase()).collect(),
            network: network(args.network),
            allowed: allowed(&args.allow)?,
            ulimits: args.step.ulimits()?,
            shm_size: args.step.shm_size()?,
            check_only: call.method == Method::Check,
        };
        Ok(Self {
            options,
            call,
            names: wanted.names(),
            wanted,
            contexts: args.build_contexts.iter().map(|text| parse_named(text)).collect::<Result<_, _>>()?,
            place,
            keep_git_dir,
            secrets: secrets::read(&args.secrets, &args.ssh)?,
            bounds: args.step.bounds()?,
        })
    }
}

/// A wrong word, and what to write instead.
pub fn usage(message: &str, hint: &str) -> Failure {
    Failure::new(Kind::Usage, message, Some(hint.to_owned()))
}

/// `NAME=VALUE`, taken apart.
pub fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

fn build_args(texts: &[String], files: &[PathBuf]) -> Result<BTreeMap<String, String>, Failure> {
    let mut args = BTreeMap::new();
    for file in files {
        read_build_args(file, &mut args)?;
    }
    for text in texts {
        match text.split_once('=') {
            Some(("", _)) => {
                return Err(usage(&format!("--build-arg {text} has no name"), "write NAME=VALUE"));
            }
            Some((name, value)) => {
                args.insert(name.to_owned(), value.to_owned());
            }
            // As Docker: a name alone takes the variable of that name, if there is one.
            None => args.extend(environment::variable(text).map(|value| (text.clone(), value))),
        }
    }
    // As Docker's client: the variable reaches the build without being named.
    if let Some(epoch) = environment::source_date_epoch() {
        args.entry("SOURCE_DATE_EPOCH".into()).or_insert(epoch);
    }
    Ok(args)
}

/// Reads a file of `NAME=VALUE` lines; blank ones and those that begin with `#` say nothing.
fn read_build_args(path: &Path, args: &mut BTreeMap<String, String>) -> Result<(), Failure> {
    let cannot = |reason: &dyn std::fmt::Display| {
        let message = format!("cannot read the build arguments {}: {reason}", path.display());
        Failure::new(Kind::Input, message, Some("write NAME=VALUE on each line".into()))
    };
    let bytes = read_regular(path, ARGUMENT_FILE_BYTES_MAX).map_err(|e| cannot(&e))?;
    let text = String::from_utf8(bytes).map_err(|e| cannot(&e))?;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once('=') {
            Some((name, value)) if !name.is_empty() => drop(args.insert(name.to_owned(), value.to_owned())),
            _ => return Err(cannot(&format!("line {} is not NAME=VALUE", number + 1))),
        }
    }
    Ok(())
}

fn keeps_git_dir(build_args: &BTreeMap<String, String>) -> Result<bool, Failure> {
    match build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR").map_or("0", String::as_str) {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        text => Err(usage(
            &format!("invalid boolean value {text} for BUILDKIT_CONTEXT_KEEP_GIT_DIR"),
            "write 1 or 0",
        )),
    }
}

fn network(mode: NetworkMode) -> Network {
    match mode {
        NetworkMode::Default => Network::Default,
        NetworkMode::None => Network::None,
        NetworkMode::Host => Network::Host,
    }
}

fn allowed(texts: &[String]) -> Result<BTreeSet<String>, Failure> {
    for text in texts {
        let is_device = text.strip_prefix("device=").is_some_and(|name| !name.is_empty());
        let known = ["network.host", "security.insecure", "device", wanted::DELETE];
        if !is_device && !known.contains(&text.as_str()) {
            return Err(usage(
                &format!("there is no entitlement `{text}`"),
                "there are network.host, security.insecure, device[=NAME] and buildx.local.delete",
            ));
        }
    }
    Ok(texts.iter().cloned().collect())
}
