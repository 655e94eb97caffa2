//! The same question about many things, asked of several of them at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::error::PlanProblem;
use super::stages::Planner;

/// The answers, in the order of the questions; at most `most` are asked at a time, one of them on this thread.
pub fn at_once<Q: Sync, A: Send>(questions: &[Q], most: usize, ask: impl Fn(&Q) -> A + Sync) -> Vec<A> {
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(Vec::with_capacity(questions.len()));
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(question) = questions.get(at) else { return };
            let answer = ask(question);
            answers.lock().unwrap_or_else(PoisonError::into_inner).push((at, answer));
        }
    };
    std::thread::scope(|scope| {
        (1..questions.len().min(most)).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

impl Planner<'_> {
    /// Hashes what is wanted of contexts, on all cores; gives what is not there.
    pub(super) fn look_for_sources(&mut self) -> Vec<PlanProblem> {
        let wanted = std::mem::take(&mut self.wanted);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let world = self.world;
        let found = at_once(&wanted, cores, |(context, selection, _)| world.select(context, selection));
        let problem = |(found, (_, _, span)): (Result<_, _>, &(_, _, _))| {
            found.err().map(|error| PlanProblem::world(error, Some(*span)))
        };
        found.into_iter().zip(&wanted).filter_map(problem).collect()
    }
}
