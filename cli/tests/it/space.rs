//! What the store takes, and how it gets smaller: du, prune, rmi, and what goes by itself.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use serde_json::Value;

use crate::support::{Builder, Lab, Registry, json, tool};

fn du(lab: &Lab) -> Value {
    json(&lab.forge(&["du", "--format", "json"]).success())
}

/// Bytes on disk, as GNU du counts them.
fn on_disk(path: &Path) -> u64 {
    let said = tool("du", &["-s", "--block-size=1", path.to_str().unwrap()]);
    said.split_whitespace().next().unwrap().parse().unwrap()
}

fn count(lab: &Lab, kind: &str) -> u64 {
    du(lab)["kinds"][kind]["count"].as_u64().unwrap()
}

/// A step that has begun, waits, and goes on when it is told to.
struct Waiting {
    listener: TcpListener,
    port: u16,
}

impl Waiting {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    fn step(&self) -> String {
        format!("RUN --network=host nc 127.0.0.1 {} </dev/null\n", self.port)
    }

    fn begun(&self) -> TcpStream {
        self.listener.accept().unwrap().0
    }
}

fn go_on(mut stream: TcpStream) {
    stream.write_all(b"go on\n").unwrap();
}

#[test]
fn du_says_what_the_disk_says() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nRUN --mount=type=cache,target=/c head -c 300000 /dev/urandom > /c/f\n\
                RUN head -c 500000 /dev/urandom > /a && ln /a /b\nCOPY f /\n";
    let context = lab.context("ctx", &[("Dockerfile", text), ("f", "f")]);
    // Hashes of files that changed a moment ago are not kept: see the racy-timestamp rule.
    std::thread::sleep(std::time::Duration::from_millis(50));
    lab.build(&context, &["-t", "app"]).success();
    let said = du(&lab);
    let (total, truth) = (said["total"]["total"].as_u64().unwrap(), on_disk(&lab.path("store")));
    assert!(total.abs_diff(truth) * 100 <= truth, "forge {total}, du {truth}: {said:#}");
    let kinds = ["blob", "layer", "record", "cache-mount", "context", "log", "index", "other"];
    for kind in kinds {
        assert!(said["kinds"][kind]["count"].as_u64().unwrap() > 0, "{kind}: {said:#}");
    }
    let sum: u64 =
        said["kinds"].as_object().unwrap().values().map(|kind| kind["total"].as_u64().unwrap()).sum();
    assert_eq!(sum, total);
    let mount = said["items"].as_array().unwrap().iter().find(|item| item["kind"] == "cache-mount").unwrap();
    assert!(
        mount["size"].as_u64().unwrap() >= 300_000 && mount["description"].as_str().unwrap().contains("/c")
    );

    let table = lab.forge(&["du"]).success();
    let heads: Vec<&str> =
        table.lines().next().unwrap().split("  ").map(str::trim).filter(|h| !h.is_empty()).collect();
    assert!(heads.join(" ").starts_with("ID KIND RECLAIMABLE SIZE SHARED LAST USED"), "{table}");
    assert!(table.lines().last().unwrap().starts_with("total "), "{table}");
    assert!(!table.contains(" record  "), "records are shown on demand: {table}");
    let records = lab.forge(&["du", "--filter", "type=record"]).success();
    assert!(records.lines().filter(|line| line.contains(" record ")).count() >= 6, "{records}");
    assert!(lab.forge(&["du", "-v"]).success().contains("Last used:"));
}

#[test]
fn prune_keeps_images_and_recent_work_and_all_keeps_images() {
    let lab = Lab::with_busybox();
    lab.build_text("FROM busybox\nRUN echo a > /a\n", &["-t", "app"]).success();
    let freed = lab.forge(&["prune", "-f"]).success();
    assert!(freed.ends_with("Total reclaimed space: 0B"), "all of it is recent: {freed}");
    assert!(lab.build_text("FROM busybox\nRUN echo a > /a\n", &[]).steps().1.is_empty(), "still cached");

    let would = lab.forge(&["prune", "-a", "--dry-run"]).success();
    assert!(would.contains("layer") && would.contains("Would free"), "{would}");
    let before = du(&lab)["total"]["total"].as_u64().unwrap();
    let freed = lab.forge(&["prune", "-a", "-f"]).success();
    assert!(freed.contains("record") && !freed.ends_with(" 0B"), "{freed}");
    let after = du(&lab);
    assert!(after["total"]["total"].as_u64().unwrap() < before);
    assert_eq!(after["total"]["reclaimable"], 0, "{after:#}");
    // The images are whole: they run, and are written and read by others.
    assert_eq!(lab.shell("app", "cat /a"), "a");
    lab.forge(&["tag", "app", "again"]).success();
    let built = lab.build_text("FROM app\nRUN cat /a > /b\n", &["-t", "next"]);
    built.success();
    assert_eq!(lab.shell("next", "cat /b"), "a");
}

#[test]
fn what_prune_is_asked_in_vain() {
    let lab = Lab::with_busybox();
    let before = on_disk(&lab.path("store/layers"));
    let report = lab.forge(&["prune", "-a"]).report(2);
    assert!(report.contains("no terminal") && report.contains("--force"), "{report}");
    for (words, hint) in [
        (["--filter", "colour=red"], "there is no field of that name"),
        (["--filter", "until=soon"], "write a duration"),
        (["--max-used-space", "lots"], "invalid size"),
        (["--keep-duration", "a while"], "invalid duration"),
    ] {
        let report = lab.forge(&[&["prune", "-a", "-f"], &words[..]].concat()).report(2);
        assert!(report.contains(hint), "{words:?}: {report}");
    }
    assert_eq!(on_disk(&lab.path("store/layers")), before, "nothing was removed");
}

#[test]
fn filters_choose_what_goes() {
    let lab = Lab::with_busybox();
    let text = "FROM busybox\nRUN --mount=type=cache,target=/c echo kept > /c/f\nRUN echo a > /a\n";
    lab.build_text(text, &[]).success();
    assert_eq!(count(&lab, "cache-mount"), 1);
    lab.forge(&["prune", "-f", "--filter", "until=24h"]).success();
    assert_eq!(count(&lab, "cache-mount"), 1);
    let freed = lab.forge(&["prune", "-a", "-f", "--filter", "type=exec.cachemount"]).success();
    assert!(freed.starts_with("cache-mount        1"), "{freed}");
    assert_eq!(count(&lab, "cache-mount"), 0);
    assert!(lab.build_text(text, &[]).steps().1.is_empty(), "nothing else went");
    lab.forge(&["prune", "-f", "--filter", "until=0", "--filter", "type!=blob"]).success();
    assert_eq!((count(&lab, "record"), count(&lab, "layer")), (0, 0));
}

#[test]
fn rmi_gives_back_the_space_of_an_image() {
    let (maker, registry) = (Lab::with_busybox(), Registry::open());
    let name = format!("{}/b:1", registry.host);
    maker.forge(&["tag", "busybox", &name]).success();
    let digest = maker.forge(&["push", "-q", &name]).success();
    let lab = Lab::new();
    lab.forge(&["pull", "-q", &name]).success();
    lab.shell(&name, "true");
    assert!(count(&lab, "blob") == 3 && count(&lab, "layer") == 1);
    let said = lab.forge(&["rmi", &name]).success();
    assert_eq!(said, format!("Untagged: {name}\nDeleted: {digest}"));
    assert_eq!((count(&lab, "blob"), count(&lab, "layer")), (0, 0));

    // Built layers stay in the cache; what is left after pruning is nothing.
    let text = "FROM scratch\nCOPY f /\n";
    let context = lab.context("ctx", &[("Dockerfile", text), ("f", "f")]);
    lab.build(&context, &["-t", "a", "-t", "b"]).success();
    assert_eq!(lab.forge(&["rmi", "a"]).success(), "Untagged: a:latest", "b still needs it");
    assert!(lab.forge(&["rmi", "b"]).success().contains("\nDeleted: sha256:"));
    assert!(lab.build(&context, &[]).steps().1.is_empty(), "cached");
    lab.forge(&["prune", "-a", "-f"]).success();
    assert_eq!((count(&lab, "blob"), count(&lab, "layer"), count(&lab, "record")), (0, 0, 0));
}

#[test]
fn what_a_running_build_uses_stays() {
    let lab = Lab::with_busybox();
    let waiting = Waiting::new();
    let text = format!(
        "FROM busybox\nRUN echo a > /a\nRUN --mount=type=cache,target=/c echo kept > /c/f\n{}\
         RUN --mount=type=cache,target=/c cat /c/f /a > /both\n",
        waiting.step()
    );
    // Its first step is cached: what a build has found it needs as much as what it has made.
    let first = text.lines().take(2).collect::<Vec<_>>().join("\n");
    lab.build_text(&first, &[]).success();
    lab.context("ctx", &[("Dockerfile", &text)]);
    let build = lab.start(&["build", "-q", "-t", "app", "--allow", "network.host", &lab.at("ctx")]);
    let step = waiting.begun();
    let in_use = |kind: &str| {
        let said = du(&lab);
        let items = said["items"].as_array().unwrap().iter();
        items.filter(|item| item["kind"] == kind && item["inUse"] == true).count()
    };
    assert!(in_use("layer") >= 2 && in_use("record") >= 1 && in_use("cache-mount") == 1);
    lab.forge(&["rmi", "busybox"]).success();
    for _ in 0..3 {
        lab.forge(&["prune", "-a", "-f"]).success();
    }
    go_on(step);
    build.finish().success();
    assert_eq!(lab.shell("app", "cat /both"), "kept\na");
    lab.forge(&["prune", "-a", "-f"]).success();
    assert_eq!(count(&lab, "layer"), 0, "afterwards it may go");
}

#[test]
fn an_ordinary_user_gets_space_back_too() {
    let lab = Lab::of(Builder::User);
    lab.add_busybox();
    // Files of another id, in a directory that only that id may enter.
    let text = "FROM busybox\nRUN mkdir /d && head -c 300000 /dev/urandom > /d/f && chown -R 7:7 /d && chmod 700 /d\n";
    lab.build_text(text, &["-t", "app"]).success();
    let said = du(&lab);
    let (total, truth) = (said["total"]["total"].as_u64().unwrap(), on_disk(&lab.path("store")));
    assert!(total.abs_diff(truth) * 100 <= truth, "forge {total}, du {truth}: {said:#}");
    lab.forge(&["prune", "-a", "-f"]).success();
    assert_eq!(count(&lab, "layer"), 0);
    lab.forge(&["store", "verify"]).success();
    assert_eq!(lab.shell("app", "stat -c %u:%a /d"), "7:700");
    lab.forge(&["rmi", "app", "busybox"]).success();
    assert_eq!((count(&lab, "blob"), count(&lab, "layer")), (0, 0));
    assert!(lab.unfinished().is_empty());
}

#[test]
fn a_dead_build_holds_nothing() {
    let lab = Lab::with_busybox();
    let waiting = Waiting::new();
    let text = format!("FROM busybox\nRUN echo a > /a\n{}", waiting.step());
    lab.context("ctx", &[("Dockerfile", &text)]);
    let mut build = lab.start(&["build", "-q", "--allow", "network.host", &lab.at("ctx")]);
    let step = waiting.begun();
    build.send("-KILL");
    build.finish();
    drop(step);
    lab.forge(&["prune", "-a", "-f"]).success();
    assert_eq!((count(&lab, "layer"), count(&lab, "record"), count(&lab, "temporary")), (0, 0, 0));
}

#[test]
fn a_quota_is_kept_after_every_build() {
    let lab = Lab::with_busybox();
    let quota = on_disk(&lab.path("store")) + (20 << 20);
    for number in 0..6 {
        let text = format!("FROM busybox\nRUN head -c 8000000 /dev/urandom > /{number}\n");
        // The machine's own disk may be full; that is another limit.
        let limits = ["--gc-reserved-space", "0", "--gc-min-free-space", "0", "--gc-max-used-space"];
        lab.build_text(&text, &[&limits[..], &[&quota.to_string()]].concat()).success();
        let used = on_disk(&lab.path("store"));
        assert!(used <= quota + (1 << 20), "build {number}: {used} of {quota}");
    }
    // The newest is still there, the oldest is not, and the tagged image is whole.
    let newest = lab.build_text("FROM busybox\nRUN head -c 8000000 /dev/urandom > /5\n", &["--gc=false"]);
    assert!(newest.steps().1.is_empty(), "{newest}");
    let oldest = lab.build_text("FROM busybox\nRUN head -c 8000000 /dev/urandom > /0\n", &["--gc=false"]);
    assert!(oldest.steps().1.contains(&"[2/2] RUN head -c 8000000 /dev/urandom > /0".to_owned()), "{oldest}");
    assert_eq!(lab.shell("busybox", "echo well"), "well");

    // Tags stand above the quota, and the environment may set it.
    let mut build = lab.command(&["build", "-q", "-t", "kept", &lab.at("ctx")]);
    build.env("FORGE_GC_MAX_USED_SPACE", "0").env("FORGE_GC_RESERVED_SPACE", "0");
    assert!(build.output().unwrap().status.success());
    assert_eq!(count(&lab, "record"), 0);
    assert_eq!(lab.shell("kept", "test -s /0 && echo whole"), "whole");
    let mut info = lab.command(&["info"]);
    let said = info.env("FORGE_GC_MAX_USED_SPACE", "5g").output().unwrap();
    assert!(String::from_utf8(said.stdout).unwrap().contains("at most 5.37GB used"));
    lab.build_text("FROM busybox\n", &["--gc-max-used-space", "x"]).failure(2);
}

#[test]
fn a_full_disk_is_pruned() {
    let lab = Lab::new();
    std::fs::create_dir(lab.path("store")).unwrap();
    // A disk of its own: a file system in a file, that can be full for root, too.
    tool("truncate", &["-s", "64M", &lab.at("disk")]);
    tool("mkfs.ext4", &["-q", "-m", "0", &lab.at("disk")]);
    tool("mount", &["-o", "loop", &lab.at("disk"), &lab.at("store")]);
    struct Unmount(String);
    impl Drop for Unmount {
        fn drop(&mut self) {
            tool("umount", &[&self.0]);
        }
    }
    let _unmount = Unmount(lab.at("store"));
    lab.add_busybox();
    lab.build_text("FROM busybox\nRUN head -c 5000000 /dev/urandom > /a\n", &["--gc=false"]).success();
    // To the last byte.
    let mut filler = std::fs::File::create(lab.path("store/filler")).unwrap();
    while filler.write_all(&[1; 65536]).is_ok() {}
    while filler.write_all(&[1; 512]).is_ok() {}
    drop(filler);
    let free = || {
        let stat = rustix::fs::statvfs(lab.path("store")).unwrap();
        stat.f_bavail * stat.f_frsize
    };
    assert_eq!(free(), 0);
    assert!(lab.forge(&["images"]).success().contains("busybox"));
    let freed = lab.forge(&["prune", "-a", "-f"]).success();
    assert!(freed.contains("layer") && free() > 5_000_000, "{freed}");
    lab.build_text("FROM busybox\nRUN echo small > /small\n", &["-t", "next"]).success();
    assert_eq!(lab.shell("next", "cat /small"), "small");
}

#[test]
fn the_store_is_an_image_layout_for_others() {
    let lab = Lab::with_busybox();
    lab.build_text("FROM busybox\nLABEL a=b\n", &["-t", "reg.example/app:1"]).success();
    let shown = tool("skopeo", &["inspect", &format!("oci:{}:reg.example/app:1", lab.at("store"))]);
    assert_eq!(json(&shown)["Labels"]["a"], "b");
    lab.forge(&["rmi", "reg.example/app:1"]).success();
    let list = json(&std::fs::read_to_string(lab.path("store/index.json")).unwrap());
    assert_eq!(list["manifests"].as_array().unwrap().len(), 1);
}
