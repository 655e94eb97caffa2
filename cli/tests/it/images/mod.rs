//! Images as outputs want them: forms, platforms, documents, and the same image at any time and place.

mod changes;
mod documents;
mod edits;
mod forms;
mod lazy;
mod members;
mod platforms;
mod rejected;
mod reproducible;
mod schema;
mod space;
mod verify;
mod words;

use std::fs;

use serde_json::Value;

use crate::support::{Lab, json};

/// A blob of an image layout.
fn blob(lab: &Lab, layout: &str, digest: &Value) -> String {
    let digest = digest.as_str().unwrap_or_else(|| panic!("no digest: {digest}"));
    lab.at(&format!("{layout}/blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap()))
}

/// A document of an image layout.
fn document(lab: &Lab, layout: &str, digest: &Value) -> Value {
    json(&fs::read_to_string(blob(lab, layout, digest)).unwrap())
}

fn index(lab: &Lab, layout: &str) -> Value {
    json(&fs::read_to_string(lab.path(layout).join("index.json")).unwrap())
}

/// The manifest of a layout's first image, and its configuration.
fn image(lab: &Lab, layout: &str) -> (Value, Value) {
    let manifest = document(lab, layout, &index(lab, layout)["manifests"][0]["digest"]);
    let config = document(lab, layout, &manifest["config"]["digest"]);
    (manifest, config)
}
