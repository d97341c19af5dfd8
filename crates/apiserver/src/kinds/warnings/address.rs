//! Addresses and CIDRs in forms that not every program reads alike.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::kinds::field::Path;
use crate::kinds::ip::{is_mapped, without_leading_zeros};

/// Of an address that is valid, if sloppily.
pub fn check_ip(path: &Path, value: &str, found: &mut Vec<String>) {
    let strict = value.parse::<IpAddr>().ok();
    let Some(ip) = strict.or_else(|| without_leading_zeros(value).parse().ok()) else { return };
    if strict.is_none() || is_mapped(ip) {
        let plain = ip.to_canonical();
        found.push(format!("{path}: non-standard IP address {value:?} is invalid: use \"{plain}\""));
    } else if ip.is_ipv6() && ip.to_string() != value {
        found.push(format!(
            "{path}: IPv6 address {value:?} should be in RFC 5952 canonical format (\"{ip}\")"
        ));
    }
}

/// Of a CIDR that is valid, if sloppily.
pub fn check_cidr(path: &Path, value: &str, found: &mut Vec<String>) {
    let (ip, length) = value.split_once('/').unwrap_or((value, ""));
    let sloppy = format!("{}/{}", without_leading_zeros(ip), without_leading_zeros(length));
    let Ok(net) = sloppy.parse::<IpNet>() else { return };
    let before = found.len();
    let network = shown(net.trunc());
    if net.trunc() != net {
        let single = format!("{}/{}", net.addr().to_canonical(), net.max_prefix_len());
        found.push(format!(
            "{path}: CIDR value {value:?} is ambiguous in this context (should be \"{network}\" or \"{single}\"?)"
        ));
    }
    let strict = ip.parse::<IpAddr>().is_ok() && (length == "0" || !length.starts_with('0'));
    if !strict || is_mapped(net.addr()) {
        found.push(format!("{path}: non-standard CIDR value {value:?} is invalid: use \"{network}\""));
    }
    if found.len() == before && net.addr().is_ipv6() && net.to_string() != value {
        found.push(format!(
            "{path}: IPv6 CIDR value {value:?} should be in RFC 5952 canonical format (\"{net}\")"
        ));
    }
}

/// An IPv4 network that is written as an IPv6 one is shown as what it is.
fn shown(net: IpNet) -> String {
    match (net.addr().to_canonical(), net.prefix_len()) {
        (IpAddr::V4(v4), length) if net.addr().is_ipv6() && length >= 96 => format!("{v4}/{}", length - 96),
        _ => net.to_string(),
    }
}
