//! What a step is made of, in names and values that people know. Whatever enters a cache key has a fact here, or
//! a change of it would have no reason: the patterns name every field for that.

use std::collections::BTreeMap;

use forge_parser::ast::MountKind;

use super::Contexts;
use crate::graph::{Graph, VertexId};
use crate::op::{
    CopyOp, CopySource, DeviceOp, GitOp, HttpOp, MountOp, Op, RunOp, Selection, Ulimit, Unpack, WorkdirOp,
};

pub type Facts = BTreeMap<String, String>;

/// A context's ignore file: counts only where files changed, too.
pub const IGNORE_FILE: &str = "ignore file";

pub fn facts(graph: &Graph, id: VertexId, contexts: &dyn Contexts) -> Facts {
    let mut facts = Facts::new();
    let mut add = |name: &str, value: String| drop(facts.insert(name.to_owned(), value));
    match &graph.vertex(id).op {
        Op::Scratch | Op::Context(_) => {}
        Op::Image(image) => {
            add("digest", image.digest.to_string());
            if image.reference.contains('@') {
                add("pinned", "by the Dockerfile".into());
            }
        }
        Op::Workdir(WorkdirOp { path, user }) => {
            add("path", path.clone());
            add("USER", user.clone());
        }
        Op::Copy(op) => copy(op, &mut add),
        Op::Run(op) => run(op, &mut add),
        Op::Http(HttpOp { digest, name, mtime }) => {
            add("digest", digest.to_string());
            add("file name", name.clone());
            add("time", mtime.to_string());
        }
        Op::Git(op) => git(op, &mut add),
    }
    of_contexts(graph, id, contexts, &mut add);
    facts
}

/// The contents that a step takes of contexts.
fn of_contexts(graph: &Graph, id: VertexId, contexts: &dyn Contexts, add: &mut impl FnMut(&str, String)) {
    for (place, input) in graph.vertex(id).inputs.iter().enumerate() {
        let Op::Context(context) = &graph.vertex(*input).op else { continue };
        for (nth, content) in contexts.contents(id, place).iter().enumerate() {
            add(&format!("content {place}.{nth}"), content.hex());
        }
        if let Some(fact) = contexts.ignore_fact(&context.name) {
            add(IGNORE_FILE, fact);
        }
    }
}

fn git(op: &GitOp, add: &mut impl FnMut(&str, String)) {
    let GitOp { reference, commit, keep_git_dir, access: _ } = op;
    add("commit", commit.clone());
    add("repository", reference.shown_remote());
    add("directory", reference.subdir.clone());
    add("flags", format!("{keep_git_dir} {} {:?}", reference.submodules, reference.mtime));
}

fn copy(op: &CopyOp, add: &mut impl FnMut(&str, String)) {
    let CopyOp { sources, dest, chown, chmod, parents, link, reset_owner } = op;
    add("destination", dest.clone());
    add("--chown", chown.clone().unwrap_or_default());
    add("--chmod", chmod.clone().unwrap_or_default());
    add("--parents", parents.to_string());
    add("--link", link.to_string());
    add("owner", if *reset_owner { "root".into() } else { "the source's".to_owned() });
    let words = sources.iter().map(|source| match source {
        CopySource::Files { input, selection, unpack } => {
            let unpack = if *unpack == Unpack::IfArchive { " unpacked" } else { "" };
            format!("{input}:{}{unpack}", self::selection(selection))
        }
        CopySource::Inline { name, content } => format!("<<{name} {}", hash(content)),
    });
    add("sources", words.collect::<Vec<_>>().join(" "));
}

fn selection(selection: &Selection) -> String {
    let Selection { pattern, pivot, excludes, required: _, deep_wildcards } = selection;
    let mut text = pattern.clone();
    if *deep_wildcards {
        text.push_str(&format!(" from {pivot:?}"));
    }
    excludes.iter().for_each(|exclude| text.push_str(&format!(" without {exclude}")));
    text
}

fn run(op: &RunOp, add: &mut impl FnMut(&str, String)) {
    let RunOp {
        args,
        env,
        declared_args,
        proxy_env: _,
        cwd,
        user,
        network,
        security,
        mounts,
        ulimits,
        shm_size,
        devices,
        script,
        platform,
        hostname,
    } = op;
    add("command", args.join(" "));
    add("WORKDIR", cwd.clone());
    add("USER", user.clone());
    add("network", format!("{network:?}").to_lowercase());
    add("security", format!("{security:?}").to_lowercase());
    add("platform", platform.to_string());
    for Ulimit { name, soft, hard } in ulimits {
        let shown = |limit: &Option<u64>| limit.map_or("unlimited".into(), |limit| limit.to_string());
        add(&format!("--ulimit {name}"), format!("{}:{}", shown(soft), shown(hard)));
    }
    add("--shm-size", shm_size.map_or("64m".into(), |bytes| bytes.to_string()));
    for DeviceOp { name, required: _ } in devices {
        add(&format!("--device {name}"), "given".into());
    }
    if let Some(hostname) = hostname {
        add("BUILDKIT_SANDBOX_HOSTNAME", hostname.clone());
    }
    if let Some((name, content)) = script {
        add("script", format!("{name} {}", hash(content)));
    }
    for (name, value) in env {
        // A value that may be secret is known by its hash alone.
        let shown = match forge_parser::check::looks_like_secret(name) {
            true => format!("({})", &hash(value)[..8]),
            false => value.clone(),
        };
        add(&format!("{} {name}", if declared_args.contains(name) { "build-arg" } else { "ENV" }), shown);
    }
    for (at, mount) in mounts.iter().enumerate() {
        add(&format!("mount {at}"), self::mount(mount));
    }
}

/// A mount as it might be written: only what differs from the usual, besides what and where.
fn mount(mount: &MountOp) -> String {
    let MountOp {
        kind,
        target,
        input,
        selection,
        readonly,
        id,
        sharing: _,
        size,
        mode,
        uid,
        gid,
        required: _,
        env,
    } = mount;
    let kind_name = match kind {
        MountKind::Bind => "bind",
        MountKind::Cache => "cache",
        MountKind::Tmpfs => "tmpfs",
        MountKind::Secret => "secret",
        MountKind::Ssh => "ssh",
    };
    let mut text = format!("type={kind_name}");
    let mut say = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(",{name}={value}"));
        }
    };
    say("target", Some(target.clone()).filter(|target| !target.is_empty()));
    say("source", Some(self::selection(selection)).filter(|source| !source.is_empty()));
    say("input", input.map(|input| input.to_string()));
    say("id", Some(id.clone()).filter(|id| *kind != MountKind::Cache && !id.is_empty()));
    let usual = !matches!(kind, MountKind::Cache | MountKind::Tmpfs);
    say("ro", (*readonly != usual).then(|| readonly.to_string()));
    say("size", (*size > 0).then(|| size.to_string()));
    say("mode", mode.map(|mode| format!("{mode:o}")));
    say("uid", (*uid > 0).then(|| uid.to_string()));
    say("gid", (*gid > 0).then(|| gid.to_string()));
    say("env", env.clone());
    text
}

fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}
