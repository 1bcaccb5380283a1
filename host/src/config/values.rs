//! Sizes and durations as people write them.

use super::Quota;
use std::time::Duration;

/// Bytes: `64MiB`, `10MB`, `512 B`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let not_a_size =
        || format!("`{text}` is not a size: write a whole number and a unit, as \"64MiB\"");
    if unit.starts_with(['.', ',']) {
        return Err(not_a_size());
    }
    let factor: u64 = match unit {
        "B" | "" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => {
            return Err(format!(
                "`{unit}` is not a unit of size: use B, KB, MB, GB, KiB, MiB or GiB"
            ));
        }
    };
    let number: u64 = number.parse().map_err(|_| not_a_size())?;
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is more than there are bytes"))
}

/// Time: `200ms`, `30s`, `2m`, `1h`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let number: u64 = number.parse().map_err(|_| {
        format!(
            "`{text}` is not a duration: write a whole number and a unit, as \"200ms\" or \"30s\""
        )
    })?;
    let seconds = |factor: u64| {
        number
            .checked_mul(factor)
            .map(Duration::from_secs)
            .ok_or_else(|| format!("`{text}` is longer than time can be counted"))
    };
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" | "min" => seconds(60),
        "h" => seconds(3600),
        "" => Err(format!("`{text}` has no unit: write \"{number}s\" or \"{number}ms\"")),
        _ => Err(format!("`{unit}` is not a unit of time: use ms, s, m or h")),
    }
}

/// So many in such a time: `20/min`, `200000/day`, `5/10s`.
pub(super) fn quota(text: &str) -> Result<Quota, String> {
    let wrong = || {
        format!(
            "`{text}` is not a number in a time: write \"20/min\", \"1000/h\", \"200000/day\" or \"5/10s\""
        )
    };
    let (count, per) = text.split_once('/').ok_or_else(wrong)?;
    let count: u64 = count.trim().replace('_', "").parse().map_err(|_| wrong())?;
    if count == 0 || count > 1_000_000_000_000 {
        return Err(format!("`{text}`: the number must be 1 to 1000000000000"));
    }
    let per = match per.trim() {
        "s" | "sec" | "second" => Duration::from_secs(1),
        "m" | "min" | "minute" => Duration::from_secs(60),
        "h" | "hour" => Duration::from_secs(3600),
        "d" | "day" => Duration::from_secs(86_400),
        other => duration(other).map_err(|_| wrong())?,
    };
    Ok(Quota { count, per })
}

/// A share of a hundred: `10%`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn percent(text: &str) -> Result<u8, String> {
    let number = text.trim().strip_suffix('%').unwrap_or_default().trim_end();
    number.parse().ok().filter(|percent| *percent <= 100).ok_or_else(|| {
        format!(
            "`{text}` is not a share: write a whole number from 0 to 100 and a sign, as \"10%\""
        )
    })
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_are_read_as_people_write_them() {
        assert_eq!(size("64MiB").unwrap(), 64 << 20);
        assert_eq!(size("10 MB").unwrap(), 10_000_000);
        assert_eq!(duration("200ms").unwrap(), Duration::from_millis(200));
        assert_eq!(duration("2m").unwrap(), Duration::from_secs(120));
        assert!(size("1.5MiB").unwrap_err().contains("whole number"));
        assert!(size("20000000000GiB").unwrap_err().contains("more than"));
        assert!(duration("5").unwrap_err().contains("\"5s\""));
        assert_eq!(percent("10%"), Ok(10));
        assert_eq!(percent(" 100 %"), Ok(100));
        for text in ["10", "101%", "-1%", "1.5%", "%", "ten%"] {
            assert!(percent(text).unwrap_err().contains("\"10%\""), "{text}");
        }
        assert!(duration("5 years").unwrap_err().contains("unit of time"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_them_panic(text in ".*") {
            _ = size(&text);
            _ = duration(&text);
            _ = percent(&text);
        }
    }
}
