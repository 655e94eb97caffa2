//! Snapshots: stacks of layers, by name. What a rootfs is made of, before anything is on disk.

use serde::{Deserialize, Serialize};

use crate::{Descriptor, DiffId, LayerId};

/// One layer of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its name in this store.
    pub id: LayerId,
    /// Where it came from, unless it was built here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulled: Option<Pulled>,
}

impl Layer {
    /// A layer built here.
    pub fn built(id: LayerId) -> Self {
        Self { id, pulled: None }
    }

    /// A layer of an image that was pulled.
    pub fn pulled(descriptor: Descriptor, diff_id: DiffId) -> Self {
        Self { id: LayerId::of_diff_id(&diff_id), pulled: Some(Pulled { descriptor, diff_id }) }
    }
}

/// A pulled layer's blob, and the DiffID that its image claims for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    /// The blob, as the manifest names it.
    pub descriptor: Descriptor,
    /// The claim; checked when the blob is unpacked.
    pub diff_id: DiffId,
}

/// A stack of layers, lowest first: what a rootfs is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The layers.
    pub layers: Vec<Layer>,
}

impl Snapshot {
    /// This stack with one more layer on top.
    pub fn push(&self, layer: Layer) -> Self {
        let mut layers = self.layers.clone();
        layers.push(layer);
        Self { layers }
    }
}
