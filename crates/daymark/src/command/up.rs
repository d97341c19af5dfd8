//! `daymark up`: from nothing to a ready cluster, or back to nothing.

use std::fs;

use daymark_model::AddressFamily;
use miette::{IntoDiagnostic, Result, WrapErr, miette};

use super::progress::Progress;
use super::{down, start};
use crate::cli::{IpFamily, Up};
use crate::cluster::networks::Asked;
use crate::cluster::paths::Paths;
use crate::cluster::pki::Holder;
use crate::cluster::spec::{self, ClusterSpec, Controllers, show};
use crate::cluster::{Cluster, preflight, process};
use crate::say::say;
use crate::{interrupt, lan};

pub async fn run(args: &Up) -> Result<()> {
    let name = &args.cluster.name;
    spec::check_name(name)?;
    preflight::check()?;
    let paths = Paths::new(name);
    let lock = process::exclusive(&paths.cluster_lock(), name)?;
    let created = !paths.spec().exists();
    let planned = if created { plan(args).await } else { existing(args).map(|cluster| cluster.spec) };
    let spec = planned.inspect_err(|_| down::forget_lock(&paths))?;
    let cluster = Cluster { spec, paths };
    let progress = Progress::begin();
    let outcome = tokio::select! {
        done = bring_up(&cluster, created, &progress) => done,
        signal = interrupt::requested() => Err(miette!("interrupted by {signal}")),
    };
    if let Err(why) = outcome {
        progress.step("undoing what was begun");
        if created { down::remove(&cluster).await } else { super::stop::halt(&cluster).await }
            .wrap_err("cleaning up after a failed start")?;
        progress.done();
        return Err(why);
    }
    greet(&cluster, progress.done());
    if args.foreground {
        let signal = interrupt::requested().await;
        eprintln!("{signal}: stopping cluster \"{name}\"");
        super::stop::halt(&cluster).await?;
    }
    drop(lock);
    Ok(())
}

/// Decides the new cluster's settings from the flags and from what this host already uses.
async fn plan(args: &Up) -> Result<ClusterSpec> {
    let taken = lan::routes::taken(&lan::build::netlink()?).await?;
    let families = args.ip_family.unwrap_or(IpFamily::Ipv4).families();
    if families.contains(&AddressFamily::Ipv6) {
        preflight::ipv6()?;
    }
    let networks = asked(args).complete(families, taken)?;
    let spec = ClusterSpec {
        name: args.cluster.name.clone(),
        nodes: args.nodes.unwrap_or(2),
        lan: networks.lan,
        pod_cidr: networks.pods,
        service_cidr: networks.services,
        domain: "cluster.local".into(),
        api_port: args.api_port.unwrap_or(6443),
        egress: !args.no_egress,
        controllers: args.controllers.unwrap_or_default(),
        nodeport_addresses: args.nodeport_addresses.clone().unwrap_or_default(),
    };
    preflight::port_free(spec.api_port)?;
    Ok(spec)
}

fn asked(args: &Up) -> Asked {
    Asked { lan: args.lan, pods: args.pod_cidr, services: args.service_cidr }
}

/// A cluster of that name exists: it may be started again, but not be made into another.
fn existing(args: &Up) -> Result<Cluster> {
    let cluster = Cluster::open(&args.cluster.name)?;
    let (name, flag) = (&cluster.spec.name, cluster.flag());
    let mut silent = cluster.processes();
    silent.retain(|p| process::living(&cluster.paths.lock(p)).is_none());
    match silent.first() {
        None => {
            return Err(miette!(
                help = format!(
                    "`daymark status{flag}` shows it; `daymark down{flag}` removes it; another `--name` starts \
                     another beside it"
                ),
                "cluster \"{name}\" is already running"
            ));
        }
        Some(one) if silent.len() < cluster.processes().len() => {
            return Err(miette!(
                help = format!(
                    "`daymark start{flag}` starts what is stopped; `daymark status{flag}` shows it; `daymark \
                     down{flag}` removes it"
                ),
                "cluster \"{name}\" is running already, but for {one}"
            ));
        }
        Some(_) => {}
    }
    let spec = &cluster.spec;
    let differs = [
        (args.nodes.is_some_and(|n| n != spec.nodes), "--nodes"),
        (args.api_port.is_some_and(|p| p != spec.api_port), "--api-port"),
        (
            args.ip_family.is_some_and(|f| {
                AddressFamily::BOTH.iter().any(|one| f.families().contains(one) != spec.has(*one))
            }),
            "--ip-family",
        ),
        (args.no_egress && spec.egress, "--no-egress"),
        (args.controllers.is_some_and(|c| c != spec.controllers), "--controllers"),
        (
            args.nodeport_addresses.as_ref().is_some_and(|wanted| *wanted != spec.nodeport_addresses),
            "--nodeport-addresses",
        ),
    ];
    let differs = differs.iter().find(|(differs, _)| *differs).map(|(_, flag)| *flag);
    match asked(args).contradicts(spec).or(differs) {
        Some(differing) => Err(miette!(
            help = format!("leave the flag out to start it as it was, or `daymark down{flag}` first"),
            "cluster \"{name}\" exists already, stopped, with another {differing}"
        )),
        None => {
            preflight::port_free(spec.api_port)?;
            Ok(cluster)
        }
    }
}

async fn bring_up(cluster: &Cluster, created: bool, progress: &Progress) -> Result<()> {
    if created {
        fs::create_dir_all(&cluster.paths.state)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot make the state folder {}", cluster.paths.state.display()))?;
        let text = serde_json::to_string_pretty(&cluster.spec).into_diagnostic()?;
        fs::write(cluster.paths.spec(), text)
            .into_diagnostic()
            .wrap_err("cannot write the cluster's description")?;
    }
    start::whole(cluster, progress).await
}

fn greet(cluster: &Cluster, seconds: f64) {
    let spec = &cluster.spec;
    let nodes: Vec<String> =
        spec.all_nodes().iter().map(|n| format!("{} {}", n.name, show(n.ips, " "))).collect();
    say!("Cluster \"{}\" is ready ({seconds:.2} s).", spec.name);
    say!("  nodes       {}", nodes.join(", "));
    say!("  context     {}", crate::cluster::kubeconfig::context_name(&spec.name));
    if spec.controllers == Controllers::None {
        greet_their_owner(cluster);
    }
    say!("Next:");
    say!("  kubectl get nodes");
    say!("  kubectl create -f examples/deployment.yml -f examples/service-definition.yml");
    say!("  curl http://{}", std::net::SocketAddr::from((spec.node(1).ip(), 30008)));
    say!("  daymark status{}", cluster.flag());
}

/// What a control plane of the user's own is started with.
fn greet_their_owner(cluster: &Cluster) {
    let pki = cluster.paths.pki();
    let command = |holder: Holder| {
        let config = cluster.paths.kubeconfig(&holder.file());
        say!("    {} --kubeconfig {} --bind-address 127.0.0.1", holder.file(), config.display());
    };
    say!("  controllers none; pods wait for a kube-controller-manager and a kube-scheduler of yours:");
    command(Holder::ControllerManager);
    say!("      --use-service-account-credentials --root-ca-file {}", pki.join("ca.crt").display());
    say!("      --service-account-private-key-file {}", pki.join("sa.key").display());
    command(Holder::Scheduler);
}
