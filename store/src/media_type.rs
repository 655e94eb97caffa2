//! Media types: OCI's by name from `oci-spec`, and what forge needs to know about them and about Docker's twins.

pub use oci_spec::image::MediaType;

/// Docker's image manifest, version 2 schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's manifest list.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker's uncompressed layer.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker's layer compressed with zstd, as containerd, BuildKit and skopeo write and read it.
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
/// Docker's gzipped layer.
pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker's gzipped layer that registries may refuse to hold.
pub const DOCKER_LAYER_FOREIGN_GZIP: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// True for an image manifest, OCI's or Docker's.
pub fn is_manifest(media_type: &MediaType) -> bool {
    *media_type == MediaType::ImageManifest || media_type.as_ref() == DOCKER_MANIFEST
}

/// True for an image index or a manifest list.
pub fn is_index(media_type: &MediaType) -> bool {
    *media_type == MediaType::ImageIndex || media_type.as_ref() == DOCKER_MANIFEST_LIST
}

/// True for an image configuration, OCI's or Docker's.
pub fn is_config(media_type: &MediaType) -> bool {
    *media_type == MediaType::ImageConfig || media_type.as_ref() == DOCKER_CONFIG
}

/// True for a layer that is a filesystem difference (not an attestation or another artifact).
pub fn is_layer(media_type: &MediaType) -> bool {
    matches!(
        media_type,
        MediaType::ImageLayer
            | MediaType::ImageLayerGzip
            | MediaType::ImageLayerZstd
            | MediaType::ImageLayerNonDistributable
            | MediaType::ImageLayerNonDistributableGzip
            | MediaType::ImageLayerNonDistributableZstd
    ) || matches!(
        media_type.as_ref(),
        DOCKER_LAYER | DOCKER_LAYER_GZIP | DOCKER_LAYER_ZSTD | DOCKER_LAYER_FOREIGN_GZIP
    )
}

/// The same thing by OCI's name: Docker's twins have one each, everything else is what it is.
pub fn to_oci(media_type: &MediaType) -> MediaType {
    match media_type.as_ref() {
        DOCKER_MANIFEST => MediaType::ImageManifest,
        DOCKER_MANIFEST_LIST => MediaType::ImageIndex,
        DOCKER_CONFIG => MediaType::ImageConfig,
        DOCKER_LAYER => MediaType::ImageLayer,
        DOCKER_LAYER_GZIP => MediaType::ImageLayerGzip,
        DOCKER_LAYER_ZSTD => MediaType::ImageLayerZstd,
        DOCKER_LAYER_FOREIGN_GZIP => MediaType::ImageLayerNonDistributableGzip,
        _ => media_type.clone(),
    }
}

/// The same thing by Docker's name; `None` where Docker has none.
pub fn to_docker(media_type: &MediaType) -> Option<MediaType> {
    let name = match to_oci(media_type) {
        MediaType::ImageManifest => DOCKER_MANIFEST,
        MediaType::ImageIndex => DOCKER_MANIFEST_LIST,
        MediaType::ImageConfig => DOCKER_CONFIG,
        MediaType::ImageLayer => DOCKER_LAYER,
        MediaType::ImageLayerGzip => DOCKER_LAYER_GZIP,
        MediaType::ImageLayerZstd => DOCKER_LAYER_ZSTD,
        MediaType::ImageLayerNonDistributableGzip => DOCKER_LAYER_FOREIGN_GZIP,
        _ => return None,
    };
    Some(MediaType::from(name))
}

/// An OCI layer type that says nothing about where the layer may be distributed.
pub fn to_distributable(media_type: &MediaType) -> MediaType {
    match media_type {
        MediaType::ImageLayerNonDistributable => MediaType::ImageLayer,
        MediaType::ImageLayerNonDistributableGzip => MediaType::ImageLayerGzip,
        MediaType::ImageLayerNonDistributableZstd => MediaType::ImageLayerZstd,
        other => other.clone(),
    }
}
