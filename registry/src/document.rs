//! Manifests and indexes as they arrive: what they are is decided here, once, and anything that could be read
//! in two ways is refused (image-spec, CVE-2021-41190).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forge_store::{Descriptor, Digest, ImageIndex, Manifest, MediaType, media_type};
use serde::Deserialize;
use serde_json::Value;

use crate::json;
use crate::limits::{INDEX_ENTRIES, LAYERS};
use crate::text::clean;

/// What a name stands for: one image, or several.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "few exist at once, and a box would stand in every match")]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// An image per platform.
    Index(ImageIndex),
}

/// The fields that say what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<Value>,
    layers: Option<Value>,
    config: Option<Value>,
    fs_layers: Option<Value>,
}

impl Document {
    /// Reads a document; says of what media type it is. `content_type` is the header it came with, if any.
    ///
    /// # Errors
    /// What is wrong with it, for a message.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<(MediaType, Self), String> {
        json::check(bytes, true)?;
        let probe: Probe =
            serde_json::from_slice(bytes).map_err(|e| clean(&format!("it is no manifest: {e}")))?;
        let media_type = probe.kind(content_type)?;
        let unfit = |e: serde_json::Error| clean(&format!("it is no sound {media_type}: {e}"));
        let document = if media_type::is_index(&media_type) {
            Self::Index(serde_json::from_slice(bytes).map_err(unfit)?)
        } else {
            Self::Manifest(serde_json::from_slice(bytes).map_err(unfit)?)
        };
        document.check()?;
        Ok((media_type, document))
    }

    /// Every blob or manifest that the document names.
    pub fn descriptors(&self) -> Vec<&Descriptor> {
        match self {
            Self::Manifest(manifest) => std::iter::once(&manifest.config).chain(&manifest.layers).collect(),
            Self::Index(index) => index.manifests.iter().collect(),
        }
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::Manifest(manifest) => {
                if manifest.layers.len() > LAYERS {
                    return Err(format!("it has {} layers; the limit is {LAYERS}", manifest.layers.len()));
                }
                if is_container(&manifest.config) || media_type::is_layer(&manifest.config.media_type) {
                    return Err(format!(
                        "its config is called a {}",
                        clean(manifest.config.media_type.as_ref())
                    ));
                }
                if let Some(odd) = manifest.layers.iter().find(|layer| is_container(layer)) {
                    return Err(format!("one of its layers is called a {}", clean(odd.media_type.as_ref())));
                }
            }
            Self::Index(index) if index.manifests.len() > INDEX_ENTRIES => {
                return Err(format!(
                    "it has {} entries; the limit is {INDEX_ENTRIES}",
                    index.manifests.len()
                ));
            }
            Self::Index(_) => {}
        }
        self.descriptors().into_iter().try_for_each(check_descriptor)
    }
}

fn is_container(descriptor: &Descriptor) -> bool {
    media_type::is_manifest(&descriptor.media_type) || media_type::is_index(&descriptor.media_type)
}

fn check_descriptor(descriptor: &Descriptor) -> Result<(), String> {
    // Sizes are signed 64-bit integers in the image-spec.
    if i64::try_from(descriptor.size).is_err() {
        return Err(format!("it gives {} a size of {} bytes", descriptor.digest, descriptor.size));
    }
    let Some(data) = &descriptor.data else { return Ok(()) };
    let sound = STANDARD
        .decode(data)
        .is_ok_and(|bytes| bytes.len() as u64 == descriptor.size && Digest::of(&bytes) == descriptor.digest);
    if sound {
        Ok(())
    } else {
        Err(format!("its embedded data for {} have another digest", descriptor.digest))
    }
}

impl Probe {
    fn kind(&self, content_type: Option<&str>) -> Result<MediaType, String> {
        let header = content_type.map(bare).filter(|text| !is_generic(text));
        self.refuse_schema_1(header)?;
        if self.schema_version != Some(2) {
            return Err("its schemaVersion is not 2".into());
        }
        let is_index = self.manifests.is_some();
        if is_index && (self.layers.is_some() || self.config.is_some() || self.fs_layers.is_some()) {
            return Err("it is manifest and index at once".into());
        }
        if let (Some(inside), Some(header)) = (&self.media_type, header)
            && inside != header
        {
            return Err(format!("it calls itself {} but came as {}", clean(inside), clean(header)));
        }
        let default = if is_index { MediaType::ImageIndex } else { MediaType::ImageManifest };
        let media_type = self.media_type.as_deref().or(header).map_or(default, MediaType::from);
        let fits =
            if is_index { media_type::is_index(&media_type) } else { media_type::is_manifest(&media_type) };
        if !fits {
            return Err(format!("it is called {} but is built otherwise", clean(media_type.as_ref())));
        }
        Ok(media_type)
    }

    fn refuse_schema_1(&self, header: Option<&str>) -> Result<(), String> {
        let named =
            header.is_some_and(|text| text.starts_with("application/vnd.docker.distribution.manifest.v1+"));
        if named || self.schema_version == Some(1) || self.fs_layers.is_some() && self.config.is_none() {
            return Err("it is a Docker schema 1 manifest, a form given up in 2017; \
                        push the image again with a current tool"
                .into());
        }
        Ok(())
    }
}

/// A media type without its parameters.
fn bare(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Types that static file servers give to everything: they say nothing about the document.
fn is_generic(content_type: &str) -> bool {
    matches!(content_type, "" | "application/json" | "application/octet-stream" | "text/plain")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
    const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

    fn descriptor(media_type: &str, more: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{HEX}","size":0{more}}}"#)
    }

    fn manifest(more: &str) -> String {
        let config = descriptor("application/vnd.oci.image.config.v1+json", "");
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]{more}}}"#)
    }

    fn parse(text: &str, content_type: Option<&str>) -> Result<MediaType, String> {
        Document::parse(text.as_bytes(), content_type).map(|(media_type, _)| media_type)
    }

    #[test]
    fn a_document_is_what_it_says_it_is() {
        let docker = media_type::DOCKER_MANIFEST;
        let typed = manifest(&format!(r#","mediaType":"{docker}""#));
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptor(OCI, ""));
        for (text, header, want) in [
            (manifest(""), None, OCI),
            (manifest(""), Some(OCI), OCI),
            (manifest(""), Some(docker), docker),
            (typed.clone(), None, docker),
            (typed.clone(), Some(docker), docker),
            (typed.clone(), Some("application/json; charset=utf-8"), docker),
            (
                typed.clone(),
                Some("application/vnd.docker.distribution.manifest.v2+json; charset=utf-8"),
                docker,
            ),
            (index.clone(), None, OCI_INDEX),
            (index.clone(), Some(media_type::DOCKER_MANIFEST_LIST), media_type::DOCKER_MANIFEST_LIST),
        ] {
            assert_eq!(parse(&text, header).as_ref().map(AsRef::as_ref), Ok(want), "{text} as {header:?}");
        }
    }

    #[test]
    fn what_could_be_two_things_is_refused() {
        let many = vec![descriptor(OCI, ""); INDEX_ENTRIES + 1].join(",");
        let layers = vec![descriptor("application/vnd.oci.image.layer.v1.tar", ""); LAYERS + 1].join(",");
        let config = descriptor("application/vnd.oci.image.config.v1+json", "");
        let with_config = |config: String| format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        let with_layer =
            |layer: String| format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#);
        let sized = |size: &str| descriptor(OCI, "").replace("\"size\":0", &format!("\"size\":{size}"));
        let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
        for (text, header, why) in [
            (manifest(r#","manifests":[]"#), None, "at once"),
            (manifest(r#","mediaType":"application/vnd.oci.image.index.v1+json""#), None, "built otherwise"),
            (manifest(&format!(r#","mediaType":"{OCI}""#)), Some(media_type::DOCKER_MANIFEST), "but came as"),
            (manifest(""), Some(OCI_INDEX), "built otherwise"),
            (manifest(""), Some("text/html"), "built otherwise"),
            (manifest("").replace("\"schemaVersion\":2", "\"schemaVersion\":1"), None, "schema 1"),
            (manifest(""), Some("application/vnd.docker.distribution.manifest.v1+prettyjws"), "schema 1"),
            (r#"{"schemaVersion":2,"fsLayers":[]}"#.into(), None, "schema 1"),
            (manifest("").replace("\"schemaVersion\":2,", ""), None, "schemaVersion"),
            (manifest(r#","layers":[]"#), None, "twice"),
            (manifest(r#","Layers":[]"#), None, "wrong case"),
            (format!(r#"{{"schemaVersion":2,"manifests":[{many}]}}"#), None, "10001 entries"),
            (with_layer(layers), None, "501 layers"),
            (with_config(descriptor(layer, "")), None, "config is called"),
            (with_config(descriptor(OCI, "")), None, "config is called"),
            (with_layer(descriptor(OCI_INDEX, "")), None, "layers is called"),
            (with_layer(descriptor(layer, r#","data":"eA==""#)), None, "embedded data"),
            (with_layer(descriptor(layer, r#","data":"!""#)), None, "embedded data"),
            (with_layer(sized("-1")), None, "no sound"),
            (with_layer(sized("9223372036854775808").replace(OCI, layer)), None, "size of"),
            (with_layer(descriptor(layer, "").replace("sha256:e", "sha256:E")), None, "no sound"),
            (with_layer(descriptor(layer, "").replace("sha256:e3", "md5:")), None, "no sound"),
            (with_layer(descriptor(layer, "").replace("sha256:e3", "sha256:../")), None, "no sound"),
            ("[]".into(), None, "no manifest"),
            ("null".into(), None, "no manifest"),
            ("<html>".into(), None, "sound JSON"),
        ] {
            let error = parse(&text, header).expect_err(&text[..text.len().min(200)]);
            assert!(error.contains(why), "{error}: wanted {why}");
        }
        let embedded = with_layer(descriptor(layer, r#","data":"""#));
        assert!(parse(&embedded, None).is_ok(), "embedded data that hash right are fine");
    }
}
