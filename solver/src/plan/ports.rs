//! EXPOSE: `port[-port][/protocol]`, with the host parts that Docker tolerates and drops.

/// About how many bytes the ports of a word take, written out.
pub fn weight(word: &str) -> usize {
    let container = word.split('/').next().and_then(|ports| ports.rsplit(':').next()).unwrap_or_default();
    let ends =
        container.split_once('-').and_then(|(a, b)| Some((a.parse::<u16>().ok()?, b.parse::<u16>().ok()?)));
    ends.map_or(0, |(first, last)| usize::from(last.saturating_sub(first)) * size_of::<[String; 2]>())
}

/// The ports that one word names, as `port/protocol`.
pub fn parse(word: &str) -> Result<Vec<String>, String> {
    let invalid = || format!("invalid containerPort: {word}");
    let (ports, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    // `ip:host:container` and `host:container` name the container's port last.
    let container = ports.rsplit(':').next().unwrap_or(ports);
    let (first, last) = container.split_once('-').unwrap_or((container, container));
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let (first, last) = (number(first).ok_or_else(invalid)?, number(last).ok_or_else(invalid)?);
    if first > last {
        return Err(format!("invalid range specified for port: {container}"));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_read_as_docker_reads_them() {
        for (word, want) in [
            ("8000", &["8000/tcp"][..]),
            ("53/UDP", &["53/udp"]),
            ("80-82/sctp", &["80/sctp", "81/sctp", "82/sctp"]),
            ("127.0.0.1:8080:80", &["80/tcp"]),
        ] {
            assert_eq!(parse(word).unwrap(), want, "{word}");
        }
        for bad in ["", "x", "80/http", "90-80", "65536", "-1", "+1", "80-"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
