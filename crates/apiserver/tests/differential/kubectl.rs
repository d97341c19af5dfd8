//! Command lines of the stock kubectl against both servers.
//!
//! A script is a text of lines that begin with `$ `; the lines after one, up to the next, are its input. A file in
//! `$FILES` holds what editors write.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::compare::Difference;
use super::normalise;
use super::peer::Peer;

/// The longest that one command may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Scripts that run beside each other.
const SIDE_BY_SIDE: usize = 3;

struct Line {
    command: String,
    input: String,
}

fn parse(text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        match (line.strip_prefix("$ "), lines.last_mut()) {
            (Some(command), _) => lines.push(Line { command: command.to_owned(), input: String::new() }),
            (None, Some(last)) => last.input.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    lines
}

/// Runs every script of a folder; answers the number of command lines.
pub async fn run_all(folder: &Path, ours: &Peer, theirs: &Peer) -> (usize, Vec<Difference>) {
    if Command::new("kubectl").arg("version").arg("--client").output().await.is_err() {
        eprintln!("\n!!! SKIPPED: there is no kubectl on this machine\n");
        return (0, Vec::new());
    }
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let scripts: Vec<(String, Vec<Line>)> = paths
        .iter()
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, parse(&std::fs::read_to_string(path).unwrap()))
        })
        .collect();
    let count = scripts.iter().map(|(_, lines)| lines.len()).sum();
    // What `kubectl get all` means anywhere changes while this one runs.
    let (alone, together): (Vec<_>, Vec<_>) = scripts.into_iter().partition(|(name, _)| name == "custom");
    let runs = together.into_iter().map(|(name, lines)| script(name, lines, ours, theirs));
    let mut found: Vec<Vec<Difference>> =
        futures::stream::iter(runs).buffer_unordered(SIDE_BY_SIDE).collect().await;
    for (name, lines) in alone {
        found.push(script(name, lines, ours, theirs).await);
    }
    (count, found.into_iter().flatten().collect())
}

async fn script(name: String, lines: Vec<Line>, ours: &Peer, theirs: &Peer) -> Vec<Difference> {
    let mut found = Vec::new();
    for line in &lines {
        let (a, b) = tokio::join!(run(line, ours, &name), run(line, theirs, &name));
        if a != b {
            found.push(Difference {
                group: format!("kubectl/{name}"),
                case: line.command.clone(),
                place: "output".to_owned(),
                ours: a,
                theirs: b,
            });
        }
    }
    found
}

/// What is printed, and the exit code.
async fn run(line: &Line, peer: &Peer, name: &str) -> String {
    let home = peer.kubeconfig.with_extension(name);
    std::fs::create_dir_all(&home).unwrap();
    let kubeconfig = home.join("kubeconfig");
    if !kubeconfig.exists() {
        // Scripts change their context's namespace.
        std::fs::copy(&peer.kubeconfig, &kubeconfig).unwrap();
    }
    let mut command = Command::new("sh");
    command.arg("-c").arg(&line.command).env("KUBECONFIG", &kubeconfig).env("HOME", &home);
    command.env("CRONTAB", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/crontab.yml"));
    command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(line.input.as_bytes()).await;
    drop(stdin);
    let done = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let Ok(output) = done else {
        return "it did not end".to_owned();
    };
    let output = output.unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = plain(&normalise::text(&String::from_utf8_lossy(&text)));
    format!("{text}[{}]", output.status.code().unwrap_or(-1))
}

/// Without ages, and with one space where columns are aligned.
fn plain(text: &str) -> String {
    let word = |word: &str| {
        let age = word.len() < 8
            && word.ends_with(['s', 'm', 'h', 'd'])
            && word[..word.len() - 1].chars().all(|c| c.is_ascii_digit() || "smhd".contains(c))
            && word.starts_with(|c: char| c.is_ascii_digit());
        if age { "AGE".to_owned() } else { word.to_owned() }
    };
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ") + "\n";
    let mut lines: Vec<String> = text.lines().map(line).collect();
    // Several mistakes are listed in no order.
    lines.chunk_by_mut(|a, b| a.starts_with("* ") && b.starts_with("* ")).for_each(<[String]>::sort);
    lines.concat()
}
