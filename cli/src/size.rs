//! Bytes and times, as people write and read them.

use crate::failure::{Failure, Kind};

/// Reads a size as Docker does: `512`, `10k`, `500MB`, `2GiB`; the units are powers of 1,024.
pub fn parse(flag: &str, text: &str) -> Result<u64, Failure> {
    let wrong = || {
        let hint = "write a number with k, m, g or t: 20g";
        Failure::new(Kind::Usage, format!("invalid size {text:?} for {flag}"), Some(hint.into()))
    };
    let lower = text.to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Ok((number * 1024_f64.powi(power)) as u64)
}

/// As Docker shows sizes: decimal, up to four digits.
pub fn human(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut at = 0;
    while value >= 999.5 && at + 1 < units.len() {
        value /= 1000.0;
        at += 1;
    }
    match value {
        _ if at == 0 => format!("{bytes}B"),
        ..9.995 => format!("{value:.2}{}", units[at]),
        ..99.95 => format!("{value:.1}{}", units[at]),
        _ => format!("{value:.0}{}", units[at]),
    }
}

/// How long ago something was.
pub fn ago(seconds: i64) -> String {
    let (number, unit) = match seconds {
        ..60 => return "just now".into(),
        60..3_600 => (seconds / 60, "minute"),
        3_600..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let end = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{end} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("10k", 10_240),
            ("1.5MB", 1_572_864),
            ("2GiB", 2 << 30),
            ("1t", 1 << 40),
        ] {
            assert_eq!(parse("--x", text).unwrap(), bytes, "{text}");
        }
        for text in ["", "k", "1x", "-1", "1 g", "one"] {
            assert!(parse("--x", text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_times_are_shown_for_people() {
        let sizes = [(0, "0B"), (999, "999B"), (1_000, "1.00kB"), (123_456, "123kB"), (12_345_678, "12.3MB")];
        sizes.iter().for_each(|(bytes, text)| assert_eq!(human(*bytes), *text));
        let times = [(3, "just now"), (60, "1 minute ago"), (7_300, "2 hours ago"), (200_000, "2 days ago")];
        times.iter().for_each(|(seconds, text)| assert_eq!(ago(*seconds), *text));
    }
}
