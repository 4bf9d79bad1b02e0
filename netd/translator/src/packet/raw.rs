//! Numbers and addresses in bytes.
//!
//! Reads beyond the end give zero and writes do nothing. Parsing has proved that neither happens; saying it here again
//! costs a comparison and means that no mistake there can panic.

use std::net::{Ipv4Addr, Ipv6Addr};

#[inline]
pub(super) fn byte_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}

#[inline]
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
}

#[inline]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array_at(bytes, at))
}

#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array_at(bytes, at))
}

#[inline]
pub(super) fn addr4_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from(array_at::<4>(bytes, at))
}

#[inline]
pub(super) fn addr6_at(bytes: &[u8], at: usize) -> Ipv6Addr {
    Ipv6Addr::from(array_at::<16>(bytes, at))
}

#[inline]
pub(super) fn put_byte(bytes: &mut [u8], at: usize, value: u8) {
    put_bytes(bytes, at, &[value]);
}

#[inline]
pub(super) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    put_bytes(bytes, at, &value.to_be_bytes());
}

#[inline]
pub(super) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    put_bytes(bytes, at, &value.to_be_bytes());
}

#[inline]
pub(super) fn put_bytes<const N: usize>(bytes: &mut [u8], at: usize, value: &[u8; N]) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<N>()) {
        *place = *value;
    }
}
