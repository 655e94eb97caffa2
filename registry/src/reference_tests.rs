//! Rows from github.com/distribution/reference's own tests, and the hostile ones.

use super::*;

const HEX: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

#[test]
fn names_read_as_docker_reads_them() {
    // text, canonical, familiar
    let rows = [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("debian:13", "docker.io/library/debian:13", "debian:13"),
        ("library/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("index.docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("index.docker.io/library/debian:1", "docker.io/library/debian:1", "debian:1"),
        ("registry-1.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("library/user/app", "docker.io/library/user/app:latest", "library/user/app:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
        ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
        ("localhost", "docker.io/library/localhost:latest", "localhost:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        ("host.tld/x", "host.tld/x:latest", "host.tld/x:latest"),
        ("host.tld:443/a/b/c:v1.0_x-y", "host.tld:443/a/b/c:v1.0_x-y", "host.tld:443/a/b/c:v1.0_x-y"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest", "127.0.0.1:5000/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        ("[2001:db8::1]/x:1", "[2001:db8::1]/x:1", "[2001:db8::1]/x:1"),
        ("Foo/bar", "Foo/bar:latest", "Foo/bar:latest"),
        ("HOST.tld/x", "HOST.tld/x:latest", "HOST.tld/x:latest"),
        ("a--b", "docker.io/library/a--b:latest", "a--b:latest"),
        ("a__b/c_d/e.f/g---h", "docker.io/a__b/c_d/e.f/g---h:latest", "a__b/c_d/e.f/g---h:latest"),
        ("0/1", "docker.io/0/1:latest", "0/1:latest"),
        ("xn--n3h.com/myimage", "xn--n3h.com/myimage:latest", "xn--n3h.com/myimage:latest"),
        ("a:A_b.C-d", "docker.io/library/a:A_b.C-d", "a:A_b.C-d"),
        ("host:99999", "docker.io/library/host:99999", "host:99999"),
        ("host:1/x", "host:1/x:latest", "host:1/x:latest"),
        ("host:65535/x", "host:65535/x:latest", "host:65535/x:latest"),
        (
            "b.gcr.io/test.example.com/my-app",
            "b.gcr.io/test.example.com/my-app:latest",
            "b.gcr.io/test.example.com/my-app:latest",
        ),
    ];
    for (text, canonical, familiar) in rows {
        let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(reference.canonical(), canonical, "{text}");
        assert_eq!(reference.to_string(), familiar, "{text}");
        assert_eq!(familiar.parse::<Reference>().unwrap(), reference, "{text} through its familiar form");
        assert_eq!(canonical.parse::<Reference>().unwrap(), reference, "{text} through its canonical form");
    }
}

#[test]
fn digests_pin_and_need_no_tag() {
    let pinned: Reference = format!("debian@sha256:{HEX}").parse().unwrap();
    assert_eq!(pinned.tag(), None);
    assert_eq!(pinned.locator(), format!("sha256:{HEX}"));
    let both: Reference = format!("localhost:5000/a:1@sha256:{HEX}").parse().unwrap();
    assert_eq!((both.tag(), both.locator()), (Some("1"), format!("sha256:{HEX}")));
    assert_eq!(both.canonical(), format!("localhost:5000/a:1@sha256:{HEX}"));
    let plain: Reference = "debian".parse().unwrap();
    assert_eq!(plain.repository().pinned(*pinned.digest().unwrap()), pinned);
}

#[test]
fn what_is_outside_the_grammar_is_refused() {
    let long = "a".repeat(256);
    let long_tag = format!("a:{}", "t".repeat(129));
    let rows: Vec<(String, &str)> = [
        ("", "names no image"),
        (":tag", "names no image"),
        ("@sha256:0", "not `sha256:`"),
        ("a/../b", "not a repository"),
        ("../b", "not a registry"),
        ("./b", "not a registry"),
        ("a//b", "not a repository"),
        ("/a", "not a repository"),
        ("a/", "not a repository"),
        ("host.tld/", "not a repository"),
        ("-a", "not a repository"),
        ("a-", "not a repository"),
        ("a..b", "not a repository"),
        ("a___b", "not a repository"),
        ("a._b", "not a repository"),
        (".a", "not a repository"),
        ("_a", "not a repository"),
        ("a b", "not a repository"),
        ("a\n", "not a repository"),
        ("a\0b", "not a repository"),
        ("a․b/c", "not a repository"),
        ("ａ/b", "not a repository"),
        ("Debian", "capital"),
        ("host.tld/App", "capital"),
        ("user/App:1", "capital"),
        ("user@host", "digest"),
        ("user@host/x", "digest"),
        ("user:pw@host.tld/x", "digest"),
        ("a@sha512:00", "sha256"),
        ("a@md5:00", "sha256"),
        ("a@sha256:../../etc/x", "64 lower-case"),
        ("host:99999/x", "not a port"),
        ("host:0/x", "not a port"),
        ("host:/x", "not a port"),
        ("host:+1/x", "not a port"),
        ("host:5a/x", "not a port"),
        ("host:1:2/x", "not a port"),
        ("-host.tld/x", "not a registry"),
        ("host-.tld/x", "not a registry"),
        ("host..tld/x", "not a registry"),
        ("host_a.tld/x", "not a registry"),
        ("[::1/x", "not a registry"),
        ("[::g]/x", "not a registry"),
        ("[:::]/x", "not a registry"),
        ("[::1]5000/x", "not a registry"),
        ("::1/x", "not a registry"),
        ("a:", "not a tag"),
        ("a:.b", "not a tag"),
        ("a:-b", "not a tag"),
        ("a:b c", "not a tag"),
        ("a:ü", "not a tag"),
        ("https://host.tld/x", "without `https://`"),
        (HEX, "looks like a digest"),
        (&long, "longer than 255"),
        (&long_tag, "not a tag"),
    ]
    .map(|(text, want)| (text.to_owned(), want))
    .into();
    for (text, want) in rows {
        let error = text.parse::<Reference>().expect_err(&text).to_string();
        assert!(error.contains(want), "{text:?}: {error}");
    }
}

#[test]
fn the_longest_names_are_taken() {
    let path = format!("host.tld/{}", "a".repeat(255));
    assert!(path.parse::<Reference>().is_ok());
    assert!(format!("a:{}", "t".repeat(128)).parse::<Reference>().is_ok());
}

#[test]
fn docker_hub_is_served_elsewhere() {
    assert_eq!("debian".parse::<Reference>().unwrap().repository().api_host(), "registry-1.docker.io");
    assert_eq!("h:1/x".parse::<Reference>().unwrap().repository().api_host(), "h:1");
}
