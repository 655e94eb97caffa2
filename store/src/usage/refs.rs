//! What texts refer to. The store does not know what records mean, so any name of a thing in one counts: at worst
//! something is kept that could go.

use serde_json::Value;

/// A name as 32 bytes.
pub(crate) type Name = [u8; 32];

/// Every name in a text: runs of exactly 64 hexadecimal digits.
pub(crate) fn names(text: &str) -> impl Iterator<Item = Name> {
    let is_other = |b: &u8| !b.is_ascii_digit() && !(b'a'..=b'f').contains(b);
    text.as_bytes().split(is_other).filter_map(name)
}

/// A name of 64 hexadecimal digits.
pub(crate) fn name(hex: &[u8]) -> Option<Name> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    if hex.len() != 64 {
        return None;
    }
    let mut name = [0; 32];
    for (byte, pair) in name.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(name)
}

/// What a manifest or an index of images consists of; nothing for other documents.
pub(crate) fn parts_of_manifest(document: &[u8]) -> Vec<Name> {
    let Ok(value) = serde_json::from_slice::<Value>(document) else { return Vec::new() };
    let one = |value: &Value| name(value.get("digest")?.as_str()?.strip_prefix("sha256:")?.as_bytes());
    let lists = ["layers", "manifests", "blobs"];
    let listed = lists.iter().filter_map(|list| value.get(list)?.as_array()).flatten();
    value.get("config").into_iter().chain(listed).filter_map(one).collect()
}

/// True for an index of images, whose parts need not all be here.
pub(crate) fn is_index(document: &[u8]) -> bool {
    serde_json::from_slice::<Value>(document).is_ok_and(|value| value.get("manifests").is_some())
}

/// A name as a digest is written.
pub(crate) fn hex(name: &Name) -> String {
    name.iter().fold(String::from("sha256:"), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_runs_of_64_digits() {
        let (a, b) = ("ab".repeat(32), "01".repeat(32));
        let text = format!(r#"{{"x":"sha256:{a}","y":["{b}"],"z":"{a}0","w":"{}"}}"#, &b[1..]);
        let found: Vec<Name> = names(&text).collect();
        assert_eq!(found, [[0xab; 32], [0x01; 32]]);
    }

    #[test]
    fn a_manifest_consists_of_its_configuration_and_layers() {
        let (a, b) = ("ab".repeat(32), "01".repeat(32));
        let text = format!(
            r#"{{"config":{{"digest":"sha256:{a}"}},"layers":[{{"digest":"sha256:{b}"}}],"subject":{{"digest":"sha256:{b}"}}}}"#
        );
        assert_eq!(parts_of_manifest(text.as_bytes()), [[0xab; 32], [0x01; 32]]);
        assert_eq!(parts_of_manifest(b"no json").len(), 0);
        assert_eq!(parts_of_manifest(br#"{"config":{"Env":[]},"rootfs":{}}"#).len(), 0);
    }
}
