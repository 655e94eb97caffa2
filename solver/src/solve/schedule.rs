//! Carrying out what is demanded: inputs first, the longest remaining chain first, so much at once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::mpsc;

use super::SolveError;
use super::jobs::{Class, Jobs, Taken};
use super::run::Run;
use super::task::{Outcome, Task};
use crate::graph::VertexId;
use crate::op::Op;
use crate::world::{Outlook, WorldError};

impl<'a> Run<'a> {
    /// Carries out what is demanded. The first failure stops new work; what runs is asked to end.
    pub fn schedule(&mut self) -> Result<(), SolveError> {
        let mut waiting = self.waiting();
        if !waiting.is_empty() {
            self.solver.executor.expect(&self.outlook());
            self.tell_hits();
        }
        let mut ready = Ready::new(self.urgency());
        for (id, _) in waiting.iter().filter(|(_, missing)| **missing == 0) {
            ready.push(*id, self.class(*id));
        }
        let mut first_error: Option<SolveError> = None;
        std::thread::scope(|scope| {
            let (sender, done) = mpsc::channel::<(VertexId, Result<Outcome, WorldError>)>();
            let mut taken = Taken::default();
            loop {
                while first_error.is_none() {
                    let Some((id, class)) = ready.pop(&taken, self.solver.jobs) else { break };
                    taken.begin(class);
                    let task = self.task(id);
                    let sender = sender.clone();
                    scope.spawn(move || sender.send((id, task.carry_out())));
                }
                if taken.is_empty() {
                    break;
                }
                let Ok((id, outcome)) = done.recv() else { break };
                taken.end(self.class(id));
                match outcome {
                    Ok(outcome) => {
                        self.finish(id, outcome);
                        waiting.remove(&id);
                        for consumer in self.graph.consumers(id) {
                            let Some(missing) = waiting.get_mut(&consumer) else { continue };
                            *missing -= 1;
                            if *missing == 0 {
                                ready.push(consumer, self.class(consumer));
                            }
                        }
                    }
                    Err(error) if first_error.is_none() => {
                        first_error = Some(SolveError { vertex: Some(id), error });
                        self.solver.executor.cancel();
                    }
                    Err(_) => {}
                }
            }
        });
        first_error.map_or(Ok(()), Err)
    }

    fn class(&self, id: VertexId) -> Class {
        Class::of(&self.graph.vertex(id).op)
    }

    /// The steps among what is demanded.
    fn outlook(&self) -> Outlook<'a> {
        let mut outlook = Outlook::default();
        let mut waits = vec![false; self.graph.len()];
        for id in self.graph.ids().filter(|id| self.demanded[id.index()]) {
            let vertex = self.graph.vertex(id);
            let is_step =
                |id: VertexId| matches!(self.graph.vertex(id).op, Op::Run(_)) && self.demanded[id.index()];
            waits[id.index()] = vertex.inputs.iter().any(|input| waits[input.index()] || is_step(*input));
            if let Op::Run(op) = &vertex.op {
                outlook.steps.push(op);
                if !waits[id.index()] && outlook.first.len() < self.solver.jobs.steps() {
                    outlook.first.push(op);
                }
            }
        }
        outlook
    }

    /// For every vertex to carry out: how many of its inputs are still to come.
    fn waiting(&self) -> HashMap<VertexId, usize> {
        let pending = |id: &VertexId| self.demanded[id.index()] || self.fetched[id.index()];
        let count = |id: VertexId| {
            // One edge per use: an input that is used twice is counted, and reported, twice.
            self.graph.vertex(id).inputs.iter().filter(|input| pending(input)).count()
        };
        self.graph.ids().filter(pending).map(|id| (id, count(id))).collect()
    }

    /// How many vertices hang on each one, along the longest chain.
    fn urgency(&self) -> Vec<usize> {
        let mut urgency = vec![0; self.graph.len()];
        for id in self.graph.ids().rev() {
            let own = usize::from(self.demanded[id.index()]);
            let behind =
                self.graph.consumers(id).map(|consumer| urgency[consumer.index()]).max().unwrap_or(0);
            urgency[id.index()] = own + behind;
        }
        urgency
    }

    fn task(&self, id: VertexId) -> Task<'a> {
        let inputs = self.graph.vertex(id).inputs.iter();
        let inputs =
            inputs.map(|input| self.results[input.index()].as_ref().map(|r| r.snapshot.clone())).collect();
        Task {
            solver: self.solver,
            graph: self.graph,
            id,
            key: self.key(id),
            fresh: self.fresh[id.index()],
            is_read: self.read[id.index()],
            reason: self.reasons[id.index()].clone(),
            inputs,
        }
    }

    /// Tells of what is at hand already.
    fn tell_hits(&self) {
        for id in self.graph.ids().filter(|id| self.cached[id.index()]) {
            if let Some(record) = &self.results[id.index()] {
                self.solver.results.came(id, record, true);
            }
        }
    }

    fn finish(&mut self, id: VertexId, outcome: Outcome) {
        let (Outcome::Found(record) | Outcome::Made(record)) = &outcome;
        self.solver.results.came(id, record, false);
        match outcome {
            Outcome::Found(record) => {
                self.hit(id, record);
                self.say_cached(id);
            }
            Outcome::Made(record) => {
                self.results[id.index()] = Some(record);
                self.ran[id.index()] = true;
            }
        }
    }
}

/// Vertices whose inputs are all there, the most urgent of each class on top.
struct Ready {
    urgency: Vec<usize>,
    heaps: [BinaryHeap<(usize, Reverse<VertexId>)>; Class::ALL.len()],
}

impl Ready {
    fn new(urgency: Vec<usize>) -> Self {
        Self { urgency, heaps: Default::default() }
    }

    fn push(&mut self, id: VertexId, class: Class) {
        self.heaps[class as usize].push((self.urgency[id.index()], Reverse(id)));
    }

    /// The most urgent vertex of those classes that have room.
    fn pop(&mut self, taken: &Taken, jobs: Jobs) -> Option<(VertexId, Class)> {
        let open = Class::ALL.into_iter().filter(|class| taken.has_room(*class, jobs));
        let class = open.max_by_key(|class| self.heaps[*class as usize].peek().copied())?;
        let (_, Reverse(id)) = self.heaps[class as usize].pop()?;
        Some((id, class))
    }
}
