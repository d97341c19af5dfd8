//! Starts the shim process of a pod.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// How long a shim may take to set itself up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts `command POD_DIR` and waits until it is ready; returns its process id. It lives on when this
/// process ends. Call it from a thread in the node's network namespace.
pub async fn start_shim(command: &[OsString], dir: &Path) -> Result<i32, String> {
    let (program, args) = command.split_first().ok_or("no shim command is configured")?;
    let mut child = Command::new(program)
        .args(args)
        .arg(dir)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("starting its shim {}: {error}", program.to_string_lossy()))?;
    let pid = child.id().ok_or("the shim has ended already")? as i32;
    let stdout = child.stdout.take().ok_or("the shim has no stdout")?;
    let mut line = String::new();
    let mut reader = BufReader::new(stdout);
    let said = tokio::time::timeout(PATIENCE, reader.read_line(&mut line)).await;
    let failure = match said {
        Ok(Ok(_)) if line.trim() == "ready" => {
            // Somebody has to take note of its end.
            tokio::spawn(async move { child.wait().await });
            return Ok(pid);
        }
        Ok(Ok(0)) => "its shim ended at once".to_owned(),
        Ok(Ok(_)) => line.trim().to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("its shim was not ready after {} s", PATIENCE.as_secs()),
    };
    let _ = child.kill().await;
    Err(failure)
}
