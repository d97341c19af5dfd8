//! `daymark down`: nothing of the cluster is left on this machine.

use std::fs;

use miette::{IntoDiagnostic, Result, WrapErr};

use crate::cli::Named;
use crate::cluster::paths::Paths;
use crate::cluster::{Cluster, kubeconfig, process, spec};
use crate::say::say;

pub async fn run(args: &Named) -> Result<()> {
    spec::check_name(&args.name)?;
    let paths = Paths::new(&args.name);
    if !paths.spec().exists() && !paths.state.exists() && !paths.run.exists() {
        Cluster::open(&args.name)?;
    }
    let _lock = process::exclusive(&paths.cluster_lock(), &args.name)?;
    match Cluster::open(&args.name) {
        Ok(cluster) => remove(&cluster).await?,
        // Half-built or damaged: without its description only its files and cgroups are known.
        Err(_) => {
            crate::teardown::by_paths(&paths)?;
            remove_files(&paths)?;
        }
    }
    say!("Removed cluster \"{}\".", args.name);
    Ok(())
}

/// Ends, takes down and forgets the cluster.
pub async fn remove(cluster: &Cluster) -> Result<()> {
    super::stop::halt(cluster).await?;
    if let Ok(file) = kubeconfig::user_file() {
        kubeconfig::remove(&file, &kubeconfig::context_name(&cluster.spec.name))?;
    }
    remove_files(&cluster.paths)
}

fn remove_files(paths: &Paths) -> Result<()> {
    for dir in [&paths.run, &paths.state] {
        match fs::remove_dir_all(dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).into_diagnostic().wrap_err_with(|| format!("cannot remove {}", dir.display()));
            }
            _ => {}
        }
        // The common parent goes with the last cluster.
        if let Some(parent) = dir.parent() {
            let _ = fs::remove_dir(parent);
        }
    }
    forget_lock(paths);
    Ok(())
}

/// Removes the lock file of a cluster that is not there, for whoever holds it.
pub fn forget_lock(paths: &Paths) {
    if paths.state.exists() || paths.run.exists() {
        return;
    }
    let _ = fs::remove_file(paths.cluster_lock());
    if let Some(parent) = paths.run.parent() {
        let _ = fs::remove_dir(parent);
    }
}
