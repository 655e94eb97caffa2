//! Layers that are packed and pushed while later steps run.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::{Lab, Registry, json, soon, tool, try_tool};

/// A step that waits until someone puts a file into its cache mount; a minute at most.
const GATE: &str = "RUN --mount=type=cache,target=/gate n=0; until [ -e /gate/open ]; do n=$((n+1)); \
                    [ $n -lt 600 ] || exit 1; sleep 0.1; done";
/// What the first layer's blob has at least.
const NOISE_BYTES: usize = 9 << 20;

/// A base, a large layer that is read once, and the gate.
fn gated(lab: &Lab, last: &str) -> PathBuf {
    let text = format!("FROM busybox\nCOPY noise /noise\nRUN cat /noise > /dev/null\n{GATE}\n{last}\n");
    let context = lab.context("ctx", &[("Dockerfile", &text)]);
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u8
    };
    fs::write(context.join("noise"), (0..NOISE_BYTES).map(|_| next()).collect::<Vec<u8>>()).unwrap();
    context
}

fn open_gate(lab: &Lab) {
    let caches = || fs::read_dir(lab.path("store/state/caches")).into_iter().flatten().flatten();
    soon("the step waits", || caches().next().is_some());
    fs::write(caches().next().unwrap().path().join("open"), "").unwrap();
}

fn is_pushed(registry: &Registry) -> bool {
    registry.blobs().iter().any(|size| *size >= NOISE_BYTES as u64)
}

#[test]
fn a_layer_is_pushed_while_later_steps_run() {
    let (lab, registry) = (Lab::with_busybox(), Registry::open());
    let name = format!("{}/team/app:1", registry.host);
    let context = gated(&lab, "ENV DONE=1");
    let build = lab.start(&["build", "-t", &name, "--push", context.to_str().unwrap()]);
    soon("the layer is at the registry, though its image is not", || is_pushed(&registry));
    assert!(
        !try_tool("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{name}")]).status.success()
    );
    open_gate(&lab);
    let digest = build.finish().success();
    let pushed = json(&tool("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{name}")]));
    assert_eq!(pushed["Digest"], digest);
    assert!(registry.uploads("team/app").is_empty());

    // It is the blob that is packed where nobody waits for it.
    let other = Lab::with_busybox();
    fs::create_dir(other.path("ctx")).unwrap();
    tool("cp", &["-a", context.join("noise").to_str().unwrap(), &other.at("ctx/noise")]);
    let name = format!("{}/team/other:1", registry.host);
    other.build_text("FROM busybox\nCOPY noise /noise\n", &["-t", &name, "--push"]).success();
    let same = json(&tool("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{name}")]));
    assert_eq!(pushed["Layers"][1], same["Layers"][1]);
}

#[test]
fn a_build_that_fails_leaves_no_upload_and_no_name() {
    let (lab, registry) = (Lab::with_busybox(), Registry::open());
    let name = format!("{}/team/app:1", registry.host);
    let context = gated(&lab, "RUN false");
    let build = lab.start(&["build", "-t", &name, "--push", context.to_str().unwrap()]);
    soon("the layer is on its way", || is_pushed(&registry) || !registry.uploads("team/app").is_empty());
    open_gate(&lab);
    build.finish().report(1);
    assert!(registry.uploads("team/app").is_empty());
    assert!(
        !try_tool("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{name}")]).status.success()
    );
}

#[test]
fn ctrl_c_ends_a_push_to_a_registry_that_says_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let lab = Lab::with_busybox();
    let name = format!("127.0.0.1:{}/app:1", silent.local_addr().unwrap().port());
    lab.context("ctx", &[("Dockerfile", "FROM busybox\nRUN echo x > /x\n")]);
    let mut build = lab.start(&["build", "-t", &name, "--push", &lab.at("ctx")]);
    let stderr = BufReader::new(build.stderr());
    let mut lines = stderr.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("pushing layers to")));
    let sent = Instant::now();
    build.send("-INT");
    let said: Vec<String> = lines.collect();
    assert_eq!(build.finish().code, 130);
    assert!(sent.elapsed() < Duration::from_secs(2), "{:?}", sent.elapsed());
    assert_eq!(said.last().map(String::as_str), Some("error: stopped by the user"));
}
