//! Little-endian fields at fixed places of fixed-size records.

/// The `N` bytes at `at`. The record is long enough at every call: both its
/// length and `at` are constants.
pub(crate) fn array<const N: usize>(record: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&record[at..at + N]);
    field
}

/// The `u16` at `at`.
pub(crate) fn u16_at(record: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(record, at))
}

/// The `u32` at `at`.
pub(crate) fn u32_at(record: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(record, at))
}

/// The `u64` at `at`.
pub(crate) fn u64_at(record: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(record, at))
}

/// Writes a field.
pub(crate) fn put(record: &mut [u8], at: usize, field: &[u8]) {
    record[at..at + field.len()].copy_from_slice(field);
}
