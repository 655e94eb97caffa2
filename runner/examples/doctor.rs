//! Prints what this machine allows.

#![allow(clippy::print_stdout, reason = "a program, not a library")]

fn main() {
    for finding in forge_runner::doctor::probe("/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin") {
        let mark = if finding.available { "yes" } else { "no " };
        println!("{mark} {}: {}", finding.feature, finding.detail);
        if !finding.remedy.is_empty() {
            println!("    {}", finding.remedy);
        }
    }
}
