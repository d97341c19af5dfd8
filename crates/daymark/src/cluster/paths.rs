//! Where a cluster keeps its files.

use std::path::{Path, PathBuf};

/// State that outlives a stop (`/var/lib/daymark/NAME`) and what dies with it (`/run/daymark/NAME`).
#[derive(Clone, Debug)]
pub struct Paths {
    pub state: PathBuf,
    pub run: PathBuf,
    name: String,
}

impl Paths {
    /// `DAYMARK_STATE_ROOT` and `DAYMARK_RUN_ROOT` move both, as tests do.
    pub fn new(name: &str) -> Self {
        let root = |var: &str, default: &str| {
            std::env::var_os(var).map_or_else(|| PathBuf::from(default), PathBuf::from)
        };
        Self {
            state: root("DAYMARK_STATE_ROOT", "/var/lib/daymark").join(name),
            run: root("DAYMARK_RUN_ROOT", "/run/daymark").join(name),
            name: name.to_owned(),
        }
    }

    /// Every cluster that left state behind, by name.
    pub fn all_clusters() -> Vec<String> {
        let root = Self::new("x").state;
        let Some(parent) = root.parent() else { return Vec::new() };
        let mut names: Vec<String> = std::fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|e| e.path().join("cluster.json").exists())
            .filter_map(|e| e.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    pub fn spec(&self) -> PathBuf {
        self.state.join("cluster.json")
    }
    /// A kubeconfig of one of the cluster's own identities.
    pub fn kubeconfig(&self, of: &str) -> PathBuf {
        self.state.join(format!("{of}.conf"))
    }
    pub fn pki(&self) -> PathBuf {
        self.state.join("pki")
    }
    pub fn store(&self) -> PathBuf {
        self.state.join("store")
    }
    pub fn images(&self) -> PathBuf {
        self.state.join("images")
    }
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }
    pub fn log(&self, process: &str) -> PathBuf {
        self.logs().join(format!("{process}.log"))
    }
    pub fn node_state(&self, node: &str) -> PathBuf {
        self.state.join("nodes").join(node)
    }
    pub fn node_run(&self, node: &str) -> PathBuf {
        self.run.join("nodes").join(node)
    }
    pub fn netns(&self, node: &str) -> PathBuf {
        self.run.join("netns").join(node)
    }
    pub fn bpf(&self) -> PathBuf {
        self.run.join("bpf")
    }
    pub fn lock(&self, process: &str) -> PathBuf {
        self.run.join("locks").join(process)
    }
    /// Held by whoever changes the cluster (`up`, `down`, `start`, `stop`); outside the run folder, so
    /// that `down` can remove that folder while it holds the lock.
    pub fn cluster_lock(&self) -> PathBuf {
        self.run.with_file_name(format!(".{}.lock", self.name))
    }
    /// This cluster's cgroup below a cgroup mount.
    pub fn cgroup(&self, mount: &Path) -> PathBuf {
        mount.join("daymark").join(&self.name)
    }
}
