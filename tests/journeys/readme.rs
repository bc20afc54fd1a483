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

both! {
    async fn a_configuration_that_is_kept_in_git(world: World) {
        let here = tempfile::tempdir().unwrap();
        let binary = std::path::Path::new(env!("CARGO_BIN_EXE_gatekey-server"));
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", binary.parent().unwrap().display());
        let admin = world.admin().await;
        if world.kind() == Kind::Sqlite {
            assert!(world.server.stop().success());
        }
        let script = format!("git init -q .\n{}", blocks("git"));
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .current_dir(here.path())
            .env("PATH", path)
            .envs(world.server.environment())
            .envs([
                ("GIT_AUTHOR_NAME", "Ada"),
                ("GIT_AUTHOR_EMAIL", "ada@example.com"),
                ("GIT_COMMITTER_NAME", "Ada"),
                ("GIT_COMMITTER_EMAIL", "ada@example.com"),
            ])
            .output()
            .expect("bash");
        let (said, error) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{said}\n{error}");
        assert_eq!(said.matches("+ network lab\n").count(), 2, "{said}");
        assert!(said.contains("Done: 1 added, 0 changed, 0 removed"), "{said}");
        if world.kind() == Kind::Sqlite {
            world.server.start_again();
        }
        let made = admin.get("/admin/audit?event=network.created").await.list();
        assert_eq!(made[0]["reason"], "CHG-1234: the new lab");
    }
}

/// The shell blocks that are marked as the walk, as one script.
fn walk() -> String {
    let script = blocks("walk");
    assert!(script.contains("/pki/crl.pem"), "the walk leads to the CRL");
    script
}

/// The shell blocks with that mark, as one script.
fn blocks(mark: &str) -> String {
    let readme = include_str!("../../README.md");
    let mark = format!("<!-- {mark} -->\n```sh\n");
    let blocks = readme
        .split(&mark)
        .skip(1)
        .map(|rest| rest.split_once("```").expect("the end of a shell block").0);
    blocks.collect::<Vec<_>>().join("\n")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
