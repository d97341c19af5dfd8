//! Regenerates `crates/apiserver/schema/types.txt`.
//!
//! `resources.txt` beside it is written by hand: short names, categories and subresources are not in the
//! modules.

use std::fs;

use anyhow::{Context, Result};

use crate::go;

pub fn run() -> Result<()> {
    let extract = go::root().join("xtask/extract");
    let scratch = std::env::temp_dir().join(format!("daymark-schema-{}", std::process::id()));
    fs::create_dir_all(&scratch).context("making a scratch directory")?;
    let made = extract_types(&scratch, &extract);
    fs::remove_dir_all(&scratch).context("removing the scratch directory")?;
    let types = made?;
    let target = go::root().join("crates/apiserver/schema/types.txt");
    fs::write(&target, &types).with_context(|| format!("writing {}", target.display()))?;
    println!("{}: {} lines", target.display(), types.iter().filter(|byte| **byte == b'\n').count());
    Ok(())
}

fn extract_types(scratch: &std::path::Path, extract: &std::path::Path) -> Result<Vec<u8>> {
    fs::write(scratch.join("go.mod"), "module scratch\n").context("writing go.mod")?;
    let api = go::module(scratch, "k8s.io/api")?;
    let machinery = go::module(scratch, "k8s.io/apimachinery")?;
    let extensions = go::module(scratch, "k8s.io/apiextensions-apiserver")?;
    let program = extract.join("main.go");
    let program = program.to_str().context("the path is not UTF-8")?;
    go::run(scratch, &["run", program, &api, &machinery, &extensions], None)
}
