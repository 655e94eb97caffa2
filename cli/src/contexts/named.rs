//! `--build-context NAME[::PLATFORM]=SOURCE`: what stands for stages, images and sources of that name.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forge_parser::GitReference;
use forge_registry::Reference;
use forge_runner::files::LocalContext;
use forge_solver::Named;
use forge_store::Platform;

use super::CONTEXT;
use super::place::Place;
use crate::failure::{Failure, Kind};

/// What `--build-context` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedSource {
    /// A directory.
    Directory(PathBuf),
    /// An image: `docker-image://` without its prefix, or `oci-layout://` with it.
    Image(String),
    /// A file at a URL.
    Http(String),
    /// A git repository.
    Git(Box<GitReference>),
}

/// What a context is called, and for builds of which platform, if not for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextName {
    /// In lower case.
    pub name: String,
    /// The platform.
    pub platform: Option<Platform>,
}

impl fmt::Display for ContextName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.platform {
            None => f.write_str(&self.name),
            Some(platform) => write!(f, "{}::{platform}", self.name),
        }
    }
}

/// Reads `NAME[::PLATFORM]=SOURCE`.
pub fn parse_named(text: &str) -> Result<(ContextName, NamedSource), Failure> {
    let usage = |message: String, hint: &str| Failure::new(Kind::Usage, message, Some(hint.to_owned()));
    let Some((name, source)) = text.split_once('=') else {
        return Err(usage(format!("--build-context {text} has no value"), "write NAME=DIR"));
    };
    let (name, platform) = match name.split_once("::") {
        Some((name, platform)) => {
            let platform = platform.parse().map_err(|error| Failure::new(Kind::Usage, error, None))?;
            (name.to_lowercase(), Some(platform))
        }
        None => (name.to_lowercase(), None),
    };
    if matches!(name.as_str(), CONTEXT | "scratch" | "") {
        return Err(usage(format!("`{name}` cannot be the name of a build context"), "choose another name"));
    }
    Ok((ContextName { name, platform }, parse_source(source)?))
}

fn parse_source(source: &str) -> Result<NamedSource, Failure> {
    if Path::new(source).is_dir() {
        return Ok(NamedSource::Directory(source.into()));
    }
    Ok(match (Place::remote(source)?, source.split_once("://")) {
        (Some(Place::Git(reference)), _) => NamedSource::Git(reference),
        (Some(_), _) => NamedSource::Http(source.to_owned()),
        (None, Some(("docker-image", reference))) => NamedSource::Image(reference.to_owned()),
        (None, Some(("oci-layout", _))) => NamedSource::Image(source.to_owned()),
        (None, Some(_)) => {
            let message = format!("forge takes no build context from `{}`", forge_parser::redacted(source));
            let hint = "give a directory, docker-image://REFERENCE, oci-layout://DIR[:TAG], a URL or a git repository";
            return Err(Failure::new(Kind::Usage, message, Some(hint.into())));
        }
        (None, None) => NamedSource::Directory(source.into()),
    })
}

/// The contexts of a build, as its plan asks for them.
#[derive(Clone, Default)]
pub struct NamedContexts {
    /// Directories by their names in the graph, the main one among them.
    pub directories: HashMap<String, Arc<LocalContext>>,
    /// What was given under which name.
    pub named: Vec<(ContextName, Named)>,
}

impl NamedContexts {
    /// What was given under `name`: as it stands, or as another spelling of the same image. What was given for the
    /// platform goes before what was given for all.
    pub fn find(&self, name: &str, platform: &Platform) -> Option<Named> {
        let lower = name.to_lowercase();
        let same = |given: &str| given == lower || is_same_image(given, name);
        let fitting = self.named.iter().filter(|(given, _)| {
            given.platform.as_ref().is_none_or(|wanted| wanted == platform) && same(&given.name)
        });
        let best = fitting.min_by_key(|(given, _)| given.platform.is_none());
        best.map(|(_, named)| named.clone())
    }
}

fn is_same_image(given: &str, name: &str) -> bool {
    match (given.parse::<Reference>(), name.parse::<Reference>()) {
        (Ok(given), Ok(name)) => given == name,
        _ => false,
    }
}

/// Takes `oci-layout://DIR[:TAG][@DIGEST]` apart.
pub fn split_layout(reference: &str) -> Option<(&Path, Option<&str>, Option<&str>)> {
    let rest = reference.strip_prefix("oci-layout://")?;
    let (rest, digest) = match rest.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (rest, None),
    };
    match rest.rsplit_once(':') {
        Some((dir, tag)) if !tag.contains('/') => Some((Path::new(dir), Some(tag), digest)),
        _ => Some((Path::new(rest), None, digest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, NamedSource), String> {
        parse_named(text).map(|(name, source)| (name.to_string(), source)).map_err(|e| e.to_string())
    }

    #[test]
    fn names_and_sources() {
        let dir = |text: &str| NamedSource::Directory(text.into());
        let image = |text: &str| NamedSource::Image(text.into());
        for (text, name, source) in [
            ("A=.", "a", dir(".")),
            ("a=/not/there", "a", dir("/not/there")),
            ("a::arm64=.", "a::linux/arm64", dir(".")),
            ("docker.io/library/x:1=docker-image://y@z", "docker.io/library/x:1", image("y@z")),
            ("a=oci-layout://d:t", "a", image("oci-layout://d:t")),
            ("a=https://h/x?y=z", "a", NamedSource::Http("https://h/x?y=z".into())),
        ] {
            assert_eq!(read(text), Ok((name.to_owned(), source)), "{text}");
        }
        for git in ["a=https://h/x.git#b:c", "a=git@h:x", "a=github.com/o/r"] {
            assert!(matches!(read(git), Ok((_, NamedSource::Git(_)))), "{git}");
        }
        for bad in
            ["a", "=.", "context=.", "SCRATCH=.", "a::=.", "a::x/y/z/u=.", "a=ftp://h/x", "a=git://h/-x"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_platforms_own_context_goes_first() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        let image = |text: &str| Named::Image(text.to_owned());
        let all = parse_named("alpine=docker-image://all").unwrap().0;
        let arm = parse_named("docker.io/library/alpine::linux/arm64=docker-image://arm").unwrap().0;
        let named = vec![(all, image("all")), (arm, image("arm"))];
        let contexts = NamedContexts { named, ..NamedContexts::default() };
        assert_eq!(contexts.find("alpine", &platform("linux/arm64")), Some(image("arm")));
        assert_eq!(contexts.find("alpine:latest", &platform("linux/amd64")), Some(image("all")));
        assert_eq!(contexts.find("alpine:3", &platform("linux/amd64")), None);
    }
}
