//! The platform ARGs that every build has without declaring them.

use std::collections::BTreeMap;

/// Their names.
pub const NAMES: [&str; 11] = [
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDARCH",
    "BUILDVARIANT",
];

/// A platform for judging a file by, where the build's own is not known.
pub(crate) const EXAMPLE_PLATFORM: &str = "linux/amd64";

/// Values that make an image name that uses them valid.
pub(crate) fn example() -> BTreeMap<String, String> {
    let value = |name: &str| {
        let value = match name {
            "TARGETPLATFORM" | "BUILDPLATFORM" => EXAMPLE_PLATFORM,
            "TARGETOS" | "BUILDOS" => "linux",
            "TARGETARCH" | "BUILDARCH" => "amd64",
            "TARGETSTAGE" => "default",
            _ => "",
        };
        (name.to_owned(), value.to_owned())
    };
    NAMES.into_iter().map(value).collect()
}
