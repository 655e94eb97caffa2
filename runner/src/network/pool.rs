//! Namespaces that wait for a step: given back by one that ended, or made ahead.
//!
//! They are made side by side and outside of any lock; only the first has to find out by which way. A lease that comes
//! while some are being made ahead waits for one of them rather than making another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::namespace::Namespace;
use super::way::Way;
use super::{Chosen, NetworkError, Options};

#[derive(Debug)]
pub(super) struct Pool {
    options: Options,
    /// How namespaces get a network. Locked while it is found out, so that this is done once.
    way: Mutex<Option<Arc<Way>>>,
    state: Mutex<State>,
    arrived: Condvar,
    /// No namespace is wanted any more.
    ended: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Namespace>,
    /// How many are being made ahead.
    coming: usize,
    /// How many leases wait for one of those.
    awaited: usize,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    pub(super) fn new(options: Options) -> Pool {
        Pool {
            options,
            way: Mutex::new(None),
            state: Mutex::new(State::default()),
            arrived: Condvar::new(),
            ended: AtomicBool::new(false),
        }
    }

    /// One for a step; `None` is the host's network.
    pub(super) fn take(&self) -> Result<Option<Namespace>, NetworkError> {
        let mut state = lock(&self.state);
        loop {
            if let Some(idle) = state.idle.pop() {
                return Ok(Some(idle));
            }
            if state.coming <= state.awaited {
                break;
            }
            state.awaited += 1;
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.awaited -= 1;
        }
        drop(state);
        self.make()
    }

    pub(super) fn give_back(&self, namespace: Namespace) {
        lock(&self.state).idle.push(namespace);
        self.arrived.notify_all();
    }

    /// Has `count` more made.
    pub(super) fn prepare(this: &Arc<Pool>, count: usize) {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count);
        let mut state = lock(&this.state);
        for thread in 0..threads {
            let share = (count - thread).div_ceil(threads);
            let pool = this.clone();
            let work = move || (0..share).for_each(|_| pool.make_one_ahead());
            // Without a thread to be had, each step makes its own.
            if let Ok(worker) = std::thread::Builder::new().name("network".into()).spawn(work) {
                state.workers.push(worker);
                state.coming += share;
            }
        }
    }

    fn make_one_ahead(&self) {
        let made = if self.is_wanted() { self.make() } else { Ok(None) };
        let mut state = lock(&self.state);
        state.coming -= 1;
        state.idle.extend(made.ok().flatten());
        drop(state);
        self.arrived.notify_all();
    }

    fn make(&self) -> Result<Option<Namespace>, NetworkError> {
        let is_wanted = || self.is_wanted();
        let mut found = lock(&self.way);
        if let Some(way) = found.clone() {
            drop(found);
            return way.make(&self.options, &is_wanted);
        }
        let (way, first) = Way::find(&self.options, &is_wanted)?;
        *found = Some(Arc::new(way));
        Ok(first)
    }

    pub(super) fn chosen(&self) -> Option<Chosen> {
        lock(&self.way).as_ref().map(|way| way.chosen().clone())
    }

    fn is_wanted(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    /// Ends all that is here. No lease is left.
    pub(super) fn empty(&self) {
        self.ended.store(true, Ordering::Relaxed);
        let workers = std::mem::take(&mut lock(&self.state).workers);
        for worker in workers {
            let _ = worker.join();
        }
        let mut idle = std::mem::take(&mut lock(&self.state).idle);
        idle.iter_mut().for_each(Namespace::let_go);
        drop(idle);
        lock(&self.way).take();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
