//! How much is done at once.

use crate::op::Op;

/// Pulls that travel at once, whatever else is done: each of them fetches several blobs already.
const PULLS: usize = 4;

/// Steps that may wait for each core: most of them wait for the network or a disk, some for each other.
const STEPS_PER_CORE: usize = 4;

/// How many vertices are carried out at once, by what they need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jobs {
    /// Steps and forge's own work, together.
    local: usize,
    /// Steps: RUN. The kernel shares the cores among those that work; those that wait cost nothing.
    steps: usize,
    /// Forge's own work, COPY and its like, which never waits: more than there are cores would only compete.
    own: usize,
    /// Base images and repositories on their way.
    pulls: usize,
}

impl Jobs {
    /// What the user asked for: at most `n` of everything that works on this machine.
    pub fn at_most(n: usize) -> Self {
        let n = n.max(1);
        Self { local: n, steps: n, own: n, pulls: PULLS }
    }

    /// Steps that may run at once.
    pub(super) fn steps(self) -> usize {
        self.steps
    }

    /// For a machine of so many cores.
    pub fn for_cores(cores: usize) -> Self {
        let (own, steps) = (cores.max(1), cores.max(1) * STEPS_PER_CORE);
        Self { local: own + steps, steps, own, pulls: PULLS }
    }
}

/// What carrying an op out needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The network.
    Pull,
    /// A sandbox.
    Step,
    /// A core.
    Own,
}

impl Class {
    pub const ALL: [Self; 3] = [Self::Pull, Self::Step, Self::Own];

    pub fn of(op: &Op) -> Self {
        match op {
            Op::Image(_) | Op::Git(_) => Self::Pull,
            Op::Run(_) => Self::Step,
            // A file at a URL came while the build was planned: what is left is to put it into a tree.
            Op::Scratch | Op::Context(_) | Op::Http(_) | Op::Copy(_) | Op::Workdir(_) => Self::Own,
        }
    }
}

/// The places that are taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    pulls: usize,
    steps: usize,
    own: usize,
}

impl Taken {
    /// Whether one more of a class may begin.
    pub fn has_room(&self, class: Class, jobs: Jobs) -> bool {
        let local = self.steps + self.own < jobs.local;
        match class {
            Class::Pull => self.pulls < jobs.pulls,
            Class::Step => local && self.steps < jobs.steps,
            Class::Own => local && self.own < jobs.own,
        }
    }

    pub fn begin(&mut self, class: Class) {
        *self.of(class) += 1;
    }

    pub fn end(&mut self, class: Class) {
        *self.of(class) -= 1;
    }

    pub fn is_empty(&self) -> bool {
        self.pulls + self.steps + self.own == 0
    }

    fn of(&mut self, class: Class) -> &mut usize {
        match class {
            Class::Pull => &mut self.pulls,
            Class::Step => &mut self.steps,
            Class::Own => &mut self.own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of each class may begin, if they come in turn for ever.
    fn filled(jobs: Jobs) -> (usize, usize, usize) {
        let mut taken = Taken::default();
        while let Some(class) = Class::ALL.into_iter().find(|class| taken.has_room(*class, jobs)) {
            taken.begin(class);
        }
        (taken.pulls, taken.steps, taken.own)
    }

    #[test]
    fn waiting_steps_do_not_hold_up_work_and_a_given_bound_holds_for_all() {
        assert_eq!(filled(Jobs::for_cores(2)), (4, 8, 2));
        assert_eq!(filled(Jobs::at_most(3)), (4, 3, 0));
        assert_eq!(filled(Jobs::at_most(0)), (4, 1, 0));
    }
}
