//! JSON that means the same to every reader (RFC 7493, "I-JSON").
//!
//! Parsers disagree about duplicate keys (first, last, error) and Go's takes `LAYERS` for `layers`: a document
//! that another program reads otherwise than we do can pass its check and fail ours, or the reverse. Such
//! documents are refused. serde_json itself bounds nesting at 128 levels and refuses invalid UTF-8, a byte order
//! mark and numbers beyond a double.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// The keys that image documents give a meaning; another spelling of them in capitals is refused.
const KNOWN: &[&str] = &[
    "annotations",
    "architecture",
    "artifacttype",
    "config",
    "data",
    "digest",
    "fslayers",
    "history",
    "layers",
    "manifests",
    "mediatype",
    "os",
    "platform",
    "schemaversion",
    "signatures",
    "size",
    "subject",
    "urls",
    "variant",
];
/// Their exact spelling, where it is not lower case.
const SPELLED: &[&str] = &["artifactType", "fsLayers", "mediaType", "schemaVersion"];

/// Checks that a document has no duplicate keys; with `spelling`, that no key is a document's key in the wrong case.
///
/// # Errors
/// What is wrong and where, for a message.
pub fn check(bytes: &[u8], spelling: bool) -> Result<(), String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let checked = Strict { spelling }.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    checked.map_err(|e| crate::text::clean(&format!("it is not sound JSON: {e}")))
}

#[derive(Clone, Copy)]
struct Strict {
    spelling: bool,
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if self.spelling && is_misspelt(&key) {
                return Err(A::Error::custom(format!("key `{key}` is spelt in the wrong case")));
            }
            // Annotations are the user's own keys: there, case distinguishes.
            let below = Self { spelling: self.spelling && key != "annotations" };
            entries.next_value_seed(below)?;
            if let Some(twice) = seen.replace(key) {
                return Err(A::Error::custom(format!("key `{twice}` is there twice")));
            }
        }
        Ok(())
    }
}

fn is_misspelt(key: &str) -> bool {
    let lower = key.to_lowercase();
    KNOWN.contains(&lower.as_str()) && key != lower && !SPELLED.contains(&key)
        || SPELLED.iter().any(|exact| exact.to_lowercase() == lower && *exact != key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_readers_could_take_in_two_ways_is_refused() {
        let deep = "[".repeat(100_000);
        let nested = format!("{}1{}", "[".repeat(129), "]".repeat(129));
        for (text, why) in [
            (r#"{"layers":[],"layers":[1]}"#, "twice"),
            (r#"{"a":{"b":1,"\u0062":2}}"#, "twice"),
            (r#"{"annotations":{"a":"1","a":"2"}}"#, "twice"),
            (r#"{"LAYERS":[]}"#, "wrong case"),
            (r#"{"mediatype":"x"}"#, "wrong case"),
            (r#"{"layers":[{"Digest":"x"}]}"#, "wrong case"),
            ("1e400", "number out of range"),
            ("\u{feff}{}", "expected value"),
            ("{} {}", "trailing"),
            ("{", "EOF"),
            ("", "EOF"),
            (&deep, "recursion"),
            (&nested, "recursion"),
        ] {
            let error = check(text.as_bytes(), true).expect_err(text);
            assert!(error.contains(why), "{error}");
        }
        assert!(check(b"{\"a\":\"\xff\"}", true).is_err());
        assert!(check(b"{\"\xc0\xaf\":1}", true).is_err());
    }

    #[test]
    fn sound_documents_pass() {
        let nested = format!("{}1{}", "[".repeat(127), "]".repeat(127));
        for text in [
            r#"{"schemaVersion":2,"mediaType":"x","layers":[{"digest":"y","size":1}],"artifactType":"z"}"#,
            r#"{"annotations":{"Layers":"a","layers":"b"}}"#,
            r#"[1,-1,1.5,1e300,true,null,"x",{}]"#,
            &nested,
        ] {
            assert_eq!(check(text.as_bytes(), true), Ok(()), "{text}");
        }
        assert_eq!(check(br#"{"config":{"Labels":{"a":"1"}},"Layers":1}"#, false), Ok(()));
    }
}
