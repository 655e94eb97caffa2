//! buildah builds what forge builds: the configurations agree, and so do the files.
//!
//! Each folder of `testdata/builds` is a context; `.flags`, if there, has flags for both builders. Forge's files are
//! those that umoci unpacks of its layers, so that three programs have to agree.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Lab, json, tool};

/// buildah with a storage of its own in the lab.
struct Buildah<'a>(&'a Lab);

impl Buildah<'_> {
    fn run(&self, args: &[&str]) -> String {
        let (root, runroot) = (self.0.at("buildah/root"), self.0.at("buildah/run"));
        let global = ["--root", &root, "--runroot", &runroot, "--storage-driver", "vfs"];
        tool("buildah", &[&global[..], args].concat()).trim_end().to_owned()
    }

    /// Takes over forge's base, so that both build on the same.
    fn import_base(&self) {
        self.0.build_text("FROM busybox\n", &["-o", "type=oci,dest=base.tar"]).success();
        let id = self.run(&["pull", "--quiet", &format!("oci-archive:{}", self.0.at("base.tar"))]);
        self.run(&["tag", &id, "docker.io/library/busybox:latest"]);
    }

    /// Builds; gives the configuration and the directory with the files.
    fn build(&self, context: &str, flags: &[&str]) -> (Value, PathBuf) {
        let fixed = [
            "build",
            "--quiet",
            "--isolation=chroot",
            "--runtime=runc",
            "--pull-never",
            "--layers=false",
            "--format=docker",
        ];
        self.run(&[&fixed[..], flags, &["-t", "built", context]].concat());
        let image = json(&self.run(&["inspect", "--type", "image", "built"]));
        let container = self.run(&["from", "--pull-never", "built"]);
        (image["Docker"]["config"].clone(), PathBuf::from(self.run(&["mount", &container])))
    }
}

/// What two builders must agree in, of a configuration; absent and empty are the same, and the order of variables is
/// nobody's concern (buildah sorts them).
fn essence(config: &Value) -> Vec<(&'static str, Value)> {
    let keys = [
        "Cmd",
        "Entrypoint",
        "Env",
        "ExposedPorts",
        "Healthcheck",
        "Labels",
        "Shell",
        "StopSignal",
        "User",
        "Volumes",
        "WorkingDir",
    ];
    let value = |key: &str| {
        let mut value = config[key].clone();
        match &mut value {
            Value::Array(env) if key == "Env" => env.sort_by_key(Value::to_string),
            Value::Object(labels) if key == "Labels" => drop(labels.remove("io.buildah.version")),
            _ => {}
        }
        let empty = ["null", "[]", "{}", "\"\""].contains(&value.to_string().as_str());
        if empty { Value::Null } else { value }
    };
    keys.into_iter().map(|key| (key, value(key))).collect()
}

/// Path, type, mode, owner, links, size and link target of everything; what builders mount into steps is left out.
fn files(root: &Path) -> Vec<String> {
    let format = "%P|%y|%m|%U:%G|%n|%s|%l\\n";
    let directories = "%P|%y|%m|%U:%G\\n";
    let root = root.to_str().unwrap();
    let args = [root, "-mindepth", "1", "-type", "d", "-printf", directories, "-o", "-printf", format];
    let listed = tool("find", &args);
    let mounted = ["dev", "proc", "sys", "run", "etc/hosts", "etc/resolv.conf", "etc/hostname"];
    let is_mounted = |line: &str| {
        let path = line.split('|').next().unwrap();
        mounted.iter().any(|name| path == *name || path.starts_with(&format!("{name}/")))
    };
    let mut lines: Vec<String> = listed.lines().filter(|line| !is_mounted(line)).map(str::to_owned).collect();
    lines.sort();
    lines
}

fn agree(name: &str) {
    let lab = Lab::with_busybox();
    let buildah = Buildah(&lab);
    buildah.import_base();
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/builds").join(name);
    tool("cp", &["-r", case.to_str().unwrap(), &lab.at("case")]);
    let flags = fs::read_to_string(lab.path("case/.flags")).unwrap_or_default();
    let flags: Vec<&str> = flags.lines().collect();
    let _ = fs::remove_file(lab.path("case/.flags"));

    let ours = [&["-t", "built", "-o", "type=oci,dest=built/"], &flags[..]].concat();
    lab.build(&lab.path("case"), &ours).success();
    tool("umoci", &["unpack", "--image", &format!("{}:latest", lab.at("built")), &lab.at("bundle")]);
    let (config, rootfs) = buildah.build(&lab.at("case"), &flags);

    assert_eq!(essence(&lab.config("built")["config"]), essence(&config), "{name}: configuration");
    let (ours, theirs) = (files(&lab.path("bundle/rootfs")), files(&rootfs));
    let only =
        |a: &[String], b: &[String]| a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>();
    let (only_ours, only_theirs) = (only(&ours, &theirs), only(&theirs, &ours));
    assert!(
        only_ours.is_empty() && only_theirs.is_empty(),
        "{name}: forge has\n{}\nbuildah has\n{}",
        only_ours.join("\n"),
        only_theirs.join("\n")
    );
}

macro_rules! cases {
    ($($test:ident: $folder:literal,)*) => {
        $(#[test] fn $test() { agree($folder); })*

        #[test]
        fn every_folder_is_a_case() {
            let builds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/builds");
            let folders = fs::read_dir(builds).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut folders: Vec<String> = folders.collect();
            folders.sort();
            assert_eq!(folders, [$($folder),*]);
        }
    };
}

cases! {
    archives_are_unpacked: "add-archive",
    modes_are_changed: "chmod",
    owners_are_changed: "chown",
    directories_are_copied: "copy-directories",
    files_are_copied: "copy-files",
    copies_overwrite: "copy-overwrites",
    copies_go_through_symlinks: "copy-through-symlinks",
    ignored_files_are_not_copied: "dockerignore",
    an_entrypoint_clears_cmd: "entrypoint-clears-cmd",
    variables_are_expanded: "env-and-arg",
    hardlinks_are_kept: "hardlinks",
    metadata_is_recorded: "metadata",
    modes_and_kinds_of_files_are_kept: "modes-and-kinds",
    stages_give_files_to_others: "multi-stage",
    names_of_files_are_kept: "names",
    triggers_are_pulled: "onbuild",
    words_are_quoted: "quoting",
    files_are_removed: "removals",
    a_stage_is_the_target: "target",
    users_own_what_they_make: "user",
    working_directories_are_made: "workdir",
}
