//! The stock kubectl, for a server of the test's own.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Cluster;

/// A cluster and a kubectl for it.
pub struct Kubectl {
    pub cluster: Cluster,
    pub kubeconfig: PathBuf,
}

impl Kubectl {
    /// `None`, loudly, where there is no kubectl.
    pub async fn start() -> Option<Self> {
        if Command::new("kubectl").arg("version").arg("--client").output().await.is_err() {
            eprintln!("\n!!! SKIPPED: there is no kubectl on this machine; install one to run this test\n");
            return None;
        }
        let cluster = Cluster::start().await;
        let kubeconfig = cluster.dir.path().join("kubeconfig");
        let text = cluster.pki.kubeconfig(cluster.address, "kubernetes-admin", "system:masters");
        std::fs::write(&kubeconfig, text).unwrap();
        Some(Self { cluster, kubeconfig })
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new("kubectl");
        let words: Vec<String> = shell_words(line);
        command.args(words).env("KUBECONFIG", &self.kubeconfig).env("HOME", self.cluster.dir.path());
        command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Output and errors together, and whether it succeeded.
    pub async fn try_with(&self, line: &str, input: &str) -> (bool, String) {
        let mut child = self.command(line).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    #[track_caller]
    pub fn run<'a>(&'a self, line: &'a str) -> impl Future<Output = String> + 'a {
        self.with(line, "")
    }

    pub async fn with(&self, line: &str, input: &str) -> String {
        let (ok, text) = self.try_with(line, input).await;
        assert!(ok, "kubectl {line}:\n{text}");
        text
    }

    pub async fn fails(&self, line: &str, input: &str) -> String {
        let (ok, text) = self.try_with(line, input).await;
        assert!(!ok, "kubectl {line} succeeded:\n{text}");
        text
    }
}

/// Splits at spaces outside of single quotes.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

pub fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}
