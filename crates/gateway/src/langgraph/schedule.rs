//! When something recurs: the five fields of cron, in a time zone.
//!
//! Fields as in POSIX crontab(5) with the usual additions: lists, ranges, steps, English names
//! of months and days, 7 for Sunday, `@hourly` and the like. Where both the day of the month
//! and the day of the week are restricted, one of them is enough.
//!
//! Invariant: pure; a time that a change of the clock leaves out is shifted as RFC 5545 does,
//! one that it repeats is taken once. Deliberately absent: seconds and years.

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};

/// How many days ahead a next time is looked for: over a leap day that a century leaves out.
const DAYS: usize = 9 * 366;
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A schedule in its zone.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    is_either: bool,
    zone: TimeZone,
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScheduleError {
    #[error("read the schedule: give five fields, minute, hour, day, month and weekday")]
    Fields,
    #[error("read the schedule: {0:?} is no {1}")]
    Field(String, &'static str),
    #[error("read the schedule: the time zone {0:?} is unknown")]
    Zone(String),
    #[error("read the schedule: it never comes due")]
    Never,
}

impl Schedule {
    /// Reads a schedule; without a zone it is in UTC.
    pub(crate) fn parse(text: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let text = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            other => other,
        };
        let fields: Vec<_> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(ScheduleError::Fields);
        };
        let zone = match zone {
            Some(name) => TimeZone::get(name).map_err(|_| ScheduleError::Zone(name.to_owned()))?,
            None => TimeZone::UTC,
        };
        let mut weekdays = field(weekday, (0, 7), &WEEKDAYS, "weekday")?;
        weekdays |= (weekdays >> 7) & 1;
        Ok(Self {
            minutes: field(minute, (0, 59), &[], "minute")?,
            hours: field(hour, (0, 23), &[], "hour")?,
            days: field(day, (1, 31), &[], "day of the month")?,
            months: field(month, (1, 12), &MONTHS, "month")?,
            weekdays,
            is_either: !day.starts_with(['*', '?']) && !weekday.starts_with(['*', '?']),
            zone,
        })
    }

    fn is_day(&self, date: Date) -> bool {
        let weekday = date.weekday().to_sunday_zero_offset();
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, weekday);
        has(self.months, date.month())
            && match self.is_either {
                true => day || weekday,
                false => day && weekday,
            }
    }

    /// The first time after this one.
    pub(crate) fn after(&self, now: Timestamp) -> Result<Timestamp, ScheduleError> {
        let mut date = self.zone.to_datetime(now).date();
        for _ in 0..DAYS {
            if self.is_day(date) {
                for hour in (0..24).filter(|hour| has(self.hours, *hour)) {
                    for minute in (0..60).filter(|minute| has(self.minutes, *minute)) {
                        let at = self.zone.to_timestamp(date.at(hour, minute, 0, 0));
                        if let Some(at) = at.ok().filter(|at| *at > now) {
                            return Ok(at);
                        }
                    }
                }
            }
            date = date
                .checked_add(1.day())
                .map_err(|_| ScheduleError::Never)?;
        }
        Err(ScheduleError::Never)
    }
}

fn has(set: u64, number: i8) -> bool {
    u32::try_from(number).is_ok_and(|number| set >> number & 1 == 1)
}

/// The numbers that a field names, as bits.
fn field(
    text: &str,
    (first, last): (u32, u32),
    names: &[&str],
    what: &'static str,
) -> Result<u64, ScheduleError> {
    let wrong = || ScheduleError::Field(text.to_owned(), what);
    let number = |text: &str| {
        let named = names.iter().zip(if first == 1 { 1.. } else { 0.. });
        let mut named = named.filter(|(name, _)| name.eq_ignore_ascii_case(text));
        let number = named.next().map(|(_, number)| number);
        number
            .or_else(|| text.parse().ok())
            .filter(|number| (first..=last).contains(number))
            .ok_or_else(wrong)
    };
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u32>().map_err(|_| wrong())?)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" || range == "?" => (first, last),
            Some((from, to)) => (number(from)?, number(to)?),
            None if step.is_some() => (number(range)?, last),
            None => (number(range)?, number(range)?),
        };
        let step = step.unwrap_or(1);
        if from > to || step == 0 {
            return Err(wrong());
        }
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        (from..=to)
            .step_by(step)
            .for_each(|number| set |= 1 << number);
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(schedule: &str, zone: Option<&str>, now: &str) -> String {
        let schedule = Schedule::parse(schedule, zone).unwrap();
        schedule.after(now.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn the_next_time_is_the_first_that_all_fields_allow() {
        let now = "2026-02-27T10:30:00Z";
        for (schedule, zone, next) in [
            ("* * * * *", None, "2026-02-27T10:31:00Z"),
            ("*/20 9-17 * * mon-fri", None, "2026-02-27T10:40:00Z"),
            ("0 0 1 1 *", None, "2027-01-01T00:00:00Z"),
            ("0 12 29 2 *", None, "2028-02-29T12:00:00Z"),
            ("0 0 13 * 5", None, "2026-03-06T00:00:00Z"),
            ("5 4 * * 7", None, "2026-03-01T04:05:00Z"),
            ("@hourly", None, "2026-02-27T11:00:00Z"),
            (
                "0 9 * * *",
                Some("America/New_York"),
                "2026-02-27T14:00:00Z",
            ),
        ] {
            assert_eq!(after(schedule, zone, now), next, "{schedule}");
        }
        // Clocks go from 2:00 to 3:00 in this night.
        let spring = after("30 2 * * *", Some("Europe/Berlin"), "2026-03-28T12:00:00Z");
        assert_eq!(spring, "2026-03-29T01:30:00Z");
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "* * * * fish",
            "*/0 * * * *",
            "9-1 * * * *",
        ] {
            assert!(Schedule::parse(text, None).is_err(), "{text}");
        }
        assert!(Schedule::parse("* * * * *", Some("Nowhere/Else")).is_err());
        let never = Schedule::parse("0 0 31 2 *", None).unwrap();
        assert_eq!(
            never.after(Timestamp::UNIX_EPOCH),
            Err(ScheduleError::Never)
        );
    }
}
