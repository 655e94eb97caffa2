//! Times in images: RFC 3339, as Go writes them.

use jiff::Timestamp;

/// Nanoseconds since 1970 as RFC 3339 in UTC, without trailing zeros.
pub fn rfc3339(ns: i128) -> String {
    // Out of range only for clocks beyond the year 9999.
    Timestamp::from_nanosecond(ns).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// Reads RFC 3339; `None` for what is not.
pub fn parse_ns(text: &str) -> Option<i128> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_nanosecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_700_000_000_120_000_000), "2023-11-14T22:13:20.12Z");
        assert_eq!(parse_ns("2023-11-14T22:13:20.12Z"), Some(1_700_000_000_120_000_000));
    }
}
