//! `--squash`: several layers as one, and a history that says so.

use forge_solver::plan::HistoryLine;
use forge_store::image::History;
use forge_store::{Layer, LayerForm, PackedLayer, Store};

use crate::ExportError;
use crate::image::pack_all;

/// Which layers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Squash {
    /// All: the image has one layer, without anything that was deleted.
    All,
    /// Those above the base image's.
    New,
}

/// The layers that are left, packed.
pub(crate) fn pack(
    store: &Store,
    layers: &[Layer],
    squash: Squash,
    form: LayerForm,
) -> Result<Vec<PackedLayer>, ExportError> {
    let (base, new) = match squash {
        Squash::All => layers.split_at(0),
        // Layers of images come from registries or layouts, or were images of this store before.
        Squash::New => layers.split_at(layers.iter().take_while(|layer| layer.pulled.is_some()).count()),
    };
    let mut packed = pack_all(store, base, form)?;
    if !new.is_empty() {
        packed.push(store.layers().squash(new, base, &form)?);
    }
    Ok(packed)
}

/// The history of the layers that are left: every line stays, those of layers that are gone have none, and one
/// more says what has become of them.
pub(crate) fn history(
    mut history: Vec<History>,
    lines: &[HistoryLine],
    layers: &[PackedLayer],
    squash: Squash,
    created: String,
) -> Vec<History> {
    let mut merged = 0;
    let mut kept = 0;
    for (entry, line) in history.iter_mut().zip(lines) {
        let stays = squash == Squash::New && matches!(line, HistoryLine::Inherited(_));
        if entry.empty_layer {
            continue;
        }
        match stays {
            true => kept += 1,
            false => {
                entry.empty_layer = true;
                merged += 1;
            }
        }
    }
    if layers.len() > kept {
        let word = if squash == Squash::All { "all" } else { "new" };
        history.push(History {
            created: Some(created),
            created_by: Some(format!("SQUASH {word} # forge")),
            comment: Some(format!("{merged} layers in one")),
            ..History::default()
        });
    }
    history
}
