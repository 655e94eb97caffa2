//! `forge doctor`: which isolation steps get on this machine, what decides about it, and the command that would allow
//! more.

use forge_runner::doctor::{Fact, Finding, facts, probe};
use forge_runner::isolation::{Refusal, Rung, inspect};
use serde_json::{Value, json};

use super::print;
use crate::args::Doctor;
use crate::environment;
use crate::failure::Failure;

/// Prints the rungs, then the features, then what the machine says of itself.
pub fn doctor(args: &Doctor) -> Result<(), Failure> {
    let path = environment::search_path().to_string_lossy().into_owned();
    let rungs: Vec<(Rung, Option<Refusal>)> =
        Rung::ALL.into_iter().map(|rung| (rung, inspect(rung, &path))).collect();
    let chosen = rungs.iter().find(|(_, refusal)| refusal.is_none()).map_or(Rung::None, |(rung, _)| *rung);
    let report = Report { rungs, chosen, findings: probe(&path), facts: facts() };
    match args.json {
        true => print(&format!("{:#}", report.json())),
        false => report.lines().iter().try_for_each(|line| print(line)),
    }
}

struct Report {
    rungs: Vec<(Rung, Option<Refusal>)>,
    chosen: Rung,
    findings: Vec<Finding>,
    facts: Vec<Fact>,
}

impl Report {
    fn lines(&self) -> Vec<String> {
        let mut lines =
            vec![format!("isolation: {} (FORGE_ISOLATION or --isolation takes another)", self.chosen)];
        for (rung, refusal) in &self.rungs {
            let lacks = if rung.lacks().is_empty() { "everything a step can have" } else { rung.lacks() };
            let (works, detail) = match refusal {
                None => (true, lacks),
                Some(refusal) => (false, refusal.reason.as_str()),
            };
            lines.push(line(works, rung.name(), detail));
            lines.extend(refusal.as_ref().and_then(|refusal| help(&refusal.remedy)));
        }
        lines.push("features:".into());
        for Finding { feature, available, detail, remedy } in &self.findings {
            lines.push(line(*available, &feature.to_string(), detail));
            lines.extend(if *available { None } else { help(remedy) });
        }
        lines.push("machine:".into());
        lines.extend(self.facts.iter().map(|fact| format!("        {:44} {}", fact.name, fact.value)));
        lines
    }

    fn json(&self) -> Value {
        let rungs = self.rungs.iter().map(|(rung, refusal)| {
            json!({
                "name": rung.name(),
                "works": refusal.is_none(),
                "lacks": rung.lacks(),
                "reason": refusal.as_ref().map(|refusal| &refusal.reason),
                "remedy": refusal.as_ref().map(|refusal| &refusal.remedy),
            })
        });
        let features = self.findings.iter().map(|Finding { feature, available, detail, remedy }| {
            json!({
                "name": feature.to_string(), "available": available, "detail": detail, "remedy": remedy,
            })
        });
        let machine: serde_json::Map<String, Value> =
            self.facts.iter().map(|fact| (fact.name.to_owned(), json!(fact.value))).collect();
        json!({
            "isolation": self.chosen.name(),
            "rungs": rungs.collect::<Vec<_>>(),
            "features": features.collect::<Vec<_>>(),
            "machine": machine,
        })
    }
}

fn line(works: bool, name: &str, detail: &str) -> String {
    format!("{} {name:24} {detail}", if works { "ok     " } else { "missing" })
}

fn help(remedy: &str) -> Option<String> {
    (!remedy.is_empty()).then(|| format!("        = help: {remedy}"))
}
