//! Twenty images in six forms, there and back through programs of others: no digest changes on the way, and whoever
//! unpacks or runs one finds the same files and says the same.

mod makers;
mod podman;
mod skopeo;
mod umoci;

use std::fs;
use std::path::Path;

use crate::support::{Lab, Registry};

/// A Dockerfile, and what its image says when it is run; nothing where there is no program in it.
pub struct Sample {
    pub text: String,
    pub says: Option<&'static str>,
}

/// What the images differ in; all are quick to make.
pub fn samples() -> Vec<Sample> {
    let scratch = |text: &str| Sample { text: format!("FROM scratch\n{text}"), says: None };
    let busybox = |text: &str, says| Sample { text: format!("FROM busybox\n{text}"), says: Some(says) };
    vec![
        scratch("COPY a /a\n"),
        scratch("COPY --chown=1:2 a /a\nCOPY b /a\n"),
        scratch("COPY . /all/\nCOPY link /link\n"),
        scratch("COPY a /\u{fc}n\u{ef}c\u{f6}d\u{e9}\n"),
        scratch("COPY a /a\nLABEL a=b c=\"d e\"\nEXPOSE 80 53/udp\nVOLUME /v\n"),
        scratch("COPY a /a\nHEALTHCHECK --interval=5s CMD true\nSTOPSIGNAL SIGINT\n"),
        scratch("COPY a /a\nONBUILD COPY b /b\nSHELL [\"/sh\", \"-c\"]\n"),
        scratch(&format!("COPY a /{}/a\n", ["long"; 50].join("-"))),
        scratch(&(0..30).map(|n| format!("COPY a /f{n}\n")).collect::<String>()),
        scratch(&format!("COPY a /a\nLABEL big={}\n", "x".repeat(20_000))),
        busybox("CMD echo hello\n", "hello\n"),
        busybox("COPY a /etc/a\nCMD cat /etc/a\n", "#!/a\n"),
        busybox("WORKDIR /w\nCOPY a b .\nCMD pwd && ls\n", "/w\na\nb\n"),
        busybox("ENV A=1 B=\"2 3\"\nCMD echo $A,$B\n", "1,2 3\n"),
        busybox("USER 1000:50\nCMD id -u && id -g\n", "1000\n50\n"),
        busybox("ENTRYPOINT [\"echo\", \"a\"]\nCMD [\"b\"]\n", "a b\n"),
        busybox("COPY --chmod=4755 a /s\nCMD stat -c %a /s\n", "4755\n"),
        busybox(
            "RUN rm /bin/yes && mkdir /d && echo x > /d/x && ln /d/x /d/y && mkfifo /p\nCMD test ! -e /bin/yes && test -p /p && stat -c %h /d/y\n",
            "2\n",
        ),
        busybox(
            "RUN mkdir /o && touch /o/old\nRUN rm -r /o && mkdir /o && touch /o/new\nCMD ls /o\n",
            "new\n",
        ),
        busybox("RUN chmod 1777 /home && chown -R app /home\nCMD stat -c '%a %u' /home\n", "1777 1000\n"),
    ]
}

/// Compression, OCI's or Docker's types, and the repository that they are pushed to.
pub const FORMS: [(&str, bool, &str); 6] = [
    ("gzip", true, "gzip-oci"),
    ("gzip", false, "gzip-docker"),
    ("zstd", true, "zstd-oci"),
    ("zstd", false, "zstd-docker"),
    ("uncompressed", true, "none-oci"),
    ("uncompressed", false, "none-docker"),
];

/// The forms that this holds for.
pub fn forms(of: impl Fn(&str) -> bool) -> Vec<&'static str> {
    FORMS.into_iter().map(|(.., form)| form).filter(|form| of(form)).collect()
}

/// Docker's zstd layers, as BuildKit and containerd name them, are no type to skopeo and podman of Debian 12.
pub fn is_known_to_skopeo(form: &str) -> bool {
    form != "zstd-docker"
}

/// All images in a registry, `FORM:iN`, and their files as `tar/N.tar` in the lab.
pub struct Published {
    pub lab: Lab,
    pub registry: Registry,
    pub samples: Vec<Sample>,
}

impl Published {
    pub fn new() -> Self {
        let (lab, registry) = (Lab::with_busybox(), Registry::open());
        let files = [("a", "#!/a\n"), ("b", "b\n"), ("sub/c", "c\n"), (".dockerignore", "Dockerfile*\n")];
        let context = lab.context("ctx", &files);
        std::os::unix::fs::symlink("/a", context.join("link")).unwrap();
        fs::create_dir(lab.path("tar")).unwrap();
        let samples = samples();
        assert!(samples.len() >= 20);
        for (n, sample) in samples.iter().enumerate() {
            fs::write(context.join("Dockerfile"), &sample.text).unwrap();
            let mut args = vec!["--network=none".into(), "-o".into(), format!("type=tar,dest=tar/{n}.tar")];
            for (compression, oci, form) in FORMS {
                let name = format!("{}/{form}:i{n}", registry.host);
                args.extend(["-o".into(), format!(
                    "type=registry,name={name},store=false,force-compression=true,compression={compression},oci-mediatypes={oci}"
                )]);
            }
            let words: Vec<&str> = args.iter().map(String::as_str).collect();
            lab.build(&context, &words).success();
        }
        Self { lab, registry, samples }
    }

    /// `HOST/FORM:iN`.
    pub fn name(&self, form: &str, n: usize) -> String {
        format!("{}/{form}:i{n}", self.registry.host)
    }

    /// As the registry has it.
    pub fn digest(&self, form: &str, n: usize) -> String {
        self.registry.digest(form, &format!("i{n}"))
    }
}

/// Podman's, buildah's and skopeo's storage, for this test alone.
pub fn own_storage(lab: &Lab) -> String {
    let (graph, run) = (lab.at("graph"), lab.at("run"));
    let conf = format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{graph}\"\nrunroot = \"{run}\"\n");
    lab.file("storage.conf", &conf).display().to_string()
}

/// A file of the tree: kind, mode, owner, target or content, links; and the time where it is no directory's, which
/// unpackers leave as they like.
pub fn listing(root: &Path) -> Vec<String> {
    let script = "cd \"$1\" && find . -mindepth 1 \\( -type d -printf '%P|d|%m|%U:%G\\n' -o -printf '%P|%y|%m|%U:%G|%l|%n|%T@\\n' \\) \
                  && find . -type f -print0 | xargs -0r sha256sum";
    let listed = crate::support::tool("sh", &["-c", script, "sh", root.to_str().unwrap()]);
    let mut lines: Vec<String> = listed.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
