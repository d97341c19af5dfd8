//! Regenerates `crates/apiserver/schema/types.txt` and `descriptions.txt`.
//!
//! `resources.txt` beside them is written by hand: short names, categories and subresources are not in the
//! modules.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::go;

pub fn run() -> Result<()> {
    let scratch = std::env::temp_dir().join(format!("daymark-schema-{}", std::process::id()));
    fs::create_dir_all(&scratch).context("making a scratch directory")?;
    let made = extract(&scratch);
    fs::remove_dir_all(&scratch).context("removing the scratch directory")?;
    made
}

fn extract(scratch: &Path) -> Result<()> {
    fs::write(scratch.join("go.mod"), "module scratch\n").context("writing go.mod")?;
    let api = go::module(scratch, "k8s.io/api")?;
    let machinery = go::module(scratch, "k8s.io/apimachinery")?;
    let extensions = go::module(scratch, "k8s.io/apiextensions-apiserver")?;
    let types = write(scratch, "extract", &[&api, &machinery, &extensions], "types.txt")?;
    let kubernetes = go::module_at(scratch, "k8s.io/kubernetes", &go::VERSION.replacen("v0.", "v1.", 1))?;
    write(scratch, "describe", &[&kubernetes, &types], "descriptions.txt")?;
    Ok(())
}

/// Writes what one of the Go programs prints beside the schema, and answers where.
fn write(scratch: &Path, program: &str, args: &[&str], file: &str) -> Result<String> {
    let utf8 =
        |path: std::path::PathBuf| path.into_os_string().into_string().ok().context("the path is not UTF-8");
    let source = utf8(go::root().join("xtask").join(program).join("main.go"))?;
    let made = go::run(scratch, &[&["run", source.as_str()], args].concat(), None)?;
    let target = utf8(go::root().join("crates/apiserver/schema").join(file))?;
    fs::write(&target, &made).with_context(|| format!("writing {target}"))?;
    println!("{target}: {} lines", made.iter().filter(|byte| **byte == b'\n').count());
    Ok(target)
}
