//! From what was solved to what was asked for: images, files, names, a push, and files that speak of the image.

use std::path::Path;
use std::sync::Arc;

use forge_exporter::{
    Ahead, Called, Contents, DirectoryOptions, ImageForm, ImageOptions, Images, Line, Name, Output, Part,
    write_directory, write_docker_archive, write_oci_archive, write_oci_directory, write_tar,
};
use forge_parser::Warning;
use forge_registry::Reference;
use forge_solver::{Event, Events, Plan, Solved, StepId};
use forge_store::layer::FileTimes;
use forge_store::{Layer, Snapshot, Store};

use super::Building;
use super::carry_out::stopped;
use super::wanted::{FileOutput, Target, Wanted};
use crate::args::RegistryFlags;
use crate::dockerfile::LoadedDockerfile;
use crate::early_push::EarlyPush;
use crate::engines;
use crate::environment;
use crate::failure::{Failure, Kind, world_error_of_store};
use crate::files::to_file;
use crate::local::{Fetcher, Shared};
use crate::metadata::Metadata;
use crate::recipes::{Base, Recipe, Recipes};
use crate::registries::{Registries, Travelling};

/// Writing what was built.
pub struct Export<'a> {
    /// The build.
    pub building: &'a Building<'a>,
    /// What was to be made, for each platform.
    pub plans: &'a [Plan],
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
    /// Layers that are packed already, or are about to be.
    pub ahead: &'a Ahead<'a>,
    /// Layers that are there already, or on their way.
    pub early: Option<&'a EarlyPush<'a>>,
    /// Where both are shown.
    pub line: &'a Line,
}

impl Export<'_> {
    /// Writes every output; gives the image that the build is about, if one was wanted.
    pub fn run(&self, step: StepId) -> Result<Option<Images>, Failure> {
        let wanted = self.wanted();
        if !wanted.only_pushes() {
            self.fetch_bases(step)?;
        }
        let mut written = Written::default();
        let first = wanted.first_form().map(|form| self.images(form, &mut written, step)).transpose()?;
        for file in &wanted.files {
            self.output(file, &mut written, step)?;
        }
        let mut targets = Vec::new();
        for (number, target) in wanted.targets.iter().enumerate() {
            let images = self.images(&target.output.form, &mut written, step)?;
            self.keep(target, &images, step)?;
            if target.output.store && !target.names.is_empty() {
                self.keep_recipe(number, &images);
            }
            targets.push((target, images));
        }
        if let Some(first) = &first {
            self.image_id(first)?;
        }
        for (target, images) in targets.iter().filter(|(target, _)| target.output.push) {
            self.push(target, images, step)?;
        }
        self.metadata(first.as_ref())?;
        Ok(first)
    }

    /// What becomes of times in what is written.
    fn times(&self) -> FileTimes {
        self.wanted().times(self.plans.first().and_then(|plan| plan.epoch))
    }

    fn note(&self, step: StepId, text: impl Into<String>) {
        self.building.display.emit(Event::Note { step, text: text.into() });
    }

    fn wanted(&self) -> &Wanted {
        &self.building.request.wanted
    }

    fn store(&self) -> &Store {
        self.building.store
    }

    fn snapshots(&self) -> Result<Vec<&Snapshot>, Failure> {
        let snapshot = |plan: &Plan| self.solved.record(plan.target).map(|record| &record.snapshot);
        let all: Option<Vec<&Snapshot>> = self.plans.iter().map(snapshot).collect();
        all.ok_or_else(|| Failure::new(Kind::System, "the build has no result", None))
    }

    /// Images of this form: written now, or a moment ago for another output.
    fn images(&self, form: &ImageForm, written: &mut Written, step: StepId) -> Result<Images, Failure> {
        if let Some(failure) = stopped() {
            return Err(failure);
        }
        let options = self.wanted().options(form, self.times());
        if let Some((_, images)) = written.0.iter().find(|(known, _)| *known == options) {
            return Ok(images.clone());
        }
        self.note(step, "exporting layers");
        self.ahead.finish();
        if self.early.is_none() {
            self.line.end(true);
        }
        let images =
            Images::assemble(self.store(), self.plans, self.solved, &options, self.wanted().is_index)?;
        for image in &images.images {
            self.note(step, format!("exporting manifest {}", image.descriptor.digest));
            self.note(step, format!("exporting config {}", image.id()));
        }
        if images.is_index {
            self.note(step, format!("exporting manifest list {}", images.root.digest));
        }
        written.0.push((options, images.clone()));
        Ok(images)
    }

    /// Layers of the bases that nobody looked into may not be here yet.
    fn fetch_bases(&self, step: StepId) -> Result<(), Failure> {
        let mut missing: Vec<Layer> = Vec::new();
        for layer in self.snapshots()?.into_iter().flat_map(Snapshot::layers) {
            if let Some(pulled) = &layer.pulled
                && !missing.contains(layer)
                && !self.store().blobs().contains(&pulled.descriptor.digest)?
            {
                missing.push(layer.clone());
            }
        }
        let Some(plan) = self.plans.first().filter(|_| !missing.is_empty()) else { return Ok(()) };
        let images = plan.graph.ids().filter_map(|id| match &plan.graph.vertex(id).op {
            forge_solver::Op::Image(image) => Some(image),
            _ => None,
        });
        for image in images {
            let own: Vec<Layer> =
                missing.iter().filter(|layer| image.snapshot.layers().contains(layer)).cloned().collect();
            if !own.is_empty() {
                use forge_runner::executor::Fetch;
                self.fetcher.fetch(&image.reference, &own, step, &**self.building.display)?;
            }
        }
        Ok(())
    }

    /// Makes everything durable and names the image.
    fn keep(&self, target: &Target, images: &Images, step: StepId) -> Result<(), Failure> {
        let output = &target.output;
        if output.unpack {
            self.note(step, "unpacking");
            self.unpack()?;
        }
        if !output.store {
            return Ok(self.store().commit(&[], None)?);
        }
        let mut names: Vec<String> = target.names.iter().map(Reference::canonical).collect();
        if output.canonical {
            names.extend(target.names.iter().map(|name| by_digest(name, images).canonical()));
        }
        if let Some(prefix) = &output.dangling_prefix
            && (names.is_empty() || !output.dangling_empty_only)
        {
            names.push(format!("{prefix}@{}", images.root.digest));
        }
        for name in &names {
            self.note(step, format!("naming to {name}"));
        }
        Ok(self.store().commit(&names, Some(&images.root))?)
    }

    /// So that `forge verify` can build it again.
    fn keep_recipe(&self, target: usize, images: &Images) {
        let (Some(words), Some(directory)) = (environment::words(), environment::directory()) else { return };
        let recipe = Recipe {
            words,
            directory,
            build_args: self.building.request.options.build_args.clone(),
            target,
            bases: self.plans.first().map(Base::all).unwrap_or_default(),
        };
        Recipes::of(self.store()).keep(&images.root.digest, &recipe);
    }

    fn push(&self, target: &Target, images: &Images, step: StepId) -> Result<(), Failure> {
        let insecure = target.output.insecure.then(|| self.insecurely(&target.names));
        let registries = insecure.as_ref().unwrap_or(self.registries);
        for name in &target.names {
            let to = if target.output.push_by_digest { by_digest(name, images) } else { name.clone() };
            self.note(step, format!("pushing layers to {}", to.canonical()));
            if let Some(early) = self.early {
                early.finish();
                self.line.end(true);
            }
            if let Some(failure) = stopped() {
                return Err(failure);
            }
            let progress = Arc::new(Travelling::new(step, Shared(self.building.display.clone())));
            registries.push(&to, &images.root, self.store().blobs(), progress)?;
            self.note(step, format!("pushing manifest for {}@{}", name.canonical(), images.root.digest));
        }
        Ok(())
    }

    /// `registry.insecure=true`: plain http to the registries of these names, and to no other for it.
    fn insecurely(&self, names: &[Reference]) -> Registries {
        let flags = &self.building.args.registry;
        let hosts = names.iter().map(|name| name.registry().to_owned());
        let insecure = flags.insecure.iter().cloned().chain(hosts).collect();
        Registries::new(&RegistryFlags { insecure, ..flags.clone() })
    }

    fn output(&self, file: &FileOutput, written: &mut Written, step: StepId) -> Result<(), Failure> {
        let names: Vec<Name> = file.names.iter().map(name_of).collect();
        let blobs = self.store().blobs();
        match &file.output {
            Output::Oci { dest, tar: false, form } => {
                let images = self.images(form, written, step)?;
                Ok(write_oci_directory(&images, &names, blobs, dest)?)
            }
            Output::Oci { dest, form, .. } => {
                let images = self.images(form, written, step)?;
                to_file(dest, |out| Ok(write_oci_archive(&images, &names, blobs, out)?))
            }
            Output::Docker { dest, form } => {
                let images = self.images(form, written, step)?;
                to_file(dest, |out| Ok(write_docker_archive(&images, &names, blobs, out)?))
            }
            Output::Load { form } => {
                let images = self.images(form, written, step)?;
                self.load(&images, &file.names, step)
            }
            Output::Local { dest, split, mirror } => {
                self.unpack()?;
                let options = DirectoryOptions { times: self.times(), mirror: *mirror };
                Ok(write_directory(self.store(), &self.parts(*split)?, dest, options)?)
            }
            Output::Tar { dest, split } => {
                self.unpack()?;
                let parts = self.parts(*split)?;
                to_file(dest, |out| Ok(write_tar(self.store(), &parts, self.times(), out)?))
            }
            Output::Image(_) | Output::CacheOnly => Ok(()),
        }
    }

    /// Into an engine of this machine.
    fn load(&self, images: &Images, names: &[Reference], step: StepId) -> Result<(), Failure> {
        let choice = self.building.args.load.load.unwrap_or_default();
        let engine = engines::find(choice, !self.building.session.identity.is_machine_root)?;
        self.note(step, format!("loading into {}", engine.name()));
        let contents = Contents::of(&images.root, self.store().blobs())?;
        let called: Vec<Called> = names.iter().map(engines::called).collect();
        let loaded = engine.load(&contents, &called, self.store().blobs())?;
        self.note(step, engines::outcome(&engine, loaded));
        Ok(())
    }

    /// The files of each platform, in a directory of its own where there are several.
    fn parts(&self, split: Option<bool>) -> Result<Vec<Part<'_>>, Failure> {
        let several = self.plans.len() > 1 || self.wanted().is_index;
        let prefix = |plan: &Plan| match split.unwrap_or(several) {
            true => plan.stage.image.platform().to_string().replace('/', "_"),
            false => String::new(),
        };
        let parts = self.plans.iter().zip(self.snapshots()?);
        Ok(parts.map(|(plan, snapshot)| Part { prefix: prefix(plan), snapshot }).collect())
    }

    /// Files are written from trees, so every layer needs one.
    fn unpack(&self) -> Result<(), Failure> {
        for layer in self.snapshots()?.into_iter().flat_map(Snapshot::layers) {
            self.store().layers().ensure_tree(layer).map_err(world_error_of_store)?;
        }
        Ok(())
    }

    /// Docker's image id; several images have none in common, and are named by their index.
    fn image_id(&self, images: &Images) -> Result<(), Failure> {
        let Some(path) = &self.building.args.iidfile else { return Ok(()) };
        let id = images.id().unwrap_or(&images.root.digest);
        write_file(path, id.to_string().as_bytes())
    }

    fn metadata(&self, images: Option<&Images>) -> Result<(), Failure> {
        let Some(path) = &self.building.args.metadata_file else { return Ok(()) };
        let names: Vec<String> = self.building.request.names.iter().map(Reference::canonical).collect();
        let metadata = Metadata {
            images,
            names: &names,
            log: self.solved.log(),
            warnings: self.warnings,
            dockerfile: self.dockerfile,
        };
        write_file(path, format!("{:#}\n", metadata.to_json()).as_bytes())
    }
}

/// Images that were assembled, by how.
#[derive(Default)]
struct Written(Vec<(ImageOptions, Images)>);

fn by_digest(name: &Reference, images: &Images) -> Reference {
    name.repository().pinned(images.root.digest)
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
