//! Renews the test vectors under `crates/apiserver/tests/golden` with Kubernetes' own libraries.
//!
//! To add a case, add a line with its input to `strategic.jsonl` or `apply.jsonl` and run this.

use std::fs;

use anyhow::{Context, Result};

use crate::go;

pub fn run() -> Result<()> {
    let program = go::root().join("xtask/golden");
    let vectors = go::root().join("crates/apiserver/tests/golden");
    for (name, has_input) in [("protobuf", false), ("strategic", true), ("apply", true)] {
        let file = vectors.join(format!("{name}.jsonl"));
        let made = go::run(&program, &["run", ".", name], has_input.then_some(file.as_path()))?;
        fs::write(&file, &made).with_context(|| format!("writing {}", file.display()))?;
        println!("{}: {} bytes", file.display(), made.len());
    }
    Ok(())
}
