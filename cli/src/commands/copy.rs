//! `forge copy`: an image from one place to another, as it is. No layer is unpacked or packed anew, so digests stay.
//!
//! Everything goes through the store, except layers that the target registry can mount or has already.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use forge_exporter::{
    ArchiveKind, Called, Contents, ExportError, Wanted, copy_to_archive, copy_to_directory, import_archive,
    import_layout,
};
use forge_registry::{Reference, Repository};
use forge_solver::StepId;
use forge_store::{Descriptor, Digest, Platform, Store};

use super::inspect::no_such_image;
use super::{Session, print};
use crate::args::{ProgressMode, RegistryFlags};
use crate::engines;
use crate::failure::{Failure, Kind};
use crate::files::to_file;
use crate::local::{Shared, find_image};
use crate::places::Place;
use crate::progress::Display;
use crate::registries::{Registries, Travelling};
use crate::steps::Steps;

/// `forge copy`.
#[derive(Debug, Args)]
pub struct Copy {
    /// From: NAME of the store, docker://NAME, `oci:DIR[:TAG]`, oci-archive:FILE, docker-archive:FILE
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// To: the same, or docker-daemon:NAME, containers-storage:NAME, containerd:NAME
    #[arg(value_name = "TARGET")]
    pub target: String,
    /// Of an index, only the image for this platform
    #[arg(long, value_name = "OS/ARCH", conflicts_with = "all")]
    pub platform: Option<String>,
    /// Of an index, all images; this is so without --platform, too
    #[arg(short, long)]
    pub all: bool,
    /// Print the digest only
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub registry: RegistryFlags,
}

/// Copies an image.
pub fn copy(session: &Session, args: &Copy) -> Result<(), Failure> {
    let (source, target) = (Place::parse(&args.source)?, Place::parse(&args.target)?);
    let platform = args.platform.as_ref().map(|text| text.parse::<Platform>());
    let mut platform = platform.transpose().map_err(|e| Failure::new(Kind::Usage, e, None))?;
    if platform.is_none() && matches!(target, Place::DockerArchive { .. } | Place::Engine(..)) && !args.all {
        // There is room for one.
        platform = Some(Platform::host());
    }
    let store = session.store()?;
    let display = Arc::new(Display::new(ProgressMode::Auto, args.quiet));
    let copying = Copying { store: &store, registries: Registries::new(&args.registry), display: &display };
    let label = format!("copying {} to {}", args.source, args.target);
    let copied = Steps::default().internal(&*display, label, |step| {
        let (root, from) = copying.bring(&source, platform.as_ref())?;
        copying.hand_over(&root, from, &target, step)?;
        Ok::<_, Failure>(root)
    });
    display.finish();
    print(&copied?.digest.to_string())
}

struct Copying<'a> {
    store: &'a Store,
    registries: Registries,
    display: &'a Arc<Display>,
}

impl Copying<'_> {
    /// The source's documents, and what else is not at a registry, into the store. Says what they are, and which
    /// repository has the rest.
    fn bring(
        &self,
        source: &Place,
        platform: Option<&Platform>,
    ) -> Result<(Descriptor, Option<Repository>), Failure> {
        let blobs = self.store.blobs();
        let root = match source {
            Place::Registry(name) => {
                let root = self.registries.fetch_documents(name, platform, blobs)?;
                return Ok((root, Some(name.repository().clone())));
            }
            Place::Store(name) => self.of_store(name, platform)?,
            Place::Layout { dir, tag, digest } => {
                let digest = digest.as_deref().map(str::parse::<Digest>).transpose();
                let digest = digest.map_err(|e| Failure::new(Kind::Usage, e, None))?;
                let wanted = Wanted { tag: tag.as_deref(), digest: digest.as_ref(), platform };
                import_layout(dir, &wanted, blobs).map_err(of_source)?
            }
            Place::OciArchive { file, tag } => {
                let wanted = Wanted { tag: tag.as_deref(), digest: None, platform };
                import_archive(open(file)?, &wanted, None, blobs).map_err(of_source)?
            }
            Place::DockerArchive { file, name } => {
                let wanted = Wanted { tag: None, digest: None, platform };
                import_archive(open(file)?, &wanted, name.as_ref(), blobs).map_err(of_source)?
            }
            Place::Engine(..) => {
                let hint = "save it there, and copy from docker-archive:FILE";
                return Err(Failure::new(Kind::Usage, "engines are copied to, not from", Some(hint.into())));
            }
        };
        Ok((root, None))
    }

    fn of_store(&self, name: &Reference, platform: Option<&Platform>) -> Result<Descriptor, Failure> {
        let missing = || no_such_image(&name.to_string());
        match platform {
            Some(platform) => Ok(find_image(self.store, name, platform)?.ok_or_else(missing)?.descriptor),
            None => self.store.tags().get(&name.canonical())?.ok_or_else(missing),
        }
    }

    fn hand_over(
        &self,
        root: &Descriptor,
        from: Option<Repository>,
        target: &Place,
        step: StepId,
    ) -> Result<(), Failure> {
        let blobs = self.store.blobs();
        let progress = Arc::new(Travelling::new(step, Shared(self.display.clone())));
        if let Place::Registry(name) = target {
            self.registries.push_from(name, root, blobs, from, progress)?;
            return Ok(());
        }
        let contents = Contents::of(root, blobs)?;
        let missing = contents.missing(blobs)?;
        match &from {
            Some(repository) => self.registries.fetch_from(repository, &missing, blobs, progress)?,
            // An image of the store whose base was never needed: its layers are where the base came from.
            None => self.registries.fetch_remembered(&missing, blobs, progress)?,
        }
        self.write(&contents, root, target)
    }

    fn write(&self, contents: &Contents, root: &Descriptor, target: &Place) -> Result<(), Failure> {
        let blobs = self.store.blobs();
        let nothing = Default::default();
        let tagged = |tag: &Option<String>| {
            let called = tag.iter().map(|tag| Called { tag: Some(tag.clone()), ..Called::default() });
            called.collect::<Vec<_>>()
        };
        match target {
            Place::Store(name) => Ok(self.store.commit(&[name.canonical()], Some(root))?),
            Place::Layout { digest: Some(_), .. } => {
                let hint = "write oci:DIR[:TAG]";
                Err(Failure::new(Kind::Usage, "a layout is not written under a digest", Some(hint.into())))
            }
            Place::Layout { dir, tag, .. } => Ok(copy_to_directory(contents, &tagged(tag), blobs, dir)?),
            Place::OciArchive { file, tag } => to_file(file, |out| {
                Ok(copy_to_archive(contents, ArchiveKind::Oci, &tagged(tag), &nothing, blobs, out)?)
            }),
            Place::DockerArchive { file, name } => {
                let called: Vec<Called> = name.iter().map(engines::called).collect();
                to_file(file, |out| {
                    Ok(copy_to_archive(contents, ArchiveKind::Docker, &called, &nothing, blobs, out)?)
                })
            }
            Place::Engine(choice, name) => {
                let engine = engines::find(*choice, false)?;
                let loaded = engine.load(contents, &[engines::called(name)], blobs)?;
                crate::progress::say(&engines::outcome(&engine, loaded));
                Ok(())
            }
            Place::Registry(_) => Ok(()),
        }
    }
}

/// What is wrong with an archive or a layout is its maker's to mend.
fn of_source(error: ExportError) -> Failure {
    match error {
        ExportError::MissingBlob(digest) => {
            Failure::new(Kind::Corrupt, format!("the source lacks its blob {digest}"), None)
        }
        ExportError::Destination(detail) => Failure::new(Kind::Corrupt, detail, None),
        ExportError::Io { verb, path, source } if source.kind() == io::ErrorKind::NotFound => {
            Failure::new(Kind::NotFound, format!("cannot {verb} {}: {source}", path.display()), None)
        }
        other => other.into(),
    }
}

fn open(file: &Path) -> Result<Box<dyn Read + Send>, Failure> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::with_capacity(1 << 20, io::stdin())));
    }
    let opened = File::open(file).map_err(|e| {
        Failure::new(
            Kind::NotFound,
            format!("cannot open {}: {e}", file.display()),
            Some("check the path".into()),
        )
    })?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, opened)))
}
