//! The JSON form of arguments: an array of strings, or not JSON at all.

use crate::grammar;
use std::ops::Range;

/// What the arguments of an instruction turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Json {
    /// An array of strings.
    Strings(Vec<(String, Range<usize>)>),
    /// A valid array with something in it that is no string.
    NotOnlyStrings,
    /// Anything else, a slip such as single quotes or a trailing comma included: the shell form.
    No,
}

/// Reads the arguments as JSON, as far as they look like it.
pub(crate) fn read(text: &str) -> Json {
    if !text.starts_with('[') {
        return Json::No;
    }
    if let Some(strings) = grammar::json(text) {
        return Json::Strings(strings);
    }
    // serde_json bounds its own depth; too deep is "anything else".
    match serde_json::from_str::<Vec<serde_json::Value>>(text) {
        Ok(values) if !values.iter().all(serde_json::Value::is_string) => Json::NotOnlyStrings,
        _ => Json::No,
    }
}

/// The characters behind the chunks of one string. Half a surrogate pair stands for U+FFFD.
pub(crate) fn unescape<'a>(chunks: impl Iterator<Item = &'a str>) -> String {
    let mut units: Vec<u16> = Vec::new();
    let mut text = String::new();
    for chunk in chunks {
        if let Some(hex) = chunk.strip_prefix("\\u") {
            units.push(u16::from_str_radix(hex, 16).unwrap_or(0xFFFD));
            continue;
        }
        flush(&mut units, &mut text);
        match chunk {
            "\\b" => text.push('\u{8}'),
            "\\f" => text.push('\u{c}'),
            "\\n" => text.push('\n'),
            "\\r" => text.push('\r'),
            "\\t" => text.push('\t'),
            _ => text.push_str(chunk.strip_prefix('\\').unwrap_or(chunk)),
        }
    }
    flush(&mut units, &mut text);
    text
}

fn flush(units: &mut Vec<u16>, text: &mut String) {
    let decoded = char::decode_utf16(units.drain(..));
    text.extend(decoded.map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)));
}
