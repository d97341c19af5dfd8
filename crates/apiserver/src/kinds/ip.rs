//! Texts that must be IP addresses or CIDRs.

use std::net::IpAddr;

use ipnet::IpNet;

use super::format::Complaints;

/// The text without the leading zeros of its decimal parts: how older, sloppier parsers read it.
pub fn without_leading_zeros(text: &str) -> String {
    let parts: Vec<&str> = text
        .split('.')
        .map(|part| {
            let trimmed = part.trim_start_matches('0');
            if trimmed.is_empty() && !part.is_empty() { "0" } else { trimmed }
        })
        .collect();
    parts.join(".")
}

/// Whether it is an IPv4 address written as an IPv6 one.
pub fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// An IP address in the form that all parsers agree on.
pub fn address(text: &str) -> Complaints {
    let complaint = match text.parse::<IpAddr>() {
        Ok(ip) if is_mapped(ip) => "must not be an IPv4-mapped IPv6 address",
        Ok(_) => return Vec::new(),
        Err(_) if without_leading_zeros(text).parse::<IpAddr>().is_ok() => "must not have leading 0s",
        Err(_) => "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    };
    vec![complaint.to_owned()]
}

/// A valid address written as everybody writes it.
pub fn canonical(text: &str) -> Complaints {
    match text.parse::<IpAddr>() {
        Ok(ip) if ip.to_string() != text => vec![format!("must be in canonical form (\"{ip}\")")],
        _ => Vec::new(),
    }
}

/// A CIDR without bits beyond its prefix.
pub fn cidr(text: &str) -> Complaints {
    let (ip, len) = text.split_once('/').unwrap_or((text, ""));
    let canonical = ip.parse::<IpAddr>().is_ok() && (len == "0" || !len.starts_with('0'));
    let relaxed = format!("{}/{}", without_leading_zeros(ip), without_leading_zeros(len));
    let complaint = match relaxed.parse::<IpNet>() {
        Err(_) => "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        Ok(_) if !canonical => "must not have leading 0s in IP or prefix length",
        Ok(net) if is_mapped(net.addr()) => "must not have an IPv4-mapped IPv6 address",
        Ok(net) if net.trunc() != net => "must not have bits set beyond the prefix length",
        Ok(_) => return Vec::new(),
    };
    vec![complaint.to_owned()]
}

/// An address that an endpoint or an external IP may have.
pub fn endpoint_address(text: &str) -> Complaints {
    let Ok(ip) = text.parse::<IpAddr>() else {
        return vec!["must be a valid IP address".to_owned()];
    };
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let link_local_multicast = match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    };
    let mut out = Vec::new();
    if ip.is_unspecified() {
        out.push(format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        out.push("may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned());
    }
    if link_local {
        out.push("may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned());
    }
    if link_local_multicast {
        out.push("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_cidrs() {
        let cases = [
            ("10.0.0.1", ""),
            ("fd00::1", ""),
            ("10.0.0.01", "must not have leading 0s"),
            ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
            ("10.0.0", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            ("", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ];
        for (text, wanted) in cases {
            assert_eq!(address(text).join(""), wanted, "{text}");
        }
        let cases = [
            ("10.0.0.0/8", ""),
            ("10.0.0.1/8", "must not have bits set beyond the prefix length"),
            ("10.0.0.00/8", "must not have leading 0s in IP or prefix length"),
            ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
            ("fd00::/64", ""),
            ("0.0.0.0/0", ""),
            ("10.0.0.0/", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
            ("10.0.0.0", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
        ];
        for (text, wanted) in cases {
            assert_eq!(cidr(text).join(""), wanted, "{text}");
        }
    }

    #[test]
    fn endpoint_addresses() {
        assert!(endpoint_address("10.0.0.1").is_empty());
        for bad in ["0.0.0.0", "127.0.0.1", "::1", "169.254.1.1", "fe80::1", "224.0.0.1", "ff02::1", "x"] {
            assert_eq!(endpoint_address(bad).len(), 1, "{bad}");
        }
    }
}
