//! Which image of an index to take for a platform.

use forge_store::{Descriptor, Platform, media_type};

/// The manifest or nested index for `wanted`; the best there is, the first among equals.
///
/// An exact match goes first; then what the same machine also runs, the newest first, as containerd orders them:
/// lower levels of amd64, lower versions of arm. An entry without platform is taken only where it is alone.
pub fn select<'a>(manifests: &'a [Descriptor], wanted: &Platform) -> Option<&'a Descriptor> {
    let images: Vec<&Descriptor> = manifests.iter().filter(|d| is_image(d)).collect();
    if let [only] = images[..]
        && only.platform.is_none()
    {
        return Some(only);
    }
    runnable(wanted).iter().find_map(|platform| images.iter().copied().find(|d| is_for(d, platform)))
}

/// The platforms in an index, for a message.
pub fn available(manifests: &[Descriptor]) -> Vec<String> {
    let mut names: Vec<String> = manifests
        .iter()
        .filter(|d| is_image(d))
        .filter_map(|d| d.platform.as_ref().map(|platform| crate::text::clean(&platform.to_string())))
        .filter(|name| !name.starts_with("unknown/"))
        .collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        names.push("none at all".into());
    }
    names.truncate(40);
    names
}

fn is_image(descriptor: &Descriptor) -> bool {
    media_type::is_manifest(&descriptor.media_type) || media_type::is_index(&descriptor.media_type)
}

fn is_for(descriptor: &Descriptor, platform: &Platform) -> bool {
    descriptor.platform.as_ref().is_some_and(|own| own.satisfies(platform))
}

fn runnable(wanted: &Platform) -> Vec<Platform> {
    let wanted = wanted.normalised();
    let level = |platform: &Platform| platform.variant.as_deref()?.strip_prefix('v')?.parse::<u8>().ok();
    let with = |variant: Option<String>| Platform { variant, ..wanted.clone() };
    let lower: Vec<Platform> = match (wanted.architecture.as_str(), level(&wanted)) {
        ("amd64", Some(top)) => {
            (2..top).rev().map(|n| with(Some(format!("v{n}")))).chain([with(None)]).collect()
        }
        ("arm", Some(top)) => (5..top).rev().map(|n| with(Some(format!("v{n}")))).collect(),
        ("arm64", Some(_)) => vec![with(None)],
        _ => Vec::new(),
    };
    std::iter::once(wanted).chain(lower).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use forge_store::{Digest, MediaType};

    fn index(platforms: &[&str]) -> Vec<Descriptor> {
        platforms.iter().enumerate().map(|(n, text)| entry(text, n)).collect()
    }

    fn entry(platform: &str, n: usize) -> Descriptor {
        let mut descriptor =
            Descriptor::new(MediaType::ImageManifest, Digest::of(&n.to_le_bytes()), n as u64);
        let mut parts = platform.split('/').map(str::to_owned);
        if let (Some(os), Some(architecture)) = (parts.next(), parts.next()) {
            descriptor.platform = Some(Platform::new(&os, &architecture, parts.next()));
        }
        descriptor
    }

    fn chosen(platforms: &[&str], wanted: &str) -> Option<usize> {
        select(&index(platforms), &wanted.parse().unwrap()).map(|d| d.size as usize)
    }

    #[test]
    fn the_best_match_wins() {
        let all = [
            "unknown/unknown",
            "linux/arm/v5",
            "linux/arm/v7",
            "linux/amd64",
            "linux/arm64/v8",
            "windows/amd64",
        ];
        for (wanted, want) in [
            ("linux/amd64", Some(3)),
            ("linux/amd64/v3", Some(3)),
            ("linux/arm64", Some(4)),
            ("linux/arm64/v9", Some(4)),
            ("linux/arm/v7", Some(2)),
            ("linux/arm/v6", Some(1)),
            ("linux/s390x", None),
            ("windows/amd64", Some(5)),
        ] {
            assert_eq!(chosen(&all, wanted), want, "{wanted}");
        }
        assert_eq!(chosen(&["linux/amd64", "linux/amd64/v2", "linux/amd64"], "linux/amd64/v3"), Some(1));
        assert_eq!(chosen(&["linux/amd64", "linux/amd64"], "linux/amd64"), Some(0));
        assert_eq!(chosen(&[""], "linux/amd64"), Some(0), "a lone entry without platform");
        assert_eq!(chosen(&["", ""], "linux/amd64"), None);
        assert_eq!(chosen(&[], "linux/amd64"), None);
    }

    #[test]
    fn a_message_lists_what_there_is() {
        assert_eq!(
            available(&index(&["unknown/unknown", "linux/arm64", "linux/amd64", "linux/amd64"])),
            ["linux/amd64", "linux/arm64"]
        );
    }
}
