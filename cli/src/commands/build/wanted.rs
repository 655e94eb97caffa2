//! Which images are wanted, what they look like and where they go: flags and outputs, brought together.

use std::collections::BTreeMap;

use forge_exporter::{Annotation, Edits, ImageForm, ImageOptions, ImageOutput, Output, Squash, Unset};
use forge_registry::Reference;
use forge_store::layer::{Compression, FileTimes, Packing};
use forge_store::{LayerForm, Platform};

use super::request::usage;
use crate::args::Build;
use crate::environment;
use crate::failure::{Failure, Kind};
use crate::image_flags::SquashWhat;
use crate::registries::parse_reference;

/// The argument, or variable, that wants an index even for one platform.
const MULTI_PLATFORM: &str = "BUILDKIT_MULTI_PLATFORM";

/// Images and files that a build gives.
pub struct Wanted {
    /// For which platforms, in order; at least one.
    pub platforms: Vec<Platform>,
    /// An index is written even for one platform.
    pub is_index: bool,
    /// Into the store and to registries.
    pub targets: Vec<Target>,
    /// Into files.
    pub files: Vec<FileOutput>,
    /// The same at any time, whoever builds it.
    pub is_reproducible: bool,
    options: ImageOptions,
}

/// An image in the store.
pub struct Target {
    /// What was asked for.
    pub output: ImageOutput,
    /// Its names.
    pub names: Vec<Reference>,
}

/// An output that is files.
pub struct FileOutput {
    /// What was asked for.
    pub output: Output,
    /// The names of the image in it.
    pub names: Vec<Reference>,
}

impl Wanted {
    /// Reads `-o`, `-t`, `--push`, and everything about the image.
    pub fn new(args: &Build, build_args: &BTreeMap<String, String>) -> Result<Self, Failure> {
        let flags = &args.image;
        let tags = names(&args.tags)?;
        let mut outputs: Vec<Output> =
            args.outputs.iter().map(|text| output(text)).collect::<Result<_, _>>()?;
        if args.load.load.is_some() && !outputs.iter().any(|output| matches!(output, Output::Load { .. })) {
            let form = outputs.iter().find_map(Output::form).cloned().unwrap_or_default();
            outputs.push(Output::Load { form });
        }
        let words = |e: String| Failure::new(Kind::Usage, e, None);
        let annotations = flags.annotations.iter().map(|text| Annotation::parse(text).map_err(words));
        let unset = flags.unset.iter().map(|text| Unset::parse(text));
        let unset = unset.map(|parsed| parsed.map_err(|e| words(format!("--unset: {e}"))));
        let options = ImageOptions {
            annotations: annotations.collect::<Result<Vec<_>, _>>()?.concat(),
            squash: flags.squash.map(|what| match what {
                SquashWhat::All => Squash::All,
                SquashWhat::New => Squash::New,
            }),
            edits: Edits {
                unset: unset.collect::<Result<Vec<_>, _>>()?.concat(),
                labels: args.labels.iter().map(|label| super::request::pair(label)).collect(),
            },
            ..ImageOptions::default()
        };
        let forced =
            build_args.get(MULTI_PLATFORM).cloned().or_else(|| environment::variable(MULTI_PLATFORM));
        let wanted = Self {
            platforms: platforms(&flags.platforms)?,
            is_index: forced.is_some_and(|value| matches!(value.as_str(), "1" | "true")),
            targets: targets(&outputs, &tags, args.push)?,
            files: files(outputs, &tags)?,
            is_reproducible: flags.reproducible,
            options,
        };
        wanted.check(args)?;
        Ok(wanted)
    }

    /// All names that images get.
    pub fn names(&self) -> Vec<Reference> {
        let all = self.targets.iter().flat_map(|target| &target.names);
        let all = all.chain(self.files.iter().flat_map(|file| &file.names));
        let mut names: Vec<Reference> = Vec::new();
        all.for_each(|name| {
            if !names.contains(name) {
                names.push(name.clone());
            }
        });
        names
    }

    /// What bounds times in configurations, and in outputs of plain files, where the plan has this epoch.
    pub fn times(&self, epoch: Option<i64>) -> FileTimes {
        match (self.is_reproducible, epoch) {
            (true, epoch) => FileTimes::Fixed(epoch.unwrap_or(0)),
            (false, Some(epoch)) => FileTimes::Clamped(epoch),
            (false, None) => FileTimes::Kept,
        }
    }

    /// Refuses what needs an epoch where there is none.
    pub fn check_epoch(&self, epoch: Option<i64>) -> Result<(), Failure> {
        for form in self.forms() {
            if form.rewrite_timestamp && self.times(epoch) == FileTimes::Kept && form.epoch.is_none() {
                return Err(usage(
                    "rewrite-timestamp=true has no time to rewrite to",
                    "set SOURCE_DATE_EPOCH, or give source-date-epoch=SECONDS",
                ));
            }
        }
        Ok(())
    }

    /// Leaves one image for the store, without names, and nothing else.
    pub fn only(&mut self, target: usize) {
        self.files.clear();
        let target = self.targets.drain(..).nth(target);
        self.targets.extend(target.map(|Target { output: ImageOutput { form, .. }, .. }| Target {
            output: ImageOutput { form, ..ImageOutput::to_store() },
            names: Vec::new(),
        }));
    }

    /// How an image of this form is written.
    pub fn options(&self, form: &ImageForm, times: FileTimes) -> ImageOptions {
        let times = match (times, form.epoch) {
            (FileTimes::Fixed(_), Some(epoch)) => FileTimes::Fixed(epoch),
            (_, Some(epoch)) => FileTimes::Clamped(epoch),
            (times, None) => times,
        };
        let of_files = match times {
            FileTimes::Clamped(_) if !form.rewrite_timestamp => FileTimes::Kept,
            times => times,
        };
        ImageOptions {
            form: LayerForm { packing: form.packing, times: of_files, recompress: form.force_compression },
            times,
            docker_types: form.docker_types,
            keep_nondistributable: form.keep_nondistributable,
            annotations: [&self.options.annotations[..], &form.annotations].concat(),
            ..self.options.clone()
        }
    }

    /// The image that the build is about, where several are written: its digest is printed.
    pub fn first_form(&self) -> Option<&ImageForm> {
        let first = self.targets.first().map(|target| &target.output.form);
        first.or_else(|| self.files.iter().find_map(|file| file.output.form()))
    }

    /// How layers are compressed that can be packed as soon as they are made, because nothing that is wanted needs
    /// their trees.
    pub fn packed_at_once(&self) -> Option<Compression> {
        let form = self.first_form()?;
        let keeps_times = !form.rewrite_timestamp && !self.is_reproducible;
        let only_images = self.files.iter().all(|file| file.output.form().is_some());
        match form.packing {
            Packing::Tar(compression) if keeps_times && only_images && self.options.squash.is_none() => {
                Some(compression)
            }
            _ => None,
        }
    }

    /// The forms in which layers are wanted, each by itself.
    pub fn layer_forms(&self, times: FileTimes) -> Vec<LayerForm> {
        let forms = self.forms().filter(|_| self.options.squash.is_none());
        forms.map(|form| self.options(form, times).form).collect()
    }

    /// Where layers go as soon as they are made, and in which form.
    pub fn first_push(&self, times: FileTimes) -> Option<(LayerForm, &Reference)> {
        let is_pushed = |target: &&Target| target.output.push && !target.output.insecure;
        let target = self.targets.iter().filter(|_| self.options.squash.is_none()).find(is_pushed)?;
        Some((self.options(&target.output.form, times).form, target.names.first()?))
    }

    /// Whether the base's layers need not be here: all that is wanted is a push, and the registry may have them.
    pub fn only_pushes(&self) -> bool {
        let leaves = |target: &Target| {
            let ImageOutput { push, store, form, .. } = &target.output;
            *push && !store && !form.force_compression
        };
        !self.targets.is_empty()
            && self.targets.iter().all(leaves)
            && self.files.is_empty()
            && self.options.squash.is_none()
    }

    fn check(&self, args: &Build) -> Result<(), Failure> {
        if self.targets.iter().any(|target| target.output.push && target.names.is_empty()) {
            return Err(usage("there is no name to push to", "give one with -t NAME"));
        }
        for FileOutput { output, .. } in &self.files {
            self.check_file(output, args)?;
        }
        Ok(())
    }

    fn forms(&self) -> impl Iterator<Item = &ImageForm> {
        let of_targets = self.targets.iter().map(|target| &target.output.form);
        of_targets.chain(self.files.iter().filter_map(|file| file.output.form()))
    }

    fn check_file(&self, output: &Output, args: &Build) -> Result<(), Failure> {
        match output {
            Output::Docker { .. } | Output::Load { .. } if self.platforms.len() > 1 => Err(usage(
                "type=docker holds an image for one platform",
                "use type=oci, or give one --platform",
            )),
            Output::Local { dest, mirror: true, .. } => {
                if !args.allow.iter().any(|entitlement| entitlement == DELETE) {
                    return Err(usage(
                        &format!("mode=delete removes what else is in {}", dest.display()),
                        &format!("allow it with --allow {DELETE}"),
                    ));
                }
                let full =
                    |path: &std::path::Path| path.canonicalize().or_else(|_| std::path::absolute(path));
                let holds = |path: &str| match (full(dest), full(path.as_ref())) {
                    (Ok(dest), Ok(path)) => path.starts_with(dest),
                    _ => false,
                };
                if [".", "/", args.context.as_str()].iter().any(|path| holds(path)) {
                    let message =
                        format!("mode=delete would remove the context or where you are: {}", dest.display());
                    return Err(usage(&message, "give dest= a directory of its own"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The entitlement for `mode=delete`.
pub const DELETE: &str = "buildx.local.delete";

fn output(text: &str) -> Result<Output, Failure> {
    Output::parse(text).map_err(|e| Failure::new(Kind::Usage, e, None))
}

/// The images for the store and for registries. The names of `-t` are those of the first, and of every one that has
/// none of its own.
fn targets(outputs: &[Output], tags: &[Reference], push: bool) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::new();
    for output in outputs {
        let Output::Image(output) = output else { continue };
        let mut own = names(&output.form.names)?;
        if own.is_empty() || targets.is_empty() {
            own.extend(tags.iter().cloned());
        }
        targets
            .push(Target { output: ImageOutput { push: output.push | push, ..output.clone() }, names: own });
    }
    let implied = outputs.is_empty() || !tags.is_empty() || push;
    if targets.is_empty() && implied {
        let form = outputs.iter().find_map(Output::form).cloned().unwrap_or_default();
        let mut all = names(&form.names)?;
        all.extend(tags.iter().cloned());
        targets.push(Target { output: ImageOutput { form, push, ..ImageOutput::to_store() }, names: all });
    }
    Ok(targets)
}

fn files(outputs: Vec<Output>, tags: &[Reference]) -> Result<Vec<FileOutput>, Failure> {
    let files = outputs.into_iter().filter(|output| !matches!(output, Output::Image(_)));
    files
        .map(|output| {
            let mut own = output.form().map_or(Ok(Vec::new()), |form| names(&form.names))?;
            own.extend(tags.iter().cloned());
            Ok(FileOutput { output, names: own })
        })
        .collect()
}

fn names(texts: &[String]) -> Result<Vec<Reference>, Failure> {
    let read = |text: &String| {
        let reference = parse_reference(text)?;
        match reference.digest() {
            Some(_) => Err(usage(&format!("cannot tag `{text}`: it holds a digest"), "write NAME[:TAG]")),
            None => Ok(reference),
        }
    };
    texts.iter().map(read).collect()
}

fn platforms(texts: &[String]) -> Result<Vec<Platform>, Failure> {
    let mut platforms: Vec<Platform> = Vec::new();
    for text in texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        let platform: Platform = text.parse().map_err(|e| Failure::new(Kind::Usage, e, None))?;
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    if platforms.is_empty() {
        platforms.push(Platform::host());
    }
    Ok(platforms)
}
