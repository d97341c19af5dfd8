//! What the agent pinned and attached: made at start, looked after since. Whoever deletes it by hand under a
//! running agent finds it restored after the next sweep.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use daymark_dataplane::{Config, DataPlane, LinkView, inspect};
use daymark_model::World;
use daymark_plan::tables::Tables;
use ipnet::IpNet;
use miette::{IntoDiagnostic, Result, WrapErr};

use super::Agent;

/// Where the programs belong.
pub struct Attachments {
    settings: Config,
    /// Whose processes' sockets go to Services.
    pub cgroup: PathBuf,
    uplink: u32,
    /// The pods' interfaces.
    pods: BTreeSet<u32>,
    pinned: Pinned,
}

/// What is pinned, pods' interfaces aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pinned {
    maps: BTreeSet<PathBuf>,
    /// How many programs are attached to something that lives.
    links: usize,
    pods: usize,
}

/// What of it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Nothing,
    /// Programs are attached to nothing.
    Links,
    /// Maps are not where the next agent looks for them, or a folder is gone.
    Maps,
}

impl Pinned {
    /// What cannot be read counts as missing.
    fn read(bpf: &Path) -> Self {
        let folders = fs::read_dir(bpf).into_iter().flatten().flatten().map(|entry| entry.path());
        let of_maps = folders
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("maps-")));
        let maps = of_maps.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
        match inspect::links(bpf) {
            Ok(links) => Self::of(maps.map(|entry| entry.path()).collect(), &links),
            // Their folder is gone: nothing can be attached before it is made anew, as for maps.
            Err(_) => Self::default(),
        }
    }

    fn of(maps: BTreeSet<PathBuf>, links: &[LinkView]) -> Self {
        let (pods, others): (Vec<_>, Vec<_>) =
            links.iter().filter(|link| link.alive).partition(|link| link.program == "pod");
        Self { maps, links: others.len(), pods: pods.len() }
    }

    /// `self` is how it was, beside this many pods' interfaces.
    fn missing(&self, now: &Self, pods: usize) -> Missing {
        if !self.maps.is_subset(&now.maps) {
            Missing::Maps
        } else if now.links < self.links || now.pods < pods {
            Missing::Links
        } else {
            Missing::Nothing
        }
    }
}

impl Attachments {
    /// Opens the data plane and attaches what does not come and go. Also returns the tables that were found.
    pub fn open(mut settings: Config, cgroup: PathBuf, uplink: u32) -> Result<(Self, DataPlane, Tables)> {
        let (data_plane, found) =
            DataPlane::open(settings.clone()).into_diagnostic().wrap_err("cannot open the data plane")?;
        settings.sizes = data_plane.sizes();
        let pinned = Pinned::default();
        let mut this = Self { settings, cgroup, uplink, pods: BTreeSet::new(), pinned };
        this.attach(&data_plane)?;
        Ok((this, data_plane, found))
    }

    fn attach(&mut self, data_plane: &DataPlane) -> Result<()> {
        fs::create_dir_all(&self.cgroup).into_diagnostic().wrap_err("cannot make the node's cgroup")?;
        data_plane.attach_cgroup(&self.cgroup).into_diagnostic()?;
        data_plane.attach_uplink(self.uplink).into_diagnostic()?;
        for pod in &self.pods {
            // It may have gone, and nobody has told yet.
            if let Err(why) = data_plane.attach_pod(*pod) {
                tracing::warn!(%why, "cannot attach to a pod's interface again");
            }
        }
        self.pinned = Pinned::read(&self.settings.bpffs);
        Ok(())
    }

    pub fn attach_pod(&mut self, data_plane: &DataPlane, ifindex: u32) -> Result<()> {
        data_plane.attach_pod(ifindex).into_diagnostic()?;
        self.pods.insert(ifindex);
        Ok(())
    }

    pub fn detach_pod(&mut self, data_plane: &DataPlane, ifindex: u32) -> Result<()> {
        self.pods.remove(&ifindex);
        data_plane.detach_pod(ifindex).into_diagnostic()
    }
}

impl Agent {
    /// Puts back what somebody deleted.
    pub(super) fn mend_pins(&mut self) {
        let now = Pinned::read(&self.attachments.settings.bpffs);
        let missing = self.attachments.pinned.missing(&now, self.attachments.pods.len());
        if missing == Missing::Nothing {
            return;
        }
        let bpf = self.attachments.settings.bpffs.clone();
        tracing::error!(folder = %bpf.display(), ?missing, "pins were deleted by somebody else, restoring them");
        if let Err(why) = self.restore(missing) {
            tracing::error!("cannot restore the pins: {}", crate::one_line(&why));
        }
    }

    /// Maps that are pinned no more are lost to the next agent: new ones are filled before any program that
    /// uses them is attached.
    fn restore(&mut self, missing: Missing) -> Result<()> {
        if missing == Missing::Maps {
            self.reopen()?;
            self.catch_up();
        }
        self.attachments.attach(&self.data_plane)
    }

    fn reopen(&mut self) -> Result<()> {
        let cluster_sources = members(self.planner.world());
        let settings = Config { cluster_sources, ..self.attachments.settings.clone() };
        (self.data_plane, _) = DataPlane::open(settings).into_diagnostic()?;
        Ok(())
    }

    /// Makes maps larger that what is planned does not fit into.
    pub(super) fn make_room(&mut self) {
        let before = self.attachments.settings.sizes;
        let sizes = before.with_room_for(self.planner.tables());
        if sizes == before {
            return;
        }
        tracing::info!(?sizes, "making room for more Services");
        self.attachments.settings.sizes = sizes;
        if let Err(why) = self.reopen().and_then(|()| self.attachments.attach(&self.data_plane)) {
            self.attachments.settings.sizes = before;
            tracing::error!("cannot make room for more Services: {}", crate::one_line(&why));
        }
    }
}

/// Who belongs to the cluster: its nodes and their pods.
pub fn members(world: &World) -> Vec<IpNet> {
    world
        .nodes()
        .flat_map(|n| n.internal_ips.iter().map(|ip| IpNet::from(*ip)).chain(n.pod_cidrs.iter().copied()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(program: &'static str, alive: bool) -> LinkView {
        LinkView { program, target: "interface 7".into(), alive }
    }

    fn pinned(maps: &[&str], links: &[LinkView]) -> Pinned {
        Pinned::of(maps.iter().map(PathBuf::from).collect(), links)
    }

    #[test]
    fn what_is_not_there_or_hangs_on_nothing_is_missing() {
        let before = pinned(&["frontends", "slots"], &[link("uplink", true), link("connect4", true)]);
        let with_pod = [link("uplink", true), link("connect4", true), link("pod", true)];
        let missing = |maps: &[&str], links: &[LinkView]| before.missing(&pinned(maps, links), 1);
        let whole = ["frontends", "slots", "newer"];
        assert_eq!(missing(&whole, &with_pod), Missing::Nothing);
        assert_eq!(missing(&["frontends"], &with_pod), Missing::Maps);
        assert_eq!(missing(&[], &[]), Missing::Maps);
        assert_eq!(missing(&whole, &with_pod[..2]), Missing::Links, "the pod's");
        assert_eq!(missing(&whole, &with_pod[1..]), Missing::Links, "the uplink's");
        let dead = [link("uplink", false), link("connect4", true), link("pod", true)];
        assert_eq!(missing(&whole, &dead), Missing::Links);
    }
}
