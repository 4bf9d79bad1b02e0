//! Reading addresses and ranges as clients write them (S-059, S-083), and what may be an endpoint or external address.
//!
//! New values must be canonical; a stored value with leading zeros or host bits stays readable.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::check::Errors;

/// What a value that is no address is told.
const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
/// What a value that is no range is told (S-060).
const NO_RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Reads an address leniently: leading zeros in an IPv4 octet are decimal (S-059).
pub(super) fn lenient_ip(text: &str) -> Option<IpAddr> {
    let address = text.parse().ok().or_else(|| lenient_v4(text).map(IpAddr::V4))?;
    Some(unmapped(address))
}

/// Reads an address strictly: no leading zeros, no IPv4-mapped IPv6 (S-059).
pub(super) fn strict_ip(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = match text.parse() {
        Ok(address) => address,
        Err(_) if lenient_v4(text).is_some() => return Err("must not have leading 0s".to_owned()),
        Err(_) => return Err(NO_ADDRESS.to_owned()),
    };
    if unmapped(address) == address { Ok(address) } else { Err("must not be an IPv4-mapped IPv6 address".to_owned()) }
}

/// Reads a range leniently: host bits and leading zeros are forgiven.
pub(super) fn lenient_cidr(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    IpNet::new(lenient_ip(address)?, length.parse().ok()?).ok()
}

/// Reads a range strictly: no host bits, no leading zeros (S-059).
pub(super) fn strict_cidr(text: &str) -> Result<IpNet, String> {
    let (address, length) = text.split_once('/').ok_or(NO_RANGE)?;
    let number: u8 = length.parse().map_err(|_| NO_RANGE)?;
    if length.len() > 1 && length.starts_with('0') || length.starts_with('+') {
        return Err("must not have leading 0s in the prefix length".to_owned());
    }
    let address = strict_ip(address).map_err(|why| if why == NO_ADDRESS { NO_RANGE.to_owned() } else { why })?;
    let range = IpNet::new(address, number).map_err(|_| NO_RANGE)?;
    if range.trunc() == range {
        return Ok(range);
    }
    Err(format!("must not have bits set beyond the prefix length, the range is {}", range.trunc()))
}

/// Whether the text of an address is the one we would print.
pub(super) fn is_canonical_ip(text: &str) -> bool {
    strict_ip(text).is_ok_and(|address| address.to_string() == text)
}

/// Whether the text of a range is the one we would print.
pub(super) fn is_canonical_cidr(text: &str) -> bool {
    strict_cidr(text).is_ok_and(|range| range.to_string() == text)
}

/// Records an address that must not be that of an endpoint or an external address: unspecified, loopback or link-local
/// (S-058, S-206).
pub(super) fn check_not_special(errors: &mut Errors, field: &str, text: &str, address: IpAddr) {
    let (loopback, link_local) = match address {
        IpAddr::V4(v4) => (v4.is_loopback(), v4.is_link_local()),
        IpAddr::V6(v6) => (v6.is_loopback(), v6.is_unicast_link_local()),
    };
    let why = match () {
        () if address.is_unspecified() => "may not be unspecified (0.0.0.0 or ::)",
        () if loopback => "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        () if link_local => "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        () if is_link_local_multicast(address) => {
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        }
        () => return,
    };
    errors.invalid(field, text, why);
}

fn is_link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

fn unmapped(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Dotted decimal in which octets may have leading zeros.
fn lenient_v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 16 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    // S-059
    #[test]
    fn strict_addresses_refuse_what_lenient_ones_read() {
        let rows = [
            ("10.0.0.1", true, Some("10.0.0.1")),
            ("010.000.000.001", false, Some("10.0.0.1")),
            ("::ffff:10.0.0.1", false, Some("10.0.0.1")),
            ("fd00::1", true, Some("fd00::1")),
            ("10.0.0", false, None),
            ("10.0.0.256", false, None),
            ("10.0.0.1.2", false, None),
            ("", false, None),
        ];
        for (text, strict, lenient) in rows {
            assert_eq!(strict_ip(text).is_ok(), strict, "{text}");
            assert_eq!(lenient_ip(text).map(|ip| ip.to_string()).as_deref(), lenient, "{text}");
        }
    }

    // S-059
    #[test]
    fn strict_ranges_have_no_host_bits() {
        let rows = [
            ("10.0.0.0/8", true, true),
            ("10.0.0.1/8", false, true),
            ("010.0.0.0/8", false, true),
            ("10.0.0.0/08", false, true),
            ("fd00::/8", true, true),
            ("10.0.0.0", false, false),
            ("10.0.0.0/33", false, false),
            ("x/8", false, false),
        ];
        for (text, strict, lenient) in rows {
            assert_eq!(strict_cidr(text).is_ok(), strict, "{text}");
            assert_eq!(lenient_cidr(text).is_some(), lenient, "{text}");
        }
    }

    // S-058, S-206
    #[test]
    fn special_addresses_are_refused() {
        for bad in ["0.0.0.0", "::", "127.0.0.1", "::1", "169.254.1.1", "fe80::1", "224.0.0.5", "ff02::5"] {
            assert_eq!(objections(bad), 1, "{bad}");
        }
        for good in ["10.0.0.1", "203.0.113.9", "fd00::1", "224.0.1.5"] {
            assert_eq!(objections(good), 0, "{good}");
        }
    }

    fn objections(text: &str) -> usize {
        let mut errors = Errors::default();
        check_not_special(&mut errors, "ip", text, text.parse().unwrap());
        errors.into_list().len()
    }
}
