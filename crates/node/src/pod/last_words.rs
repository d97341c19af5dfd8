//! `terminationMessagePath`: what a container wrote there becomes its termination message.

use k8s_openapi::api::core::v1::Container;

use super::backend::Backend;
use super::state::Exit;
use crate::runtime::ContainerId;

const MOST_MESSAGE: usize = 4096;
const MOST_LOG: usize = 2048;
const MOST_LOG_LINES: usize = 80;

/// Adds the message, if there is one; with `FallbackToLogsOnError` the end of the log does.
pub async fn add(backend: &dyn Backend, container: &Container, mut exit: Exit) -> Exit {
    let id = ContainerId(exit.container_id.clone());
    let mut words = match backend.termination_message_path(&id).await {
        Ok(path) => tokio::fs::read(path).await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    words.truncate(MOST_MESSAGE);
    let mut words = String::from_utf8_lossy(&words).into_owned();
    let fallback = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if words.is_empty()
        && fallback
        && exit.code != 0
        && let Ok(path) = backend.log_path(&id).await
    {
        let log = tokio::fs::read(path).await.unwrap_or_default();
        words = tail(&log);
    }
    if !words.is_empty() {
        exit.message = words;
    }
    exit
}

/// The last lines of a CRI log, without times and stream names.
fn tail(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    let lines: Vec<&str> = text.lines().filter_map(|l| l.splitn(4, ' ').nth(3)).collect();
    let joined = lines[lines.len().saturating_sub(MOST_LOG_LINES)..].join("\n");
    let mut from = joined.len().saturating_sub(MOST_LOG);
    while !joined.is_char_boundary(from) {
        from += 1;
    }
    joined[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_log_is_kept() {
        let line = |n: usize| format!("2026-01-01T00:00:00.0Z stderr F line {n} é\n");
        let log: String = (0..200).map(line).collect();
        let kept = tail(log.as_bytes());
        assert!(kept.ends_with("line 198 é\nline 199 é") && kept.starts_with("line 120 é"), "{kept}");
        let long = format!("2026-01-01T00:00:00.0Z stderr F {}\n", "é".repeat(3000));
        assert!(tail(long.as_bytes()).len() <= MOST_LOG);
    }
}
