//! `daymark stop`: no process is left, the data is.

use miette::Result;

use crate::cli::Part;
use crate::cluster::{Cluster, STOP_GRACE, process};
use crate::say::say;
use crate::{lan, teardown};

pub async fn run(args: &Part) -> Result<()> {
    let cluster = Cluster::open(&args.cluster.name)?;
    let _lock = process::exclusive(&cluster.paths.cluster_lock(), &cluster.spec.name)?;
    match &args.node {
        Some(node) => {
            let node = cluster.spec.node_named(node)?;
            process::stop(&cluster.paths.lock(&node.name), STOP_GRACE);
            say!("Stopped {}; its pods run on until the cluster replaces them.", node.name);
        }
        None => {
            halt(&cluster).await?;
            say!("Stopped cluster \"{}\"; `daymark start` brings it back.", cluster.spec.name);
        }
    }
    Ok(())
}

/// Ends every process of the cluster and takes down what it made in the kernel.
pub async fn halt(cluster: &Cluster) -> Result<()> {
    for process in cluster.processes().iter().rev() {
        process::stop(&cluster.paths.lock(process), STOP_GRACE);
    }
    teardown::kernel_state(cluster)?;
    lan::build::remove(&cluster.spec, &cluster.paths).await
}
