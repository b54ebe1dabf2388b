//! SRV_SNAPSHOT_ARRAY (MS-SMB2 2.2.32.2) and the tokens that it holds.

use binrw::binrw;

use crate::error::Malformed;
use crate::name::Name;
use crate::time::FileTime;
use crate::wire;

/// The previous versions of a share, as many as the client has room for: all or none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotArray {
    /// How many there are.
    pub number_of_snapshots: u32,
    /// Bytes that the array has, or would have had if there had been room for it.
    pub array_size: u32,
    /// Their @GMT tokens (see [`gmt_token`]); empty if there was no room for them.
    pub snapshots: Vec<Name>,
}

#[binrw]
#[brw(little)]
struct Fixed {
    number_of_snapshots: u32,
    number_returned: u32,
    array_size: u32,
}

/// Size of the fixed part.
const FIXED: usize = 12;

impl SnapshotArray {
    /// The array of all `snapshots`, or the announcement of it if it doesn't fit in `max_output` bytes.
    #[must_use]
    pub fn fit(snapshots: Vec<Name>, max_output: usize) -> Self {
        let size = array_size(&snapshots);
        let (number_of_snapshots, array_size) = (wire::length_u32(snapshots.len()), wire::length_u32(size));
        let has_room = size.saturating_add(FIXED) <= max_output;
        Self { number_of_snapshots, array_size, snapshots: if has_room { snapshots } else { Vec::new() } }
    }

    /// Reads the output.
    ///
    /// # Errors
    /// [`Malformed`] when it is short or holds another number of tokens than it says.
    pub fn parse(output: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "snapshot array";
        let fixed: Fixed = wire::fixed(output, 0, WHAT)?;
        let mut snapshots = Vec::new();
        if fixed.number_returned != 0 {
            let size = usize::try_from(fixed.array_size).map_err(|_| Malformed(WHAT))?;
            let end = FIXED.checked_add(size).ok_or(Malformed(WHAT))?;
            let units = wire::utf16(output.get(FIXED..end).ok_or(Malformed(WHAT))?, WHAT)?;
            let tokens = units.split(|unit| *unit == 0).take_while(|token| !token.is_empty());
            snapshots = tokens.map(Name::from_units).collect();
        }
        if wire::length_u32(snapshots.len()) != fixed.number_returned {
            return Err(Malformed("snapshot array: number of tokens"));
        }
        // What stands behind the last token is not kept, nor counted. Without tokens the size is what they would take.
        let array_size = match snapshots.as_slice() {
            [] => fixed.array_size,
            tokens => wire::length_u32(array_size(tokens)),
        };
        let number_of_snapshots = fixed.number_of_snapshots;
        Ok(Self { number_of_snapshots, array_size, snapshots })
    }

    /// Appends the output.
    pub fn emit(&self, out: &mut Vec<u8>) {
        wire::put(
            out,
            &Fixed {
                number_of_snapshots: self.number_of_snapshots,
                number_returned: wire::length_u32(self.snapshots.len()),
                array_size: self.array_size,
            },
        );
        for token in &self.snapshots {
            wire::put_utf16(out, token.units());
            wire::put_utf16(out, &[0]);
        }
        if !self.snapshots.is_empty() || self.number_of_snapshots == 0 {
            wire::put_utf16(out, &[0]);
        }
    }
}

/// Bytes that tokens take with their ends. The array ends with a null character of its own, which stands there even
/// when nothing else does.
fn array_size(tokens: &[Name]) -> usize {
    const END: usize = 2;
    tokens.iter().map(|token| token.wire_len().saturating_add(END)).fold(END, usize::saturating_add)
}

/// Seconds in a day.
const DAY: i64 = 86_400;

/// The @GMT token of a point in time: `@GMT-YYYY.MM.DD-HH.MM.SS`, in UTC, without fractions of a second.
#[must_use]
pub fn gmt_token(time: FileTime) -> Name {
    let (seconds, _) = time.to_unix();
    let (year, month, day) = date_of_day(seconds.div_euclid(DAY));
    let second = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("@GMT-{year:04}.{month:02}.{day:02}-{hour:02}.{minute:02}.{second:02}").as_str().into()
}

/// The point in time that an @GMT token names; none if it isn't one.
#[must_use]
pub fn gmt_token_time(token: &Name) -> Option<FileTime> {
    let text = String::from_utf16(token.units()).ok()?;
    let (date, time) = text.strip_prefix("@GMT-")?.split_once('-')?;
    let (year, month_and_day) = date.split_once('.')?;
    let (month, day) = month_and_day.split_once('.')?;
    let (hour, minute_and_second) = time.split_once('.')?;
    let (minute, second) = minute_and_second.split_once('.')?;
    let date = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
    let (hour, minute, second) = (number(hour, 2)?, number(minute, 2)?, number(second, 2)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let in_day = hour.saturating_mul(3600).saturating_add(minute.saturating_mul(60)).saturating_add(second);
    let seconds = day_of_date(date)?.saturating_mul(DAY).saturating_add(in_day);
    let time = FileTime::from_unix(seconds, 0);
    // FILETIME starts in 1601: earlier dates saturate and don't lead back to their token.
    (gmt_token(time) == *token).then_some(time)
}

/// A number of exactly `digits` decimal digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// Days before the first of March of a year of the Gregorian calendar, counted from the year 0. Years that begin in
/// March have their leap day at the end.
fn days_before_march(year: i64) -> i64 {
    let leap_days =
        year.div_euclid(4).saturating_sub(year.div_euclid(100)).saturating_add(year.div_euclid(400));
    year.saturating_mul(365).saturating_add(leap_days)
}

/// Days between 0000-03-01 and 1970-01-01.
const UNIX_EPOCH_DAY: i64 = 719_468;

/// Days before a month (0 is March) in a year that begins in March. Months from March on repeat 31, 30, 31, 30, 31.
fn days_before_month(month: i64) -> i64 {
    month.saturating_mul(153).saturating_add(2).div_euclid(5)
}

/// The day (0 is 1970-01-01) of a year, month and day of month; none if there is no such day.
fn day_of_date((year, month, day): (i64, i64, i64)) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year_from_march = if month <= 2 { year.saturating_sub(1) } else { year };
    let month_from_march = month.saturating_add(9).rem_euclid(12);
    let in_year = days_before_month(month_from_march).saturating_add(day.saturating_sub(1));
    Some(days_before_march(year_from_march).saturating_add(in_year).saturating_sub(UNIX_EPOCH_DAY))
}

/// Year, month and day of month of a day (0 is 1970-01-01).
fn date_of_day(day: i64) -> (i64, i64, i64) {
    let day = day.saturating_add(UNIX_EPOCH_DAY);
    // 400 years have 146 097 days: the estimate is at most a year off.
    let mut year = day.saturating_mul(400).div_euclid(146_097);
    while days_before_march(year) > day {
        year = year.saturating_sub(1);
    }
    while days_before_march(year.saturating_add(1)) <= day {
        year = year.saturating_add(1);
    }
    let in_year = day.saturating_sub(days_before_march(year));
    let month_from_march = in_year.saturating_mul(5).saturating_add(2).div_euclid(153);
    let day_of_month = in_year.saturating_sub(days_before_month(month_from_march)).saturating_add(1);
    let month = month_from_march.saturating_add(2).rem_euclid(12).saturating_add(1);
    let year = if month <= 2 { year.saturating_add(1) } else { year };
    (year, month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Vec<Name> {
        vec!["@GMT-2025.01.31-23.59.59".into(), "@GMT-2024.02.29-00.00.00".into()]
    }

    #[test]
    fn arrays_make_the_round_trip() {
        for (snapshots, max_output, size) in
            [(tokens(), 12 + 102, 12 + 102), (tokens(), 113, 12), (vec![], 16, 14)]
        {
            let array = SnapshotArray::fit(snapshots, max_output);
            let needed = if array.snapshots.is_empty() { FIXED } else { size };
            let mut bytes = Vec::new();
            array.emit(&mut bytes);
            assert_eq!(bytes.len(), size);
            assert_eq!(SnapshotArray::parse(&bytes), Ok(array));
            assert!((0..needed).all(|length| SnapshotArray::parse(&bytes[..length]).is_err()));
        }
    }

    #[test]
    fn an_array_without_room_is_announced() {
        let array = SnapshotArray::fit(tokens(), 16);
        assert_eq!((array.number_of_snapshots, array.array_size, array.snapshots.len()), (2, 102, 0));
    }

    #[test]
    fn another_number_of_tokens_than_announced_is_refused() {
        let mut bytes = Vec::new();
        SnapshotArray::fit(tokens(), 200).emit(&mut bytes);
        for (position, value) in [(4, 1), (4, 3), (8, 101), (8, 104), (11, 0xFF)] {
            let mut hostile = bytes.clone();
            hostile[position] = value;
            assert!(SnapshotArray::parse(&hostile).is_err(), "{position}: {value}");
        }
    }

    #[test]
    fn tokens_name_points_in_time() {
        let cases = [
            (0, "@GMT-1970.01.01-00.00.00"),
            (951_782_400, "@GMT-2000.02.29-00.00.00"),
            (1_709_251_199, "@GMT-2024.02.29-23.59.59"),
            (4_107_542_400, "@GMT-2100.03.01-00.00.00"),
            (-11_644_473_600, "@GMT-1601.01.01-00.00.00"),
        ];
        for (seconds, token) in cases {
            let time = FileTime::from_unix(seconds, 0);
            assert_eq!(gmt_token(time), token.into());
            assert_eq!(gmt_token_time(&token.into()), Some(time), "{token}");
        }
    }

    #[test]
    fn every_day_leads_back_to_itself() {
        let mut previous = date_of_day(-134_775);
        for day in -134_774..300_000 {
            let date = date_of_day(day);
            assert_eq!(day_of_date(date), Some(day));
            assert!(date > previous, "{date:?}");
            previous = date;
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in [
            "",
            "@GMT-",
            "@GMT-2024.02.30-00.00.00",
            "@GMT-2023.02.29-00.00.00",
            "@GMT-2024.13.01-00.00.00",
            "@GMT-2024.00.01-00.00.00",
            "@GMT-2024.01.01-24.00.00",
            "@GMT-2024.01.01-00.60.00",
            "@GMT-2024.1.01-00.00.000",
            "@GMT-2024.01.01-00.00.0+",
            "@GMT-1600.01.01-00.00.00",
            "@GMT-2024.01.01-00.00.00.00",
        ] {
            assert_eq!(gmt_token_time(&text.into()), None, "{text}");
        }
    }

    #[test]
    fn bytes_behind_the_last_token_are_not_kept() {
        let array = SnapshotArray::fit(vec!["@GMT-2026.01.02-03.04.05".into()], 400);
        let mut bytes = Vec::new();
        array.emit(&mut bytes);
        bytes.extend_from_slice(b"rest");
        let size = bytes.len() - FIXED;
        bytes[8..12].copy_from_slice(&u32::try_from(size).unwrap().to_le_bytes());
        assert_eq!(SnapshotArray::parse(&bytes), Ok(array));
    }
}
