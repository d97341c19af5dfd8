//! What a Service costs a pod that connects: ClusterIP against the pod behind it, dialled directly.

use std::fs::{self, File};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use crate::arms::{Arm, Compared, compare};
use crate::cluster::Cluster;
use crate::row;

pub fn run() -> Result<()> {
    let cluster = Cluster::up()?;
    cluster.apply(include_str!("connect.yml"))?;
    cluster.kubectl("wait --for=condition=Ready pod/client pod/same pod/other --timeout=60s")?;
    let mut places = Vec::new();
    for place in ["same", "other"] {
        let pod = cluster.kubectl(&format!("get pod {place} -o jsonpath={{.status.podIP}}"))?;
        let service = cluster.kubectl(&format!("get service {place} -o jsonpath={{.spec.clusterIP}}"))?;
        let (pod, service) = (format!("{pod}:80").parse()?, format!("{service}:80").parse()?);
        places.push((
            place,
            [
                Arm { name: "direct", target: pod },
                Arm { name: "A/A (direct again)", target: pod },
                Arm { name: "ClusterIP", target: service },
            ],
        ));
    }
    let compared = inside_pod(&cluster, "client", || {
        places.iter().map(|(place, arms)| Ok((*place, compare(arms)?))).collect::<Result<Vec<_>>>()
    })?;
    for (place, arms) in compared {
        for Compared { name, ratio, interval, p99, median_us } in arms {
            row(
                &format!("connect, {place} node: {name} ÷ direct, p50"),
                &format!("{ratio:.3}"),
                &format!("95 % [{:.3}, {:.3}], p99 {p99:.2}, {median_us:.1} µs", interval.0, interval.1),
            );
        }
    }
    Ok(())
}

/// Runs `work` on a thread in a pod's network namespace, as a member of its cgroup: what the pod's own
/// processes would see.
fn inside_pod<T: Send>(cluster: &Cluster, pod: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let uid = cluster.kubectl(&format!("get pod {pod} -o jsonpath={{.metadata.uid}}"))?;
    let node = cluster.kubectl(&format!("get pod {pod} -o jsonpath={{.spec.nodeName}}"))?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let unified = mounts
        .lines()
        .map(|l| l.split(' ').collect::<Vec<_>>())
        .find(|f| f.get(2) == Some(&"cgroup2"))
        .and_then(|f| f.get(1).map(|s| (*s).to_owned()))
        .context("cgroup v2 is not mounted")?;
    let cgroup = format!("{unified}/daymark/{}/{node}/pod{uid}/shim", cluster.name());
    let member = fs::read_to_string(format!("{cgroup}/cgroup.procs"))?;
    let pids: Vec<&str> = member.lines().collect();
    let pid = pids.iter().find(|p| in_other_network(p)).context("no process of the pod is in its network")?;
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    let home = fs::read_to_string("/proc/self/cgroup")?;
    let home = home.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/").to_owned();
    let me = std::process::id().to_string();
    fs::write(format!("{cgroup}/cgroup.procs"), &me)?;
    let done = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            work()
        });
        thread.join().map_err(|_| anyhow::anyhow!("the thread in the pod panicked"))?
    });
    fs::write(format!("{unified}{home}/cgroup.procs"), &me)?;
    done
}

fn in_other_network(pid: &str) -> bool {
    let of = |p: &str| fs::read_link(format!("/proc/{p}/ns/net")).ok();
    of(pid).is_some_and(|theirs| {
        let parent = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !parent.is_empty() && Some(theirs) != of("self")
    })
}
