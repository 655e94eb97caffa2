//! Where a word's variables are looked up.

use std::collections::{BTreeMap, HashMap};

/// Where values of variables come from.
pub trait Scope {
    /// The value of `name`; None where it is not set.
    fn get(&self, name: &str) -> Option<String>;
}

impl Scope for HashMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        HashMap::get(self, name).cloned()
    }
}

impl Scope for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }
}

/// The last pair of a name counts.
impl Scope for Vec<(String, String)> {
    fn get(&self, name: &str) -> Option<String> {
        Scope::get(self.as_slice(), name)
    }
}

impl Scope for &[(String, String)] {
    fn get(&self, name: &str) -> Option<String> {
        <[(String, String)] as Scope>::get(self, name)
    }
}

impl Scope for [(String, String)] {
    fn get(&self, name: &str) -> Option<String> {
        self.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }
}

impl<F: Fn(&str) -> Option<String>> Scope for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}
