//! What can go wrong with a path.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// A failed operation on a path inside an open directory. The path is as the caller gave it, or only the last name
/// where the operation was on a name in an open directory.
#[derive(Debug, thiserror::Error)]
pub enum RootDirError {
    /// The kernel refused.
    #[error("cannot {verb} {}: {errno}", path.display())]
    Os {
        /// What was tried, as a verb with its object's kind.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        errno: Errno,
    },
    /// Where one name was asked for: it is empty, `.`, `..`, or holds `/` or NUL.
    #[error("`{}` is not the name of a file in a directory", name.display())]
    Name {
        /// The refused name.
        name: PathBuf,
    },
    /// The path names its root or ends in `..`: nothing can be made or removed there.
    #[error("path `{}` does not end in a file name", path.display())]
    NoName {
        /// The refused path.
        path: PathBuf,
    },
    /// Only a regular file will do, and this is something else.
    #[error("{} is not a regular file", path.display())]
    NotRegular {
        /// What is not one.
        path: PathBuf,
    },
    /// Somebody moved a directory out from under a walk that was in it.
    #[error("directory {} was moved while it was being read", path.display())]
    Moved {
        /// The directory's name.
        path: PathBuf,
    },
}

impl RootDirError {
    /// The kernel's error number, where it was the kernel that refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Os { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// The same error about `path`: for callers that know of a whole path where an operation knew one name.
    pub fn with_path(self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_owned();
        match self {
            Self::Os { verb, errno, .. } => Self::Os { verb, path, errno },
            Self::NotRegular { .. } => Self::NotRegular { path },
            Self::Moved { .. } => Self::Moved { path },
            Self::Name { .. } | Self::NoName { .. } => self,
        }
    }

    /// Nothing is there (ENOENT).
    pub fn not_found(&self) -> bool {
        self.errno() == Some(Errno::NOENT)
    }

    /// Something is there already (EEXIST).
    pub fn exists(&self) -> bool {
        self.errno() == Some(Errno::EXIST)
    }
}

pub(super) type Result<T> = std::result::Result<T, RootDirError>;

/// For `map_err`: puts a verb and a path around the kernel's answer.
pub(super) fn os<'a>(
    verb: &'static str,
    path: impl AsRef<Path> + 'a,
) -> impl FnOnce(Errno) -> RootDirError + 'a {
    move |errno| RootDirError::Os { verb, path: path.as_ref().into(), errno }
}
