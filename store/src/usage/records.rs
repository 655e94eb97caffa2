//! What cache records need: things, and other records with all that those need.
//!
//! A record may stand on another one, as a step stands on what came before it. What is said of a record (used then, held
//! by a running forge) counts for everything it stands on, so that nothing goes before what needs it.

use std::collections::HashMap;

use super::Item;
use super::refs::Name;

/// Records by their names, and what each names.
#[derive(Default)]
pub(super) struct Links {
    /// Places of records in the list of items.
    by_name: HashMap<Name, usize>,
    nodes: Vec<Node>,
}

struct Node {
    /// The record's place in the list of items.
    at: usize,
    /// Things that it names itself, in their order, each in one or more forms.
    things: Vec<Vec<usize>>,
    /// What else it names: records, perhaps.
    others: Vec<Name>,
}

impl Links {
    /// Adds a record.
    pub fn add(&mut self, at: usize, name: Option<Name>, things: Vec<Vec<usize>>, others: Vec<Name>) {
        if let Some(name) = name {
            self.by_name.insert(name, self.nodes.len());
        }
        self.nodes.push(Node { at, things, others });
    }

    /// Writes into `items` and `depths` what follows from all of it. Linear.
    pub fn settle(&self, items: &mut [Item], depths: &mut [u32]) {
        let below: Vec<Vec<usize>> = self.nodes.iter().map(|node| self.stands_on(node)).collect();
        let order = from_the_top(&below);
        for node in &order {
            let (used_ms, in_use, records) = {
                let item = &items[self.nodes[*node].at];
                (item.used_ms, item.in_use, item.records.saturating_add(1))
            };
            let things = self.nodes[*node].things.iter().flatten().copied();
            for at in things.chain(below[*node].iter().map(|below| self.nodes[*below].at)) {
                let item = &mut items[at];
                item.records = item.records.saturating_add(records);
                item.used_ms = item.used_ms.max(used_ms);
                item.in_use |= in_use;
            }
        }
        for node in order.iter().rev() {
            let deepest = below[*node].iter().map(|below| depths[self.nodes[*below].at]).max();
            // What stands on others goes before them, though it names no layer of its own.
            let mut depth = deepest.map_or(0, |deepest| deepest.saturating_add(1));
            let own = &self.nodes[*node];
            for (place, forms) in own.things.iter().enumerate() {
                depth += u32::from(place > 0 || deepest.is_none());
                forms.iter().for_each(|at| depths[*at] = depths[*at].min(depth));
            }
            depths[own.at] = depth;
        }
    }

    fn stands_on(&self, node: &Node) -> Vec<usize> {
        let found = node.others.iter().filter_map(|name| self.by_name.get(name).copied());
        found.filter(|other| self.nodes[*other].at != node.at).collect()
    }
}

/// All records, each before those that it stands on. Records that lead in a circle come last, in any order.
fn from_the_top(below: &[Vec<usize>]) -> Vec<usize> {
    let mut above = vec![0_usize; below.len()];
    below.iter().flatten().for_each(|at| above[*at] += 1);
    let mut order: Vec<usize> = (0..below.len()).filter(|at| above[*at] == 0).collect();
    let mut done = 0;
    while let Some(at) = order.get(done).copied() {
        done += 1;
        for next in &below[at] {
            above[*next] -= 1;
            if above[*next] == 0 {
                order.push(*next);
            }
        }
    }
    order.extend((0..below.len()).filter(|at| above[*at] > 0));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Kind;

    fn item(kind: Kind, used_ms: i64) -> Item {
        Item {
            kind,
            id: String::new(),
            size: 1,
            used_ms,
            in_image: false,
            shared: false,
            in_use: false,
            records: 0,
            note: String::new(),
        }
    }

    /// Three layers 0, 1, 2; stacks of them 3, 4, 5; a record 6 of the second and 7 of the third.
    fn settled(edit: impl FnOnce(&mut Vec<Item>)) -> (Vec<Item>, Vec<u32>) {
        let mut items: Vec<Item> = (0..3).map(|_| item(Kind::Layer, 1)).collect();
        items.extend((3..8).map(|_| item(Kind::Record, 1)));
        edit(&mut items);
        let mut links = Links::default();
        let own = |at: usize| Some([at as u8; 32]);
        links.add(6, own(6), vec![], vec![[4; 32]]);
        for at in [3, 5, 4] {
            links.add(at, own(at), vec![vec![at - 3]], vec![[at as u8 - 1; 32]]);
        }
        links.add(7, own(7), vec![], vec![[5; 32]]);
        let mut depths = vec![u32::MAX; items.len()];
        links.settle(&mut items, &mut depths);
        (items, depths)
    }

    #[test]
    fn what_is_used_or_held_counts_for_all_below() {
        let (items, depths) = settled(|items| {
            items[6].used_ms = 5;
            items[7].in_use = true;
        });
        let used: Vec<i64> = items.iter().map(|item| item.used_ms).collect();
        assert_eq!(used, [5, 5, 1, 5, 5, 1, 5, 1]);
        assert!(items.iter().enumerate().all(|(at, item)| item.in_use == (at != 6)), "{items:?}");
        assert_eq!(depths, [1, 2, 3, 1, 2, 3, 3, 4]);
        let records: Vec<u32> = items.iter().map(|item| item.records).collect();
        assert_eq!(records, [5, 4, 2, 4, 3, 1, 0, 0]);
    }

    #[test]
    fn nothing_goes_before_what_stands_on_it() {
        let (items, depths) = settled(|_| ());
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by_key(|at| (std::cmp::Reverse(depths[*at]), items[*at].kind != Kind::Record, *at));
        let place = |at: usize| order.iter().position(|found| *found == at).unwrap();
        for (needs, needed) in [(7, 5), (5, 4), (4, 3), (6, 4), (5, 2), (4, 1), (3, 0)] {
            assert!(place(needs) < place(needed), "{needs} and {needed}: {order:?}");
        }
    }

    #[test]
    fn records_that_lead_in_a_circle_end() {
        let mut items = vec![item(Kind::Record, 1), item(Kind::Record, 9)];
        let mut links = Links::default();
        links.add(0, Some([0; 32]), vec![], vec![[1; 32]]);
        links.add(1, Some([1; 32]), vec![], vec![[0; 32], [1; 32]]);
        links.settle(&mut items, &mut [u32::MAX; 2]);
        assert_eq!(items[0].used_ms, 9);
    }
}
