//! How a namespace gets its network: by the first backend that works here.

use super::namespace::{Bare, Namespace};
use super::userspace::{Helper, Program};
use super::veth::Nat;
use super::{Backend, Chosen, NetworkError, Options};

/// The backend in use, with what it needs.
#[derive(Debug)]
pub(super) struct Way {
    chosen: Chosen,
    means: Means,
}

#[derive(Debug)]
enum Means {
    Veth(Nat),
    Helper(Program),
    Host,
}

impl Way {
    /// Tries one backend after the other, and makes the first namespace by the one that works. Without a wanted
    /// backend the host's network is what remains.
    pub(super) fn find(
        options: &Options,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<(Way, Option<Namespace>), NetworkError> {
        let wanted = options.backend;
        let mut refused = Vec::new();
        for backend in [Backend::Veth, Backend::Pasta, Backend::Slirp4netns] {
            if wanted.is_some_and(|wanted| wanted != backend) {
                continue;
            }
            let tried = Means::of(backend, options)
                .and_then(|means| means.make(options, is_wanted).map(|first| (means, first)));
            match tried {
                Ok((means, first)) => return Ok((Way { chosen: Chosen { backend, refused }, means }, first)),
                Err(error) if wanted.is_some() => return Err(error),
                Err(error) => refused.push((backend, error.to_string())),
            }
        }
        Ok((Way { chosen: Chosen { backend: Backend::Host, refused }, means: Means::Host }, None))
    }

    pub(super) fn chosen(&self) -> &Chosen {
        &self.chosen
    }

    /// A namespace with a network; `None` is the host's.
    pub(super) fn make(
        &self,
        options: &Options,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Namespace>, NetworkError> {
        self.means.make(options, is_wanted)
    }
}

impl Means {
    fn of(backend: Backend, options: &Options) -> Result<Means, NetworkError> {
        Ok(match backend {
            Backend::Veth => Means::Veth(Nat::install(&options.runtime_dir)?),
            Backend::Pasta => Means::Helper(Program::Pasta),
            Backend::Slirp4netns => Means::Helper(Program::Slirp4netns),
            Backend::Host => Means::Host,
        })
    }

    fn make(
        &self,
        options: &Options,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Namespace>, NetworkError> {
        match self {
            Means::Host => Ok(None),
            Means::Veth(nat) => nat.connect(Bare::new()?, options.reach_host).map(Some),
            Means::Helper(program) => {
                let bare = Bare::new()?;
                let helper = Helper::start(*program, &bare, &options.search_path, is_wanted)?;
                Ok(Some(Namespace::with_helper(bare, helper)))
            }
        }
    }
}
