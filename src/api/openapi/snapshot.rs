//! What the repository tells of the API is what the server tells: the document in
//! `docs/openapi.json`, and the table of operations in the README. `make openapi` writes both.

use super::breaking::{breaks, may_break};
use super::{ACCESS, TAGS};
use crate::app;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set, the tests write what they would otherwise compare.
const UPDATE: &str = "UPDATE_OPENAPI";
const SNAPSHOT: &str = "docs/openapi.json";
const BEGIN: &str = "<!-- operations: written by `make openapi` -->\n";
const END: &str = "<!-- end of operations -->\n";

#[test]
fn the_document_is_the_snapshot_and_breaks_nobody() {
    let document = app::document().unwrap();
    let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
    if let Some(last) = last_other_snapshot(&document) {
        let version = |of: &Value| of["info"]["version"].as_str().unwrap_or_default().to_owned();
        let found = breaks(&last, &document);
        assert!(
            found.is_empty() || may_break(&version(&last), &version(&document)),
            "the API breaks those who use it:\n- {}\nLeave it as it was, or raise the version \
             {} in Cargo.toml (its second number; from 1.0 on, the first).",
            found.join("\n- "),
            version(&last),
        );
    }
    settle(SNAPSHOT, &text);
}

#[test]
fn the_readme_lists_every_operation() {
    let readme = std::fs::read_to_string(here("README.md")).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("where the operations begin");
    let (_, after) = rest.split_once(END).expect("where the operations end");
    let document = app::document().unwrap();
    settle("README.md", &format!("{before}{BEGIN}\n{}\n{END}{after}", table(&document)));
}

/// The last committed snapshot that is another than `document`: before a commit it is the one at
/// hand, and just after it the one before. None where there is no repository, or no other.
fn last_other_snapshot(document: &Value) -> Option<Value> {
    let commits = git(&["log", "-2", "--format=%H", "--", SNAPSHOT])?;
    let snapshots = commits.lines().filter_map(|commit| {
        serde_json::from_str(&git(&["show", &format!("{commit}:{SNAPSHOT}")])?).ok()
    });
    snapshots.into_iter().find(|it| it != document)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").current_dir(here("")).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok())?
}

/// Compares `text` to what is in the file, or writes it.
#[track_caller]
fn settle(path: &str, text: &str) {
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(here(path), text).unwrap();
    }
    let stored = std::fs::read_to_string(here(path)).unwrap_or_default();
    if stored != text {
        let other = |(stored, new): (&str, &str)| (stored != new).then(|| new.to_owned());
        let first = stored.lines().zip(text.lines()).find_map(other).unwrap_or_default();
        panic!("{path} is not what the API is (first at `{}`): run `make openapi`", first.trim());
    }
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every operation, by chapter.
fn table(document: &Value) -> String {
    let mut text = String::from("| operation | who | what |\n|---|---|---|\n");
    for (tag, _) in TAGS {
        let mut lines = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if operation["tags"][0] == *tag {
                    let path = path.strip_prefix("/api/v1").unwrap_or(path);
                    let order = ["get", "post", "put", "patch", "delete"];
                    let order = order.iter().position(|it| it == method);
                    let line = format!(
                        "| `{} {path}` | {} | {} |\n",
                        method.to_uppercase(),
                        operation[ACCESS].as_str().unwrap(),
                        operation["summary"].as_str().unwrap(),
                    );
                    lines.push((path.to_owned(), order, line));
                }
            }
        }
        lines.sort();
        if !lines.is_empty() {
            text.extend(["| **", tag, "** | | |\n"]);
        }
        text.extend(lines.into_iter().map(|(_, _, line)| line));
    }
    text
}
