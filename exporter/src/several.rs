//! Images for several platforms under one name, or one image alone.

use std::collections::BTreeMap;

use forge_solver::{Plan, Solved};
use forge_store::image::to_json;
use forge_store::{Descriptor, Digest, ImageIndex, MediaType, Store};

use crate::image::assemble;
use crate::{AnnotationTarget, ExportError, Image, ImageOptions};

/// What was built, as one output wants it: its documents and layers are in the store.
#[derive(Clone, Debug)]
pub struct Images {
    /// What names it all: the index, or the one image's manifest.
    pub root: Descriptor,
    /// The images, in the order in which their platforms were asked for.
    pub images: Vec<Image>,
    /// There is an index.
    pub is_index: bool,
}

impl Images {
    /// Assembles an image for each plan; an index names them where there are several, or where one is wanted.
    pub fn assemble(
        store: &Store,
        plans: &[Plan],
        solved: &Solved,
        options: &ImageOptions,
        wants_index: bool,
    ) -> Result<Self, ExportError> {
        let is_index = wants_index || plans.len() > 1;
        check_annotations(plans, options, is_index)?;
        let images: Vec<Image> =
            plans.iter().map(|plan| assemble(store, plan, solved, options)).collect::<Result<_, _>>()?;
        let root = match (is_index, images.as_slice()) {
            (false, [image]) => image.descriptor.clone(),
            _ => write_index(store, &images, options)?,
        };
        Ok(Self { root, images, is_index })
    }

    /// Docker's image id: there is none for an index.
    pub fn id(&self) -> Option<&Digest> {
        self.only().filter(|_| !self.is_index).map(Image::id)
    }

    /// The one image, where there is no other.
    pub fn only(&self) -> Option<&Image> {
        match self.images.as_slice() {
            [image] => Some(image),
            _ => None,
        }
    }
}

fn write_index(store: &Store, images: &[Image], options: &ImageOptions) -> Result<Descriptor, ExportError> {
    let annotations = |target: AnnotationTarget| -> BTreeMap<String, String> {
        let ours = options.annotations.iter().filter(|annotation| annotation.target == target);
        ours.map(|annotation| (annotation.key.clone(), annotation.value.clone())).collect()
    };
    let media_type = options.own_name(&MediaType::ImageIndex)?;
    let index = ImageIndex {
        schema_version: 2,
        media_type: Some(media_type.clone()),
        artifact_type: None,
        manifests: images.iter().map(|image| image.descriptor.clone()).collect(),
        annotations: annotations(AnnotationTarget::Index),
        extra: BTreeMap::new(),
    };
    let bytes = to_json(&index);
    let digest = store.blobs().put(&bytes)?;
    let annotations = annotations(AnnotationTarget::IndexDescriptor);
    Ok(Descriptor { annotations, ..Descriptor::new(media_type, digest, bytes.len() as u64) })
}

/// Annotations of what is not written would be lost.
fn check_annotations(plans: &[Plan], options: &ImageOptions, is_index: bool) -> Result<(), ExportError> {
    for annotation in &options.annotations {
        let of_index =
            matches!(annotation.target, AnnotationTarget::Index | AnnotationTarget::IndexDescriptor);
        if of_index && !is_index {
            let detail = format!(
                "annotation {}: index annotations need an index, and one platform has none; \
                 --build-arg BUILDKIT_MULTI_PLATFORM=1 makes one",
                annotation.key
            );
            return Err(ExportError::Unsuitable(detail));
        }
        if !plans.iter().any(|plan| annotation.applies_to(&plan.stage.image.platform())) {
            let platform = annotation.platform.as_ref().map(ToString::to_string).unwrap_or_default();
            let detail = format!("annotation {}: nothing is built for {platform}", annotation.key);
            return Err(ExportError::Unsuitable(detail));
        }
    }
    if options.docker_types && !options.annotations.is_empty() {
        return Err(ExportError::Unsuitable("oci-mediatypes=false has no place for annotations".into()));
    }
    Ok(())
}
