//! What documents and blobs may be: rules R01 to R05, each input that `../README.md` lists. After each, the store is
//! looked through: nothing of what was refused is there.

use forge_registry::{Client, ErrorKind, Reference, RegistryError, progress};
use forge_store::image::to_json;
use forge_store::{Descriptor, Digest, MediaType, Platform};

use crate::support::fake::{Fake, Fault};
use crate::support::http::{Reply, Trouble};
use crate::support::image::{TestImage, image};
use crate::support::{TestStore, client, try_run};

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn amd64() -> Platform {
    Platform::new("linux", "amd64", None)
}

async fn scene() -> (Fake, TestImage, Reference) {
    let fake = Fake::start().await;
    let made = image(&TestStore::new().blobs, &[70_000]);
    fake.hold("app", "1", &made);
    let name = format!("{}/app:1", fake.host()).parse().unwrap();
    (fake, made, name)
}

/// Pulls all of an image into an empty store, which must stay empty.
async fn refused(client: &Client, name: &Reference) -> RegistryError {
    let store = TestStore::new();
    let error = pull(client, name, &store).await.expect_err("it was taken");
    assert!(store.is_empty(), "{error}: {:?}", store.files());
    error
}

async fn pull(client: &Client, name: &Reference, store: &TestStore) -> Result<(), RegistryError> {
    let pulled = client.fetch_image(name, &amd64(), &store.blobs).await?;
    client.fetch_blobs(name.repository(), &pulled.manifest.layers, &store.blobs, &progress::silent()).await
}

/// The same, and all images of an index, as `forge copy` does it.
async fn refused_either_way(name: &Reference, why: &str) {
    let error = refused(&client(), name).await;
    assert!(error.to_string().contains(why), "{error}: wanted {why}");
    let store = TestStore::new();
    let error = client().fetch_documents(name, None, &store.blobs).await.expect_err(why);
    assert!(error.to_string().contains(why), "{error}: wanted {why}");
    assert!(store.is_empty(), "{error}: {:?}", store.files());
}

/// R01: wrong, short, long, endless and empty bodies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_other_than_their_digest() {
    let (fake, made, tagged) = scene().await;
    let pinned = tagged.repository().pinned(made.root.digest);
    let layer = made.manifest.layers[0].digest.to_string();
    let config = made.manifest.config.digest.to_string();
    for (part, bytes) in
        [("/manifests/", &made.manifest_bytes), (&config, &made.config_bytes), (&layer, &made.layers[0])]
    {
        let mut wrong = bytes.clone();
        wrong[3] ^= 1;
        for (fault, what) in [
            (Fault::Body(wrong), "wrong"),
            (Fault::Body(bytes[..bytes.len() - 1].to_vec()), "short"),
            (Fault::Body([bytes.as_slice(), b" "].concat()), "long"),
            (Fault::With(Trouble::Endless), "endless"),
            (Fault::Body(Vec::new()), "empty"),
        ] {
            let path = part.to_owned();
            fake.plan(move |r, _| match r.method == "GET" && r.path.contains(&path) {
                true => fault.clone(),
                false => Fault::None,
            });
            for name in [&tagged, &pinned] {
                let kind = refused_but_for(name, part, &made).await.kind();
                assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::Protocol), "{what} {part}: {kind:?}");
            }
        }
    }
}

/// A layer's own failure leaves the documents, which are right, and nothing of the layer.
async fn refused_but_for(name: &Reference, part: &str, made: &TestImage) -> RegistryError {
    if made.manifest.layers[0].digest.to_string() != part {
        return refused(&client(), name).await;
    }
    let store = TestStore::new();
    let error = pull(&client(), name, &store).await.expect_err("it was taken");
    let mut kept: Vec<Digest> = store.blobs.list().unwrap().into_iter().map(|(digest, _)| digest).collect();
    let mut right = vec![made.root.digest, made.manifest.config.digest];
    kept.sort();
    right.sort();
    assert_eq!((kept, store.files().len()), (right, 2), "{error}: {:?}", store.files());
    error
}

/// R01: sizes of 0, −1, 2⁶³, and those that are off by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_that_no_bytes_have() {
    let (fake, made, name) = scene().await;
    let text = String::from_utf8(made.manifest_bytes.clone()).unwrap();
    let index = index_of(&made.root);
    let layer = made.manifest.layers[0].size;
    for (text, kind, size) in
        [(&text, OCI, made.manifest.config.size), (&text, OCI, layer), (&index, OCI_INDEX, made.root.size)]
    {
        for (lie, why) in [
            ("0".to_owned(), ""),
            ("-1".into(), "no sound"),
            ("9223372036854775808".into(), "size of"),
            ("18446744073709551616".into(), "no sound"),
            ("1e3".into(), "no sound"),
            ((size - 1).to_string(), ""),
            ((size + 1).to_string(), ""),
        ] {
            let lying = text.replace(&format!("\"size\":{size}"), &format!("\"size\":{lie}"));
            assert_ne!(&lying, text);
            fake.hold_manifest("app", "1", kind, lying.as_bytes());
            if size == layer && why.is_empty() {
                let store = TestStore::new();
                let error = pull(&client(), &name, &store).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{lie}: {error}");
                assert_eq!(
                    store.files().len(),
                    2,
                    "manifest and configuration are right: {:?}",
                    store.files()
                );
                continue;
            }
            let error = refused(&client(), &name).await;
            assert!(error.to_string().contains(why), "{lie} for {size}: {error}");
        }
    }
}

fn index_of(child: &Descriptor) -> String {
    let mut entry = child.clone();
    entry.platform = Some(amd64());
    let entry = String::from_utf8(to_json(&entry)).unwrap();
    format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{entry}]}}"#)
}

/// R02: nothing but `sha256:` and 64 lower-case hex digits gets as far as a path or an address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digests_outside_the_grammar() {
    let (fake, made, name) = scene().await;
    let manifest = String::from_utf8(made.manifest_bytes.clone()).unwrap();
    let index = index_of(&made.root);
    let hex = made.root.digest.hex();
    let upper = format!("sha256:{}", "ABCDEF01".repeat(8));
    let (capitals, long) = (format!("SHA256:{hex}"), format!("sha256:{hex}0"));
    for bad in [
        "sha256:../../etc/x",
        &capitals,
        &upper,
        &format!("sha256:{}", &hex[1..]),
        &long,
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "sha256+b64:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564",
        "sha256:",
        "sha256",
        "",
    ] {
        for (text, kind, digest) in [
            (&manifest, OCI, made.manifest.config.digest),
            (&manifest, OCI, made.manifest.layers[0].digest),
            (&index, OCI_INDEX, made.root.digest),
        ] {
            fake.hold_manifest("app", "1", kind, text.replace(&digest.to_string(), bad).as_bytes());
            fake.state().log.clear();
            let error = refused(&client(), &name).await;
            assert!(error.to_string().contains("no sound"), "{bad}: {error}");
            let asked = fake.state().log.iter().filter(|r| !r.path.contains("/manifests/")).count();
            assert_eq!(asked, 0, "{bad}");
        }
        assert!(format!("{}@{bad}", name.repository()).parse::<Reference>().is_err(), "{bad}");
        assert!(bad.parse::<Digest>().is_err(), "{bad}");
        // A header that says such a digest says nothing.
        let (said, bytes) = (bad.to_owned(), made.manifest_bytes.clone());
        fake.plan(move |r, _| {
            let reply = Reply::new(200).header("content-type", OCI).header("docker-content-digest", &said);
            if r.path.contains("/manifests/") {
                Fault::Instead(reply.body(bytes.clone()))
            } else {
                Fault::None
            }
        });
        assert_eq!(client().resolve(&name, None).await.unwrap().descriptor, made.root, "{bad}");
        fake.plan(|_, _| Fault::None);
    }
}

/// R03: two kinds of document at once, or one under the name of another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_that_are_two_things() {
    let (fake, made, name) = scene().await;
    let manifest = String::from_utf8(made.manifest_bytes.clone()).unwrap();
    let index = index_of(&made.root);
    let config = String::from_utf8(to_json(&made.manifest.config)).unwrap();
    let with = |text: &str, more: &str| text.replacen('{', &format!("{{{more},"), 1);
    for (kind, text, why) in [
        (OCI, with(&manifest, r#""manifests":[]"#), "at once"),
        (OCI_INDEX, with(&index, r#""layers":[]"#), "at once"),
        (OCI_INDEX, with(&index, &format!(r#""config":{config}"#)), "at once"),
        (OCI_INDEX, with(&index, r#""fsLayers":[]"#), "schema 1"),
        (OCI_INDEX, manifest.clone(), "but came as"),
        (OCI, index.clone(), "but came as"),
        (DOCKER, manifest.clone(), "but came as"),
        ("text/html", manifest.clone(), "but came as"),
        (OCI, manifest.replace("image.config.v1+json", "image.layer.v1.tar"), "config is called"),
        (OCI, manifest.replace("image.config.v1+json", "image.layer.v1.tar+gzip"), "config is called"),
        (OCI, manifest.replace("image.config.v1+json", "image.index.v1+json"), "config is called"),
        (OCI, manifest.replace("image.layer.v1.tar\"", "image.manifest.v1+json\""), "layers is called"),
    ] {
        fake.hold_manifest("app", "1", kind, text.as_bytes());
        refused_either_way(&name, why).await;
    }
    // What is a manifest and no image is refused by whoever wants an image.
    let artifact = manifest.replace("image.config.v1+json", "empty.v1+json");
    fake.hold_manifest("app", "1", OCI, artifact.as_bytes());
    assert!(refused(&client(), &name).await.to_string().contains("an artifact"));
    // An index that calls its child what it is not.
    fake.hold("app", "right", &made);
    fake.hold_manifest("app", "1", OCI_INDEX, index.replace(OCI, DOCKER).as_bytes());
    refused_either_way(&name, "its index calls it").await;
}

/// What is done to a document.
type Change<'a> = &'a dyn Fn(&str) -> Vec<u8>;

/// R04: JSON that readers take in different ways, in manifests and in configurations.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_that_is_read_in_two_ways() {
    let (fake, made, name) = scene().await;
    let manifest = String::from_utf8(made.manifest_bytes.clone()).unwrap();
    let config = String::from_utf8(made.config_bytes.clone()).unwrap();
    let with = |text: &str, more: &str| text.replacen('{', &format!("{{{more},"), 1);
    let deep = format!(r#""a":{}{}"#, "[".repeat(100_000), "]".repeat(100_000));
    let both: [(Change<'_>, &str); 6] = [
        (&|text| with(text, &deep).into(), "sound JSON"),
        (&|text| with(text, r#""x":1e400"#).into(), "sound JSON"),
        (&|text| with(text, r#""x":1,"x":2"#).into(), "twice"),
        (&|text| format!("\u{feff}{text}").into(), "sound JSON"),
        (&|text| [text.replacen('{', "{\"x\":\"", 1).as_bytes(), b"\xff\""].concat(), "sound JSON"),
        (&|text| format!("{text} {{}}").into(), "sound JSON"),
    ];
    for (change, why) in both {
        let changed = change(&config);
        hold_with_config(&fake, &made, &changed);
        assert!(refused(&client(), &name).await.to_string().contains(why), "config: wanted {why}");
        fake.hold_manifest("app", "1", OCI, &change(&manifest));
        refused_either_way(&name, why).await;
    }
    for (text, why) in [
        (manifest.replace("\"layers\":", "\"layers\":[],\"layers\":"), "twice"),
        (manifest.replace("\"layers\":", "\"LAYERS\":[],\"layers\":"), "wrong case"),
        (manifest.replace("\"digest\":", "\"Digest\":\"x\",\"digest\":"), "wrong case"),
        (manifest.replacen("\"size\":", "\"data\":\"eA==\",\"size\":", 1), "embedded data"),
    ] {
        fake.hold_manifest("app", "1", OCI, text.as_bytes());
        refused_either_way(&name, why).await;
    }
}

/// R04: Go's reader, and so skopeo's, takes `LAYERS` for `layers`: the input that R04 is about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skopeo_takes_what_is_spelt_otherwise() {
    let (fake, made, name) = scene().await;
    let manifest = String::from_utf8(made.manifest_bytes.clone()).unwrap();
    fake.hold_manifest("app", "1", OCI, manifest.replace("\"layers\":", "\"LAYERS\":").as_bytes());
    let copied = tokio::task::spawn_blocking({
        let from = format!("docker://{name}");
        move || {
            let dir = tempfile::tempdir().unwrap();
            let to = format!("dir:{}", dir.path().display());
            let done = try_run("skopeo", &["copy", "--src-tls-verify=false", &from, &to]);
            (done.status.success(), std::fs::read_dir(dir.path()).unwrap().count())
        }
    });
    assert_eq!(copied.await.unwrap(), (true, 4), "version, manifest, configuration and a layer");
    refused_either_way(&name, "wrong case").await;
}

fn hold_with_config(fake: &Fake, made: &TestImage, config: &[u8]) {
    let mut manifest = made.manifest.clone();
    manifest.config = Descriptor::new(MediaType::ImageConfig, Digest::of(config), config.len() as u64);
    fake.hold_blob("app", config);
    fake.hold_manifest("app", "1", OCI, &to_json(&manifest));
}

/// R04: a manifest of 100 MiB is refused for its length alone, before any of it came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_that_are_too_large_are_not_waited_for() {
    let (fake, _, name) = scene().await;
    fake.plan(|r, _| {
        let reply = Reply::new(200).header("content-type", OCI).header("content-length", "104857600");
        if r.method == "GET" { Fault::Instead(reply.trouble(Trouble::StallAfter(0))) } else { Fault::None }
    });
    refused_either_way(&name, "larger than 16777216 bytes").await;
    assert!(fake.state().log.len() <= 4, "each was asked for once");
}

/// R05: a circle, a chain of 50, 10⁵ entries, one digest many times, an entry that lies about its platform.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn indexes_that_do_not_end() {
    let (fake, made, name) = scene().await;
    // No index holds its own digest; one that is served under another's is not what it says.
    let other = Descriptor::new(MediaType::ImageIndex, Digest::of(b"itself"), 0);
    let probe = index_of(&other);
    let itself = index_of(&Descriptor { size: probe.len() as u64 + 2, ..other.clone() });
    fake.hold_manifest("app", "1", OCI_INDEX, itself.as_bytes());
    let value = (OCI_INDEX.to_owned(), itself.into_bytes());
    fake.state().manifests.insert(("app".into(), other.digest.to_string()), value);
    refused_either_way(&name, "hash").await;

    let mut child = made.root.clone();
    for _ in 0..50 {
        let bytes = index_of(&child);
        fake.hold_manifest("app", "1", OCI_INDEX, bytes.as_bytes());
        child = Descriptor::new(MediaType::ImageIndex, Digest::of(bytes.as_bytes()), bytes.len() as u64);
    }
    refused_either_way(&name, "nest deeper").await;

    let entry = String::from_utf8(to_json(&made.root)).unwrap();
    let many = |n: usize| {
        let entries = vec![entry.as_str(); n].join(",");
        format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{entries}]}}"#)
    };
    assert!(many(100_000).len() < 16 << 20, "the length is not what it is refused for");
    fake.hold_manifest("app", "1", OCI_INDEX, many(100_000).as_bytes());
    refused_either_way(&name, "100000 entries").await;

    fake.hold_manifest("app", "1", OCI_INDEX, many(1_000).as_bytes());
    fake.state().log.clear();
    let store = TestStore::new();
    client().fetch_documents(&name, None, &store.blobs).await.unwrap();
    assert_eq!(fake.count("GET", &made.root.digest.to_string()), 1, "a digest is asked for once");

    // What the image itself says counts, and whoever builds on it is told.
    let arm = crate::support::image::image_for(&TestStore::new().blobs, &[10], "arm64");
    fake.hold("app", "arm", &arm);
    fake.hold_manifest("app", "1", OCI_INDEX, index_of(&arm.root).as_bytes());
    let pulled = client().fetch_image(&name, &amd64(), &store.blobs).await.unwrap();
    assert_eq!(pulled.config.platform().to_string(), "linux/arm64");
}
