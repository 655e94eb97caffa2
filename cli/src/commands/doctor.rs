//! `forge doctor`: what this machine allows builds to do, and the command that would allow more.

use super::print;
use crate::environment;
use crate::failure::Failure;

/// Prints one line per feature.
pub fn doctor() -> Result<(), Failure> {
    let path = environment::search_path().to_string_lossy().into_owned();
    for finding in forge_runner::doctor::probe(&path) {
        let mark = if finding.available { "ok     " } else { "missing" };
        print(&format!("{mark} {:24} {}", finding.feature.to_string(), finding.detail))?;
        if !finding.available && !finding.remedy.is_empty() {
            print(&format!("        = help: {}", finding.remedy))?;
        }
    }
    Ok(())
}
