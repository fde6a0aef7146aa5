//! Values on the command line, as `dejavm` has them.

use std::time::Duration;

/// Bytes: a number with `K`, `M` or `G` behind it, powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let bad =
        || "not a size: give a whole number, with K, M or G behind it if you like, such as 512M".to_owned();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return Err(bad()),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".into())
}

/// A time span that is not zero: a number with `us`, `ms`, `s`, `m` or `h` behind it; seconds without.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || "not a time: give a number with us, ms, s, m or h behind it, such as 500ms".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(bad()),
    };
    let number: f64 = digits.parse().map_err(|_| bad())?;
    match Duration::try_from_secs_f64(number * unit) {
        Ok(Duration::ZERO) => Err("too short".into()),
        time => time.map_err(|_| bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_units() {
        assert_eq!((size("512M"), size("3"), size("1KiB")), (Ok(512 << 20), Ok(3), Ok(1024)));
        assert!(size("x").is_err() && size("3x").is_err() && size("99999999999G").is_err());
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert!(duration("0").is_err() && duration("-1").is_err() && duration("1d").is_err());
    }
}
