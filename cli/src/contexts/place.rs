//! What the CONTEXT of a build names, by its looks: nothing is asked yet.

use std::path::{Path, PathBuf};

use forge_parser::{GitReference, is_url};

use crate::failure::{Failure, Kind};

/// Where a build's files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A tar or a Dockerfile on standard input.
    Stdin,
    /// A tar or a Dockerfile at a URL.
    Url(String),
    /// A git repository.
    Git(Box<GitReference>),
}

impl Place {
    /// Reads a CONTEXT. A directory that is there goes before what its name looks like, as with Docker.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        if text == "-" {
            return Ok(Self::Stdin);
        }
        if Path::new(text).is_dir() {
            return Ok(Self::Directory(text.into()));
        }
        if let Some(remote) = Self::remote(text)? {
            return Ok(remote);
        }
        let message = format!("unable to prepare context: path {text:?} not found");
        let hint = "give a directory, the URL of a tar or of a git repository, or `-` for standard input";
        Err(Failure::new(Kind::Input, message, Some(hint.into())))
    }

    /// A URL or a repository; none if it looks like neither.
    pub fn remote(text: &str) -> Result<Option<Self>, Failure> {
        if GitReference::is_context(text) {
            let reference = GitReference::parse_context(text);
            let reference = reference.map_err(|error| Failure::new(Kind::Usage, error, None))?;
            return Ok(Some(Self::Git(Box::new(reference))));
        }
        Ok(is_url(text).then(|| Self::Url(text.to_owned())))
    }

    /// True for what is not on this machine.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Url(_) | Self::Git(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_told_by_their_looks() {
        let place = |text: &str| Place::parse(text).ok();
        assert_eq!(place("-"), Some(Place::Stdin));
        assert_eq!(place("/"), Some(Place::Directory("/".into())));
        assert_eq!(place("http://h/x.tar"), Some(Place::Url("http://h/x.tar".into())));
        for git in ["https://h/x.git#r:d", "git@h:x", "ssh://h/x", "git://h/x", "github.com/o/r"] {
            assert!(matches!(place(git), Some(Place::Git(_))), "{git}");
        }
        for bad in ["", "/not/there", "ftp://h/x", "file:///etc", "ext::sh -c x", "-x", "git://h/-x"] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
