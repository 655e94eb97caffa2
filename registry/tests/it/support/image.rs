//! Images made on the spot.

use forge_store::image::to_json;
use forge_store::{
    Blobs, Descriptor, DiffId, Digest, ImageConfig, ImageIndex, Manifest, MediaType, Platform,
};

/// An image in a store.
#[derive(Clone)]
pub struct TestImage {
    pub root: Descriptor,
    pub manifest: Manifest,
    pub manifest_bytes: Vec<u8>,
    pub config_bytes: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
}

/// An image whose layers are uncompressed tars, one file of noise each, of these sizes.
pub fn image(blobs: &Blobs, sizes: &[usize]) -> TestImage {
    image_for(blobs, sizes, "amd64")
}

pub fn image_for(blobs: &Blobs, sizes: &[usize], architecture: &str) -> TestImage {
    let layers: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| tar(n, *size)).collect();
    let mut config =
        ImageConfig { architecture: architecture.into(), os: "linux".into(), ..ImageConfig::default() };
    config.rootfs.diff_ids = layers.iter().map(|layer| DiffId::new(Digest::of(layer))).collect();
    let config_bytes = to_json(&config);
    let put = |kind, bytes: &[u8]| Descriptor::new(kind, blobs.put(bytes).unwrap(), bytes.len() as u64);
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MediaType::ImageManifest),
        artifact_type: None,
        config: put(MediaType::ImageConfig, &config_bytes),
        layers: layers.iter().map(|layer| put(MediaType::ImageLayer, layer)).collect(),
        subject: None,
        annotations: Default::default(),
        extra: Default::default(),
    };
    let manifest_bytes = to_json(&manifest);
    let root = put(MediaType::ImageManifest, &manifest_bytes);
    TestImage { root, manifest, manifest_bytes, config_bytes, layers }
}

/// An index of images, one per architecture.
pub fn index(blobs: &Blobs, architectures: &[&str]) -> (Descriptor, Vec<TestImage>) {
    let images: Vec<TestImage> =
        architectures.iter().enumerate().map(|(n, name)| image_for(blobs, &[500 + n], name)).collect();
    let entry = |(image, name): (&TestImage, &&str)| {
        let mut descriptor = image.root.clone();
        descriptor.platform = Some(Platform::new("linux", name, None));
        descriptor
    };
    let document = ImageIndex {
        schema_version: 2,
        media_type: Some(MediaType::ImageIndex),
        artifact_type: None,
        manifests: images.iter().zip(architectures).map(entry).collect(),
        annotations: Default::default(),
        extra: Default::default(),
    };
    let bytes = to_json(&document);
    (Descriptor::new(MediaType::ImageIndex, blobs.put(&bytes).unwrap(), bytes.len() as u64), images)
}

/// A tar of one file, by the format's own definition: a header, the bytes, zeros.
fn tar(n: usize, size: usize) -> Vec<u8> {
    let content = super::noise(n as u64 * 1000 + size as u64, size);
    let mut header = [0u8; 512];
    let mut set = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    set(0, &format!("file{n}"));
    set(100, "0000644\0");
    set(108, "0000000\0");
    set(116, "0000000\0");
    set(124, &format!("{size:011o}\0"));
    set(136, "00000000000\0");
    set(148, "        ");
    set(156, "0");
    set(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.extend(&content);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    tar
}

/// Asserts that the store has the image, whole.
pub fn assert_has(blobs: &Blobs, image: &TestImage) {
    let all = [&image.manifest_bytes, &image.config_bytes].into_iter().chain(&image.layers);
    for bytes in all {
        let kept = blobs.read(&Digest::of(bytes), u64::MAX).unwrap();
        assert!(kept.as_ref() == Some(bytes), "a blob of {} bytes is not there", bytes.len());
    }
}
