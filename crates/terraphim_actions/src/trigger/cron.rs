//! The times of `schedule`: POSIX cron with five fields.

use std::ops::RangeInclusive;

/// A time that repeats. Times of day are those of the zone the workflow names; the caller converts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
}

/// Why a time is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Not five fields.
    #[error("a cron time has five fields: minute, hour, day of the month, month, day of the week")]
    FieldCount,
    /// A field that says nothing.
    #[error("'{text}' is no {field}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is written.
        text: String,
    },
}

/// The values of a field, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    bits: u64,
    /// Was it written as `*`?
    any: bool,
}

impl Field {
    const fn has(self, value: u8) -> bool {
        self.bits >> value & 1 == 1
    }
}

/// A day and a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Civil {
    /// The year.
    pub year: i32,
    /// The month, from 1.
    pub month: u8,
    /// The day of the month, from 1.
    pub day: u8,
    /// The hour, from 0.
    pub hour: u8,
    /// The minute, from 0.
    pub minute: u8,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Cron {
    /// Reads a time.
    ///
    /// # Errors
    /// If it is not five valid fields. Words such as `@daily` are not supported, as on GitHub.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(CronError::FieldCount);
        };
        let mut weekdays = field("day of the week", weekdays, 0..=7, &WEEKDAYS, 0)?;
        // Sunday is 0 and 7.
        weekdays.bits |= weekdays.bits >> 7 & 1;
        Ok(Self {
            minutes: field("minute", minutes, 0..=59, &[], 0)?,
            hours: field("hour", hours, 0..=23, &[], 0)?,
            days: field("day of the month", days, 1..=31, &[], 0)?,
            months: field("month", months, 1..=12, &MONTHS, 1)?,
            weekdays,
        })
    }

    /// Is it due at this time? If both days are limited, either of them will do.
    #[must_use]
    pub fn is_due(&self, time: Civil) -> bool {
        self.minutes.has(time.minute) && self.hours.has(time.hour) && self.is_day(time)
    }

    fn is_day(&self, time: Civil) -> bool {
        let day = self.days.has(time.day);
        let weekday = self.weekdays.has(weekday(time));
        let fits = if self.days.any || self.weekdays.any { day && weekday } else { day || weekday };
        fits && self.months.has(time.month)
    }

    /// Is the hour `*`, so that it is due in every hour of its days?
    #[must_use]
    pub const fn is_every_hour(&self) -> bool {
        self.hours.any && self.hours.bits == (1 << 24) - 1
    }

    /// The first time after `time` at which it is due; `None` if there is none in the next nine
    /// years, which hold every date there is.
    #[must_use]
    pub fn next_after(&self, time: Civil) -> Option<Civil> {
        const DAYS: usize = 9 * 366;
        let mut next = time.next_minute();
        for _ in 0..=DAYS {
            if self.is_day(next) {
                for hour in next.hour..24 {
                    let first = if hour == next.hour { next.minute } else { 0 };
                    if let Some(minute) =
                        (first..60).find(|minute| self.minutes.has(*minute) && self.hours.has(hour))
                    {
                        return Some(Civil { hour, minute, ..next });
                    }
                }
            }
            next = next.next_day();
        }
        None
    }
}

impl Civil {
    fn next_minute(self) -> Self {
        match (self.minute, self.hour) {
            (59, 23) => self.next_day(),
            (59, hour) => Self { minute: 0, hour: hour + 1, ..self },
            (minute, _) => Self { minute: minute + 1, ..self },
        }
    }

    /// The start of the next day.
    fn next_day(self) -> Self {
        let midnight = Self { hour: 0, minute: 0, ..self };
        if self.day < days_in(self.year, self.month) {
            Self { day: self.day + 1, ..midnight }
        } else if self.month < 12 {
            Self { day: 1, month: self.month + 1, ..midnight }
        } else {
            Self { day: 1, month: 1, year: self.year + 1, ..midnight }
        }
    }
}

fn days_in(year: i32, month: u8) -> u8 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The day of the week, Sunday is 0. Zeller's rule as Sakamoto wrote it.
fn weekday(time: Civil) -> u8 {
    const OFFSETS: [i32; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
    let year = if time.month < 3 { time.year - 1 } else { time.year };
    let offset = OFFSETS.get(usize::from(time.month.saturating_sub(1))).copied().unwrap_or(0);
    let days = year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + offset
        + i32::from(time.day);
    u8::try_from(days.rem_euclid(7)).unwrap_or(0)
}

fn field(
    name: &'static str,
    text: &str,
    range: RangeInclusive<u8>,
    words: &[&str],
    first_word: u8,
) -> Result<Field, CronError> {
    let wrong = || CronError::Field { field: name, text: text.to_owned() };
    let value = |text: &str| -> Option<u8> {
        let by_word = words.iter().position(|word| word.eq_ignore_ascii_case(text));
        let number = match by_word {
            Some(index) => u8::try_from(index).ok()? + first_word,
            None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok()?,
            None => return None,
        };
        range.contains(&number).then_some(number)
    };
    let mut bits = 0;
    for part in text.split(',') {
        let (span, step) = match part.split_once('/') {
            Some((span, step)) => (span, step.parse::<u8>().ok().filter(|step| *step > 0).ok_or_else(wrong)?),
            None => (part, 1),
        };
        let (from, to) = match (span, span.split_once('-')) {
            ("*", _) => (*range.start(), *range.end()),
            (_, Some((from, to))) => (value(from).ok_or_else(wrong)?, value(to).ok_or_else(wrong)?),
            (_, None) => {
                let from = value(span).ok_or_else(wrong)?;
                (from, if part.contains('/') { *range.end() } else { from })
            }
        };
        if from > to {
            return Err(wrong());
        }
        for number in (from..=to).step_by(usize::from(step)) {
            bits |= 1_u64 << number;
        }
    }
    Ok(Field { bits, any: text.starts_with('*') })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(year: i32, month: u8, day: u8, hour: u8, minute: u8) -> Civil {
        Civil { year, month, day, hour, minute }
    }

    fn next(cron: &str, after: Civil) -> Civil {
        Cron::parse(cron).expect("a time").next_after(after).expect("a next time")
    }

    #[test]
    fn next_times() {
        let after = time(2026, 11, 21, 10, 7);
        assert_eq!(next("*/15 * * * *", after), time(2026, 11, 21, 10, 15));
        assert_eq!(next("0 3 * * *", after), time(2026, 11, 22, 3, 0));
        assert_eq!(next("30 5 * * MON-FRI", after), time(2026, 11, 23, 5, 30));
        assert_eq!(next("0 0 29 2 *", after), time(2028, 2, 29, 0, 0));
        assert_eq!(next("59 23 31 dec *", after), time(2026, 12, 31, 23, 59));
        assert_eq!(next("0 0 * * 7", after), time(2026, 11, 22, 0, 0));
        assert_eq!(next("0 12 1 * tue", after), time(2026, 11, 24, 12, 0), "either day will do");
        assert_eq!(next("5/20 1,2 * * *", after), time(2026, 11, 22, 1, 5));
    }

    #[test]
    fn a_date_that_never_comes() {
        assert_eq!(Cron::parse("0 0 31 2 *").expect("valid").next_after(time(2026, 1, 1, 0, 0)), None);
    }

    #[test]
    fn wrong_times_are_refused() {
        for bad in [
            "",
            "* * * *",
            "@daily",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "5-1 * * * *",
            "a * * * *",
            "1,,2 * * * *",
            "+1 * * * *",
        ] {
            assert!(Cron::parse(bad).is_err(), "{bad}");
        }
    }
}
