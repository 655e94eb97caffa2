//! The end of `forge build`: what was solved goes where the user wants it.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use forge_exporter::{
    Image, ImageOptions, Name, Output, assemble, write_directory, write_docker_archive, write_oci_archive,
    write_oci_directory, write_tar,
};
use forge_parser::Warning;
use forge_registry::Reference;
use forge_solver::{Event, Events, Plan, Solved, StepId};
use forge_store::layer::{Compression, FileTimes};
use forge_store::{Layer, Snapshot, Store};

use super::Building;
use crate::dockerfile::LoadedDockerfile;
use crate::failure::{Failure, Kind, world_error_of_store};
use crate::local::{Fetcher, Shared};
use crate::metadata::Metadata;
use crate::registries::{Registries, Travelling};

/// Writing what was built.
pub struct Export<'a> {
    /// The build.
    pub building: &'a Building<'a>,
    /// What was to be made.
    pub plan: &'a Plan,
    /// What was made.
    pub solved: &'a Solved,
    /// Where images are pushed.
    pub registries: &'a Registries,
    /// Where the base's layers come from.
    pub fetcher: &'a Fetcher<'a>,
    /// What the build checks found.
    pub warnings: &'a [Warning],
    /// The Dockerfile.
    pub dockerfile: &'a LoadedDockerfile,
}

impl Export<'_> {
    /// Writes every output; gives the image, if one was wanted.
    pub fn run(&self, step: StepId) -> Result<Option<Image>, Failure> {
        let request = self.building.request;
        let image = match request.wants_image() {
            true => Some(self.image(step)?),
            false => None,
        };
        for output in &request.outputs {
            self.output(output, image.as_ref(), step)?;
        }
        if let Some(image) = &image {
            self.name(image, step)?;
            self.image_id(image)?;
            if request.pushes(self.building.args) {
                self.push(image, step)?;
            }
        }
        self.metadata(image.as_ref())?;
        Ok(image)
    }

    fn note(&self, step: StepId, text: impl Into<String>) {
        self.building.display.emit(Event::Note { step, text: text.into() });
    }

    fn store(&self) -> &Store {
        self.building.store
    }

    fn snapshot(&self) -> Result<&Snapshot, Failure> {
        let record = self.solved.record(self.plan.target);
        record
            .map(|record| &record.snapshot)
            .ok_or_else(|| Failure::new(Kind::System, "the build has no result", None))
    }

    fn image(&self, step: StepId) -> Result<Image, Failure> {
        self.fetch_base(step)?;
        self.note(step, "exporting layers");
        let options = ImageOptions {
            compression: Compression::Gzip(forge_store::layer::GzipLevel::default()),
            epoch: self.building.request.epoch,
            annotations: BTreeMap::new(),
        };
        let image = assemble(self.store(), self.plan, self.solved, &options)?;
        self.note(step, format!("exporting manifest {}", image.descriptor.digest));
        self.note(step, format!("exporting config {}", image.id()));
        Ok(image)
    }

    /// Layers of the base that nobody looked into may not be here yet.
    fn fetch_base(&self, step: StepId) -> Result<(), Failure> {
        let mut missing: Vec<Layer> = Vec::new();
        for layer in &self.snapshot()?.layers {
            if let Some(pulled) = &layer.pulled
                && !self.store().blobs().contains(&pulled.descriptor.digest)?
            {
                missing.push(layer.clone());
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let images = self.plan.graph.ids().filter_map(|id| match &self.plan.graph.vertex(id).op {
            forge_solver::Op::Image(image) => Some(image),
            _ => None,
        });
        for image in images {
            let own: Vec<Layer> =
                missing.iter().filter(|layer| image.snapshot.layers.contains(layer)).cloned().collect();
            if !own.is_empty() {
                use forge_runner::executor::Fetch;
                self.fetcher.fetch(&image.reference, &own, step, &**self.building.display)?;
            }
        }
        Ok(())
    }

    /// Makes everything durable and names the image.
    fn name(&self, image: &Image, step: StepId) -> Result<(), Failure> {
        let request = self.building.request;
        let names: Vec<String> = request.names.iter().map(Reference::canonical).collect();
        if !request.keeps_image() {
            return Ok(());
        }
        for name in &names {
            self.note(step, format!("naming to {name}"));
        }
        Ok(self.store().commit(&names, Some(&image.descriptor))?)
    }

    fn push(&self, image: &Image, step: StepId) -> Result<(), Failure> {
        for name in &self.building.request.names {
            self.note(step, format!("pushing layers to {}", name.canonical()));
            let progress = Arc::new(Travelling::new(step, Shared(self.building.display.clone())));
            self.registries.push(name, &image.descriptor, self.store().blobs(), progress)?;
            self.note(step, format!("pushing manifest for {}@{}", name.canonical(), image.descriptor.digest));
        }
        Ok(())
    }

    fn output(&self, output: &Output, image: Option<&Image>, step: StepId) -> Result<(), Failure> {
        let names: Vec<Name> = self.building.request.names.iter().map(name_of).collect();
        let blobs = self.store().blobs();
        match (output, image) {
            (Output::Oci { dest, tar: false }, Some(image)) => {
                Ok(write_oci_directory(image, &names, blobs, dest)?)
            }
            (Output::Oci { dest, .. }, Some(image)) => {
                to_file(dest, |out| Ok(write_oci_archive(image, &names, blobs, out)?))
            }
            (Output::Docker { dest }, Some(image)) => {
                to_file(dest, |out| Ok(write_docker_archive(image, &names, blobs, out)?))
            }
            (Output::Local { dest }, _) => {
                self.unpack(step)?;
                Ok(write_directory(self.store(), self.snapshot()?, dest)?)
            }
            (Output::Tar { dest }, _) => {
                self.unpack(step)?;
                let times = self.building.request.epoch.map_or(FileTimes::Kept, FileTimes::Clamped);
                to_file(dest, |out| Ok(write_tar(self.store(), self.snapshot()?, times, out)?))
            }
            _ => Ok(()),
        }
    }

    /// Files are written from trees, so every layer needs one.
    fn unpack(&self, step: StepId) -> Result<(), Failure> {
        self.fetch_base(step)?;
        for layer in &self.snapshot()?.layers {
            self.store().layers().ensure_tree(layer).map_err(world_error_of_store)?;
        }
        Ok(())
    }

    fn image_id(&self, image: &Image) -> Result<(), Failure> {
        let Some(path) = &self.building.args.iidfile else { return Ok(()) };
        write_file(path, image.id().to_string().as_bytes())
    }

    fn metadata(&self, image: Option<&Image>) -> Result<(), Failure> {
        let Some(path) = &self.building.args.metadata_file else { return Ok(()) };
        let names: Vec<String> = self.building.request.names.iter().map(Reference::canonical).collect();
        let metadata = Metadata {
            image,
            names: &names,
            log: self.solved.log(),
            warnings: self.warnings,
            dockerfile: self.dockerfile,
        };
        write_file(path, format!("{:#}\n", metadata.to_json()).as_bytes())
    }
}

/// Writes a file aside and renames it; `-` is standard output.
fn to_file(dest: &Path, write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    let fail = |e: io::Error| Failure::of_output(dest, &e);
    if dest == Path::new("-") {
        let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
        write(&mut out)?;
        return out.flush().map_err(fail);
    }
    let dir = dest.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let aside = tempfile::Builder::new().prefix(".forge-").tempfile_in(dir).map_err(fail)?;
    let mut out = BufWriter::with_capacity(1 << 20, aside);
    write(&mut out)?;
    let aside = out.into_inner().map_err(|e| fail(e.into_error()))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    aside.as_file().set_permissions(mode).map_err(fail)?;
    aside.persist(dest).map_err(|e| fail(e.error)).map(drop)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes).map_err(|e| Failure::of_output(path, &e))
}

fn name_of(reference: &Reference) -> Name {
    Name {
        full: reference.canonical(),
        familiar: reference.to_string(),
        tag: reference.tag().unwrap_or("latest").to_owned(),
    }
}
