//! What the README tells a newcomer to type works as it stands there.

use std::process::Command;

both! {
    async fn the_five_minute_walk(world: World) {
        let walk = walk().replace("http://127.0.0.1:8080", &world.server.url());
        let here = tempfile::tempdir().unwrap();
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &walk])
            .current_dir(here.path())
            .output()
            .expect("bash");
        let (said, error) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{said}\n{error}");

        let profile = std::fs::read_to_string(here.path().join("ada.ovpn")).unwrap();
        assert!(profile.contains("remote vpn.example.com 1194"), "{profile}");
        for expected in [
            "\"allowed\": true",
            "\"allowed\": false",
            "172.31.255.2",
            "\"status\": \"revoked\"",
            "Key Compromise",
            "session.began\tus-east-1",
            "certificate.revoked\tadmin",
        ] {
            assert!(said.contains(expected), "{expected:?} is not in\n{said}");
        }
    }
}

/// The shell blocks that are marked as the walk, as one script.
fn walk() -> String {
    let readme = include_str!("../../README.md");
    let mut blocks = readme
        .split("<!-- walk -->\n```sh\n")
        .skip(1)
        .map(|rest| rest.split_once("```").expect("the end of a shell block").0);
    let script = blocks.by_ref().collect::<Vec<_>>().join("\n");
    assert!(script.contains("/pki/crl.pem"), "the walk leads to the CRL");
    script
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
