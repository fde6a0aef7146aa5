//! Values on the command line.

use std::ffi::OsString;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use dejavm::command_line::{duration, size};
use dejavm::replay::text::MOST_STRING_BYTES;
use dejavm::{Evict, PauseAt, Rung};

/// Bytes of a string that are decoded.
pub fn strings(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n <= MOST_STRING_BYTES => Ok(n),
        _ => Err(format!("give a number up to {MOST_STRING_BYTES}")),
    }
}

/// Bytes of a log that are kept: some blocks at least.
pub fn ring(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes if bytes < 64 << 10 => Err("too little: give 64K at least".into()),
        bytes => Ok(bytes),
    }
}

/// A time that an instruction can take: a nanosecond at least.
pub fn timer_step(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time < Duration::from_nanos(1) => Err("too short: give a nanosecond at least".into()),
        time => Ok(time),
    }
}

/// A variable: `NAME=VALUE`.
pub fn variable(text: &str) -> Result<(OsString, OsString), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("give NAME=VALUE".into()),
    }
}

/// An instant: `now`, `@SECONDS` since 1970, or RFC 3339 such as `2026-01-01T00:00:00Z`.
pub fn instant(text: &str) -> Result<SystemTime, String> {
    let bad = || "not an instant: give now, @SECONDS, or such as 2026-01-01T00:00:00Z".to_owned();
    if text == "now" {
        return Ok(SystemTime::now());
    }
    let nanos = match text.strip_prefix('@') {
        Some(seconds) => {
            seconds.parse::<i128>().map_err(|_| bad())?.checked_mul(1_000_000_000).ok_or_else(bad)?
        }
        None => rfc3339(text).ok_or_else(bad)?,
    };
    let nanos = u64::try_from(nanos).map_err(|_| "an instant before 1970 or after 2500".to_owned())?;
    Ok(UNIX_EPOCH + Duration::from_nanos(nanos))
}

/// Nanoseconds since 1970 (RFC 3339, section 5.6).
fn rfc3339(text: &str) -> Option<i128> {
    let field = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = text.get(range)?;
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let is = |at: usize, wanted: &[u8]| text.as_bytes().get(at).is_some_and(|b| wanted.contains(b));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (field(0..4)?, field(5..7)?, field(8..10)?);
    let (hour, minute, second) = (field(11..13)?, field(14..16)?, field(17..19)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        let nine: String = fraction[..digits].chars().chain("000000000".chars()).take(9).collect();
        nanos = nine.parse::<i128>().ok()?;
        rest = &fraction[digits..];
    }
    let offset = match rest {
        "Z" | "z" => 0,
        _ => {
            let sign = match rest.as_bytes().first()? {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            let digits = rest.get(1..)?;
            let (hours, minutes) = digits.split_once(':').filter(|(h, m)| h.len() == 2 && m.len() == 2)?;
            let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
            sign * (hours * 3600 + minutes * 60)
        }
    };
    let seconds = days_from_epoch(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset;
    Some(i128::from(seconds) * 1_000_000_000 + nanos)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar, by years that start in March.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // Of the days from 1 March of year 0 to 1 January 1970.
    const EPOCH: i64 = 719_468;
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - EPOCH
}

/// Where a snapshot is taken.
pub fn pause(text: &str) -> Result<PauseAt, String> {
    match text {
        "ready" => Ok(PauseAt::Ready),
        "first-read" => Ok(PauseAt::FirstRead),
        "first-output" => Ok(PauseAt::FirstOutput),
        _ => match (text.strip_prefix("exit:").map(str::parse), text.strip_prefix("serial:")) {
            (Some(Ok(n)), _) => Ok(PauseAt::Exit(n)),
            (_, Some(text)) if !text.is_empty() => Ok(PauseAt::Serial(text.into())),
            _ => Err("not a point: give ready, first-read, first-output, exit:N or serial:TEXT".into()),
        },
    }
}

/// Which pages are made absent again: `every=N,seed=S`.
pub fn evict(text: &str) -> Result<Evict, String> {
    let bad = || "give every=N,seed=S".to_owned();
    let mut evict = Evict { every: 0, seed: 0 };
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(bad)?;
        let value = value.parse().map_err(|_| bad())?;
        match name {
            "every" => evict.every = value,
            "seed" => evict.seed = value,
            _ => return Err(bad()),
        }
    }
    if evict.every == 0 { Err(bad()) } else { Ok(evict) }
}

/// A rung of the fault ladder.
pub fn rung(text: &str) -> Result<Rung, String> {
    match text {
        "annotated" => Ok(Rung::Annotated),
        "poison" => Ok(Rung::Poison),
        "decode" => Ok(Rung::Decode),
        "populate" => Ok(Rung::Populate),
        _ => Err("not a rung: give annotated, poison, decode or populate".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timer_steps() {
        assert_eq!(timer_step("100us"), Ok(Duration::from_micros(100)));
        assert_eq!(timer_step("0.001us"), Ok(Duration::from_nanos(1)));
        for bad in ["0", "0us", "0.0001us", "-1us"] {
            assert!(timer_step(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn instants() {
        let at = |text| instant(text).ok()?.duration_since(UNIX_EPOCH).ok().map(|d| d.as_nanos());
        assert_eq!(at("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(at("@1767225600"), Some(1_767_225_600_000_000_000));
        assert_eq!(at("2026-01-01T00:00:00Z"), at("@1767225600"));
        assert_eq!(at("2026-01-01T01:30:00.5+01:30"), Some(1_767_225_600_500_000_000));
        assert_eq!(at("2024-02-29T23:59:59Z"), at("@1709251199"));
        for bad in
            ["", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01", "1969-01-01T00:00:00Z", "@x"]
        {
            assert!(instant(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_rest() {
        assert_eq!(pause("exit:12"), Ok(PauseAt::Exit(12)));
        assert!(pause("exit:").is_err() && pause("later").is_err());
        assert_eq!(evict("every=50,seed=1"), Ok(Evict { every: 50, seed: 1 }));
        assert!(evict("every=0,seed=1").is_err() && evict("seed=1").is_err() && evict("x").is_err());
        assert_eq!(rung("decode"), Ok(Rung::Decode));
    }
}
