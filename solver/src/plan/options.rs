//! What the user says beside the Dockerfile.

use std::collections::{BTreeMap, BTreeSet};

use forge_store::Platform;

use crate::op::Ulimit;

/// Options of a plan, for one target platform.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// `--target`.
    pub target: Option<String>,
    /// `--build-arg`, proxies included.
    pub build_args: BTreeMap<String, String>,
    /// `--label`, applied last.
    pub labels: Vec<(String, String)>,
    /// The platform of the image.
    pub platform: Platform,
    /// The same is planned for other platforms, too: labels name theirs.
    pub several_platforms: bool,
    /// The platform of this machine.
    pub build_platform: Platform,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--no-cache-filter`: stages that look nothing up.
    pub no_cache_stages: BTreeSet<String>,
    /// `--network`: what `RUN --network=default` means.
    pub network: forge_parser::ast::Network,
    /// `--ulimit`, for every RUN.
    pub ulimits: Vec<Ulimit>,
    /// `--shm-size`, in bytes.
    pub shm_size: Option<u64>,
    /// Entitlements granted by `--allow`.
    pub allowed: BTreeSet<String>,
    /// Only the build checks are wanted: nobody looks whether the sources of COPY are there.
    pub check_only: bool,
}

/// Proxy variables: always known, passed to RUN, never part of key or history unless declared.
pub const PROXY_ARGS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

impl PlanOptions {
    /// The automatic arguments that FROM lines know, and that stages may ask for with `ARG NAME`.
    pub fn automatic_args(&self, target_stage: &str) -> BTreeMap<String, String> {
        let (target, build) = (&self.platform, &self.build_platform);
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        [
            ("BUILDPLATFORM", build.to_string()),
            ("BUILDOS", build.os.clone()),
            ("BUILDOSVERSION", text(&build.os_version)),
            ("BUILDARCH", build.architecture.clone()),
            ("BUILDVARIANT", text(&build.variant)),
            ("TARGETPLATFORM", target.to_string()),
            ("TARGETOS", target.os.clone()),
            ("TARGETOSVERSION", text(&target.os_version)),
            ("TARGETARCH", target.architecture.clone()),
            ("TARGETVARIANT", text(&target.variant)),
            ("TARGETSTAGE", target_stage.to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}
