//! `forge verify`: builds an image again from its recipe, in an empty store, and compares.

use clap::{Args, Parser};
use forge_exporter::{Side, differences};
use forge_store::Store;

use super::build::rebuild;
use super::{Session, print};
use crate::args::{Build, Cli, Command, ProgressMode};
use crate::failure::{Failure, Kind};
use crate::isolation_flags::IsolationFlags;
use crate::recipes::{Recipe, Recipes, lend};
use crate::registries::parse_reference;

/// `forge verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The image, as it was built on this machine
    #[arg(value_name = "IMAGE")]
    pub image: String,

    /// How progress is shown
    #[arg(long, value_name = "MODE", default_value = "auto", env = "BUILDKIT_PROGRESS")]
    pub progress: ProgressMode,

    #[command(flatten)]
    pub isolation: IsolationFlags,
}

/// Builds an image again and compares.
pub fn verify(session: &Session, args: &Verify) -> Result<(), Failure> {
    let name = parse_reference(&args.image)?.canonical();
    let store = session.store_for_steps()?;
    let kept = store.tags().get(&name)?.ok_or_else(|| {
        let hint = Some("`forge images` lists what there is".to_owned());
        Failure::new(Kind::NotFound, format!("there is no image {name} in the store"), hint)
    })?;
    let recipe = Recipes::of(&store).find(&kept.digest).ok_or_else(|| {
        let message = format!("it is not recorded how {name} was built");
        let hint = "images are that `forge build -t` builds on this machine";
        Failure::new(Kind::NotFound, message, Some(hint.into()))
    })?;
    let build = words_of(&recipe, args)?;
    if build.context == "-" || build.file.as_deref() == Some("-") {
        let message =
            format!("{name} was built from standard input, of which nothing is kept to build it from");
        let hint = "what is to be verified is built from files: `forge build -t NAME -f FILE DIRECTORY`";
        return Err(Failure::new(Kind::NotFound, message, Some(hint.into())));
    }
    std::env::set_current_dir(&recipe.directory).map_err(|e| {
        let message = format!("cannot go to where it was built, {}: {e}", recipe.directory.display());
        Failure::new(Kind::Input, message, None)
    })?;
    // An empty store: nothing is cached, and no file keeps the time of another build.
    let place = store.scratch()?;
    let scratch = Store::open(&place.tree(), store.layers().xattrs())?;
    lend(&recipe.bases, &store, &scratch)?;
    let again = rebuild(session, &build, &scratch, recipe.target)?;
    let again = again.ok_or_else(|| Failure::new(Kind::System, "the build gave no image", None))?;
    let side = |store, root| Side { blobs: Store::blobs(store), root };
    let found = differences(side(&store, &kept), side(&scratch, &again.root))?;
    if found.is_empty() {
        return print(&kept.digest.to_string());
    }
    let message = format!("{name} comes out differently:\n{}", found.join("\n"));
    let hint = match build.image.reproducible {
        true => "what differs depends on more than the Dockerfile, the context and the base images",
        false => "build it with --reproducible to leave times and other traces of the moment out",
    };
    Err(Failure::new(Kind::Different, message, Some(hint.into())))
}

/// The build's own words, without what it wrote beside the image.
fn words_of(recipe: &Recipe, args: &Verify) -> Result<Box<Build>, Failure> {
    let words = std::iter::once("forge".to_owned()).chain(recipe.words.iter().cloned());
    let parsed = Cli::try_parse_from(words).map(|cli| cli.command);
    let Ok(Command::Build(mut build)) = parsed else {
        let message = "the record of the build is from another version of forge, and cannot be read";
        return Err(Failure::new(Kind::NotFound, message, Some("build the image again".into())));
    };
    build.progress = args.progress;
    build.quiet = false;
    build.iidfile = None;
    build.metadata_file = None;
    // The bases that it had are lent; asking for newer ones would verify something else.
    build.pull = false;
    // It was chosen anew, before there was a recipe.
    build.isolation.hardened |= args.isolation.hardened;
    build.docker.build_arg_files.clear();
    build.build_args = recipe.build_args.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(build)
}
