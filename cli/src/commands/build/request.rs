//! The words of `forge build`, read: whatever is wrong with them is said before anything is done.

use std::collections::{BTreeMap, BTreeSet};

use forge_exporter::Output;
use forge_parser::ast::Network;
use forge_registry::Reference;
use forge_runner::secrets::Secrets;
use forge_runner::step::Bounds;
use forge_solver::PlanOptions;
use forge_store::Platform;

use super::call::{Call, Method};
use crate::args::{Build, NetworkMode};
use crate::contexts::{NamedSource, parse_named};
use crate::failure::{Failure, Kind};
use crate::registries::parse_reference;
use crate::{environment, secrets};

/// The words of the command line, read.
pub struct Request {
    /// For the plan.
    pub options: PlanOptions,
    /// Whether it is a build at all.
    pub call: Call,
    /// `-t`, and the names that outputs give.
    pub names: Vec<Reference>,
    /// `-o`.
    pub outputs: Vec<Output>,
    /// `--build-context`.
    pub contexts: Vec<(String, NamedSource)>,
    /// `SOURCE_DATE_EPOCH`, in seconds since 1970.
    pub epoch: Option<i64>,
    /// `--secret` and `--ssh`.
    pub secrets: Secrets,
    /// What steps may use.
    pub bounds: Bounds,
}

impl Request {
    /// Reads all flags, before anything is done.
    pub fn new(args: &Build) -> Result<Self, Failure> {
        args.lock.check(args.pull)?;
        let host = Platform::host();
        let platform = match &args.platform {
            Some(text) if text.contains(',') => {
                return Err(usage(
                    "this version of forge builds one platform at a time",
                    "give one --platform",
                ));
            }
            Some(text) => text.parse().map_err(|e| Failure::new(Kind::Usage, e, None))?,
            None => host.clone(),
        };
        let build_args = build_args(&args.build_args)?;
        let epoch = epoch(&build_args)?;
        let call = Call::new(args)?;
        let options = PlanOptions {
            target: args.target.clone(),
            build_args,
            labels: args.labels.iter().map(|label| pair(label)).collect(),
            several_platforms: false,
            platform,
            build_platform: host,
            no_cache: args.no_cache,
            no_cache_stages: args.no_cache_filter.iter().map(|stage| stage.to_lowercase()).collect(),
            network: network(args.network),
            allowed: allowed(&args.allow)?,
            ulimits: args.step.ulimits()?,
            shm_size: args.step.shm_size()?,
            check_only: call.method == Method::Check,
        };
        let outputs = args.outputs.iter().map(|text| Output::parse(text)).collect::<Result<_, _>>();
        let mut request = Self {
            options,
            call,
            names: Vec::new(),
            outputs: outputs.map_err(|e| Failure::new(Kind::Usage, e, None))?,
            contexts: args.build_contexts.iter().map(|text| parse_named(text)).collect::<Result<_, _>>()?,
            epoch,
            secrets: secrets::read(&args.secrets, &args.ssh)?,
            bounds: args.step.bounds()?,
        };
        let named = request.outputs.iter().flat_map(|output| match output {
            Output::Image { names, .. } => names.clone(),
            _ => Vec::new(),
        });
        for name in args.tags.iter().cloned().chain(named) {
            let reference = parse_reference(&name)?;
            if reference.digest().is_some() {
                return Err(usage(&format!("cannot tag `{name}`: it holds a digest"), "write NAME[:TAG]"));
            }
            request.names.push(reference);
        }
        if request.pushes(args) && request.names.is_empty() {
            return Err(usage("there is no name to push to", "give one with -t NAME"));
        }
        Ok(request)
    }

    /// Whether the image goes to registries.
    pub fn pushes(&self, args: &Build) -> bool {
        args.push || self.outputs.iter().any(|output| matches!(output, Output::Image { push: true, .. }))
    }

    /// Whether the image itself is wanted in the store, under its names.
    pub fn keeps_image(&self) -> bool {
        self.outputs.is_empty()
            || !self.names.is_empty()
            || self.outputs.iter().any(|output| matches!(output, Output::Image { .. }))
    }

    /// Whether anyone wants an image, rather than just files.
    pub fn wants_image(&self) -> bool {
        self.keeps_image()
            || self.outputs.iter().any(|o| matches!(o, Output::Oci { .. } | Output::Docker { .. }))
    }
}

/// A wrong word, and what to write instead.
pub fn usage(message: &str, hint: &str) -> Failure {
    Failure::new(Kind::Usage, message, Some(hint.to_owned()))
}

fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

fn build_args(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut args = BTreeMap::new();
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

/// `SOURCE_DATE_EPOCH`: no time in the image's configuration is later.
fn epoch(build_args: &BTreeMap<String, String>) -> Result<Option<i64>, Failure> {
    let Some(text) = build_args.get("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    text.parse()
        .map(Some)
        .map_err(|_| usage(&format!("invalid SOURCE_DATE_EPOCH: {text}"), "give it in seconds since 1970"))
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
        if !is_device && !matches!(text.as_str(), "network.host" | "security.insecure" | "device") {
            return Err(usage(
                &format!("there is no entitlement `{text}`"),
                "there are network.host, security.insecure and device[=NAME]",
            ));
        }
    }
    Ok(texts.iter().cloned().collect())
}
