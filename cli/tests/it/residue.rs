//! Many builds, and nothing is left of them.

use std::path::Path;

use crate::support::tool;

/// A small run of what `scripts/residue.sh` does with 1,000 builds.
#[test]
fn twenty_builds_that_end_in_every_way_leave_nothing() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/residue.sh");
    let said = tool("bash", &[script.to_str().unwrap(), "20", env!("CARGO_BIN_EXE_forge")]);
    assert!(said.contains("20 builds in ") && said.contains(": nothing is left"), "{said}");
}
