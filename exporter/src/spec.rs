//! `-o`: where the result goes, in Docker's words. Every word either works or is refused.

mod annotation;
mod words;

use std::path::PathBuf;

use forge_store::layer::{Compression, GzipLevel, Packing, ZstdLevel};

pub use annotation::{Annotation, AnnotationTarget};
use words::Words;

/// One output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The store, and registries.
    Image(ImageOutput),
    /// An image layout: a tar, or a directory.
    Oci {
        /// Where; `-` is standard output.
        dest: PathBuf,
        /// A tar rather than a directory.
        tar: bool,
        /// What the image looks like.
        form: ImageForm,
    },
    /// What `docker load` reads.
    Docker {
        /// Where; `-` is standard output.
        dest: PathBuf,
        /// What the image looks like.
        form: ImageForm,
    },
    /// An engine of this machine.
    Load {
        /// What the image looks like.
        form: ImageForm,
    },
    /// The files, in a directory.
    Local {
        /// Where.
        dest: PathBuf,
        /// A directory for each platform; without a word, where there are several.
        split: Option<bool>,
        /// What else is in the directory is removed.
        mirror: bool,
    },
    /// The files, in a tar.
    Tar {
        /// Where; `-` is standard output.
        dest: PathBuf,
        /// A directory for each platform; without a word, where there are several.
        split: Option<bool>,
    },
    /// Nowhere: only the cache is filled.
    CacheOnly,
}

/// `type=image` and `type=registry`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageOutput {
    /// What the image looks like.
    pub form: ImageForm,
    /// To the registries of its names, too.
    pub push: bool,
    /// Pushed without a tag: the digest is its only name there.
    pub push_by_digest: bool,
    /// Named in the store.
    pub store: bool,
    /// Named by its digest, too: `NAME@sha256:…`.
    pub canonical: bool,
    /// Named so, by its digest: `PREFIX@sha256:…`.
    pub dangling_prefix: Option<String>,
    /// The prefix counts only where there is no other name.
    pub dangling_empty_only: bool,
    /// Its layers are unpacked in the store.
    pub unpack: bool,
    /// Its registries are talked to by plain http.
    pub insecure: bool,
}

/// What an image looks like that is written: common to all outputs that write one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageForm {
    /// Names beside those of `-t`.
    pub names: Vec<String>,
    /// How layers made here are packed.
    pub packing: Packing,
    /// Layers of the base are packed so, too.
    pub force_compression: bool,
    /// Docker's media types instead of OCI's.
    pub docker_types: bool,
    /// Layers that may not be distributed stay marked so.
    pub keep_nondistributable: bool,
    /// No file of a layer made here is later than the epoch.
    pub rewrite_timestamp: bool,
    /// `SOURCE_DATE_EPOCH` for this output alone, in seconds since 1970.
    pub epoch: Option<i64>,
    /// Annotations of this output alone.
    pub annotations: Vec<Annotation>,
}

/// A text that is no output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("output `{text}`: {detail}")]
pub struct OutputError {
    pub(crate) text: String,
    pub(crate) detail: String,
}

impl Output {
    /// Reads a `-o` argument: `type=…,key=value`, a directory, or `-`.
    pub fn parse(text: &str) -> Result<Self, OutputError> {
        if text == "-" {
            return Ok(Self::Tar { dest: "-".into(), split: None });
        }
        if !text.contains('=') {
            return Ok(Self::Local { dest: text.into(), split: None, mirror: false });
        }
        read(text).map_err(|detail| OutputError { text: text.to_owned(), detail })
    }

    /// What an image looks like here; none for outputs of files.
    pub fn form(&self) -> Option<&ImageForm> {
        match self {
            Self::Image(ImageOutput { form, .. })
            | Self::Oci { form, .. }
            | Self::Docker { form, .. }
            | Self::Load { form } => Some(form),
            Self::Local { .. } | Self::Tar { .. } | Self::CacheOnly => None,
        }
    }
}

impl ImageOutput {
    /// The store, under the names of `-t`.
    pub fn to_store() -> Self {
        Self { store: true, ..Self::default() }
    }
}

fn read(text: &str) -> Result<Output, String> {
    let mut words = Words::split(text)?;
    let kind = words.take("type").ok_or("it has no type=")?;
    let output = match kind.as_str() {
        "image" | "registry" => Output::Image(image(&mut words, kind == "registry")?),
        "oci" => {
            let dest = dest(&mut words, &kind)?;
            // A destination that is a directory, or is written as one, is one.
            let is_directory = dest.is_dir() || dest.as_os_str().as_encoded_bytes().ends_with(b"/");
            let tar = words.flag("tar", !is_directory)?;
            Output::Oci { dest, tar, form: form(&mut words)? }
        }
        "docker" => match words.take("dest").filter(|dest| !dest.is_empty()) {
            Some(dest) => Output::Docker { dest: dest.into(), form: form(&mut words)? },
            None => Output::Load { form: form(&mut words)? },
        },
        "local" => Output::Local {
            dest: dest(&mut words, &kind)?,
            split: words.maybe_flag("platform-split")?,
            mirror: mirror(&mut words)?,
        },
        "tar" => Output::Tar { dest: dest(&mut words, &kind)?, split: words.maybe_flag("platform-split")? },
        "cacheonly" => Output::CacheOnly,
        _ => {
            let kinds = ["image", "registry", "oci", "docker", "local", "tar", "cacheonly"];
            let near = words::meant(&kind, kinds);
            return Err(format!("there is no type={kind}{near}; there are {}", kinds.join(", ")));
        }
    };
    words.finish(&kind)?;
    Ok(output)
}

fn dest(words: &mut Words, kind: &str) -> Result<PathBuf, String> {
    let dest = words.take("dest").filter(|dest| !dest.is_empty());
    dest.map(PathBuf::from).ok_or_else(|| format!("type={kind} needs dest=PATH"))
}

fn mirror(words: &mut Words) -> Result<bool, String> {
    match words.take("mode").as_deref() {
        None | Some("copy") => Ok(false),
        Some("delete") => Ok(true),
        Some(other) => Err(format!("mode={other} is neither copy nor delete")),
    }
}

fn image(words: &mut Words, push: bool) -> Result<ImageOutput, String> {
    let output = ImageOutput {
        push: words.flag("push", push)?,
        push_by_digest: words.flag("push-by-digest", false)?,
        store: words.flag("store", true)?,
        canonical: words.flag("name-canonical", false)?,
        dangling_prefix: words.take("dangling-name-prefix").filter(|prefix| !prefix.is_empty()),
        // BuildKit's spelling, and the right one.
        dangling_empty_only: words.flag("danging-name-empty-only", false)?
            | words.flag("dangling-name-empty-only", false)?,
        unpack: words.flag("unpack", false)?,
        insecure: words.flag("registry.insecure", false)?,
        form: form(words)?,
    };
    if output.push_by_digest && !output.push {
        return Err("push-by-digest=true pushes nothing without push=true".into());
    }
    if output.insecure && !output.push {
        return Err("registry.insecure=true says nothing without push=true".into());
    }
    if output.unpack && !output.store {
        return Err("unpack=true unpacks in the store, and store=false keeps the image out of it".into());
    }
    Ok(output)
}

fn form(words: &mut Words) -> Result<ImageForm, String> {
    let names = words.take("name").map(|names| names.split(',').map(str::trim).map(str::to_owned).collect());
    let epoch = words.take("source-date-epoch").filter(|text| !text.is_empty());
    let epoch = epoch.map(|text| {
        text.parse().map_err(|_| format!("source-date-epoch={text} is no number of seconds since 1970"))
    });
    let form = ImageForm {
        names: names.unwrap_or_default(),
        packing: packing(words)?,
        force_compression: words.flag("force-compression", false)?,
        docker_types: !words.flag("oci-mediatypes", true)?,
        keep_nondistributable: words.flag("prefer-nondist-layers", false)?,
        rewrite_timestamp: words.flag("rewrite-timestamp", false)?,
        epoch: epoch.transpose()?,
        annotations: words.annotations()?,
    };
    if form.docker_types && matches!(form.packing, Packing::Estargz(_)) {
        return Err(
            "compression=estargz needs annotations, which oci-mediatypes=false has no place for".into()
        );
    }
    if form.docker_types && !form.annotations.is_empty() {
        return Err("oci-mediatypes=false has no place for annotations".into());
    }
    Ok(form)
}

fn packing(words: &mut Words) -> Result<Packing, String> {
    const KINDS: [&str; 4] = ["uncompressed", "gzip", "zstd", "estargz"];
    let kind = words.take("compression").unwrap_or_else(|| "gzip".into());
    let level = words.take("compression-level");
    let number = |most: u8| match &level {
        None => Ok(None),
        Some(text) => match text.parse::<u8>() {
            Ok(level) if level <= most => Ok(Some(level)),
            _ => Err(format!("compression-level={text} is not between 0 and {most}, as {kind} has them")),
        },
    };
    let gzip = |level: Option<u8>| level.and_then(GzipLevel::new).unwrap_or_default();
    match kind.as_str() {
        "uncompressed" if level.is_some() => Err("compression=uncompressed has no compression-level".into()),
        "uncompressed" => Ok(Packing::Tar(Compression::None)),
        "gzip" => Ok(Packing::Tar(Compression::Gzip(gzip(number(9)?)))),
        "estargz" => Ok(Packing::Estargz(gzip(number(9)?))),
        // As zstd's own library: level 0 is the default one.
        "zstd" => {
            let level = number(22)?.and_then(ZstdLevel::new).unwrap_or_default();
            Ok(Packing::Tar(Compression::Zstd(level)))
        }
        other => {
            let near = words::meant(other, KINDS);
            Err(format!("there is no compression={other}{near}; there are {}", KINDS.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> ImageOutput {
        match Output::parse(text) {
            Ok(Output::Image(output)) => output,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn outputs_read_as_docker_reads_them() {
        let (dest, form) = (|text: &str| PathBuf::from(text), ImageForm::default);
        for (text, want) in [
            ("out", Output::Local { dest: dest("out"), split: None, mirror: false }),
            ("-", Output::Tar { dest: dest("-"), split: None }),
            ("type=tar,dest=x.tar", Output::Tar { dest: dest("x.tar"), split: None }),
            ("type=oci,dest=x.tar", Output::Oci { dest: dest("x.tar"), tar: true, form: form() }),
            ("type=oci,dest=x,tar=false", Output::Oci { dest: dest("x"), tar: false, form: form() }),
            ("type=docker,dest=-", Output::Docker { dest: dest("-"), form: form() }),
            (
                "type=local,dest=x,mode=delete,platform-split=0",
                Output::Local { dest: dest("x"), split: Some(false), mirror: true },
            ),
            ("type=cacheonly", Output::CacheOnly),
            ("type=image,push=true", Output::Image(ImageOutput { push: true, ..ImageOutput::to_store() })),
        ] {
            assert_eq!(Output::parse(text), Ok(want), "{text}");
        }
        assert_eq!(image("type=registry,name=a/b").form.names, ["a/b"]);
        assert_eq!(image("type=image,\"name=a,b\"").form.names, ["a", "b"]);
        assert!(image("type=registry").push && !image("type=image").push);
    }

    #[test]
    fn an_images_form_is_read() {
        let form = |text: &str| image(&format!("type=image,{text}")).form;
        let gzip = |level| Packing::Tar(Compression::Gzip(GzipLevel::new(level).unwrap()));
        assert_eq!(form("compression=zstd,compression-level=19").packing.name(), "zstd-19");
        assert_eq!(form("compression=zstd,compression-level=0").packing.name(), "zstd-3");
        assert_eq!(form("compression-level=9").packing, gzip(9));
        assert_eq!(form("compression=uncompressed").packing.name(), "tar");
        assert_eq!(form("compression=estargz").packing.name(), "estargz-6");
        let all = form("force-compression,oci-mediatypes=false,rewrite-timestamp=1,source-date-epoch=7");
        assert!(all.force_compression && all.docker_types && all.rewrite_timestamp);
        assert_eq!(all.epoch, Some(7));
        let annotated = form("annotation.Key=A,annotation-index[linux/arm64].k=v,annotation-manifest.k=w");
        assert_eq!(annotated.annotations.len(), 3);
        assert_eq!(annotated.annotations[0].key, "Key", "keys keep their case");
    }

    #[test]
    fn what_is_no_output_says_why() {
        for (bad, why) in [
            ("type=oci", "type=oci needs dest=PATH"),
            ("type=zip,dest=x", "there is no type=zip"),
            ("dest=x", "it has no type="),
            ("type=tar,dest=x,foo=1", "forge does not know the option `foo` of type=tar"),
            ("type=image,compresion=gzip", "`compresion` of type=image (did you mean compression?)"),
            ("type=image,compression=gzp", "there is no compression=gzp (did you mean gzip?)"),
            ("type=oci,dest=x,tar=maybe", "tar=maybe is neither true nor false"),
            ("type=image,compression-level=10", "compression-level=10 is not between 0 and 9"),
            ("type=image,compression=zstd,compression-level=23", "is not between 0 and 22"),
            ("type=image,compression=uncompressed,compression-level=1", "has no compression-level"),
            ("type=image,oci-mediatypes=false,annotation.a=b", "has no place for annotations"),
            ("type=image,oci-mediatypes=false,compression=estargz", "needs annotations"),
            ("type=image,push-by-digest=true", "pushes nothing without push=true"),
            ("type=image,annotation-indx.a=b", "`annotation-indx.a`"),
            ("type=local,dest=x,mode=mirror", "mode=mirror is neither copy nor delete"),
            ("type=local,dest=x,compression=gzip", "does not know the option `compression` of type=local"),
            ("type=image,source-date-epoch=now", "is no number of seconds"),
            ("type=image,name", "`name` is not key=value"),
        ] {
            let error = Output::parse(bad).expect_err(bad).to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
