//! Runs the Go command, which only chores need.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The one version of Kubernetes that the schema table describes.
pub const VERSION: &str = "v0.36.3";

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Runs `go ARGS` in `dir` and answers what it prints.
pub fn run(dir: &Path, args: &[&str], input: Option<&Path>) -> Result<Vec<u8>> {
    let stdin = match input {
        Some(path) => File::open(path).with_context(|| format!("opening {}", path.display()))?.into(),
        None => Stdio::null(),
    };
    let output = Command::new("go")
        .args(args)
        .current_dir(dir)
        .env("GOFLAGS", "-mod=mod")
        .stdin(stdin)
        .stderr(Stdio::inherit())
        .output()
        .context("running go; is it installed?")?;
    if !output.status.success() {
        bail!("go {} failed: {}", args.join(" "), output.status);
    }
    Ok(output.stdout)
}

/// The directory that a module was unpacked to.
pub fn module(dir: &Path, name: &str) -> Result<String> {
    module_at(dir, name, VERSION)
}

/// As [`module`], of another version.
pub fn module_at(dir: &Path, name: &str, version: &str) -> Result<String> {
    let wanted = format!("{name}@{version}");
    let json = run(dir, &["mod", "download", "-json", &wanted], None)?;
    let told: serde_json::Value = serde_json::from_slice(&json).context("reading go's answer")?;
    told["Dir"].as_str().map(str::to_owned).with_context(|| format!("go does not say where {wanted} is"))
}
