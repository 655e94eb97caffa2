//! Docker's walk-through: a web server and its client, built from `testdata/`, run against each other.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Builder, Lab, NetNs, debian_rootfs, soon, tool};

const RUN_APT: &str = "RUN apt-get update && apt-get install -y --no-install-recommends ncat && rm -rf \
                       /var/lib/apt/lists/*";

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(name)
}

/// A lab with Debian in its store, and copies of both contexts that the builder may read and the test may change.
fn lab(builder: Builder) -> Lab {
    let lab = Lab::of(builder);
    // A copy, for builders who may not go where the original is.
    let copy = |to: &Path| std::fs::copy(debian_rootfs(), to).map(drop).unwrap();
    lab.add_base("debian:bookworm-slim", copy, r#"CMD ["bash"]"#);
    for context in ["server", "client"] {
        tool("cp", &["-r", testdata(context).to_str().unwrap(), &lab.at(context)]);
    }
    lab
}

fn walk_through(builder: Builder) {
    let mut lab = lab(builder);
    let server = lab.path("server");
    let first = lab.build(&server, &["-t", "demo_http_server"]);
    assert_eq!(first.steps().0, [""; 0], "{first}");
    let digest = first.success();
    server_config_is_dockers(&lab.config("demo_http_server"));

    let again = lab.build(&server, &["-t", "demo_http_server"]);
    assert_eq!(again.steps().1, [""; 0], "{again}");
    assert_eq!(again.success(), digest);

    let args = ["-t", "demo_http_client", "--build-arg", "server=127.0.0.1"];
    lab.build(&lab.path("client"), &args).success();
    client_config_is_dockers(&lab.config("demo_http_client"));

    page_is_served(&mut lab, "Hello from a container built by forge!");

    let page = std::fs::read_to_string(lab.path("server/hello.http")).unwrap();
    lab.file("server/hello.http", &page.replace("Hello", "Good day"));
    let touched = lab.build(&server, &["-t", "demo_http_server"]);
    assert_eq!(touched.steps().0.last().unwrap(), &format!("[2/3] {RUN_APT}"), "{touched}");
    assert_eq!(touched.steps().1, ["[3/3] ADD ./ ./"], "{touched}");
    assert_ne!(touched.success(), digest);
    page_is_served(&mut lab, "Good day from a container built by forge!");
}

/// Runs the server, and asks it by hand and by the client's image, in a network where nobody else uses its port.
fn page_is_served(lab: &mut Lab, greeting: &str) {
    let netns = NetNs::new();
    lab.wrapper = netns.enter();
    let mut server = lab.start(&["run", "--network", "host", "demo_http_server"]);
    let mut page = String::new();
    soon("the server answers", || {
        page = netns.get(8000);
        !page.is_empty()
    });
    assert!(page.starts_with("HTTP/1.0 200 OK") && page.contains(greeting), "{page}");
    let fetched = lab.forge(&["run", "--rm", "--network", "host", "demo_http_client"]).success();
    assert_eq!(fetched.trim_end(), page.trim_end());
    lab.wrapper.clear();
    let pid = server.pid();
    server.send("-TERM");
    // The server is PID 1 of its namespace and has no handler for the signal, as in Docker: the init above it ends.
    assert_ne!(server.finish().code, 0);
    lab.assert_nothing_left(pid);
}

/// `created_by` of the lines, and whether they made a layer.
fn history(config: &Value) -> Vec<(&str, bool)> {
    let lines = config["history"].as_array().unwrap().iter();
    lines.map(|line| (line["created_by"].as_str().unwrap(), line["empty_layer"] != true)).collect()
}

fn server_config_is_dockers(config: &Value) {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let want = json!({
        "ArgsEscaped": true,
        "Cmd": ["/bin/sh", "-c", "./server.bash"],
        "Env": [path],
        "ExposedPorts": { "8000/tcp": {} },
        "WorkingDir": "/",
    });
    assert_eq!(config["config"], want);
    let run = format!("RUN /bin/sh -c {} # buildkit", RUN_APT.trim_start_matches("RUN "));
    let want = [
        ("ADD rootfs.tar / # buildkit", true),
        (r#"CMD ["bash"]"#, false),
        (run.as_str(), true),
        ("ADD ./ ./ # buildkit", true),
        ("EXPOSE [8000/tcp]", false),
        (r#"CMD ["/bin/sh" "-c" "./server.bash"]"#, false),
    ];
    assert_eq!(history(config), want);
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 3);
    assert_eq!((&config["os"], &config["architecture"]), (&json!("linux"), &json!(arch())));
}

fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn client_config_is_dockers(config: &Value) {
    let env: Vec<_> = config["config"]["Env"].as_array().unwrap().iter().skip(1).collect();
    assert_eq!(env, ["server=127.0.0.1", "port=8000"]);
    assert_eq!(config["config"]["Cmd"], json!(["/bin/sh", "-c", "./client.bash $server $port"]));
    let want = [
        ("ADD client.bash client.bash # buildkit", true),
        ("ARG server=127.0.0.1", false),
        ("ARG port=8000", false),
        ("ENV server=127.0.0.1", false),
        ("ENV port=8000", false),
        (r#"CMD ["/bin/sh" "-c" "./client.bash $server $port"]"#, false),
    ];
    assert_eq!(history(config)[2..], want);
}

#[test]
fn the_walk_through_as_root() {
    walk_through(Builder::Root);
}

#[test]
fn the_walk_through_as_an_ordinary_user() {
    walk_through(Builder::User);
}
