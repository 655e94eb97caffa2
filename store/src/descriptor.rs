//! Descriptors and platforms (OCI image-spec `descriptor.md`, `image-index.md`).
//!
//! Own types instead of `oci-spec`'s, because those keep annotations in hash maps: the same value would be
//! written in another order each time, and forge's manifests must be the same bytes every time.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Digest, media_type::MediaType};

/// Names a blob: what it is, its digest and its exact size in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: MediaType,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Other places that may serve it; forge never fetches from them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free-form metadata.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The bytes themselves, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What machine the image is for (in an index).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The type of an artifact (in an index).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor with only the three things that every descriptor has.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            platform: None,
            artifact_type: None,
        }
    }
}

/// What machine an image is for: `os/architecture[/variant]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// CPU, in Go's names: `amd64`, `arm64`, `arm`, …
    pub architecture: String,
    /// Operating system, in Go's names.
    pub os: String,
    /// Windows' build number.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Windows' features.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// CPU variant: `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The machine that forge itself was built for.
    pub fn host() -> Self {
        let (architecture, variant) = normalise_architecture(std::env::consts::ARCH, "");
        Self::new("linux", &architecture, variant)
    }

    /// A platform without Windows' additions.
    pub fn new(os: &str, architecture: &str, variant: Option<String>) -> Self {
        Self {
            architecture: architecture.into(),
            os: os.into(),
            os_version: None,
            os_features: Vec::new(),
            variant,
        }
    }

    /// True where an image for `self` runs when `wanted` was asked for: equal once the default variants
    /// (`arm64` = `arm64/v8`, `arm` = `arm/v7`) are filled in.
    pub fn satisfies(&self, wanted: &Self) -> bool {
        let (a, b) = (self.normalised(), wanted.normalised());
        a.os == b.os && a.architecture == b.architecture && a.variant == b.variant
    }

    /// Go's names, and no variant where it is the architecture's default.
    pub fn normalised(&self) -> Self {
        let variant = self.variant.as_deref().unwrap_or("");
        let (architecture, variant) = normalise_architecture(&self.architecture.to_lowercase(), variant);
        Self { architecture, variant, os: self.os.to_lowercase(), ..self.clone() }
    }
}

/// containerd's `platforms.Normalize`: aliases folded, default variants dropped for arm64 and kept for arm.
fn normalise_architecture(architecture: &str, variant: &str) -> (String, Option<String>) {
    let some = |v: &str| (!v.is_empty()).then(|| v.to_owned());
    let (architecture, variant) = match (architecture, variant) {
        ("i386" | "x86" | "386", _) => ("386", None),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", None),
        ("x86_64" | "x86-64" | "amd64", v) => ("amd64", some(v)),
        ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", None),
        ("aarch64" | "arm64", v) => ("arm64", some(v)),
        ("armhf", _) => ("arm", some("v7")),
        ("armel", _) => ("arm", some("v6")),
        ("arm", "" | "7") => ("arm", some("v7")),
        ("arm", "5" | "6" | "8") => return ("arm".into(), Some(format!("v{variant}"))),
        (other, v) => (other, some(v)),
    };
    (architecture.to_owned(), variant)
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_deref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// A text that names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform; write os/architecture[/variant], for example linux/arm64")]
pub struct PlatformError(String);

impl FromStr for Platform {
    type Err = PlatformError;
    /// Reads `os/arch[/variant]`, a bare architecture (the operating system is then linux), or `local`.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let fail = || PlatformError(text.to_owned());
        let sound = |part: &&str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        };
        if text == "local" {
            return Ok(Self::host());
        }
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(sound) {
            return Err(fail());
        }
        let platform = match parts[..] {
            ["linux" | "windows" | "darwin" | "freebsd"] => Self { os: parts[0].into(), ..Self::host() },
            [architecture] => Self::new("linux", architecture, None),
            [os, architecture] => Self::new(os, architecture, None),
            [os, architecture, variant] => Self::new(os, architecture, Some(variant.into())),
            _ => return Err(fail()),
        };
        Ok(platform.normalised())
    }
}

/// Reads `null` as the empty value: Go writes nil maps and slices that way.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_read_as_containerd_reads_them() {
        for (text, want) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("arm64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("armhf", "linux/arm/v7"),
            ("windows/amd64", "windows/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().map(|p| p.to_string()), Ok(want.to_owned()), "{text}");
        }
        for bad in ["", "/", "linux/", "linux/amd64/v1/x", "lin ux/amd64", "linux//v7"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
