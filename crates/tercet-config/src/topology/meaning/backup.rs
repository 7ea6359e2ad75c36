//! The `[backup]` section. It checks the texts; systemd on the machine checks the calendar expressions.

use super::machines::Placement;
use crate::file::{self, File, Located};
use crate::topology::backup::{Backup, Repository, S3};
use crate::topology::{Secret, Tier};
use tercet_options::Mistakes;

/// Full backups, incremental backups and checks happen at these times unless the file names others.
const FULL: &str = "Sun 03:00";
const INCREMENTAL: &str = "*-*-* 03:00";
const CHECK: &str = "*-*-* 05:00";
/// How many days back the database can be restored to by default: four weeks.
const KEEP_DAYS: u32 = 28;
/// The most days.
const MOST_DAYS: u32 = 3650;

/// Reads the section; `None` without a section and without a machine that carries the tier.
pub(super) fn read(file: &File, placement: &Placement, mistakes: &mut Mistakes) -> Option<Backup> {
    let carrier = carrier(file);
    let section = file.backup.as_ref();
    if section.is_none() && carrier.is_none() {
        return None;
    }
    if let (Some(section), false) = (section, placement.named) {
        mistakes
            .add(section.span(), "[backup] is for machines, and the file names none", "for machines")
            .hint("leave it out: `tercet backup` backs the database of `tercet up` up");
        return None;
    }
    if let (Some(_), Some(at)) = (&file.database.url, section.map(Located::span).or(carrier.clone())) {
        mistakes
            .add(at, "the backups are of tercet's own PostgreSQL, and url names another", "backups")
            .hint("back that database up where it runs, and leave this out");
    }
    let absent = file::Backup::default();
    let place = section.map(Located::span).or(carrier.clone()).unwrap_or_default();
    let section: &file::Backup = section.map_or(&absent, |section| section);
    let repository = match (&section.to, &carrier) {
        (Some(to), Some(_)) => {
            mistakes
                .add(
                    to.span(),
                    "the backups have two places: `to`, and the machine with the tier backup",
                    "one",
                )
                .hint("keep one of the two");
            s3(to, section, mistakes)
        }
        (Some(to), None) => s3(to, section, mistakes),
        (None, Some(_)) => Some(Repository::Machine),
        (None, None) => {
            mistakes
                .add(place, "the backups have no place", "where?")
                .hint("give a machine the tier \"backup\", or name an object store: to = \"s3://bucket/folder?endpoint=…&region=…\"");
            None
        }
    };
    for (name, value) in [("key", &section.key), ("secret", &section.secret)] {
        if let (Some(value), None) = (value, &section.to) {
            mistakes
                .add(value.span(), format!("{name} is for an object store, and there is no `to`"), "for to")
                .hint("leave it out, or add to");
        }
    }
    Some(Backup {
        full: calendar(section.full.as_ref(), FULL, mistakes),
        incremental: calendar(section.incremental.as_ref(), INCREMENTAL, mistakes),
        check: check(section, mistakes),
        keep_days: section.keep.as_ref().map_or(KEEP_DAYS, |keep| days(keep, mistakes)),
        repository: repository.unwrap_or(Repository::Machine),
    })
}

/// The place of the first `backup` among the tiers.
fn carrier(file: &File) -> Option<std::ops::Range<usize>> {
    let tiers = file.machine.iter().filter_map(|machine| machine.tiers.as_ref());
    tiers.flat_map(|tiers| tiers.iter()).find(|tier| ***tier == file::Tier::Backup).map(Located::span)
}

/// Refuses backups on the disk that they are to survive.
pub(super) fn apart(file: &File, mistakes: &mut Mistakes) {
    for tiers in file.machine.iter().filter_map(|machine| machine.tiers.as_ref()) {
        let has = |wanted: Tier| tiers.iter().find(|tier| super::machines::tier(tier) == wanted);
        if let (Some(backup), Some(_)) = (has(Tier::Backup), has(Tier::Database)) {
            mistakes
                .add(backup.span(), "the backups would be lost with the database's machine", "same machine")
                .hint("give another machine the tier \"backup\", or use an object store: `to` in [backup]");
        }
    }
}

fn calendar(text: Option<&Located<String>>, default: &str, mistakes: &mut Mistakes) -> String {
    let Some(text) = text else { return default.to_owned() };
    let allowed = |c: char| c.is_ascii_alphanumeric() || " *-:,./~".contains(c);
    if text.trim().is_empty() || !text.chars().all(allowed) {
        mistakes
            .add(text.span(), format!("{:?} is no calendar expression", **text), "not a time")
            .hint("write it as systemd.time(7) says: daily, \"Sun 03:00\", \"*-*-* 03:00\"");
    }
    text.trim().to_owned()
}

fn check(section: &file::Backup, mistakes: &mut Mistakes) -> Option<String> {
    let never = section.check.as_ref().filter(|check| check.as_str() == "never");
    let Some(never) = never else { return Some(calendar(section.check.as_ref(), CHECK, mistakes)) };
    if !section.allow_unchecked.as_ref().is_some_and(|allow| **allow) {
        mistakes
            .add(never.span(), "a backup that is never restored may not be one", "never")
            .hint("name a time, or add allow-unchecked = true");
    }
    None
}

/// The number of days of `10 days` or `4 weeks`.
pub(super) fn days(text: &Located<String>, mistakes: &mut Mistakes) -> u32 {
    let mut words = text.split_whitespace();
    let number = words.next().and_then(|number| number.parse::<u32>().ok());
    let unit = match words.next() {
        Some("day" | "days") => Some(1),
        Some("week" | "weeks") => Some(7),
        _ => None,
    };
    let days = number.zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    if let Some(days) = days.filter(|days| (1..=MOST_DAYS).contains(days) && words.next().is_none()) {
        return days;
    }
    mistakes
        .add(text.span(), format!("{:?} is no number of days or weeks", **text), "how long?")
        .hint(format!("write \"10 days\" or \"4 weeks\"; at most {MOST_DAYS} days"));
    KEEP_DAYS
}

/// `s3://BUCKET/FOLDER?endpoint=HOST[:PORT]&region=REGION`.
fn s3(to: &Located<String>, section: &file::Backup, mistakes: &mut Mistakes) -> Option<Repository> {
    let mut secret = |name: &str, value: &Option<Located<String>>| match value {
        Some(value) if !value.strip_prefix('@').unwrap_or(value).trim().is_empty() => {
            Some(Secret::parse(value))
        }
        Some(value) => {
            mistakes.add(value.span(), format!("{name} is empty"), "empty");
            None
        }
        None => {
            mistakes
                .add(to.span(), format!("the object store has no {name}"), "not without")
                .hint(format!("name a file that holds it: {name} = \"@secrets/s3-{name}\""));
            None
        }
    };
    let (key, secret) = (secret("key", &section.key), secret("secret", &section.secret));
    let Some(mut store) = address(to) else {
        mistakes
            .add(to.span(), format!("{:?} is no object store", **to), "not an object store")
            .hint("write it like s3://bucket/folder?endpoint=s3.example.com&region=eu-central-1");
        return None;
    };
    store.key = key?;
    store.secret = secret?;
    Some(Repository::S3(store))
}

/// The parts of the address, without the keys.
fn address(to: &str) -> Option<S3> {
    let (path, parameters) = to.strip_prefix("s3://")?.split_once('?')?;
    let (bucket, folder) = path.split_once('/').unwrap_or((path, ""));
    let plain = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let (mut endpoint, mut region) = (None, None);
    for (name, value) in parameters.split('&').map(|it| it.split_once('=').unwrap_or((it, ""))) {
        match name {
            "endpoint" => endpoint = Some(value),
            "region" => region = Some(value),
            _ => return None,
        }
    }
    let (host, port) = match endpoint?.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (endpoint?, 443),
    };
    let folder = folder.trim_end_matches('/');
    let folder_is_plain = folder.is_empty() || folder.split('/').all(|part| plain(part, "-_"));
    (plain(bucket, "-.") && folder_is_plain && plain(host, "-.") && plain(region?, "-")).then(|| S3 {
        bucket: bucket.to_owned(),
        folder: format!("/{folder}"),
        endpoint: host.to_owned(),
        port,
        region: region.unwrap_or_default().to_owned(),
        key: Secret::Inline(String::new()),
        secret: Secret::Inline(String::new()),
    })
}
