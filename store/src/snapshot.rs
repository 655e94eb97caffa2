//! Snapshots: stacks of layers, by name. What a rootfs is made of, before anything is on disk.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::image::to_json;
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

/// A stack of layers: what a rootfs is made of. Stacks share what lies below their top.
#[derive(Clone, Default)]
pub struct Snapshot {
    top: Option<Arc<Link>>,
}

struct Link {
    id: StackId,
    layer: Layer,
    below: Snapshot,
}

/// Names a stack by all that is known of its layers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId([u8; 32]);

impl StackId {
    fn of(below: &Snapshot, layer: &Layer) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("forge stack of layers v1");
        hasher.update(&below.id().0).update(&to_json(layer));
        Self(*hasher.finalize().as_bytes())
    }

    /// 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// The same, read.
    pub fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|hash| Self(*hash.as_bytes()))
    }
}

impl fmt::Debug for StackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl Snapshot {
    /// This stack with one more layer on top.
    pub fn push(&self, layer: Layer) -> Self {
        let id = StackId::of(self, &layer);
        Self { top: Some(Arc::new(Link { id, layer, below: self.clone() })) }
    }

    /// What names it.
    pub fn id(&self) -> StackId {
        self.top.as_ref().map_or(StackId([0; 32]), |link| link.id)
    }

    /// The topmost layer, and the stack below it.
    pub fn top(&self) -> Option<(&Layer, &Self)> {
        self.top.as_deref().map(|link| (&link.layer, &link.below))
    }

    /// The layers, the topmost first.
    pub fn downward(&self) -> impl Iterator<Item = &Layer> {
        let stacks = std::iter::successors(Some(self), |stack| stack.top().map(|(_, below)| below));
        stacks.filter_map(|stack| stack.top().map(|(layer, _)| layer))
    }

    /// The layers, the lowest first.
    pub fn layers(&self) -> Vec<&Layer> {
        let mut layers: Vec<&Layer> = self.downward().collect();
        layers.reverse();
        layers
    }
}

impl FromIterator<Layer> for Snapshot {
    /// The lowest comes first.
    fn from_iter<I: IntoIterator<Item = Layer>>(layers: I) -> Self {
        layers.into_iter().fold(Self::default(), |below, layer| below.push(layer))
    }
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Snapshot {}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.layers()).finish()
    }
}

/// One link after the other: a deep stack must not need a deep call.
impl Drop for Snapshot {
    fn drop(&mut self) {
        let mut next = self.top.take();
        while let Some(mut link) = next.and_then(Arc::into_inner) {
            next = link.below.top.take();
        }
    }
}

/// As it is written: all layers, the lowest first.
#[derive(Serialize, Deserialize)]
struct Written<L> {
    layers: Vec<L>,
}

impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written { layers: self.layers() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Snapshot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::<Layer>::deserialize(deserializer)?;
        Ok(written.layers.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ContentId;

    fn layer(name: &str) -> Layer {
        Layer::built(LayerId::of_content(&ContentId::new(blake3::hash(name.as_bytes()))))
    }

    #[test]
    fn a_stack_is_what_its_layers_are() {
        let stack: Snapshot = ["a", "b", "c"].into_iter().map(layer).collect();
        assert_eq!(stack.layers(), [&layer("a"), &layer("b"), &layer("c")]);
        assert_eq!(stack, Snapshot::default().push(layer("a")).push(layer("b")).push(layer("c")));
        assert_ne!(stack, ["b", "a", "c"].into_iter().map(layer).collect());
        assert_ne!(stack, *stack.top().unwrap().1);
        let text = serde_json::to_string(&stack).unwrap();
        assert!(text.starts_with(r#"{"layers":[{"id":"#), "{text}");
        assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), stack);
        assert_eq!(StackId::from_hex(&stack.id().hex()), Some(stack.id()));
    }

    #[test]
    fn a_deep_stack_is_dropped_without_a_deep_call() {
        let same = layer("a");
        drop((0..200_000).map(|_| same.clone()).collect::<Snapshot>());
    }
}
