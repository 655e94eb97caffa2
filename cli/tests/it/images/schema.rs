//! The image-spec's JSON schemas (schema/*.json, version 1.1), restated as checks that say where a document is wrong.

use serde_json::Value;

type Check = Result<(), String>;
/// A field: its name, whether it must be there, and what it must be.
type Field<'a> = (&'a str, bool, &'a dyn Fn(&str, &Value) -> Check);

fn fail(path: &str, why: &str, value: &Value) -> Check {
    Err(format!("{path}: {why}: {value}"))
}

/// An object with these fields, and perhaps others.
fn object(path: &str, value: &Value, fields: &[Field<'_>]) -> Check {
    let Value::Object(map) = value else { return fail(path, "not an object", value) };
    for (name, required, check) in fields {
        match map.get(*name) {
            None if *required => return Err(format!("{path}: {name} is missing")),
            None => {}
            Some(value) => check(&format!("{path}/{name}"), value)?,
        }
    }
    Ok(())
}

fn list(path: &str, value: &Value, check: &dyn Fn(&str, &Value) -> Check) -> Check {
    let Value::Array(items) = value else { return fail(path, "not an array", value) };
    items.iter().enumerate().try_for_each(|(at, item)| check(&format!("{path}/{at}"), item))
}

fn map(path: &str, value: &Value, check: &dyn Fn(&str, &Value) -> Check) -> Check {
    let Value::Object(map) = value else { return fail(path, "not an object", value) };
    map.iter().try_for_each(|(key, value)| check(&format!("{path}/{key}"), value))
}

fn string(path: &str, value: &Value) -> Check {
    if value.is_string() { Ok(()) } else { fail(path, "not a string", value) }
}

fn text<'a>(path: &str, value: &'a Value) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("{path}: not a string: {value}"))
}

fn boolean(path: &str, value: &Value) -> Check {
    if value.is_boolean() { Ok(()) } else { fail(path, "not a boolean", value) }
}

fn int64(path: &str, value: &Value) -> Check {
    if value.as_i64().is_some_and(|n| n >= 0) { Ok(()) } else { fail(path, "not a size", value) }
}

fn two(path: &str, value: &Value) -> Check {
    if value.as_u64() == Some(2) { Ok(()) } else { fail(path, "not 2", value) }
}

/// `defs-descriptor.json#/definitions/mediaType`.
fn media_type(path: &str, value: &Value) -> Check {
    let text = text(path, value)?;
    let part = |part: &str| {
        let bytes = part.as_bytes();
        (1..=127).contains(&bytes.len())
            && bytes[0].is_ascii_alphanumeric()
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(b))
    };
    match text.split_once('/') {
        Some((a, b)) if part(a) && part(b) => Ok(()),
        _ => fail(path, "not a media type", value),
    }
}

/// `^[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$`, and of sha256 exactly 64 lower-case digits.
fn digest(path: &str, value: &Value) -> Check {
    let hex = text(path, value)?.strip_prefix("sha256:").unwrap_or_default();
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if hex.len() == 64 && hex.bytes().all(lower) { Ok(()) } else { fail(path, "not a sha256 digest", value) }
}

/// RFC 3339 in UTC.
fn date_time(path: &str, value: &Value) -> Check {
    let text = text(path, value)?;
    let shape = "dddd-dd-ddTdd:dd:dd";
    let fits = |(c, s): (char, char)| if s == 'd' { c.is_ascii_digit() } else { c == s };
    let (start, rest) = text.split_at_checked(shape.len()).unwrap_or((text, ""));
    let fraction = rest.strip_suffix('Z').map(|f| f.is_empty() || f.starts_with('.'));
    match start.len() == shape.len() && start.chars().zip(shape.chars()).all(fits) && fraction == Some(true) {
        true => Ok(()),
        false => fail(path, "not a date-time", value),
    }
}

fn annotations(path: &str, value: &Value) -> Check {
    map(path, value, &string)
}

fn platform(path: &str, value: &Value) -> Check {
    object(
        path,
        value,
        &[
            ("architecture", true, &string),
            ("os", true, &string),
            ("os.version", false, &string),
            ("os.features", false, &|p, v| list(p, v, &string)),
            ("variant", false, &string),
        ],
    )
}

/// `content-descriptor.json`.
pub fn descriptor(path: &str, value: &Value) -> Check {
    object(
        path,
        value,
        &[
            ("mediaType", true, &media_type),
            ("size", true, &int64),
            ("digest", true, &digest),
            ("urls", false, &|p, v| list(p, v, &string)),
            ("data", false, &string),
            ("artifactType", false, &media_type),
            ("annotations", false, &annotations),
            ("platform", false, &platform),
        ],
    )
}

/// `image-manifest-schema.json`.
pub fn manifest(value: &Value) -> Check {
    object(
        "manifest",
        value,
        &[
            ("schemaVersion", true, &two),
            ("mediaType", true, &media_type),
            ("artifactType", false, &media_type),
            ("config", true, &descriptor),
            ("subject", false, &descriptor),
            ("layers", true, &|p, v| list(p, v, &descriptor)),
            ("annotations", false, &annotations),
        ],
    )
}

/// `image-index-schema.json`.
pub fn index(value: &Value) -> Check {
    object(
        "index",
        value,
        &[
            ("schemaVersion", true, &two),
            ("mediaType", false, &media_type),
            ("artifactType", false, &media_type),
            ("subject", false, &descriptor),
            ("manifests", true, &|p, v| list(p, v, &descriptor)),
            ("annotations", false, &annotations),
        ],
    )
}

/// `image-layout-schema.json`.
pub fn layout(value: &Value) -> Check {
    let version = |p: &str, v: &Value| if v == "1.0.0" { Ok(()) } else { fail(p, "not 1.0.0", v) };
    object("oci-layout", value, &[("imageLayoutVersion", true, &version)])
}

/// An object behind whose keys stand empty objects.
fn set(path: &str, value: &Value) -> Check {
    map(path, value, &|p, v| match v.as_object().is_some_and(serde_json::Map::is_empty) {
        true => Ok(()),
        false => fail(p, "not an empty object", v),
    })
}

fn environment(path: &str, value: &Value) -> Check {
    list(path, value, &|p, v| match text(p, v)?.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(()),
        _ => fail(p, "not NAME=value", v),
    })
}

/// `config-schema.json`.
pub fn config(value: &Value) -> Check {
    let strings = |p: &str, v: &Value| list(p, v, &string);
    let runtime = |p: &str, v: &Value| {
        object(
            p,
            v,
            &[
                ("User", false, &string),
                ("ExposedPorts", false, &set),
                ("Env", false, &environment),
                ("Entrypoint", false, &strings),
                ("Cmd", false, &strings),
                ("Volumes", false, &set),
                ("WorkingDir", false, &string),
                ("Labels", false, &annotations),
                ("StopSignal", false, &string),
                ("ArgsEscaped", false, &boolean),
            ],
        )
    };
    let rootfs = |p: &str, v: &Value| {
        let layers = |p: &str, v: &Value| if v == "layers" { Ok(()) } else { fail(p, "not layers", v) };
        object(p, v, &[("type", true, &layers), ("diff_ids", true, &|p, v| list(p, v, &digest))])
    };
    let line = |p: &str, v: &Value| {
        object(
            p,
            v,
            &[
                ("created", false, &date_time),
                ("author", false, &string),
                ("created_by", false, &string),
                ("comment", false, &string),
                ("empty_layer", false, &boolean),
            ],
        )
    };
    object(
        "config",
        value,
        &[
            ("created", false, &date_time),
            ("author", false, &string),
            ("architecture", true, &string),
            ("variant", false, &string),
            ("os", true, &string),
            ("os.version", false, &string),
            ("os.features", false, &strings),
            ("config", false, &runtime),
            ("rootfs", true, &rootfs),
            ("history", false, &|p, v| list(p, v, &line)),
        ],
    )
}

/// What no schema can say: a history line for each layer.
pub fn history_fits(config: &Value) -> Check {
    let lines = config["history"].as_array().into_iter().flatten();
    let filled = lines.filter(|line| line["empty_layer"] != true).count();
    let layers = config["rootfs"]["diff_ids"].as_array().map_or(0, Vec::len);
    if filled == layers {
        Ok(())
    } else {
        Err(format!("{layers} layers, {filled} lines of history for them"))
    }
}
