//! `created_by` lines, byte for byte as BuildKit's frontend writes them (scripts and scanners read them).

use std::fmt::Write;

use forge_store::image::HealthConfig;

/// What BuildKit writes into `history[].comment`.
pub const COMMENT: &str = "buildkit.dockerfile.v0";

/// A list as Go's `%q` prints a string slice: `["a" "b"]`.
pub fn go_quoted_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| go_quote(item)).collect();
    format!("[{}]", quoted.join(" "))
}

/// A list as Go's `%v` prints a string slice: `[a b]`.
pub fn go_list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}

/// A string as Go's `%q` prints it.
pub fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `RUN |N A=b … args # buildkit`.
pub fn run(build_args: &[(String, String)], args: &[String]) -> String {
    let mut words: Vec<String> = Vec::new();
    if !build_args.is_empty() {
        words.push(format!("|{}", build_args.len()));
        words.extend(build_args.iter().map(|(name, value)| format!("{name}={value}")));
    }
    words.extend(args.iter().cloned());
    format!("RUN {} # buildkit", words.join(" "))
}

/// `HEALTHCHECK &{…}`: Go prints the struct behind the pointer with `%q`.
pub fn healthcheck(health: &HealthConfig) -> String {
    let durations = [health.interval, health.timeout, health.start_period, health.start_interval];
    let durations: Vec<String> = durations.iter().map(|ns| go_quote(&go_duration(*ns))).collect();
    let test = go_quoted_list(&health.test);
    format!("HEALTHCHECK &{{{test} {} {}}}", durations.join(" "), go_quoted_rune(health.retries))
}

/// An integer as Go's `%q` prints it: as the rune of that number.
fn go_quoted_rune(number: i64) -> String {
    match u32::try_from(number).ok().and_then(char::from_u32) {
        Some('\'') => "'\\''".into(),
        Some('"') => "'\"'".into(),
        Some(c) => {
            let quoted = go_quote(&c.to_string());
            let inner = &quoted[1..quoted.len() - 1];
            // `%q` writes the smallest control characters as \x00 for strings and runes alike.
            format!("'{inner}'")
        }
        None => "'\u{fffd}'".into(),
    }
}

/// A duration as Go prints it: `1m30s`, `1.5s`, `0s`.
pub fn go_duration(ns: i64) -> String {
    if ns == 0 {
        return "0s".into();
    }
    let sign = if ns < 0 { "-" } else { "" };
    let total = ns.unsigned_abs();
    for (unit, name) in [(1_000, "ns"), (1_000_000, "µs"), (1_000_000_000, "ms")] {
        if total < unit {
            return format!("{sign}{}{name}", decimal(total, unit / 1_000));
        }
    }
    let (minutes, rest) = (total / 60_000_000_000, total % 60_000_000_000);
    let seconds = decimal(rest, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, m) => format!("{sign}{m}m{seconds}s"),
        (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
    }
}

/// `value / unit` without trailing zeros.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, fraction) = (value / unit, value % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let text = format!("{whole}.{fraction:0width$}");
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_go_prints_them() {
        for (ns, want) in [
            (0, "0s"),
            (1_000_000_000, "1s"),
            (90_000_000_000, "1m30s"),
            (300_000_000_000, "5m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_500_000_000, "1.5s"),
            (2_500_000, "2.5ms"),
            (1_500, "1.5µs"),
            (17, "17ns"),
        ] {
            assert_eq!(go_duration(ns), want);
        }
    }

    #[test]
    fn a_healthcheck_prints_as_buildkit_prints_it() {
        let health = HealthConfig {
            test: vec!["CMD-SHELL".into(), "curl -f \"http://x\" || exit 1".into()],
            interval: 300_000_000_000,
            timeout: 3_000_000_000,
            retries: 3,
            ..HealthConfig::default()
        };
        let want =
            r#"HEALTHCHECK &{["CMD-SHELL" "curl -f \"http://x\" || exit 1"] "5m0s" "3s" "0s" "0s" '\x03'}"#;
        assert_eq!(healthcheck(&health), want);
    }
}
