//! Keys: the golden file pins them, and a property says what moves them.
//!
//! A changed golden file means that every cache in the world misses once: `UPDATE_GOLDEN=1` writes it anew, and the
//! version in `key.rs` goes up with it.

use std::path::Path;
use std::sync::Arc;

use forge_parser::ast::{MountKind, Network, Security, Sharing};
use forge_solver::op::types::{GitMtime, GitReference};
use forge_solver::op::{
    Access, ContextOp, CopyOp, CopySource, GitOp, HttpOp, ImageOp, MountOp, RunOp, Selection, Unpack,
    WorkdirOp,
};
use forge_solver::{CacheKey, InputKey, Op};
use forge_store::{ContentId, Digest, Layer, LayerId, Platform, Snapshot};
use proptest::prelude::*;

fn content(text: &str) -> ContentId {
    ContentId::new(blake3::hash(text.as_bytes()))
}

fn run() -> RunOp {
    RunOp {
        args: vec!["/bin/sh".into(), "-c".into(), "make".into()],
        env: vec![("PATH".into(), "/bin".into())],
        declared_args: vec![],
        proxy_env: vec![],
        cwd: "/src".into(),
        user: String::new(),
        network: Network::Default,
        security: Security::Sandbox,
        mounts: vec![],
        ulimits: Vec::new(),
        shm_size: None,
        devices: Vec::new(),
        script: None,
        platform: Platform::new("linux", "amd64", None),
        hostname: None,
    }
}

fn mount() -> MountOp {
    MountOp {
        kind: MountKind::Cache,
        target: "/cache".into(),
        input: None,
        selection: Selection::path(String::new()),
        readonly: false,
        id: "/cache".into(),
        sharing: Sharing::Shared,
        size: 0,
        mode: None,
        uid: 0,
        gid: 0,
        required: false,
        env: None,
    }
}

fn copy() -> CopyOp {
    CopyOp {
        sources: vec![CopySource::Files {
            input: 1,
            selection: Selection { required: true, ..Selection::path("src".into()) },
            unpack: Unpack::Never,
        }],
        dest: "/src/".into(),
        chown: None,
        chmod: None,
        parents: false,
        link: false,
        reset_owner: true,
    }
}

fn http() -> Op {
    Op::Http(HttpOp { digest: Digest::of(b"file"), name: "file".into(), mtime: 784_111_777 })
}

fn git(edit: impl FnOnce(&mut GitOp)) -> Op {
    let reference = GitReference::parse("https://host/repository.git#main:sub").unwrap();
    let mut op = GitOp { reference, commit: "c".repeat(40), keep_git_dir: false, access: Access::Given };
    edit(&mut op);
    Op::Git(op)
}

fn key_of_run(op: RunOp) -> CacheKey {
    CacheKey::new(&Op::Run(Box::new(op)), &[InputKey::Made(CacheKey::new(&Op::Scratch, &[]))])
}

fn key_of_copy(op: CopyOp) -> CacheKey {
    let base = InputKey::Made(CacheKey::new(&Op::Scratch, &[]));
    CacheKey::new(&Op::Copy(op), &[base, InputKey::Content(vec![content("files")])])
}

fn golden() -> Vec<(&'static str, CacheKey)> {
    let base = InputKey::Made(CacheKey::new(&Op::Scratch, &[]));
    let image = ImageOp {
        reference: "docker.io/library/debian:latest".into(),
        digest: Digest::of(b"manifest"),
        snapshot: Snapshot::default(),
    };
    let snapshot = Snapshot::default().push(Layer::built(LayerId::of_content(&content("layer"))));
    let workdir = Op::Workdir(WorkdirOp { path: "/src".into(), user: String::new() });
    let inline = CopySource::Inline { name: "f".into(), content: Arc::from("text") };
    vec![
        ("scratch", CacheKey::new(&Op::Scratch, &[])),
        ("image", CacheKey::new(&Op::Image(image), &[])),
        ("context", CacheKey::new(&Op::Context(ContextOp { name: "context".into() }), &[])),
        ("http", CacheKey::new(&http(), &[])),
        ("git", CacheKey::new(&git(|_| ()), &[])),
        ("workdir", CacheKey::new(&workdir, std::slice::from_ref(&base))),
        ("workdir over files", CacheKey::new(&workdir, &[InputKey::Snapshot(snapshot)])),
        ("run", key_of_run(run())),
        ("run with mount", key_of_run(RunOp { mounts: vec![mount()], ..run() })),
        ("copy", key_of_copy(copy())),
        ("copy of a heredoc", key_of_copy(CopyOp { sources: vec![inline], ..copy() })),
    ]
}

#[test]
fn keys_are_those_of_the_golden_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/keys.txt");
    let text: String = golden().iter().map(|(name, key)| format!("{key} {name}\n")).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn what_a_run_may_use_is_in_its_key_where_it_changes_results() {
    use forge_solver::op::{DeviceOp, Ulimit};
    let plain = key_of_run(run());
    let ulimit = |soft| Ulimit { name: "nofile".into(), soft, hard: Some(9) };
    let device = |required| vec![DeviceOp { name: "a/b=c".into(), required }];
    let mut keys = vec![plain];
    for soft in [None, Some(1), Some(2)] {
        keys.push(key_of_run(RunOp { ulimits: vec![ulimit(soft)], ..run() }));
    }
    keys.push(key_of_run(RunOp { shm_size: Some(1), ..run() }));
    keys.push(key_of_run(RunOp { devices: device(true), ..run() }));
    let different: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(different.len(), keys.len());
    assert_eq!(key_of_run(RunOp { devices: device(false), ..run() }), keys[5]);
}

#[test]
fn a_run_that_was_written_down_is_the_same_again() {
    let op = RunOp { mounts: vec![mount()], script: Some(("x".into(), Arc::from("#!/bin/sh"))), ..run() };
    let text = serde_json::to_string(&op).unwrap();
    assert_eq!(serde_json::from_str::<RunOp>(&text).unwrap(), op);
}

#[test]
fn what_is_not_a_steps_meaning_is_not_in_its_key() {
    assert_ne!(key_of_run(RunOp { hostname: Some("x".into()), ..run() }), key_of_run(run()));
    let key = key_of_run(RunOp { mounts: vec![mount()], ..run() });
    let same = |op: RunOp| assert_eq!(key_of_run(op), key);
    let with = |mount: MountOp| RunOp { mounts: vec![mount], ..run() };
    same(RunOp { proxy_env: vec![("http_proxy".into(), "http://x".into())], ..with(mount()) });
    same(RunOp { declared_args: vec!["PATH".into()], ..with(mount()) });
    same(with(MountOp { id: "another".into(), ..mount() }));
    same(with(MountOp { sharing: Sharing::Locked, ..mount() }));
    same(with(MountOp { required: true, ..mount() }));
}

#[test]
fn a_repositorys_key_is_its_commit_and_what_is_taken_of_it() {
    let key = |edit: fn(&mut GitOp)| CacheKey::new(&git(edit), &[]);
    let same = key(|_| ());
    assert_eq!(key(|op| op.reference.reference = Some("v1".into())), same, "the commit says what was meant");
    assert_eq!(key(|op| op.reference.checksum = Some("cc".into())), same);
    for changed in [
        key(|op| op.commit = "d".repeat(40)),
        key(|op| op.keep_git_dir = true),
        key(|op| op.reference.subdir.clear()),
        key(|op| op.reference.submodules = false),
        key(|op| op.reference.mtime = GitMtime::Checkout),
        key(|op| op.reference.remote = "https://other/repository.git".into()),
    ] {
        assert_ne!(changed, same);
    }
    let with_password = |op: &mut GitOp| op.reference.remote = "https://u:one@host/repository.git".into();
    let with_another = |op: &mut GitOp| op.reference.remote = "https://u:two@host/repository.git".into();
    assert_eq!(key(with_password), key(with_another), "passwords are in no key");
}

/// One change of a step that matters.
fn change(op: &mut RunOp, which: usize, text: &str) {
    match which {
        0 => op.args.push(text.into()),
        1 => op.env.push((text.into(), "v".into())),
        2 => op.env[0].1.push_str(text),
        3 => op.cwd.push_str(text),
        4 => op.user.push_str(text),
        5 => op.network = Network::None,
        6 => op.security = Security::Insecure,
        7 => op.mounts.push(MountOp { target: text.into(), ..mount() }),
        8 => op.script = Some((text.into(), Arc::from("x"))),
        9 => op.platform.variant = Some(text.into()),
        _ => op.mounts.push(MountOp { kind: MountKind::Secret, id: text.into(), ..mount() }),
    }
}

proptest! {
    #[test]
    fn every_change_that_matters_moves_the_key(which in 0_usize..11, text in "[a-z/]{1,8}") {
        let mut changed = run();
        change(&mut changed, which, &text);
        prop_assert_ne!(key_of_run(changed.clone()), key_of_run(run()));
        prop_assert_eq!(key_of_run(changed.clone()), key_of_run(changed));
    }

    #[test]
    fn moving_text_between_fields_moves_the_key(parts in prop::collection::vec("[a-z]{0,3}", 2..5), at in 1_usize..4) {
        let at = at.min(parts.len() - 1);
        let joined = RunOp { args: vec![parts[..at].concat(), parts[at..].concat()], ..run() };
        let split = RunOp { args: parts.clone(), ..run() };
        prop_assert_eq!(key_of_run(joined.clone()) == key_of_run(split.clone()), joined.args == split.args);
    }

    #[test]
    fn a_copys_key_follows_content_destination_and_ownership(
        dest in "/[a-z]{1,4}", owner in prop::option::of("[a-z]{1,3}"), files in "[a-z]{0,4}",
    ) {
        let op = CopyOp { dest: dest.clone(), chown: owner.clone(), ..copy() };
        let key = |op: &CopyOp, files: &str| {
            let base = InputKey::Made(CacheKey::new(&Op::Scratch, &[]));
            CacheKey::new(&Op::Copy(op.clone()), &[base, InputKey::Content(vec![content(files)])])
        };
        let same = dest == "/src/" && owner.is_none() && files == "files";
        prop_assert_eq!(key(&op, &files) == key(&copy(), "files"), same);
    }
}

/// The list of what a step means, input by input: its parent, what it copies and how, where it came from.
#[test]
fn every_input_of_every_kind_moves_the_key() {
    let base = |name: &str| InputKey::Made(key_of_run(RunOp { args: vec![name.into()], ..run() }));
    let files = |text: &str| InputKey::Content(vec![content(text)]);
    let layers = |text: &str| {
        InputKey::Snapshot(Snapshot::default().push(Layer::built(LayerId::of_content(&content(text)))))
    };
    let run_on = |input: InputKey| CacheKey::new(&Op::Run(Box::new(run())), &[input]);
    let copy_of = |op: CopyOp, on: &str, from: &str| CacheKey::new(&Op::Copy(op), &[base(on), files(from)]);
    let selecting = |edit: fn(&mut Selection)| {
        let mut op = copy();
        if let CopySource::Files { selection, .. } = &mut op.sources[0] {
            edit(selection);
        }
        copy_of(op, "a", "f")
    };
    let image = |digest: &[u8]| {
        let (reference, snapshot) = ("x".to_owned(), Snapshot::default());
        CacheKey::new(&Op::Image(ImageOp { reference, digest: Digest::of(digest), snapshot }), &[])
    };
    let file = |digest: &[u8], name: &str, mtime| {
        CacheKey::new(&Op::Http(HttpOp { digest: Digest::of(digest), name: name.into(), mtime }), &[])
    };
    let mounted = |edit: fn(&mut MountOp)| {
        let mut mount = mount();
        edit(&mut mount);
        key_of_run(RunOp { mounts: vec![mount], ..run() })
    };
    let all = [
        run_on(base("a")),
        run_on(base("b")),
        run_on(layers("a")),
        run_on(layers("b")),
        copy_of(copy(), "a", "f"),
        copy_of(copy(), "b", "f"),
        copy_of(copy(), "a", "g"),
        copy_of(CopyOp { dest: "/other/".into(), ..copy() }, "a", "f"),
        copy_of(CopyOp { chown: Some("1:2".into()), ..copy() }, "a", "f"),
        copy_of(CopyOp { chmod: Some("755".into()), ..copy() }, "a", "f"),
        copy_of(CopyOp { parents: true, ..copy() }, "a", "f"),
        copy_of(CopyOp { link: true, ..copy() }, "a", "f"),
        copy_of(CopyOp { reset_owner: false, ..copy() }, "a", "f"),
        selecting(|selection| selection.pattern.push('x')),
        selecting(|selection| selection.excludes.push("x".into())),
        selecting(|selection| selection.pivot = Some(1)),
        selecting(|selection| selection.deep_wildcards = true),
        image(b"one"),
        image(b"two"),
        file(b"one", "f", 0),
        file(b"two", "f", 0),
        file(b"one", "g", 0),
        file(b"one", "f", 1),
        mounted(|_| ()),
        mounted(|mount| mount.kind = MountKind::Tmpfs),
        mounted(|mount| mount.target.push('x')),
        mounted(|mount| mount.readonly = true),
        mounted(|mount| mount.size = 1),
        mounted(|mount| mount.mode = Some(0o700)),
        mounted(|mount| mount.uid = 1),
        mounted(|mount| mount.gid = 1),
        mounted(|mount| mount.env = Some("X".into())),
        mounted(|mount| mount.input = Some(1)),
    ];
    let distinct: std::collections::HashSet<CacheKey> = all.iter().copied().collect();
    assert_eq!(distinct.len(), all.len());
}
