//! The way out: the host masquerades what the LAN sends beyond it.

use std::io::Write;
use std::process::{Command, Stdio};

use daymark_model::AddressFamily;
use miette::{IntoDiagnostic, Result, WrapErr, miette};

use crate::cluster::spec::ClusterSpec;

const FORWARDS_IPV6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// The families that have a way out. Of IPv6 only where this host forwards it already: to turn that on makes
/// a host forget the routes that its routers advertise.
pub fn families(spec: &ClusterSpec) -> Vec<AddressFamily> {
    let forwards = |family| match family {
        AddressFamily::Ipv4 => true,
        AddressFamily::Ipv6 => std::fs::read_to_string(FORWARDS_IPV6).is_ok_and(|on| on.trim() == "1"),
    };
    spec.lan.families().filter(|family| spec.egress && forwards(*family)).collect()
}

/// Lets the LAN out through the host. Forwarding stays on when the cluster goes: others may rely on it.
pub fn enable(spec: &ClusterSpec) -> Result<()> {
    for family in families(spec) {
        if family == AddressFamily::Ipv4 {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")
                .into_diagnostic()
                .wrap_err("cannot enable forwarding")?;
        }
        nft(&ruleset(spec, family))?;
    }
    Ok(())
}

/// Takes the rules out; missing ones are fine.
pub fn disable(spec: &ClusterSpec) {
    for family in spec.lan.families() {
        let _ = nft(&format!("delete table {} {}\n", word(family), table(spec)));
    }
}

fn table(spec: &ClusterSpec) -> String {
    format!("daymark_{}", spec.name.replace('-', "_"))
}

/// As nft calls the family.
fn word(family: AddressFamily) -> &'static str {
    match family {
        AddressFamily::Ipv4 => "ip",
        AddressFamily::Ipv6 => "ip6",
    }
}

/// Replaces our table as a whole: adding makes it exist, deleting empties it, the rest fills it.
fn ruleset(spec: &ClusterSpec, family: AddressFamily) -> String {
    let (ip, table, bridge) = (word(family), table(spec), spec.bridge());
    let lan = spec.lan.of(family).map(|lan| lan.to_string()).unwrap_or_default();
    format!(
        "table {ip} {table} {{}}\n\
         delete table {ip} {table}\n\
         table {ip} {table} {{\n\
           chain postrouting {{\n\
             type nat hook postrouting priority srcnat; policy accept;\n\
             {ip} saddr {lan} oifname != \"{bridge}\" masquerade\n\
           }}\n\
           chain forward {{\n\
             type filter hook forward priority filter; policy accept;\n\
             oifname \"{bridge}\" iifname != \"{bridge}\" ct state established,related accept\n\
             oifname \"{bridge}\" iifname != \"{bridge}\" drop\n\
           }}\n\
         }}\n"
    )
}

fn nft(rules: &str) -> Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| {
            miette!(
                help = "install nftables (`apt-get install nftables`), or use `--no-egress`",
                "pods cannot reach the outside: cannot run nft: {e}"
            )
        })?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(rules.as_bytes()).into_diagnostic()?;
    }
    let done = child.wait_with_output().into_diagnostic()?;
    if done.status.success() {
        return Ok(());
    }
    Err(miette!(
        help = "use `--no-egress` if pods need not reach the outside",
        "nft refused the egress rules: {}",
        String::from_utf8_lossy(&done.stderr).trim()
    ))
}
