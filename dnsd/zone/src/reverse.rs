//! Reverse names: from `5.0.244.10.in-addr.arpa` to the address it stands for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::name::Name;

/// The address that a reverse name stands for; `None` for any other name, also for one with too few labels.
pub(crate) fn address_of(name: &Name) -> Option<IpAddr> {
    if let Some(front) = name.in_front_of("in-addr.arpa") {
        let octets: Vec<u8> = front.rsplit('.').map(octet).collect::<Option<_>>()?;
        return Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)));
    }
    let front = name.in_front_of("ip6.arpa")?;
    let nibbles: Vec<u8> = front.rsplit('.').map(nibble).collect::<Option<_>>()?;
    let nibbles = <[u8; 32]>::try_from(nibbles).ok()?;
    let bits = nibbles.iter().fold(0_u128, |bits, &nibble| bits << 4 | u128::from(nibble));
    Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
}

/// Decimal without leading zeros: `05` is another name than `5`.
fn octet(label: &str) -> Option<u8> {
    let number: u8 = label.parse().ok()?;
    (number.to_string() == label).then_some(number)
}

fn nibble(label: &str) -> Option<u8> {
    let mut characters = label.chars();
    let digit = characters.next()?.to_digit(16)?;
    characters.next().is_none().then(|| u8::try_from(digit).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_names_are_read_back_to_front() {
        let read = |text: &str| address_of(&Name::new(text)).map(|address| address.to_string());
        assert_eq!(read("5.0.244.10.in-addr.arpa").as_deref(), Some("10.244.0.5"));
        assert_eq!(read("5.0.244.10.IN-ADDR.ARPA.").as_deref(), Some("10.244.0.5"));
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(read(v6).as_deref(), Some("fd00:96::1"));
        for other in [
            "0.244.10.in-addr.arpa",
            "05.0.244.10.in-addr.arpa",
            "256.0.244.10.in-addr.arpa",
            "10.1.in-addr",
            "x.ip6.arpa",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
