//! Sizes with units, as `docker run --memory` and `--mount=type=tmpfs,size=` take them.

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid size: '{0}'")]
pub struct SizeError(String);

/// Bytes of `64m`, `1.5 GiB`, `1024`, `10kb` …; the units are powers of 1024, in any case.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let fail = || SizeError(text.to_owned());
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(fail()),
    };
    let factor = 1024_u64.pow(power);
    if !number.contains('.') {
        return number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(fail);
    }
    if number.starts_with('.') || number.ends_with('.') {
        return Err(fail());
    }
    let bytes = number.parse::<f64>().map_err(|_| fail())? * factor as f64;
    if bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(fail()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, wanted) in [
            ("0", 0),
            ("1024", 1024),
            ("12b", 12),
            ("64m", 64 << 20),
            ("64M", 64 << 20),
            ("64MB", 64 << 20),
            ("64MiB", 64 << 20),
            ("1.5g", 3 << 29),
            ("10 kb", 10 << 10),
            ("2t", 2 << 40),
            ("1P", 1 << 50),
        ] {
            assert_eq!(parse_size(text), Ok(wanted), "{text}");
        }
        for text in ["", "m", "-1", "1.m", ".5m", "1..5m", "1x", "1  m", "20000000000g", "1mm", "1ib"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
