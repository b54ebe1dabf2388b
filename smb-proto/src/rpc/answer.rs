//! What the methods answer: from arguments and facts to results, both as stubs.
//!
//! The caller is an ordinary user. What only administrators may see (sessions, open files, paths, users) is refused
//! or left out, whatever the level.

use super::pdu::FaultStatus;
use super::srvsvc::{self, ShareInfo, TimeOfDay};
use super::wkssvc::{self, WorkstationGetInfoReply, WorkstationInfo};
use super::{ServerDescription, Service, ShareDescription, Win32Error};
use crate::error::Malformed;
use crate::name::Name;
use crate::time::FileTime;
use crate::wire;

/// Most bytes of entries that one enumeration returns, whatever length the caller prefers.
const ENTRIES_SIZE_MAX: usize = 1 << 20;

/// Runs the method `opnum`. A stub that does not hold its arguments is a fault of its own (MS-RPCE 3.1.3.5.2).
pub(super) fn answer(
    service: Service,
    opnum: u16,
    stub: &[u8],
    description: &ServerDescription,
    now: FileTime,
) -> Result<Vec<u8>, FaultStatus> {
    let result = match service {
        Service::Srvsvc => answer_srvsvc(opnum, stub, description, now),
        Service::Wkssvc => match opnum {
            wkssvc::opnum::WKSTA_GET_INFO => wkssvc::GetInfo::parse(stub)
                .map(|arguments| workstation_get_info(arguments.level, description).emit()),
            _ => return Err(FaultStatus::OPERATION_RANGE),
        },
    };
    match result {
        Ok(stub) if stub.is_empty() => Err(FaultStatus::OPERATION_RANGE),
        Ok(stub) => Ok(stub),
        Err(Malformed(_)) => Err(FaultStatus::BAD_STUB_DATA),
    }
}

/// As [`answer`]; an empty stub says that there is no such method, as every method returns something.
fn answer_srvsvc(
    opnum: u16,
    stub: &[u8],
    description: &ServerDescription,
    now: FileTime,
) -> Result<Vec<u8>, Malformed> {
    Ok(match opnum {
        srvsvc::opnum::CONNECTION_ENUM | srvsvc::opnum::FILE_ENUM | srvsvc::opnum::SESSION_ENUM => {
            srvsvc::ActivityEnum::parse(opnum, stub)?.refusal(opnum, Win32Error::ACCESS_DENIED)
        }
        // These return nothing but a status.
        srvsvc::opnum::FILE_CLOSE
        | srvsvc::opnum::SESSION_DEL
        | srvsvc::opnum::SHARE_DEL
        | srvsvc::opnum::SHARE_DEL_STICKY => status(Win32Error::ACCESS_DENIED),
        srvsvc::opnum::SHARE_ENUM => share_enum(&srvsvc::ShareEnum::parse(stub)?, description, false).emit(),
        srvsvc::opnum::SHARE_ENUM_STICKY => {
            share_enum(&srvsvc::ShareEnum::parse(stub)?, description, true).emit()
        }
        srvsvc::opnum::SHARE_GET_INFO => {
            share_get_info(&srvsvc::ShareGetInfo::parse(stub)?, description).emit()
        }
        srvsvc::opnum::SERVER_GET_INFO => {
            server_get_info(srvsvc::GetInfo::parse(stub)?.level, description).emit()
        }
        srvsvc::opnum::REMOTE_TOD => {
            super::ndr::Reader::new(stub).unique_string()?;
            let time = time_of_day(now, description.time_zone_minutes);
            srvsvc::RemoteTimeOfDayReply { time: Some(time), status: Win32Error::SUCCESS }.emit()
        }
        srvsvc::opnum::NAME_VALIDATE => status(name_validate(&srvsvc::NameValidate::parse(stub)?)),
        _ => Vec::new(),
    })
}

fn status(status: Win32Error) -> Vec<u8> {
    status.0.to_le_bytes().to_vec()
}

fn share_info(share: &ShareDescription) -> ShareInfo {
    ShareInfo {
        name: Some(share.name.clone()),
        kind: share.kind,
        remark: Some(share.remark.clone()),
        permissions: 0,
        uses_max: share.uses_max.unwrap_or(u32::MAX),
        uses: share.uses,
        path: Some(Name::default()),
        password: None,
        server_name: Some(Name::from("*")),
        security_descriptor: Some(share.security_descriptor.clone()).filter(|bytes| !bytes.is_empty()),
        flags: share.flags,
    }
}

/// NetrShareEnum, and NetrShareEnumSticky. A resume handle is the number of shares passed so far: by MS-SRVS 3.1.4.8
/// it is an index, with zero for the beginning, so that it cannot be the index of the last share returned.
fn share_enum(
    arguments: &srvsvc::ShareEnum,
    description: &ServerDescription,
    sticky_only: bool,
) -> srvsvc::ShareEnumReply {
    let level = arguments.level;
    let resume_handle = arguments.resume_handle;
    if !srvsvc::is_share_enum_level(level) || (sticky_only && level == 501) {
        let status = Win32Error::INVALID_LEVEL;
        return srvsvc::ShareEnumReply { level, shares: None, entries_total: 0, resume_handle, status };
    }
    let begin = usize::try_from(resume_handle.unwrap_or(0)).unwrap_or(usize::MAX);
    let listed = description.shares.iter().filter(|share| !sticky_only || share.kind.is_sticky());
    let entries_total = listed.clone().skip(begin).count();
    let mut room =
        usize::try_from(arguments.preferred_length_max).unwrap_or(usize::MAX).min(ENTRIES_SIZE_MAX);
    let mut shares = Vec::new();
    for share in listed.skip(begin) {
        let info = share_info(share);
        let Some(left) = room.checked_sub(info.size(level)) else { break };
        room = left;
        shares.push(info);
    }
    let (status, next) = if shares.len() == entries_total {
        (Win32Error::SUCCESS, 0)
    } else if shares.is_empty() {
        (Win32Error::BUFFER_TOO_SMALL, begin)
    } else {
        (Win32Error::MORE_DATA, begin.saturating_add(shares.len()))
    };
    srvsvc::ShareEnumReply {
        level,
        shares: Some(shares),
        entries_total: wire::length_u32(entries_total),
        resume_handle: resume_handle.map(|_| wire::length_u32(next)),
        status,
    }
}

fn share_get_info(
    arguments: &srvsvc::ShareGetInfo,
    description: &ServerDescription,
) -> srvsvc::ShareGetInfoReply {
    let level = arguments.level;
    let refuse = |status| srvsvc::ShareGetInfoReply { level, share: None, status };
    if arguments.share_name.is_empty() {
        return refuse(Win32Error::INVALID_PARAMETER);
    }
    if !srvsvc::is_share_level(level) {
        return refuse(Win32Error::INVALID_LEVEL);
    }
    let wanted = arguments.share_name.folded();
    match description.shares.iter().find(|share| share.name.folded() == wanted) {
        Some(share) => {
            srvsvc::ShareGetInfoReply { level, share: Some(share_info(share)), status: Win32Error::SUCCESS }
        }
        None => refuse(Win32Error::NET_NAME_NOT_FOUND),
    }
}

fn server_get_info(level: u32, description: &ServerDescription) -> srvsvc::ServerGetInfoReply {
    let status = match level {
        100..=102 => Win32Error::SUCCESS,
        103 | 502 | 503 => Win32Error::ACCESS_DENIED,
        _ => Win32Error::INVALID_LEVEL,
    };
    let server = (status == Win32Error::SUCCESS).then(|| srvsvc::ServerInfo {
        platform_id: srvsvc::PLATFORM_ID_NT,
        name: Some(description.server_name.clone()),
        version_major: description.version_major,
        version_minor: description.version_minor,
        server_type: description.server_type.0,
        comment: Some(description.comment.clone()),
        // No limit on users, no idle disconnect, hidden from browsing: nothing is announced. The announcement period
        // has no value for "never"; it is the longest.
        users_max: u32::MAX,
        disconnect_minutes: u32::MAX,
        hidden: 1,
        announce_seconds: 65535,
        announce_delta_ms: 0,
        licenses: 0,
        user_path: Some(Name::default()),
    });
    srvsvc::ServerGetInfoReply { level, server, status }
}

fn workstation_get_info(level: u32, description: &ServerDescription) -> WorkstationGetInfoReply {
    let status = match level {
        100 | 101 => Win32Error::SUCCESS,
        102 | 502 => Win32Error::ACCESS_DENIED,
        _ => Win32Error::INVALID_LEVEL,
    };
    let workstation = (status == Win32Error::SUCCESS).then(|| WorkstationInfo {
        platform_id: srvsvc::PLATFORM_ID_NT,
        computer_name: Some(description.server_name.clone()),
        domain: Some(description.domain.clone()),
        version_major: description.version_major,
        version_minor: description.version_minor,
        lan_root: None,
        logged_on_users: 0,
    });
    WorkstationGetInfoReply { level, workstation, status }
}

/// Lengths, refused characters and whether `*` is allowed, by name type (MS-SRVS 2.2.2.8).
fn name_validate(arguments: &srvsvc::NameValidate) -> Win32Error {
    let (shortest, longest, forbidden) = match arguments.name_type {
        1 | 3 => (1, 256, ""),
        2 => (0, 256, "\0"),
        4 => (1, 260, "*"),
        5 => (1, 16, ""),
        6 => (1, 15, "* "),
        7 | 9 => (1, 80, ""),
        8 => (1, 260, ""),
        10 | 13 => (1, 15, ""),
        11 => (1, 260, ""),
        12 => (0, 8, "\0"),
        _ => return Win32Error::INVALID_PARAMETER,
    };
    if arguments.flags != 0 {
        return Win32Error::INVALID_PARAMETER;
    }
    let units = arguments.name.units();
    let is_password = forbidden == "\0";
    let refused = |unit: &u16| {
        let character = char::from_u32(u32::from(*unit)).unwrap_or(char::REPLACEMENT_CHARACTER);
        *unit < 0x20 || "\"/\\[]:|<>+=;,?".contains(character) || forbidden.contains(character)
    };
    let space = u16::from(b' ');
    let is_padded = units.first() == Some(&space) || units.last() == Some(&space);
    let star = u16::from(b'*');
    let stars_inside = units.split_last().is_some_and(|(_, front)| front.contains(&star));
    let is_valid = (shortest..=longest).contains(&units.len())
        && (is_password || !units.iter().any(refused))
        && !(arguments.name_type == 4 && is_padded)
        && !(arguments.name_type == 11
            && (stars_inside || (units.len() == longest && units.last() != Some(&star))));
    if is_valid { Win32Error::SUCCESS } else { Win32Error::INVALID_NAME }
}

/// The time in UTC, taken apart. Years beyond the range of the fields saturate.
fn time_of_day(now: FileTime, time_zone_minutes: i32) -> TimeOfDay {
    let (seconds, nanoseconds) = now.to_unix();
    let small = |value: i64| u32::try_from(value).unwrap_or(0);
    let second_of_day = seconds.rem_euclid(86_400);
    let days = seconds.div_euclid(86_400);
    let (year, month, day) = civil(days);
    let elapsed_ms = seconds.wrapping_mul(1000).wrapping_add(i64::from(nanoseconds / 1_000_000));
    TimeOfDay {
        elapsed_seconds: u32::try_from(seconds.max(0)).unwrap_or(u32::MAX),
        elapsed_ms: small(elapsed_ms & 0xFFFF_FFFF),
        hours: small(second_of_day / 3600),
        minutes: small(second_of_day / 60 % 60),
        seconds: small(second_of_day % 60),
        hundredths: nanoseconds / 10_000_000,
        time_zone_minutes,
        tick_interval: 1,
        day,
        month,
        year,
        weekday: small(days.saturating_add(4).rem_euclid(7)), // 1970 began on a Thursday.
    }
}

/// Year, month and day of a day counted from 1970.
fn civil(days: i64) -> (u32, u32, u32) {
    const DAYS_PER_ERA: i64 = 146_097; // 400 years.
    let mut year = days.div_euclid(DAYS_PER_ERA).saturating_mul(400).saturating_add(1970);
    let mut rest = days.rem_euclid(DAYS_PER_ERA);
    let is_leap =
        |year: i64| year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    let length_of_year = |year: i64| if is_leap(year) { 366 } else { 365 };
    while rest >= length_of_year(year) {
        rest = rest.saturating_sub(length_of_year(year));
        year = year.saturating_add(1);
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month: u32 = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if rest < length {
            break;
        }
        rest = rest.saturating_sub(length);
        month = month.saturating_add(1);
    }
    (u32::try_from(year).unwrap_or(0), month, u32::try_from(rest).unwrap_or(0).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_taken_apart() {
        // 2024-02-29 23:59:58.76 UTC, a Thursday.
        let time = time_of_day(FileTime::from_unix(1_709_251_198, 765_000_000), -60);
        assert_eq!((time.year, time.month, time.day, time.weekday), (2024, 2, 29, 4));
        assert_eq!((time.hours, time.minutes, time.seconds, time.hundredths), (23, 59, 58, 76));
        assert_eq!((time.elapsed_seconds, time.time_zone_minutes), (1_709_251_198, -60));
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(-1), (1969, 12, 31));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(11_017), (2000, 3, 1));
        assert_eq!(civil(20_453), (2025, 12, 31));
        assert_eq!(time_of_day(FileTime(u64::MAX), 0).elapsed_seconds, u32::MAX);
    }

    #[test]
    fn names_are_validated_by_type() {
        let check = |name: &str, name_type| {
            name_validate(&srvsvc::NameValidate {
                server_name: None,
                name: Name::from(name),
                name_type,
                flags: 0,
            })
        };
        assert_eq!(check("data$", 9), Win32Error::SUCCESS);
        assert_eq!(check("", 9), Win32Error::INVALID_NAME);
        assert_eq!(check(&"x".repeat(81), 9), Win32Error::INVALID_NAME);
        assert_eq!(check("a/b", 9), Win32Error::INVALID_NAME);
        assert_eq!(check("a\u{1}b", 9), Win32Error::INVALID_NAME);
        assert_eq!(check("a*b", 4), Win32Error::INVALID_NAME);
        assert_eq!(check(" host", 4), Win32Error::INVALID_NAME);
        assert_eq!(check("WORK GROUP", 6), Win32Error::INVALID_NAME);
        assert_eq!(check("WORK GROUP", 13), Win32Error::SUCCESS);
        assert_eq!(check("a/b", 2), Win32Error::SUCCESS);
        assert_eq!(check("al*", 11), Win32Error::SUCCESS);
        assert_eq!(check("a*l", 11), Win32Error::INVALID_NAME);
        assert_eq!(check("x", 0), Win32Error::INVALID_PARAMETER);
        assert_eq!(check("x", 14), Win32Error::INVALID_PARAMETER);
    }
}
