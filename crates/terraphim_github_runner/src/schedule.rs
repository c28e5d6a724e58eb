//! When a `schedule` of a workflow is due: the times of its cron text in its time zone.
//!
//! GitHub's rules (docs "Events that trigger workflows", `schedule`): UTC unless `timezone` names an IANA zone; a time of
//! day that a change to summer time skips is advanced to the next one that exists, so 2:30 becomes 3:00. A time of day
//! that comes twice when summer time ends is due once, unless the hour is `*`: then what is due within each hour is due
//! within both. The zones are those of the host, or the ones this program carries where the host has none.

use jiff::{
    Span, Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, Offset, TimeZone},
};
use terraphim_actions::{
    diagnostic::{Diagnostic, Severity},
    trigger::cron::{Civil, Cron, CronError},
    workflow::{Schedule, Workflow},
};
use thiserror::Error;

/// A schedule that is never due.
#[derive(Debug, Error)]
pub enum ScheduleError {
    /// `cron` is not valid.
    #[error("the time `{text}` is not valid")]
    Cron {
        /// The text.
        text: String,
        /// Why.
        #[source]
        source: CronError,
    },
    /// `timezone` is no name of a zone.
    #[error("there is no time zone `{0}`")]
    Zone(String),
}

/// A schedule that can be due.
#[derive(Clone, Debug)]
pub struct DueTimes {
    cron: Cron,
    zone: TimeZone,
}

impl DueTimes {
    /// The times of one entry of `on.schedule`.
    ///
    /// # Errors
    /// If its cron text is not valid, or its time zone is unknown.
    pub fn new(schedule: &Schedule) -> Result<DueTimes, ScheduleError> {
        let zone = schedule.timezone.as_ref().map_or(Ok(TimeZone::UTC), |name| time_zone(name))?;
        let text = &schedule.cron.value;
        let cron = Cron::parse(text).map_err(|source| ScheduleError::Cron { text: text.clone(), source })?;
        Ok(DueTimes { cron, zone })
    }

    /// The zone whose times of day count.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first time after `after` at which it is due; `None` if its date never comes.
    ///
    /// Between two changes of the zone's offset the search is one in plain times of day; each change on the way is looked
    /// at for itself.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let mut offset = self.zone.to_offset(after);
        let (mut from, mut time) = (after, offset.to_datetime(after));
        loop {
            let due = self.next_time(time, offset)?;
            let instant = offset.to_timestamp(due).ok()?;
            let Some(change) = self.zone.following(from).next() else { return Some(instant) };
            from = change.timestamp();
            if instant < from {
                return Some(instant);
            }
            let (before, then) = (offset.to_datetime(from), change.offset().to_datetime(from));
            if (before..then).contains(&due) {
                return Some(from);
            }
            offset = change.offset();
            // What was due in the first pass of a time that comes twice is done, unless every hour counts.
            let first = if self.cron.is_every_hour() { then } else { then.max(before) };
            time = first.checked_sub(Span::new().minutes(1)).ok()?;
        }
    }

    /// The next time of day that counts, read with this offset.
    fn next_time(&self, mut time: DateTime, offset: Offset) -> Option<DateTime> {
        loop {
            time = datetime(self.cron.next_after(civil(time))?)?;
            let twice = self.zone.to_ambiguous_timestamp(time).offset();
            let is_second = matches!(twice, AmbiguousOffset::Fold { after, .. } if after == offset);
            if !is_second || self.cron.is_every_hour() {
                return Some(time);
            }
        }
    }
}

/// Warnings about time zones that do not exist. (The language's own checks know cron, but no zones: those are data of the
/// host.)
#[must_use]
pub fn unknown_zones(workflow: &Workflow) -> Vec<Diagnostic> {
    let file = workflow.files.first().cloned().unwrap_or_else(|| "".into());
    let unknown = |schedule: &Schedule| {
        let error = DueTimes::new(schedule).err().filter(|error| matches!(error, ScheduleError::Zone(_)))?;
        let span = schedule.timezone.as_ref()?.span;
        let finding = Diagnostic::error(&file, span, capital(&error.to_string()));
        let hint = "The workflow never starts at this time; names are those of the IANA database, such as Europe/Berlin";
        Some(Diagnostic { severity: Severity::Warning, ..finding.with_hint(hint) })
    };
    let schedules = workflow.on.events.get("schedule").into_iter().flat_map(|trigger| &trigger.schedule);
    schedules.filter_map(unknown).collect()
}

/// Findings about files are sentences.
fn capital(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map(|first| first.to_uppercase().chain(rest).collect()).unwrap_or_default()
}

/// The zone with this IANA name.
///
/// # Errors
/// If there is none.
fn time_zone(name: &str) -> Result<TimeZone, ScheduleError> {
    TimeZone::get(name).map_err(|_| ScheduleError::Zone(name.to_owned()))
}

fn civil(time: DateTime) -> Civil {
    // jiff's months, days, hours and minutes are never negative.
    let small = |value: i8| value.unsigned_abs();
    Civil {
        year: i32::from(time.year()),
        month: small(time.month()),
        day: small(time.day()),
        hour: small(time.hour()),
        minute: small(time.minute()),
    }
}

/// `None` beyond the year 9999.
fn datetime(time: Civil) -> Option<DateTime> {
    let small = |value: u8| i8::try_from(value).ok();
    DateTime::new(
        i16::try_from(time.year).ok()?,
        small(time.month)?,
        small(time.day)?,
        small(time.hour)?,
        small(time.minute)?,
        0,
        0,
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use terraphim_actions::workflow::Workflow;

    use super::*;

    fn times(cron: &str, zone: Option<&str>) -> Result<DueTimes, ScheduleError> {
        let zone = zone.map_or_else(String::new, |zone| format!(", timezone: '{zone}'"));
        let text = format!(
            "on: {{schedule: [{{cron: '{cron}'{zone}}}]}}\njobs: {{a: {{runs-on: x, steps: [{{run: x}}]}}}}"
        );
        let workflow = Workflow::parse(&text, "w.yml").unwrap();
        DueTimes::new(&workflow.on.events["schedule"].schedule[0])
    }

    /// The next times, each after the one before it.
    fn next(cron: &str, zone: Option<&str>, after: &str, count: usize) -> Vec<String> {
        let times = times(cron, zone).unwrap();
        let mut at: Timestamp = after.parse().unwrap();
        let step = |_| {
            at = times.next_after(at).unwrap();
            at.to_string()
        };
        (0..count).map(step).collect()
    }

    #[test]
    fn times_are_utc_unless_a_zone_is_named() {
        assert_eq!(next("0 3 * * *", None, "2026-11-25T03:00:00Z", 1), ["2026-11-26T03:00:00Z"]);
        assert_eq!(
            next("0 3 * * *", Some("Asia/Tokyo"), "2026-11-25T03:00:00Z", 1),
            ["2026-11-25T18:00:00Z"]
        );
    }

    #[test]
    fn a_skipped_time_of_day_is_advanced_and_due_once() {
        // Clocks in Berlin went from 2:00 to 3:00 on 29 March 2026, at 1:00 UTC.
        assert_eq!(
            next("30 2 * * *", Some("Europe/Berlin"), "2026-03-28T12:00:00Z", 2),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            next("0 4 29 3 *", Some("Europe/Berlin"), "2026-03-28T12:00:00Z", 1),
            ["2026-03-29T02:00:00Z"]
        );
        assert_eq!(
            next("*/20 2,3 * * *", Some("Europe/Berlin"), "2026-03-28T12:00:00Z", 2),
            ["2026-03-29T01:00:00Z", "2026-03-29T01:20:00Z"],
            "three skipped times and 3:00 are one"
        );
    }

    #[test]
    fn a_time_of_day_that_comes_twice_is_due_once_unless_every_hour_counts() {
        // Clocks in Berlin went from 3:00 back to 2:00 on 25 October 2026, at 1:00 UTC.
        assert_eq!(
            next("30 2 * * *", Some("Europe/Berlin"), "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        assert_eq!(
            next("30 2 * * *", Some("Europe/Berlin"), "2026-10-25T01:15:00Z", 1),
            ["2026-10-26T01:30:00Z"],
            "asked during the second pass"
        );
        assert_eq!(
            next("*/30 * * * *", Some("Europe/Berlin"), "2026-10-25T00:15:00Z", 4),
            ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"]
        );
    }

    #[test]
    fn what_is_never_due_says_why() {
        let zone = times("0 3 * * *", Some("Europe/Berlín")).unwrap_err();
        assert_eq!(zone.to_string(), "there is no time zone `Europe/Berlín`");
        assert!(matches!(times("61 * * * *", None), Err(ScheduleError::Cron { .. })));
        let never = times("0 0 31 2 *", Some("Europe/Berlin")).unwrap();
        assert_eq!(never.next_after("2026-01-01T00:00:00Z".parse().unwrap()), None);
    }
}
