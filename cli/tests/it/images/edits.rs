//! `--squash`, `--unset`, `--label`: what an export makes of the image.

use serde_json::{Value, json as value};

use super::image;
use crate::support::{Lab, tool};

const TEXT: &str = "FROM busybox\nRUN mkdir -p /d /opaque && echo 1 > /d/a && echo 1 > /d/b && echo 1 > /gone\n\
                    RUN rm /gone /etc/passwd && echo 2 > /d/a && rm -r /home && mkdir /home && touch /home/new\n\
                    ENV A=1\nRUN rm -r /d/b && ln /d/a /hard\n";

fn names(lab: &Lab, layout: &str, layer: &Value) -> Vec<String> {
    let listed = tool("tar", &["-tzf", &super::blob(lab, layout, &layer["digest"])]);
    listed.lines().map(str::to_owned).collect()
}

fn files(lab: &Lab, layout: &str) -> String {
    let bundle = lab.at(&format!("{layout}-bundle"));
    tool("umoci", &["unpack", "--image", &lab.at(&format!("{layout}:1")), &bundle]);
    let root = format!("{bundle}/rootfs");
    let listed = tool("find", &[&root, "-mindepth", "1", "-printf", "%P|%y|%m|%U:%G|%l\n"]);
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    lines.join("\n") + &tool("sh", &["-c", "cat \"$1/d/a\" \"$1/hard\"", "sh", &root])
}

#[test]
fn squashed_images_have_the_same_files_in_fewer_layers() {
    let lab = Lab::with_busybox();
    let build = |layout: &str, args: &[&str]| {
        let output = format!("type=oci,dest={layout}/");
        lab.build_text(TEXT, &[&["-t", "a:1", "-o", &output], args].concat()).success();
        image(&lab, layout)
    };
    let (plain, plain_config) = build("plain", &[]);
    let (new, new_config) = build("new", &["--squash"]);
    let (all, all_config) = build("all", &["--squash=all"]);
    let want = files(&lab, "plain");
    assert_eq!(files(&lab, "new"), want);
    assert_eq!(files(&lab, "all"), want);

    // New: the base's layer as it is, and one with what is new; only what the base has is deleted there.
    assert_eq!((plain["layers"].as_array().unwrap().len(), new["layers"].as_array().unwrap().len()), (4, 2));
    assert_eq!(new["layers"][0], plain["layers"][0]);
    let deleted: Vec<String> =
        names(&lab, "new", &new["layers"][1]).into_iter().filter(|name| name.contains(".wh.")).collect();
    assert_eq!(deleted, ["etc/.wh.passwd", "home/.wh..wh..opq"]);
    // All: one layer, in which nothing is deleted.
    assert_eq!(all["layers"].as_array().unwrap().len(), 1);
    let in_all = names(&lab, "all", &all["layers"][0]);
    assert!(!in_all.iter().any(|name| name.contains(".wh.")) && !in_all.contains(&"etc/passwd".into()));

    // A line of history for each layer, and every line that was there.
    for (config, layers) in [(&plain_config, 4), (&new_config, 2), (&all_config, 1)] {
        let history = config["history"].as_array().unwrap();
        let filled = history.iter().filter(|line| line["empty_layer"] != true).count();
        assert_eq!(filled, layers, "{history:?}");
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), layers);
        assert!(history.iter().any(|line| line["created_by"].as_str().unwrap().starts_with("ENV A=1")));
    }
    assert_eq!(new_config["config"], plain_config["config"]);
    let report = lab.build_text(TEXT, &["--squash=some"]).report(2);
    assert!(report.contains("some"), "{report}");
}

#[test]
fn what_is_unset_is_gone_and_labels_come_last() {
    let lab = Lab::new();
    let text = "FROM scratch\nENV A=1 B=2\nLABEL base.x=1 keep=2\nVOLUME [\"/v\", \"/w\"]\nEXPOSE 80 53/udp\n\
                ENTRYPOINT [\"e\"]\nCMD [\"c\"]\nHEALTHCHECK CMD true\n";
    let args = [
        "-t",
        "a",
        "--unset",
        "env=A,volume=/v,label=base.x,expose=80",
        "--unset",
        "entrypoint,healthcheck",
        "--unset",
        "label=again",
        "--label",
        "again=last",
    ];
    lab.build_text(text, &args).success();
    let config = lab.config("a")["config"].clone();
    let env = config["Env"].as_array().unwrap();
    assert!(env.contains(&value!("B=2")) && !env.contains(&value!("A=1")));
    assert_eq!(config["Volumes"], value!({ "/w": {} }));
    assert_eq!(config["ExposedPorts"], value!({ "53/udp": {} }));
    assert_eq!(config["Labels"], value!({ "keep": "2", "again": "last" }));
    assert_eq!(config["Cmd"], value!(["c"]));
    assert!(config.get("Entrypoint").is_none() && config.get("Healthcheck").is_none());
    let report = lab.build_text(text, &["--unset", "entripoint"]).report(2);
    assert!(report.contains("(did you mean entrypoint?)"), "{report}");
}
