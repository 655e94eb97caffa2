//! Blobs and layers that several forges make at once: the first one stays, and both forms of a layer agree.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, SystemTime};

use forge_store::layer::{Compression, GzipLevel};
use forge_store::tree::OverlayXattrs;
use forge_store::{ContentId, Descriptor, Layer, LayerId, MediaType, PackedLayer, Store, StoreError};

fn store(root: &Path) -> Store {
    Store::open(root, OverlayXattrs::User).unwrap()
}

/// Runs `work` twice at the same moment, each time over a store of its own on the same directory.
fn twice<T: Send>(root: &Path, work: impl Fn(&Store, usize) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let run = |number| {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                let store = store(root);
                barrier.wait();
                work(&store, number)
            })
        };
        let both = [run(0), run(1)];
        both.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_blob_that_is_there_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    drop(store(dir.path()));
    for round in 0..100_u32 {
        let bytes = round.to_le_bytes().repeat(1000);
        let inodes = twice(dir.path(), |store, _| {
            let mut blob = store.blobs().create().unwrap();
            blob.write_all(&bytes).unwrap();
            let (digest, _) = blob.commit().unwrap();
            (digest, fs::metadata(store.blobs().path(&digest)).unwrap().ino())
        });
        let last = fs::metadata(store(dir.path()).blobs().path(&inodes[0].0)).unwrap().ino();
        assert_eq!([inodes[0].1, inodes[1].1], [last; 2], "round {round}");
    }
}

/// A layer of one file that differs from run to run in its time only.
fn build(store: &Store, id: &LayerId, number: usize) {
    let draft = store.draft().unwrap();
    let path = draft.tree().join("file");
    fs::write(&path, b"the same each time").unwrap();
    let when = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + number as u64);
    fs::File::options().write(true).open(&path).unwrap().set_modified(when).unwrap();
    store.layers().commit(draft, id, 18).unwrap();
}

fn gzip() -> Compression {
    Compression::Gzip(GzipLevel::default())
}

/// The DiffID of the layer's tree as it is now, packed aside.
fn packed_anew(store: &Store, id: &LayerId) -> PackedLayer {
    store.layers().pack(&Layer::built(*id), Compression::None).unwrap()
}

#[test]
fn a_layer_built_twice_at_once_has_one_tree_and_blobs_made_of_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(store(dir.path()));
    for round in 0..40_u8 {
        let id = LayerId::of_content(&ContentId::new(blake3_of(round)));
        let packed = twice(dir.path(), |store, number| {
            build(store, &id, number);
            store.layers().pack(&Layer::built(id), gzip()).unwrap()
        });
        assert_eq!(packed[0], packed[1], "round {round}");
        assert_eq!(packed_anew(&store(dir.path()), &id).diff_id, packed[0].diff_id, "round {round}");
    }
}

/// A content id that no tree of these tests has; ids are opaque to the store.
fn blake3_of(round: u8) -> blake3::Hash {
    blake3::hash(&[round])
}

#[test]
fn a_layer_whose_tree_is_gone_comes_back_from_its_blob_not_from_another_run() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let id = LayerId::of_content(&ContentId::new(blake3_of(1)));
    build(&store, &id, 0);
    let packed = store.layers().pack(&Layer::built(id), gzip()).unwrap();
    fs::remove_dir_all(dir.path().join("layers").join(id.hex())).unwrap();
    assert!(store.layers().is_local(&Layer::built(id)).unwrap());
    build(&store, &id, 5);
    assert_eq!(packed_anew(&store, &id).diff_id, packed.diff_id);
}

#[test]
fn without_either_form_the_layer_of_the_new_run_counts() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let id = LayerId::of_content(&ContentId::new(blake3_of(1)));
    build(&store, &id, 0);
    let old = store.layers().pack(&Layer::built(id), gzip()).unwrap();
    fs::remove_dir_all(dir.path().join("layers").join(id.hex())).unwrap();
    store.blobs().remove(&old.descriptor.digest).unwrap();
    assert!(!store.layers().is_local(&Layer::built(id)).unwrap());
    build(&store, &id, 5);
    let new = store.layers().pack(&Layer::built(id), gzip()).unwrap();
    assert_ne!(new.diff_id, old.diff_id);
    assert_eq!(packed_anew(&store, &id).diff_id, new.diff_id);
}

#[test]
fn a_damaged_blob_is_named_dropped_and_not_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let id = LayerId::of_content(&ContentId::new(blake3_of(1)));
    build(&store, &id, 0);
    let packed = store.layers().pack(&Layer::built(id), gzip()).unwrap();
    let path = store.blobs().path(&packed.descriptor.digest);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let pulled = Layer::pulled(
        Descriptor::new(MediaType::ImageLayerGzip, packed.descriptor.digest, packed.descriptor.size),
        packed.diff_id,
    );
    let error = store.layers().ensure_tree(&pulled).unwrap_err();
    let StoreError::Corrupt { object, .. } = &error else { panic!("{error}") };
    assert_eq!(*object, format!("blob {}", packed.descriptor.digest));
    assert!(!path.exists() && !store.blobs().contains(&packed.descriptor.digest).unwrap());
    assert!(fs::read_dir(dir.path().join("layers")).unwrap().count() == 1, "nothing half unpacked");
}
