//! The variables that an instruction sees.

use std::collections::BTreeMap;

use forge_parser::ast::Arg;
use forge_parser::expand::{Expander, Scope};

use super::options::PlanOptions;

/// Variables in the order they were set; setting one again keeps its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env(pub Vec<(String, String)>);

impl Env {
    /// Reads `NAME=value` lines, as an image's configuration holds them.
    pub fn from_config(lines: &[String]) -> Self {
        let mut env = Self::default();
        for line in lines {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            env.set(name, value);
        }
        env
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    /// A variable's value.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// `NAME=value` lines.
    pub fn to_config(&self) -> Vec<String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

impl Scope for Env {
    fn get(&self, name: &str) -> Option<String> {
        self.value(name).map(str::to_owned)
    }
}

/// `ARG`s before the first FROM: what FROM lines see, and what `ARG NAME` in a stage takes over.
pub struct Globals {
    /// Values of declared and automatic arguments.
    pub values: BTreeMap<String, String>,
    /// Which of them the Dockerfile declared.
    pub declared: Vec<String>,
}

impl Globals {
    /// Evaluates the global ARGs in order. Errors come with the ARG's index.
    pub fn new(
        args: &[forge_parser::Spanned<Arg>],
        escape: char,
        options: &PlanOptions,
        target_stage: &str,
    ) -> Result<Self, (usize, String)> {
        let mut globals = Self { values: options.automatic_args(target_stage), declared: Vec::new() };
        for (index, arg) in args.iter().enumerate() {
            let value = match (options.build_args.get(&arg.name), &arg.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => {
                    let expanded = Expander { escape }.word(default, &globals);
                    Some(expanded.map_err(|e| (index, e.to_string()))?.text)
                }
                (None, None) => globals.values.get(&arg.name).cloned(),
            };
            if let Some(value) = value {
                globals.values.insert(arg.name.clone(), value);
            }
            globals.declared.push(arg.name.clone());
        }
        Ok(globals)
    }
}

impl Scope for Globals {
    fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }
}
