//! What goes: a list of things in the order in which they are removed.
//!
//! Whatever a record needs was used at least as late as the record (the graph sees to that), so going through
//! things from the least recently used on, records before what they need, never takes anything from a record that
//! stays.

use std::cmp::Reverse;

use super::filter::Filter;
use super::policy::{Disk, Limits};
use crate::limits::{RECENT_SECONDS, STALE_SECONDS, VOLATILE_BYTES_MAX};
use crate::usage::graph::Graph;
use crate::usage::{Item, Kind};

/// What `prune` is to remove.
#[derive(Clone, Debug, Default)]
pub struct Prune {
    /// Also what was used recently.
    pub all: bool,
    /// Only what fits all of these.
    pub filters: Vec<Filter>,
    /// Only what was not used for so many seconds.
    pub unused_for: Option<i64>,
    /// Only until the store is within these.
    pub limits: Limits,
}

/// The things that may go, the first to go first.
fn candidates(graph: &Graph) -> Vec<usize> {
    let mut found: Vec<usize> =
        (0..graph.items.len()).filter(|at| graph.items[*at].is_reclaimable()).collect();
    found.sort_by_key(|at| {
        let item = &graph.items[*at];
        // What no record needs costs nobody a rebuild.
        let is_needed = item.records > 0 || !matches!(item.kind, Kind::Blob | Kind::Layer);
        let is_record = item.kind == Kind::Record;
        (is_needed, item.used_ms, Reverse(graph.depths[*at]), !is_record, *at)
    });
    found
}

/// What a user wants removed.
pub fn of_prune(graph: &Graph, prune: &Prune, disk: Disk) -> Vec<usize> {
    let says_age = prune.unused_for.is_some() || prune.filters.iter().any(Filter::is_about_age);
    let age = match (prune.unused_for, prune.all || says_age || !prune.limits.is_none()) {
        (Some(seconds), _) => seconds,
        (None, true) => 0,
        (None, false) => RECENT_SECONDS,
    };
    let wanted = |at: &usize| {
        let item = &graph.items[*at];
        let is_rubbish = matches!(item.kind, Kind::Ingest | Kind::Temporary) && !says_age;
        (is_rubbish || item.unused_for() >= age) && prune.filters.iter().all(|filter| filter.fits(item))
    };
    let wanted: Vec<usize> = candidates(graph).into_iter().filter(wanted).collect();
    if prune.limits.is_none() {
        return wanted;
    }
    let used = total(graph);
    let mut excess = used.saturating_sub(prune.limits.allowed(used, disk));
    wanted.into_iter().take_while(|at| take(&mut excess, &graph.items[*at])).collect()
}

/// What goes by itself after a build.
pub fn of_collection(graph: &Graph, limits: Limits, disk: Disk) -> Vec<usize> {
    let candidates = candidates(graph);
    let used = total(graph);
    let mut left = used;
    let mut gone = vec![false; graph.items.len()];
    let mut plan = Vec::new();
    let mut remove = |at: usize, left: &mut u64| {
        if !std::mem::replace(&mut gone[at], true) {
            *left = left.saturating_sub(graph.items[at].size);
            plan.push(at);
        }
    };
    let item = |at: &usize| &graph.items[*at];
    let is_volatile = |at: &usize| matches!(item(at).kind, Kind::CacheMount | Kind::Context);
    let mut volatile: u64 = graph
        .items
        .iter()
        .filter(|item| matches!(item.kind, Kind::CacheMount | Kind::Context))
        .map(|item| item.size)
        .sum();
    for at in candidates.iter().filter(|at| is_volatile(at) && item(at).unused_for() >= RECENT_SECONDS) {
        if volatile > VOLATILE_BYTES_MAX {
            volatile = volatile.saturating_sub(item(at).size);
            remove(*at, &mut left);
        }
    }
    let is_rubbish = |at: &usize| match item(at).kind {
        Kind::Temporary => true,
        Kind::Ingest => item(at).unused_for() >= RECENT_SECONDS,
        Kind::Blob | Kind::Layer => {
            item(at).records == 0 && !item(at).in_image && item(at).unused_for() >= RECENT_SECONDS
        }
        _ => false,
    };
    candidates.iter().filter(|at| is_rubbish(at)).for_each(|at| remove(*at, &mut left));
    for at in candidates.iter().filter(|at| item(at).unused_for() >= STALE_SECONDS) {
        if left > limits.reserved.unwrap_or(0) {
            remove(*at, &mut left);
        }
    }
    let allowed = limits.allowed(used, disk);
    for at in &candidates {
        if left <= allowed {
            break;
        }
        remove(*at, &mut left);
    }
    plan
}

/// What only the images of these manifests needed.
pub fn of_images(graph: &Graph, images: &[Vec<usize>]) -> Vec<usize> {
    let mut parts: Vec<usize> = images.iter().flatten().copied().collect();
    parts.sort_unstable();
    parts.dedup();
    parts.retain(|at| {
        let item = &graph.items[*at];
        item.is_reclaimable() && !item.in_image && item.records == 0
    });
    parts
}

/// Bytes of everything, as the index has them.
pub fn total(graph: &Graph) -> u64 {
    // Records lie within the database's files.
    graph.items.iter().filter(|item| item.kind != Kind::Record).map(|item| item.size).sum()
}

/// Whether a thing is to go for `excess` bytes that are too many; it counts if so.
fn take(excess: &mut u64, item: &Item) -> bool {
    let wanted = *excess > 0;
    *excess = excess.saturating_sub(if item.kind == Kind::Record { 0 } else { item.size });
    wanted
}
