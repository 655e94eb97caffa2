//! STOPSIGNAL: the signals of Linux by name or number.

use crate::suggest;

/// Not a signal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {0}{1}")]
pub struct SignalError(String, /* whom it resembles */ String);

/// Names without `SIG`, in the order of their numbers from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Further names of the same.
const ALIASES: [(&str, u32); 3] = [("IOT", 6), ("CLD", 17), ("POLL", 29)];

/// The real-time signals that a program may use.
const REAL_TIME: std::ops::RangeInclusive<u32> = 34..=64;

/// The number of `SIGTERM`, `term`, `15`, `RTMIN+3` …
pub fn parse_signal(text: &str) -> Result<u32, SignalError> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let known = text
        .parse()
        .ok()
        .filter(|number| (1..=*REAL_TIME.end()).contains(number))
        .or_else(|| NAMES.iter().position(|known| *known == name).map(|nth| nth as u32 + 1))
        .or_else(|| ALIASES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number))
        .or_else(|| real_time(name));
    known.ok_or_else(|| {
        let near = suggest::suffix(name, NAMES);
        SignalError(crate::context::brief(text), near)
    })
}

/// `RTMIN`, `RTMIN+1` … and `RTMAX`, `RTMAX-1` …
fn real_time(name: &str) -> Option<u32> {
    let offset = |text: &str, sign: char| match text {
        "" => Some(0),
        text => text.strip_prefix(sign)?.parse::<u32>().ok(),
    };
    let number = match name.strip_prefix("RTMIN") {
        Some(rest) => REAL_TIME.start().checked_add(offset(rest, '+')?)?,
        None => REAL_TIME.end().checked_sub(offset(name.strip_prefix("RTMAX")?, '-')?)?,
    };
    REAL_TIME.contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        for (text, wanted) in [
            ("SIGTERM", 15),
            ("TERM", 15),
            ("sigint", 2),
            ("9", 9),
            ("64", 64),
            ("SIGSYS", 31),
            ("WINCH", 28),
            ("IOT", 6),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("RTMAX", 64),
        ] {
            assert_eq!(parse_signal(text), Ok(wanted), "{text}");
        }
        for text in
            ["", "0", "65", "999", "-1", "SIG", "FOO", "RTMIN+31", "RTMAX-31", "RTMIN+", "RTMIN-1", "15 "]
        {
            assert!(parse_signal(text).is_err(), "{text}");
        }
        assert_eq!(
            parse_signal("SIGTREM").unwrap_err().to_string(),
            "invalid signal: SIGTREM (did you mean TERM?)"
        );
    }
}
