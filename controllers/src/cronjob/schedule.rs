//! When a schedule in the form of crontab(5), or a word such as `@daily`, is due. Pure.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

/// A schedule that can be computed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Schedule {
    Fields(Box<Fields>),
    /// `@every 90s`: counted from the last time.
    Every(SignedDuration),
}

/// The numbers that match, a bit each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether either kind of day is open (`*`): then both must match, otherwise one of the two is enough.
    any_day: bool,
}

/// A text that is no schedule.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not understood")]
pub(crate) struct NotASchedule(String);

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A schedule such as 30 February is never due: so many years are looked at.
const YEARS: i16 = 5;

impl Schedule {
    /// Reads the `schedule` of a CronJob.
    ///
    /// # Errors
    /// When it is none; the API server refuses such ones.
    pub(crate) fn parse(text: &str) -> Result<Self, NotASchedule> {
        let wrong = || NotASchedule(text.to_owned());
        if let Some(period) = text.strip_prefix("@every ") {
            return every(period).map(Self::Every).ok_or_else(wrong);
        }
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let parts: Vec<&str> = fields.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = parts.as_slice() else { return Err(wrong()) };
        let read = |part: &str, low: u32, high: u32, names: &[&str]| bits(part, low, high, names).ok_or_else(wrong);
        let (minutes, _) = read(minutes, 0, 59, &[])?;
        let (hours, _) = read(hours, 0, 23, &[])?;
        let (days, is_any_day) = read(days, 1, 31, &[])?;
        let (months, _) = read(months, 1, 12, &MONTHS)?;
        let (weekdays, is_any_weekday) = read(weekdays, 0, 6, &DAYS)?;
        let any_day = is_any_day || is_any_weekday;
        Ok(Self::Fields(Box::new(Fields { minutes, hours, days, months, weekdays, any_day })))
    }

    /// The first time after `after`; `None` when there is none within years.
    pub(crate) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(period) => after.checked_add(*period).ok(),
            Self::Fields(fields) => fields.next(after, zone),
        }
    }

    /// The last time after `since` and not after `now`: the one that a controller which slept has to make up for.
    pub(crate) fn last_due(&self, since: Timestamp, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if let Self::Every(period) = self {
            let times = now.duration_since(since).as_nanos() / period.as_nanos().max(1);
            let elapsed = period.checked_mul(i32::try_from(times).ok()?)?;
            return (times > 0).then(|| since.checked_add(elapsed).ok()).flatten();
        }
        // Backwards in growing steps, so that few times are visited however long ago `since` is.
        let windows = [1, 24, 24 * 32, 24 * 366, 24 * 366 * 5].map(SignedDuration::from_hours);
        let starts = windows.into_iter().filter_map(|window| now.checked_sub(window).ok());
        let start = starts.filter(|start| *start > since).chain([since]);
        for start in start {
            let mut last = None;
            let mut at = start;
            while let Some(due) = self.next(at, zone).filter(|due| *due <= now) {
                last = Some(due);
                at = due;
            }
            if last.is_some() {
                return last;
            }
        }
        None
    }
}

impl Fields {
    /// Walks in real time: an hour that the clocks skip has no jobs, one that they repeat has them twice.
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let minute = after.as_second().div_euclid(60).checked_add(1)?.checked_mul(60)?;
        let mut at = Timestamp::from_second(minute).ok()?.to_zoned(zone.clone());
        let last_year = at.year().saturating_add(YEARS);
        while at.year() <= last_year {
            at = if !has(self.months, at.month()) {
                start_of_day(&at.date().first_of_month().checked_add(1.month()).ok()?, zone)?
            } else if !self.has_day(&at) {
                start_of_day(&at.date().tomorrow().ok()?, zone)?
            } else if !has(self.hours, at.hour()) {
                at.checked_add((60 - i64::from(at.minute())).minutes()).ok()?
            } else if !has(self.minutes, at.minute()) {
                at.checked_add(1.minute()).ok()?
            } else {
                return Some(at.timestamp());
            };
        }
        None
    }

    fn has_day(&self, at: &Zoned) -> bool {
        let day = has(self.days, at.day());
        let weekday = has(self.weekdays, at.weekday().to_sunday_zero_offset());
        if self.any_day { day && weekday } else { day || weekday }
    }
}

fn start_of_day(date: &jiff::civil::Date, zone: &TimeZone) -> Option<Zoned> {
    date.to_zoned(zone.clone()).ok()
}

fn has(bits: u64, number: i8) -> bool {
    u32::try_from(number).is_ok_and(|number| bits.checked_shr(number).unwrap_or(0) & 1 == 1)
}

/// A comma-separated list of `*`, `a`, `a-b`, each with `/step` or without; and whether it is open.
fn bits(text: &str, low: u32, high: u32, names: &[&str]) -> Option<(u64, bool)> {
    let (mut bits, mut is_open) = (0, false);
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u32>().ok().filter(|step| *step > 0)?)),
            None => (part, None),
        };
        let value = |text: &str| {
            let named = names.iter().zip(low..).find(|(name, _)| text.eq_ignore_ascii_case(name));
            let number = named.map_or_else(|| text.parse().ok(), |(_, number)| Some(number));
            number.filter(|number: &u32| (low..=high).contains(number))
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" || range == "?" => {
                is_open |= step.is_none_or(|step| step == 1);
                (low, high)
            }
            Some((first, last)) => (value(first)?, value(last)?),
            None => (value(range)?, if step.is_some() { high } else { value(range)? }),
        };
        if first > last {
            return None;
        }
        let step = usize::try_from(step.unwrap_or(1)).ok()?;
        bits = (first..=last).step_by(step).fold(bits, |bits, number| bits | 1_u64 << number);
    }
    Some((bits, is_open))
}

/// A duration such as `1h30m`; at least a second.
fn every(text: &str) -> Option<SignedDuration> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |length| digits + length);
        let (_, unit) = UNITS.into_iter().find(|(unit, _)| *unit == &rest[digits..unit_end])?;
        seconds += number * unit;
        rest = &rest[unit_end..];
    }
    let period = Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())?;
    let seconds = i64::try_from(period.as_secs()).ok()?.max(1);
    Some(SignedDuration::from_secs(seconds))
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
