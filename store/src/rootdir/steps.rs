//! A path as steps, for those who resolve one in userland.

use std::ffi::OsString;
use std::path::{Component, Path};

/// As many symlinks as the kernel follows in one path (path_resolution(7)).
pub(crate) const SYMLINKS_MAX: u32 = 40;

/// One step of a path. `..` of the root is the root.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Root,
    Up,
    Down(OsString),
}

/// The steps of a path, whose `.` and repeated slashes mean nothing.
pub(crate) fn steps(path: &Path) -> impl DoubleEndedIterator<Item = Step> + '_ {
    path.components().filter_map(|part| match part {
        Component::RootDir => Some(Step::Root),
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Down(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    })
}
