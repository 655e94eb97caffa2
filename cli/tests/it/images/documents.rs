//! Every document that forge writes passes the image-spec's schemas, and bases lose nothing on their way through.

use std::fs;

use serde_json::{Value, json as value};

use super::{document, image, index, schema};
use crate::support::{Lab, json, tool};

const ALL: &str = "FROM busybox\nMAINTAINER me <me@example.org>\nENV A=1 EMPTY=\nLABEL l=\"a b\" \"weird key\"=\"\u{e9}\"\n\
                   EXPOSE 80 53/udp\nVOLUME [\"/v\"]\nUSER app:app\nWORKDIR /w\nSTOPSIGNAL SIGINT\n\
                   SHELL [\"/bin/sh\", \"-ec\"]\nHEALTHCHECK --interval=5s --retries=2 CMD true\nONBUILD RUN true\n\
                   USER 0\nRUN true\nRUN touch /f\nENTRYPOINT [\"sh\"]\nCMD [\"-c\", \"true\"]\n";

fn check(layout: &str, lab: &Lab) {
    let read = |name: &str| json(&fs::read_to_string(lab.path(layout).join(name)).unwrap());
    schema::layout(&read("oci-layout")).unwrap();
    let top = index(lab, layout);
    schema::index(&top).unwrap();
    let mut todo: Vec<Value> = top["manifests"].as_array().unwrap().clone();
    let mut images = 0;
    while let Some(entry) = todo.pop() {
        let found = document(lab, layout, &entry["digest"]);
        assert_eq!(found["mediaType"], entry["mediaType"], "a document says what it is called");
        if let Some(manifests) = found["manifests"].as_array() {
            schema::index(&found).unwrap();
            todo.extend(manifests.iter().cloned());
            continue;
        }
        images += 1;
        schema::manifest(&found).unwrap();
        let config = document(lab, layout, &found["config"]["digest"]);
        schema::config(&config).unwrap();
        schema::history_fits(&config).unwrap();
        assert_eq!(
            found["layers"].as_array().unwrap().len(),
            config["rootfs"]["diff_ids"].as_array().unwrap().len()
        );
    }
    assert!(images > 0);
}

#[test]
fn every_document_passes_the_schemas() {
    let lab = Lab::with_busybox();
    let texts = [
        ("all", ALL),
        ("plain", "FROM busybox\n"),
        ("scratch", "FROM scratch\nLABEL a=b\n"),
        ("copy", "FROM scratch\nCOPY Dockerfile /\n"),
    ];
    let forms = ["", ",oci-mediatypes=false", ",compression=estargz,annotation.k=v", ",compression=zstd"];
    for (name, text) in texts {
        let mut args = vec!["-t".to_owned(), format!("{name}:1")];
        for (number, form) in forms.iter().enumerate() {
            args.extend(["-o".into(), format!("type=oci,tar=false,dest={name}{number}{form}")]);
        }
        args.extend(["-o".into(), format!("type=docker,dest={name}.tar")]);
        for (number, more) in [&[][..], &["--squash"], &["--squash=all", "--reproducible"]].iter().enumerate()
        {
            let words: Vec<&str> = args.iter().map(String::as_str).chain(more.iter().copied()).collect();
            lab.build_text(text, &words).success();
            for form in 0..forms.len() {
                let layout = format!("{name}{form}");
                check(&layout, &lab);
                fs::remove_dir_all(lab.path(&layout)).unwrap();
            }
            let _ = number;
        }
        let layout = format!("{name}-docker");
        fs::create_dir(lab.path(&layout)).unwrap();
        tool("tar", &["-xf", &lab.at(&format!("{name}.tar")), "-C", &lab.at(&layout)]);
        check(&layout, &lab);
    }
    let args =
        ["--platform", "linux/amd64,linux/arm64", "-o", "type=oci,dest=multi/", "--annotation", "index:a=b"];
    lab.build_text("FROM scratch\nLABEL a=b\n", &args).success();
    check("multi", &lab);
}

/// Makes a base by hand, with all that Docker and others put there, and forms that only Go writes.
#[test]
fn a_base_loses_nothing_on_its_way_through() {
    let lab = Lab::with_busybox();
    lab.build_text("FROM busybox\n", &["-t", "b:1", "-o", "type=oci,dest=base/"]).success();
    let (mut manifest, mut config) = image(&lab, "base");
    config["config"] = value!({
        "User": "", "ExposedPorts": { "80/tcp": null }, "Volumes": null, "Env": ["PATH=/bin", "A=1"],
        "Cmd": ["sh"], "Entrypoint": null, "WorkingDir": "", "Labels": null, "OnBuild": null,
        "Healthcheck": { "Test": ["CMD", "x"], "Interval": 5_000_000_000_i64, "StartInterval": 7, "Made": "up" },
        "Shell": ["/bin/sh", "-ec"], "ArgsEscaped": true, "StopSignal": "SIGINT", "StopTimeout": 7,
        "Hostname": "h", "MacAddress": "m", "NetworkDisabled": true, "Memory": 1, "Unknown": { "b": 1, "a": [null] },
    });
    config["docker_version"] = value!("1.2");
    config["container"] = value!("abc");
    config["os.features"] = Value::Null;
    config["history"][0]["odd"] = value!(1);
    config["moby.buildkit.buildinfo.v1"] = value!("eA==");
    let put = |document: &Value| {
        let text = document.to_string();
        let digest = format!(
            "sha256:{}",
            tool("sh", &["-c", "printf %s \"$1\" | sha256sum | cut -c1-64", "sh", &text]).trim()
        );
        lab.file(&format!("base/blobs/sha256/{}", &digest[7..]), &text);
        (digest, text.len())
    };
    let (digest, size) = put(&config);
    manifest["config"]["digest"] = digest.into();
    manifest["config"]["size"] = size.into();
    let (digest, size) = put(&manifest);
    let mut top = index(&lab, "base");
    top["manifests"][0]["digest"] = digest.into();
    top["manifests"][0]["size"] = size.into();
    lab.file("base/index.json", &top.to_string());

    let args = ["--build-context", "b=oci-layout://base:1", "-t", "out:1", "-o", "type=oci,dest=out/"];
    lab.build_text("FROM b\nENV NEW=1\n", &args).success();
    let (_, got) = image(&lab, "out");
    for key in [
        "Cmd",
        "Healthcheck",
        "Shell",
        "ArgsEscaped",
        "StopSignal",
        "StopTimeout",
        "Hostname",
        "MacAddress",
        "NetworkDisabled",
        "Memory",
        "Unknown",
    ] {
        assert_eq!(got["config"][key], config["config"][key], "{key}");
    }
    assert_eq!(got["config"]["ExposedPorts"], value!({ "80/tcp": {} }), "{got}");
    assert_eq!(got["config"]["Env"], value!(["PATH=/bin", "A=1", "NEW=1"]));
    for key in ["docker_version", "container", "moby.buildkit.buildinfo.v1"] {
        assert_eq!(got[key], config[key], "{key}");
    }
    assert_eq!(got["history"][0]["odd"], 1);
    check("out", &lab);
}
