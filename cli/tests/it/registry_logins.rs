//! `forge login` and `forge logout`: on a terminal, from scripts, with helpers.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::support::{Lab, Registry, Web, json};

#[test]
fn a_password_on_the_command_line_is_taken_with_a_warning() {
    let (lab, registry) = (Lab::new(), Registry::with_password());
    let outcome = lab.forge(&["login", "-u", "forge", "-p", "s3cret", &format!("http://{}/", registry.host)]);
    assert!(outcome.stderr.contains("warning") && outcome.stderr.contains("--password-stdin"), "{outcome}");
    assert_eq!(outcome.success(), "Login Succeeded");
    // What is kept is tried first.
    let again = lab.forge(&["login", &registry.host]);
    assert_eq!(again.success(), "Login Succeeded");
    let report = lab.forge(&["login", "-u", "forge", &registry.host]).report(2);
    assert!(report.contains("no terminal") && report.contains("--password-stdin"), "{report}");
}

#[test]
fn a_terminal_is_asked_and_shows_no_password() {
    let (lab, registry) = (Lab::new(), Registry::with_password());
    let forge = lab.command(&["login", &registry.host]);
    let words: Vec<String> = std::iter::once(forge.get_program())
        .chain(forge.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
    script.env_clear().envs(forge.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = script
        .current_dir(lab.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run script: {e}; install bsdutils"));
    // `script` hands on what it is given when it is given; the questions come first.
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut seen = String::new();
    for (question, answer) in [("Username", "forge\n"), ("Password: ", "s3cret\n")] {
        while !seen.contains(question) {
            let mut bytes = [0; 256];
            let n = std::io::Read::read(&mut output, &mut bytes).unwrap();
            assert!(n > 0, "it ended after: {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
        input.write_all(answer.as_bytes()).unwrap();
    }
    std::io::Read::read_to_string(&mut output, &mut seen).unwrap();
    assert!(child.wait().unwrap().success(), "{seen}");
    assert!(seen.contains("Login Succeeded") && !seen.contains("s3cret"), "{seen}");
    let kept = json(&fs::read_to_string(lab.path("home/.docker/config.json")).unwrap());
    assert_eq!(kept["auths"][&registry.host]["auth"], "Zm9yZ2U6czNjcmV0");
}

#[test]
fn helpers_keep_what_they_are_named_for() {
    let (mut lab, registry) = (Lab::with_busybox(), Registry::with_password());
    // A helper that keeps one login in a file beside it.
    let helper = "#!/bin/sh\ncase $1 in\nstore) cat > \"$HOME/kept\";;\n\
                  get) [ -f \"$HOME/kept\" ] && cat \"$HOME/kept\" || { echo credentials not found in native keychain; exit 1; };;\n\
                  erase) rm -f \"$HOME/kept\";;\nesac\n";
    let path = lab.file("bin/docker-credential-own-store", helper);
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    lab.env.push(("PATH".into(), format!("{}:/usr/bin:/bin", lab.at("bin"))));
    for config in [
        r#"{"credsStore": "own-store"}"#.to_owned(),
        format!(r#"{{"credHelpers": {{"{}": "own-store"}}}}"#, registry.host),
    ] {
        lab.file("home/.docker/config.json", &config);
        let login =
            lab.forge_with_input(&["login", "-u", "forge", "--password-stdin", &registry.host], "s3cret");
        assert!(login.stderr.contains("docker-credential-own-store"), "{login}");
        login.success();
        let text = fs::read_to_string(lab.path("home/.docker/config.json")).unwrap();
        assert!(!text.contains("s3cret") && !text.contains("Zm9y"), "{text}");
        assert!(fs::read_to_string(lab.path("home/kept")).unwrap().contains("s3cret"));
        let name = format!("{}/x:1", registry.host);
        lab.forge(&["tag", "busybox", &name]).success();
        lab.forge(&["push", "-q", &name]).success();
        assert!(lab.forge(&["logout", &registry.host]).success().starts_with("Removed"));
        lab.forge(&["push", "-q", &name]).report(5);
        assert!(lab.forge(&["logout", &registry.host]).success().starts_with("Not logged in"));
    }
}

#[test]
fn an_identity_token_is_kept_in_the_passwords_place() {
    let lab = Lab::new();
    let tokens = Web::start(|head| {
        let good =
            head.contains("authorization: Basic Zm9yZ2U6czNjcmV0") && head.contains("offline_token=true");
        match (good, head.starts_with("POST ")) {
            (true, _) => (200, vec![], br#"{"token": "access", "refresh_token": "for-later"}"#.to_vec()),
            (_, true) => (200, vec![], br#"{"access_token": "access"}"#.to_vec()),
            _ => (401, vec![], Vec::new()),
        }
    });
    let challenge = format!("Bearer realm=\"{}\",service=\"here\"", tokens.url("/token"));
    let registry = Web::start(move |head| match head.contains("authorization: Bearer access") {
        true => (200, vec![], b"{}".to_vec()),
        false => (401, vec![("WWW-Authenticate", challenge.clone())], Vec::new()),
    });
    let host = registry.url("").trim_start_matches("http://").to_owned();
    lab.forge_with_input(&["login", "-u", "forge", "--password-stdin", &host], "s3cret").success();
    let kept = json(&fs::read_to_string(lab.path("home/.docker/config.json")).unwrap());
    assert_eq!(kept["auths"][&host], serde_json::json!({"identitytoken": "for-later"}));
    // And it is good: forge says so when asked again.
    lab.forge(&["login", &host]).success();
}
