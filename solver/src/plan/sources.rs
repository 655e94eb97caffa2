//! Where a stage's files come from: images that are looked up, and the vertices of bases, contexts and remotes.

use std::collections::BTreeMap;
use std::sync::Mutex;

use forge_parser::Span;
use forge_store::Platform;

use super::base::Base;
use super::error::PlanProblem;
use super::remote::Remote;
use super::stages::Planner;
use crate::op::{ContextOp, CopyOp, CopySource, ImageOp, Op, ResolvedImage, Selection, Unpack};
use crate::world::WorldError;
use crate::{Vertex, VertexId};

impl Planner<'_> {
    /// Looks up the images that the target needs; says which stages it needs.
    ///
    /// What a base image's triggers take files from is known only once that image is.
    pub(super) fn resolve(&mut self) -> Vec<bool> {
        let mut needed = self.needed();
        loop {
            self.resolve_images(&needed);
            let more = self.needed();
            if more == needed {
                return needed;
            }
            needed = more;
        }
    }

    /// Looks up every image that the needed stages name, at once.
    fn resolve_images(&mut self, needed: &[bool]) {
        let mut wanted: Vec<(String, Platform)> = Vec::new();
        for index in (0..needed.len()).filter(|index| needed[*index]) {
            let sources = self.froms(index);
            let bases = sources.iter().filter_map(|from| self.find_source(index, from).ok());
            for base in bases.chain([self.bases[index].0.clone()]) {
                if let Base::Image(reference, platform) = base {
                    wanted.push((reference, platform));
                }
            }
        }
        wanted.retain(|wanted| !self.found.contains_key(wanted));
        wanted.sort();
        wanted.dedup();
        let world = self.world;
        if self.offline {
            let at_hand = |wanted: (String, Platform)| {
                let image = world.image_at_hand(&wanted.0, &wanted.1)?;
                Some((wanted, Ok(image)))
            };
            self.found.extend(wanted.into_iter().filter_map(at_hand));
            return;
        }
        let results = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            let resolve = |(reference, platform): (String, Platform)| {
                let result = world.resolve_image(&reference, &platform);
                results.lock().expect("no holder panics").insert((reference, platform), result);
            };
            // The first one on this thread: most builds have but one.
            let mut wanted = wanted.into_iter();
            let first = wanted.next();
            for more in wanted {
                scope.spawn(move || resolve(more));
            }
            if let Some(first) = first {
                resolve(first);
            }
        });
        self.found.extend(results.into_inner().expect("no holder panics"));
    }

    /// An image, resolved before or now.
    pub(super) fn image(
        &mut self,
        reference: &str,
        platform: &Platform,
        span: Span,
    ) -> Result<ResolvedImage, PlanProblem> {
        let key = (reference.to_owned(), platform.clone());
        let found = match self.found.remove(&key) {
            Some(found) => found,
            None => match self.images.get(&key) {
                Some(image) => return Ok(image.clone()),
                None if self.offline => return Err(PlanProblem::not_asked()),
                None => self.world.resolve_image(reference, platform),
            },
        };
        let image = found.map_err(|error: WorldError| self.no_image(error, reference, span))?;
        self.images.insert(key, image.clone());
        Ok(image)
    }

    /// The vertex that holds a base's files.
    pub fn source_vertex(&mut self, base: &Base, span: Span) -> Result<VertexId, PlanProblem> {
        if let Base::Stage(index) = base {
            // Absent only after that stage's own problems were reported.
            let state = self.states[*index].as_ref();
            return state.map(|state| state.files).ok_or_else(|| {
                PlanProblem::input(format!("stage {} has problems of its own", self.stage_name(*index)), span)
            });
        }
        if let Some(vertex) = self.sources.get(base) {
            return Ok(*vertex);
        }
        let (op, label) = match base {
            Base::Scratch => (Op::Scratch, "FROM scratch".to_owned()),
            Base::Context(name) => (Op::Context(ContextOp { name: name.clone() }), format!("context {name}")),
            Base::Image(reference, platform) => {
                let image = self.image(reference, platform, span)?;
                let label = format!("FROM {}@{}", image.reference, image.digest);
                let ResolvedImage { reference, digest, snapshot, config: _ } = image;
                (Op::Image(ImageOp { reference, digest, snapshot }), label)
            }
            Base::Remote(remote) => {
                let vertex = self.named_remote(remote, span)?;
                self.sources.insert(base.clone(), vertex);
                return Ok(vertex);
            }
            Base::Stage(_) => unreachable!("answered above"),
        };
        let vertex = self.add_source(op, label, span);
        self.sources.insert(base.clone(), vertex);
        Ok(vertex)
    }

    /// The files of a context from elsewhere: a repository's, or what an archive at a URL holds.
    fn named_remote(&mut self, remote: &Remote, span: Span) -> Result<VertexId, PlanProblem> {
        let source = self.remote_vertex(remote.clone(), span);
        if matches!(remote, Remote::Git(..)) {
            return Ok(source);
        }
        // The tree holds this one file; what an archive says of owners is no more a context's than a directory's is.
        let selection = Selection { required: true, ..Selection::path("*".into()) };
        self.onto_nothing(source, selection, Unpack::IfArchive, Some("0:0".into()), span)
    }

    pub(super) fn add_source(&mut self, op: Op, label: String, span: Span) -> VertexId {
        self.graph.add(Vertex {
            op,
            inputs: Vec::new(),
            span: Some(span),
            label,
            stage: String::new(),
            no_cache: false,
        })
    }

    /// A directory as the files of a stage: all of it, copied onto nothing.
    pub(super) fn context_as_files(&mut self, base: &Base, span: Span) -> Result<VertexId, PlanProblem> {
        let context = self.source_vertex(base, span)?;
        let selection = Selection { required: true, ..Selection::path(String::new()) };
        self.onto_nothing(context, selection, Unpack::Never, None, span)
    }

    /// A source's files as a tree of their own: copied onto nothing.
    fn onto_nothing(
        &mut self,
        source: VertexId,
        selection: Selection,
        unpack: Unpack,
        chown: Option<String>,
        span: Span,
    ) -> Result<VertexId, PlanProblem> {
        let nothing = self.source_vertex(&Base::Scratch, span)?;
        let op = Op::Copy(CopyOp {
            sources: vec![CopySource::Files { input: 1, selection, unpack }],
            dest: "/".into(),
            chown,
            chmod: None,
            parents: false,
            link: false,
            reset_owner: true,
        });
        let label = self.graph.vertex(source).label.clone();
        Ok(self.graph.add(Vertex {
            op,
            inputs: vec![nothing, source],
            span: Some(span),
            label,
            stage: String::new(),
            no_cache: false,
        }))
    }
}
