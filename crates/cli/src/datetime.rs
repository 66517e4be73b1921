//! Points in time as people write them: RFC 3339, or milliseconds since 1970.

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use thiserror::Error;

const DAY_MS: i64 = 86_400_000;

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timestamp(pub(crate) i64);

#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is no time: expected e.g. 2026-01-31, 2026-01-31T08:30:00Z, …T08:30:00.250+02:00 or milliseconds"
)]
pub(crate) struct TimestampError(String);

impl Timestamp {
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        if let Ok(milliseconds) = text.parse::<u64>() {
            return i64::try_from(milliseconds)
                .map(Self)
                .map_err(|_| TimestampError(text.to_owned()));
        }
        parse(text)
            .map(Self)
            .ok_or_else(|| TimestampError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<i64> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.splitn(3, '-');
    let (year, month, day) = (
        number(parts.next()?, 4)?,
        number(parts.next()?, 2)?,
        number(parts.next()?, 2)?,
    );
    let days = days_from_civil(year, month, day)?;
    let ms = time.map_or(Some(0), time_of_day)?;
    days.checked_mul(DAY_MS)?.checked_add(ms)
}

/// Milliseconds into the day, in UTC; without a zone the time is taken as UTC (as Kafka's tools do).
fn time_of_day(text: &str) -> Option<i64> {
    let (clock, offset_minutes) = match text.find(['Z', 'z', '+', '-']) {
        Some(at) => (text.get(..at)?, zone_minutes(text.get(at..)?)?),
        None => (text, 0),
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.splitn(3, ':');
    let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let second = parts.next().map_or(Some(0), |text| number(text, 2))?;
    if hour > 23 || minute > 59 || second > 59 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    let ms: i64 = digits.parse().ok()?;
    Some(((hour * 60 + minute - offset_minutes) * 60 + second) * 1000 + ms)
}

fn zone_minutes(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match text.strip_prefix('+') {
        Some(rest) => (1, rest),
        None => (-1, text.strip_prefix('-')?),
    };
    let (hours, minutes) = rest.split_once(':')?;
    Some(sign * (number(hours, 2)? * 60 + number(minutes, 2)?))
}

fn number(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Days since 1970-01-01 (Howard Hinnant's algorithm).
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if day < 1 || day > length {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// `2026-01-31T08:30:00.250Z`; milliseconds out of the calendar's reach, and -1 (none), give `-`.
pub(crate) fn rfc3339(ms: i64) -> String {
    let days = ms.div_euclid(DAY_MS);
    if ms < 0 || days > 2_932_896 {
        return "-".to_owned();
    }
    let of_day = ms.rem_euclid(DAY_MS);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        of_day % 1000
    )
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_and_print() {
        for (text, ms) in [
            ("1970-01-01", 0),
            ("1970-01-01T00:00:01.5Z", 1500),
            ("2026-01-31T08:30:00Z", 1_769_848_200_000),
            ("2026-01-31 10:30:00.250+02:00", 1_769_848_200_250),
            ("2026-01-31T00:30:00-08:00", 1_769_848_200_000),
            ("2000-02-29T23:59", 951_868_740_000),
            ("1769848200000", 1_769_848_200_000),
        ] {
            assert_eq!(text.parse(), Ok(Timestamp(ms)), "{text}");
        }
        for bad in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-02-30",
            "2026-01-01T25:00:00Z",
            "2026-1-1",
            "-5",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad:?}");
        }
        assert_eq!(rfc3339(1_769_848_200_250), "2026-01-31T08:30:00.250Z");
        assert_eq!(rfc3339(951_868_740_000), "2000-02-29T23:59:00.000Z");
        assert_eq!((rfc3339(-1), rfc3339(i64::MAX)), ("-".to_owned(), "-".to_owned()));
    }
}
