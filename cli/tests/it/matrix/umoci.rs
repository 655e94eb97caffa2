//! umoci unpacks every image to the files that forge itself writes, and runc runs them. Debian's umoci knows neither
//! zstd nor Docker's types: skopeo brings those that are Docker's into OCI's form, layers and all untouched.

use std::fs;

use super::{FORMS, Published, listing};
use crate::support::{json, tool, try_tool};

#[test]
fn umoci_unpacks_twenty_images_to_the_same_files_and_runc_runs_them() {
    let published = Published::new();
    let lab = &published.lab;
    let trees: Vec<Vec<String>> = (0..published.samples.len())
        .map(|n| {
            let to = lab.path(&format!("tree-{n}"));
            fs::create_dir(&to).unwrap();
            let tar = lab.at(&format!("tar/{n}.tar"));
            let args = ["--numeric-owner", "--same-permissions", "-xf", &tar, "-C", to.to_str().unwrap()];
            tool("tar", &args);
            listing(&to)
        })
        .collect();
    for form in ["gzip-oci", "gzip-docker", "none-oci", "none-docker"] {
        let layout = lab.at(&format!("layout-{form}"));
        for (n, (sample, want)) in published.samples.iter().zip(&trees).enumerate() {
            let from = format!("docker://{}", published.name(form, n));
            let to = format!("oci:{layout}:i{n}");
            tool("skopeo", &["copy", "--quiet", "--src-tls-verify=false", "--format=oci", &from, &to]);
            let bundle = lab.at(&format!("bundle-{form}-{n}"));
            tool("umoci", &["unpack", "--image", &format!("{layout}:i{n}"), &bundle]);
            let found = listing(&lab.path(&format!("bundle-{form}-{n}/rootfs")));
            let missing: Vec<_> = want.iter().filter(|line| !found.contains(line)).collect();
            let extra: Vec<_> = found.iter().filter(|line| !want.contains(line)).collect();
            assert!(
                missing.is_empty() && extra.is_empty(),
                "{form} {n}\nforge {missing:#?}\numoci {extra:#?}"
            );
            if let Some(says) = sample.says {
                assert_eq!(runc(&published, &bundle, &format!("{form}-{n}")), says, "{form} {n}");
            }
            fs::remove_dir_all(bundle).unwrap();
        }
    }
}

fn runc(published: &Published, bundle: &str, name: &str) -> String {
    let file = format!("{bundle}/config.json");
    let mut config = json(&fs::read_to_string(&file).unwrap());
    config["process"]["terminal"] = false.into();
    fs::write(&file, config.to_string()).unwrap();
    let id = format!("matrix-{name}-{}", std::process::id());
    tool("runc", &["--root", &published.lab.at("runc"), "run", "--bundle", bundle, &id])
}

#[test]
fn what_umoci_does_not_know_it_says_itself() {
    let lab = crate::support::Lab::new();
    let context = lab.context("ctx", &[("Dockerfile", "FROM scratch\nCOPY a /a\n"), ("a", "a")]);
    for (compression, oci, form) in FORMS {
        let output = format!("type=oci,dest=layout/,compression={compression},oci-mediatypes={oci}");
        lab.build(&context, &["-t", &format!("x:{form}"), "-o", &output]).success();
        let image = format!("{}:{form}", lab.at("layout"));
        let said = try_tool("umoci", &["unpack", "--image", &image, &lab.at(&format!("bundle-{form}"))]);
        let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        match form {
            "gzip-oci" | "none-oci" => assert!(said.status.success(), "{form}: {text}"),
            "zstd-oci" => assert!(text.contains("application/vnd.oci.image.layer.v1.tar+zstd"), "{text}"),
            _ => assert!(text.contains("application/vnd.docker.distribution.manifest.v2+json"), "{text}"),
        }
    }
}
