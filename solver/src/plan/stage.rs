//! A stage while it is being lowered: its files so far, its configuration, its variables.

use std::collections::BTreeMap;

use forge_store::{ImageConfig, Platform};

use super::history::COMMENT;
use super::scope::Env;
use crate::VertexId;
use forge_store::image::History;

/// The path that images without one get.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One line of the image's history.
#[derive(Clone, Debug, PartialEq)]
pub enum HistoryLine {
    /// Taken over from the base image as it is.
    Inherited(History),
    /// An instruction of this Dockerfile.
    Own {
        /// The text.
        created_by: String,
        /// The vertex whose layer it made, if it made one.
        vertex: Option<VertexId>,
        /// The author then.
        author: String,
    },
}

impl HistoryLine {
    /// The entry as the image lists it, `created` as given.
    pub fn to_history(&self, created: Option<String>) -> History {
        match self {
            Self::Inherited(history) => history.clone(),
            Self::Own { created_by, vertex, author } => History {
                created,
                author: (!author.is_empty()).then(|| author.clone()),
                created_by: Some(created_by.clone()),
                comment: Some(COMMENT.to_owned()),
                empty_layer: vertex.is_none(),
                extra: BTreeMap::new(),
            },
        }
    }
}

/// What a stage has come to after some of its instructions.
#[derive(Clone, Debug)]
pub struct StageState {
    /// Its files.
    pub files: VertexId,
    /// Its configuration; `rootfs` and `history` are filled in at export.
    pub image: ImageConfig,
    /// Its history.
    pub history: Vec<HistoryLine>,
    /// What RUN gets: ENV and ARG, the last writer of a name wins.
    pub env: Env,
    /// Declared ARGs with their values, for history and RUN.
    pub build_args: Vec<(String, Option<String>)>,
    /// CMD was set in this stage, so ENTRYPOINT does not clear it.
    pub cmd_set: bool,
    /// A WORKDIR of this file is in force: a relative one builds on it and not on the base image's.
    pub workdir_set: bool,
    /// The platform of its files.
    pub platform: Platform,
    /// When the base image was made.
    pub base_created: Option<String>,
}

impl StageState {
    /// An empty stage: `FROM scratch`.
    pub fn scratch(files: VertexId, platform: &Platform) -> Self {
        let mut image = ImageConfig::default();
        image.set_platform(platform);
        image.config.working_dir = "/".into();
        Self::over(files, image, platform)
    }

    /// A stage over an image.
    pub fn over(files: VertexId, mut image: ImageConfig, platform: &Platform) -> Self {
        let history = std::mem::take(&mut image.history).into_iter().map(HistoryLine::Inherited).collect();
        let mut env = Env::from_config(&image.config.env);
        if env.value("PATH").is_none() {
            env.set("PATH", DEFAULT_PATH);
        }
        image.config.env = env.to_config();
        let base_created = image.created.take();
        Self {
            files,
            image,
            history,
            env,
            build_args: Vec::new(),
            cmd_set: false,
            workdir_set: false,
            platform: platform.clone(),
            base_created,
        }
    }

    /// The state a later stage starts from that says `FROM` this one.
    pub fn inherit(&self) -> Self {
        Self { cmd_set: false, ..self.clone() }
    }

    /// Adds a line of history.
    pub fn remember(&mut self, created_by: String, vertex: Option<VertexId>) {
        self.history.push(HistoryLine::Own { created_by, vertex, author: self.image.author.clone() });
    }

    /// The working directory, absolute.
    pub fn workdir(&self) -> &str {
        match self.image.config.working_dir.as_str() {
            "" => "/",
            path => path,
        }
    }

    /// The shell of shell-form commands.
    pub fn shell(&self) -> Vec<String> {
        match &self.image.config.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => vec!["/bin/sh".into(), "-c".into()],
        }
    }

    /// Declared ARGs with what they are worth now, each name once: RUN's `|N` prefix.
    pub fn args_for_history(&self) -> Vec<(String, String)> {
        let mut args = Env::default();
        for (name, value) in &self.build_args {
            args.set(name, self.env.value(name).or(value.as_deref()).unwrap_or(""));
        }
        args.0
    }
}

/// How the stage's steps are named in progress.
#[derive(Clone, Debug)]
pub struct StepNames {
    prefix: String,
    total: usize,
    next: usize,
}

impl StepNames {
    /// Names for a stage with `total` steps; `stage` is empty where there is only one, unnamed.
    pub fn new(platform: Option<&Platform>, stage: &str, total: usize) -> Self {
        let platform = platform.map(|p| format!("{p} ")).unwrap_or_default();
        let stage = if stage.is_empty() { String::new() } else { format!("{stage} ") };
        Self { prefix: format!("{platform}{stage}"), total, next: 0 }
    }

    /// `[stage 2/4] text`: the next step.
    pub fn next(&mut self, text: &str) -> String {
        if self.total == 0 {
            return text.to_owned();
        }
        self.next += 1;
        let width = self.total.to_string().len();
        format!("[{}{:>width$}/{}] {text}", self.prefix, self.next, self.total)
    }
}
