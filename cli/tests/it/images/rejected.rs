//! Images that are not what they say, or would harm: refused with a reason, and nothing of them is left in the store.
//! The rows of `store/tests/unpack/corpus/rows.rs` that need a whole image.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;

use serde_json::{Value, json as value};
use sha2::{Digest as _, Sha256};

use super::space::SmallDisk;
use crate::support::{Lab, tool, try_tool};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A tar with one file.
pub fn tar(path: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, path, content).unwrap();
    tar.into_inner().unwrap()
}

pub fn packed(kind: &str, bytes: &[u8]) -> Vec<u8> {
    let pack = |program: &str, args: &[&str]| {
        use std::process::{Command, Stdio};
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{e}; install {program}"));
        let (mut stdin, bytes) = (child.stdin.take().unwrap(), bytes.to_vec());
        let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output.stdout
    };
    match kind {
        "gzip" => pack("gzip", &["-1nc"]),
        "zstd" => pack("zstd", &["-1qc"]),
        _ => bytes.to_vec(),
    }
}

/// An image layout written by hand, for lies of every kind.
pub struct Made<'a> {
    lab: &'a Lab,
    name: String,
}

impl<'a> Made<'a> {
    pub fn new(lab: &'a Lab, name: &str) -> Self {
        fs::create_dir_all(lab.path(name).join("blobs/sha256")).unwrap();
        lab.file(&format!("{name}/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
        Self { lab, name: name.to_owned() }
    }

    fn put(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        fs::write(self.blob(&digest), bytes).unwrap();
        digest
    }

    fn blob(&self, digest: &str) -> std::path::PathBuf {
        self.lab.path(&self.name).join("blobs/sha256").join(&digest[7..])
    }

    pub fn descriptor(&self, kind: &str, bytes: &[u8]) -> Value {
        value!({ "mediaType": kind, "digest": self.put(bytes), "size": bytes.len() })
    }

    /// An image of these layers, with these DiffIDs, as `x`.
    pub fn image(&self, layers: &[Value], diff_ids: &[String]) -> &Self {
        let config = value!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self.descriptor(CONFIG, config.to_string().as_bytes());
        self.manifest(&value!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        }))
    }

    fn manifest(&self, manifest: &Value) -> &Self {
        let mut entry = self.descriptor(MANIFEST, manifest.to_string().as_bytes());
        entry["annotations"] = value!({ "org.opencontainers.image.ref.name": "x" });
        self.index(&value!({ "schemaVersion": 2, "manifests": [entry] }))
    }

    fn index(&self, index: &Value) -> &Self {
        self.lab.file(&format!("{}/index.json", self.name), &index.to_string());
        self
    }

    pub fn context(&self) -> String {
        format!("b=oci-layout://{}:x", self.lab.at(&self.name))
    }
}

/// Builds on the layout, looking into it; gives the report of the failure.
#[track_caller]
fn refused(lab: &Lab, made: &Made<'_>, code: i32) -> String {
    let text = "FROM scratch\nCOPY --from=b / /\n";
    let outcome = lab.build_text(text, &["-t", "out", "--build-context", &made.context()]);
    let report = outcome.report(code);
    nothing_left(lab);
    report
}

/// No name, no tree, nothing unfinished, and no blob that anything holds on to.
#[track_caller]
fn nothing_left(lab: &Lab) {
    assert_eq!(lab.forge(&["images", "-q"]).success(), "");
    let left = |dir: &str| -> Vec<_> {
        let entries = fs::read_dir(lab.path("store").join(dir)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).collect()
    };
    assert!(left("layers").is_empty(), "{:?}", left("layers"));
    assert_eq!(lab.unfinished(), Vec::<std::path::PathBuf>::new());
    lab.forge(&["prune", "--all", "--force"]).success();
    assert!(left("blobs/sha256").is_empty(), "{:?}", left("blobs/sha256"));
}

#[test]
fn a_bomb_ends_within_bounds_and_leaves_nothing() {
    const PIECE: usize = 64 << 20;
    let maker = Lab::new();
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_mode(0o644);
    // Claims more than any layer may unpack to: refused at once. Claims 10 GiB: when the disk has no room for more.
    for (claim, code, why) in
        [(100u64 << 30, 6, "more than"), (10 << 30, 8, "unpacking would leave less than")]
    {
        header.set_size(claim);
        header.set_cksum();
        for kind in ["gzip", "zstd"] {
            let zeros = packed(kind, &vec![0; PIECE]);
            let pieces = (10usize << 30) / PIECE;
            let bomb = [packed(kind, header.as_bytes()), zeros.repeat(pieces)].concat();
            assert!(bomb.len() < 60 << 20, "{kind}: {} bytes unpack to 10 GiB", bomb.len());
            let made = Made::new(&maker, "bomb");
            let blob = made.descriptor(if kind == "gzip" { GZIP } else { ZSTD }, &bomb);
            made.image(&[blob], &[digest(b"never reached")]);

            let mut disk = SmallDisk::of_mebibytes(200);
            let peak = disk.0.at("peak");
            disk.0.wrapper = measured(&peak);
            let report = disk.0.build_text(
                "FROM scratch\nCOPY --from=b / /\n",
                &["-t", "out", "--build-context", &made.context()],
            );
            let report = report.report(code);
            assert!(report.contains(why), "{kind}: {report}");
            let kib: u64 = fs::read_to_string(&peak).unwrap().trim().parse().unwrap();
            assert!(kib < 128 << 10, "{kind}: {kib} KiB of memory");
            disk.0.wrapper.clear();
            nothing_left(&disk.0);
        }
    }
}

/// Runs a command and writes the most memory that it had, in KiB, to a file.
fn measured(file: &str) -> Vec<String> {
    let script = "import resource, subprocess, sys; code = subprocess.run(sys.argv[2:]).returncode; \
                  open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)); \
                  sys.exit(code)";
    ["python3", "-c", script, file].map(str::to_owned).into()
}

#[test]
fn the_bytes_tell_the_compression_whatever_the_media_type_says() {
    let lab = Lab::new();
    let tar = tar("f", b"content\n");
    for media_type in [GZIP, ZSTD, PLAIN] {
        for kind in ["gzip", "zstd", "none"] {
            let made = Made::new(&lab, &format!("{kind}-{}", media_type.len()));
            made.image(&[made.descriptor(media_type, &packed(kind, &tar))], &[digest(&tar)]);
            let args = ["--build-context", &made.context(), "-o", "out"];
            lab.build_text("FROM b\n", &args).success();
            assert_eq!(fs::read_to_string(lab.path("out/f")).unwrap(), "content\n");
            fs::remove_dir_all(lab.path("out")).unwrap();
        }
    }
}

#[test]
fn a_poisoned_image_never_becomes_the_base() {
    let lab = Lab::new();
    let (good, evil) = (tar("etc/passwd", b"good\n"), tar("etc/passwd", b"evil\n"));
    let real = Made::new(&lab, "real");
    real.image(&[real.descriptor(PLAIN, &good)], &[digest(&good)]);
    let poisoned = Made::new(&lab, "poisoned");
    poisoned.image(&[poisoned.descriptor(GZIP, &packed("gzip", &evil))], &[digest(&good)]);

    let report = refused(&lab, &poisoned, 6);
    assert!(report.contains("DiffID"), "{report}");
    let read = |made: &Made<'_>| {
        let args = ["--build-context", &made.context(), "-o", "out"];
        let outcome = lab.build_text("FROM scratch\nCOPY --from=b /etc/passwd /p\n", &args);
        outcome.success();
        fs::read_to_string(lab.path("out/p")).unwrap()
    };
    assert_eq!(read(&real), "good\n");
    // And with the real one's files there under that DiffID, they are what the other image means, too.
    assert_eq!(read(&poisoned), "good\n");
}

#[test]
fn as_many_diff_ids_as_layers() {
    let lab = Lab::new();
    let tar = tar("f", b"x");
    let made = Made::new(&lab, "made");
    let layer = made.descriptor(PLAIN, &tar);
    for (layers, ids) in [(1, 0), (1, 2), (0, 1), (2, 1)] {
        made.image(&vec![layer.clone(); layers], &vec![digest(&tar); ids]);
        let report = refused(&lab, &made, 6);
        assert!(report.contains(&format!("{layers} layers but {ids} diff_ids")), "{report}");
    }
}

#[test]
fn only_regular_files_are_blobs() {
    let lab = Lab::new();
    let tar = tar("f", b"x");
    let made = Made::new(&lab, "made");
    let layer = made.descriptor(PLAIN, &tar);
    made.image(std::slice::from_ref(&layer), &[digest(&tar)]);
    let blob = made.blob(layer["digest"].as_str().unwrap());
    // The right bytes, but elsewhere: a symlink to a secret is what an attacker would put there.
    fs::write(lab.path("secret"), &tar).unwrap();
    fs::remove_file(&blob).unwrap();
    symlink(lab.path("secret"), &blob).unwrap();
    let skopeo = format!("oci:{}:x", lab.at("made"));
    let copied = try_tool("skopeo", &["copy", "--quiet", &skopeo, &format!("dir:{}", lab.at("theirs"))]);
    assert!(copied.status.success(), "skopeo reads what the symlink leads to");
    refused(&lab, &made, 3);
    let report = lab.forge(&["copy", "-q", &skopeo, "copied"]).failure(9);
    assert!(report.contains("symbolic link"), "{report}");
    fs::remove_file(&blob).unwrap();
    tool("mkfifo", &[blob.to_str().unwrap()]);
    assert!(refused(&lab, &made, 3).contains("is not a regular file"));
    fs::remove_file(&blob).unwrap();
    fs::create_dir(&blob).unwrap();
    refused(&lab, &made, 3);
    fs::remove_dir(&blob).unwrap();
    refused(&lab, &made, 3);
}

#[test]
fn names_in_an_archive_mean_its_own_entries() {
    let lab = Lab::new();
    let layer = tar("f", b"x");
    lab.file("x", "outside");
    let config = value!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    });
    let archive = |layers: &str, config_name: &str| {
        let manifest = value!([{ "Config": config_name, "RepoTags": ["a:1"], "Layers": [layers] }]);
        let mut out = tar::Builder::new(Vec::new());
        let files = [
            ("config.json", config.to_string().into_bytes()),
            ("layer.tar", layer.clone()),
            ("manifest.json", manifest.to_string().into_bytes()),
        ];
        for (name, bytes) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            out.append_data(&mut header, name, &bytes[..]).unwrap();
        }
        fs::write(lab.path("a.tar"), out.into_inner().unwrap()).unwrap();
        lab.forge(&["copy", "-q", &format!("docker-archive:{}", lab.at("a.tar")), "a:1"])
    };
    for name in ["../../x", "../x", "/etc/passwd", "x", "..", ""] {
        assert!(archive(name, "config.json").failure(6).contains("which is not in it"), "{name}");
        nothing_left(&lab);
        assert!(archive("layer.tar", name).failure(6).contains("which is not in it"), "{name}");
        nothing_left(&lab);
    }
    archive("layer.tar", "config.json").success();
}

#[test]
fn a_layout_that_is_none() {
    let lab = Lab::new();
    let tar = tar("f", b"x");
    let made = Made::new(&lab, "made");
    made.image(&[made.descriptor(PLAIN, &tar)], &[digest(&tar)]);
    let marker = lab.path("made/oci-layout");
    fs::remove_file(&marker).unwrap();
    assert!(refused(&lab, &made, 3).contains("oci-layout"));
    for text in ["{}", "", "[]", r#"{"imageLayoutVersion":"2.0.0"}"#, r#"{"imageLayoutVersion":1}"#] {
        fs::write(&marker, text).unwrap();
        assert!(refused(&lab, &made, 3).contains("oci-layout"), "{text}");
    }
    fs::remove_file(&marker).unwrap();
    symlink("/dev/zero", &marker).unwrap();
    refused(&lab, &made, 3);
    fs::remove_file(&marker).unwrap();
    fs::write(&marker, r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();

    let index = lab.path("made/index.json");
    let sound = fs::read(&index).unwrap();
    fs::File::options().write(true).open(&index).unwrap().set_len(10 << 30).unwrap();
    assert!(refused(&lab, &made, 3).contains("is larger than"));
    for text in ["", "{", "[]", r#"{"schemaVersion":2}"#, r#"{"schemaVersion":2,"manifests":{}}"#] {
        fs::write(&index, text).unwrap();
        refused(&lab, &made, 3);
    }
    fs::write(&index, sound).unwrap();
    lab.build_text("FROM b\nENV A=1\n", &["--build-context", &made.context()]).success();
}

#[test]
fn what_is_not_as_described_is_refused() {
    let lab = Lab::new();
    let (one, two) = (tar("one", b"1"), tar("two", b"2"));
    let made = Made::new(&lab, "made");
    let [first, second] = [&one, &two].map(|tar| made.descriptor(PLAIN, tar));
    let ids = [digest(&one), digest(&two)];

    // Order.
    made.image(&[second.clone(), first.clone()], &ids);
    assert!(refused(&lab, &made, 6).contains("DiffID"));
    // Size.
    for size in
        [value!(one.len() - 1), value!(one.len() + 1), value!(0), value!(u64::MAX), value!(-1), value!(1.5)]
    {
        let mut lie = first.clone();
        lie["size"] = size.clone();
        made.image(&[lie, second.clone()], &ids);
        let outcome = lab.build_text("FROM b\nENV A=1\n", &["-t", "out", "--build-context", &made.context()]);
        assert!(matches!(outcome.code, 3 | 6), "{size}: {outcome}");
        nothing_left(&lab);
    }
    // Digest.
    made.image(&[first.clone(), second.clone()], &ids);
    let blob = made.blob(first["digest"].as_str().unwrap());
    fs::write(&blob, &two).unwrap();
    let report = refused(&lab, &made, 6);
    assert!(report.contains("its bytes hash to"), "{report}");
    fs::write(&blob, &one).unwrap();
    for bad in [
        "sha256:",
        "sha256:../../../../etc/passwd",
        "md5:0123",
        &first["digest"].as_str().unwrap().to_uppercase(),
    ] {
        let mut lie = first.clone();
        lie["digest"] = bad.into();
        made.image(&[lie, second.clone()], &ids);
        refused(&lab, &made, 3);
    }
    // Type: a manifest that is an index too, a layer for a configuration, an index for a layer.
    let config =
        value!({ "rootfs": { "type": "layers", "diff_ids": ids }, "architecture": "amd64", "os": "linux" });
    let config = made.descriptor(CONFIG, config.to_string().as_bytes());
    let sound = value!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [first, second],
    });
    let lies: [(&str, Value); 5] = [
        ("/manifests", value!([])),
        ("/mediaType", value!("application/vnd.oci.image.index.v1+json")),
        ("/config/mediaType", value!(PLAIN)),
        ("/layers/0/mediaType", value!("application/vnd.oci.image.index.v1+json")),
        ("/schemaVersion", value!(1)),
    ];
    for (at, lie) in lies {
        let mut manifest = sound.clone();
        match manifest.pointer_mut(at) {
            Some(field) => *field = lie,
            None => manifest[&at[1..]] = lie,
        }
        made.manifest(&manifest);
        refused(&lab, &made, 3);
    }
    made.manifest(&sound);
    lab.build_text("FROM b\nENV A=1\n", &["-t", "out", "--build-context", &made.context()]).success();
}
