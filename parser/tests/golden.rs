//! Every folder of `testdata/dockerfiles` holds a Dockerfile and what becomes of it: `ast.txt`, or `error.txt`.
//!
//! `UPDATE_GOLDEN=1 cargo test` writes the answers anew; read them before you keep them.

use forge_parser::{LineIndex, Problem, Warning, dump, parse, violation};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_dockerfile_gives_what_was_written_down() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut failures = Vec::new();
    let cases = cases();
    for case in &cases {
        let text = fs::read(case.join("Dockerfile")).unwrap();
        let (name, answer) = answer(&text);
        if update {
            let _ = fs::remove_file(case.join("ast.txt"));
            let _ = fs::remove_file(case.join("error.txt"));
            fs::write(case.join(name), &answer).unwrap();
        } else if fs::read_to_string(case.join(name)).ok().as_deref() != Some(&answer) {
            let case = case.file_name().unwrap().to_string_lossy().into_owned();
            failures.push(format!("{case}: {name} differs; now it is\n{answer}"));
        }
    }
    assert!(failures.is_empty(), "{} of {} cases\n{}", failures.len(), cases.len(), failures.join("\n"));
    assert!(cases.len() >= 150, "only {} cases", cases.len());
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/dockerfiles");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|case| case.join("Dockerfile").is_file());
    cases.sort();
    cases
}

fn answer(text: &[u8]) -> (&'static str, String) {
    let lines = LineIndex::new(text);
    match parse(text) {
        Ok(parsed) => {
            let warnings = parsed.warnings.iter().map(|warning| warned(warning, &lines));
            let mut answer = dump(&parsed.dockerfile);
            answer.extend(warnings);
            if let Some(violation) = violation(&parsed.warnings, &parsed.checks) {
                answer.push_str(&format!("! {violation}\n"));
            }
            ("ast.txt", answer)
        }
        Err(problems) => ("error.txt", problems.iter().map(|problem| refused(problem, &lines)).collect()),
    }
}

fn warned(warning: &Warning, lines: &LineIndex) -> String {
    let (line, column) = lines.line_col(warning.span.start);
    format!("? {line}:{column} {warning}\n")
}

fn refused(problem: &Problem, lines: &LineIndex) -> String {
    let (line, column) = lines.line_col(problem.span.start);
    let end = lines.line_col(problem.span.end);
    let hint = problem.hint.as_deref().map(|hint| format!("  {hint}\n")).unwrap_or_default();
    format!("{line}:{column}-{}:{} {}\n{hint}", end.0, end.1, problem.message)
}
