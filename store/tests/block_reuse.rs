//! Layers packed in a store that has their predecessor: the bytes of a cold build, whatever became of the old blob.

use std::fs;
use std::path::Path;

use forge_store::layer::{Compression, GzipLevel, ZstdLevel};
use forge_store::tree::OverlayXattrs;
use forge_store::{ContentId, Layer, LayerId, PackedLayer, Store};
use tempfile::TempDir;

const FILES: usize = 24;

fn open(dir: &TempDir) -> Store {
    Store::open(dir.path(), OverlayXattrs::User).unwrap()
}

/// Some numbers as text: 90 kB, different for each file.
fn text(file: usize) -> String {
    (0..12_000u64).map(|n| format!("{} ", n.wrapping_mul(2_654_435_761 + file as u64) % 1_000_003)).collect()
}

/// A layer of many files; `change` may edit them.
fn layer(store: &Store, name: &str, change: impl FnOnce(&Path)) -> Layer {
    let draft = store.draft().unwrap();
    for n in 0..FILES {
        fs::write(draft.tree().join(format!("f{n:02}")), text(n)).unwrap();
    }
    change(&draft.tree());
    for n in 0..FILES {
        let file = fs::File::options().write(true).open(draft.tree().join(format!("f{n:02}"))).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    let id = LayerId::of_content(&ContentId::new(blake3::hash(name.as_bytes())));
    store.layers().commit(draft, &id, 0).unwrap();
    Layer::built(id)
}

fn edit(tree: &Path) {
    fs::write(tree.join("f12"), "short now").unwrap();
}

fn blob_bytes(store: &Store, packed: &PackedLayer) -> Vec<u8> {
    store.blobs().read(&packed.descriptor.digest, u64::MAX).unwrap().unwrap()
}

/// What a store that never saw the predecessor makes of the edited layer.
fn cold(compression: Compression) -> PackedLayer {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    store.layers().pack(&layer(&store, "new", edit), compression).unwrap()
}

#[test]
fn an_edited_layer_has_the_bytes_of_a_cold_build() {
    for compression in [Compression::Gzip(GzipLevel::default()), Compression::Zstd(ZstdLevel::default())] {
        let dir = TempDir::new().unwrap();
        let store = open(&dir);
        store.layers().pack(&layer(&store, "old", |_| ()), compression).unwrap();
        let packed = store.layers().pack(&layer(&store, "new", edit), compression).unwrap();
        assert_eq!(packed, cold(compression));
        blob_bytes(&store, &packed);
    }
}

#[test]
fn flipped_bits_of_the_old_blob_do_not_enter_the_new_one() {
    let compression = Compression::Gzip(GzipLevel::default());
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let old = store.layers().pack(&layer(&store, "old", |_| ()), compression).unwrap();
    let path = store.blobs().path(&old.descriptor.digest);
    let mut bytes = fs::read(&path).unwrap();
    for at in (500..bytes.len()).step_by(50_000) {
        bytes[at] ^= 0x10;
    }
    // The old inode is another layer's business; a file of the same size with other bytes is what a bad disk gives.
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let packed = store.layers().pack(&layer(&store, "new", edit), compression).unwrap();
    assert_eq!(packed, cold(compression));
    blob_bytes(&store, &packed);
}

#[test]
fn an_old_blob_may_be_gone() {
    let compression = Compression::Gzip(GzipLevel::default());
    for properly in [true, false] {
        let dir = TempDir::new().unwrap();
        let store = open(&dir);
        let old = store.layers().pack(&layer(&store, "old", |_| ()), compression).unwrap();
        match properly {
            true => store.blobs().remove(&old.descriptor.digest).unwrap(),
            false => fs::remove_file(store.blobs().path(&old.descriptor.digest)).unwrap(),
        }
        let packed = store.layers().pack(&layer(&store, "new", edit), compression).unwrap();
        assert_eq!(packed, cold(compression));
    }
}
