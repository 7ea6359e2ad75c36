//! The machines the project was ever applied to, as the operator remembers them: one that is taken out of the file is
//! cleaned up, and one that cannot be reached is not forgotten.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tercet_config::{Machine, Reach, Tier};

use crate::operator_folder::FOLDER;

/// The file, in the folder of the operator's state.
const FILE: &str = "machines.json";

/// A machine that the project was applied to.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// Its entry in the file at the last apply.
    pub machine: Machine,
    /// Its machine-id(5).
    pub id: String,
    /// The time since which it has been out of the file, unreachable and without access to the database: RFC 3339.
    pub cut_off: Option<String>,
}

/// A machine that left the project and cannot be reached.
#[derive(Clone, Debug)]
pub struct Unreached {
    /// Its entry in the file at the last apply.
    pub remembered: Remembered,
    /// Why it cannot be cleaned up.
    pub why: String,
}

/// The form of a remembered machine in the file.
#[derive(Serialize, Deserialize)]
struct Record {
    name: String,
    id: String,
    ssh: String,
    address: IpAddr,
    tiers: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cut_off: Option<String>,
}

/// The machines remembered in the project's folder.
///
/// # Errors
/// The file cannot be read.
pub fn read(project: &Path) -> Result<Vec<Remembered>> {
    let path = project.join(FOLDER).join(FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let records: Vec<Record> = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    Ok(records.into_iter().map(Record::remembered).collect())
}

/// Writes the file.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write(project: &Path, machines: &[Remembered]) -> Result<()> {
    let records: Vec<Record> = machines.iter().filter_map(Record::of).collect();
    let text = serde_json::to_string_pretty(&records)? + "\n";
    crate::authority::write_private(&project.join(FOLDER), FILE, &text)
}

impl Record {
    fn of(remembered: &Remembered) -> Option<Self> {
        let Remembered { machine, id, cut_off } = remembered;
        let Reach::Ssh(ssh) = &machine.reach else { return None };
        Some(Self {
            name: machine.name.clone(),
            id: id.clone(),
            ssh: ssh.clone(),
            address: machine.address,
            tiers: machine.tiers.iter().map(ToString::to_string).collect(),
            cut_off: cut_off.clone(),
        })
    }

    fn remembered(self) -> Remembered {
        let tiers = Tier::ALL.into_iter().filter(|tier| self.tiers.contains(&tier.to_string())).collect();
        let machine = Machine { name: self.name, reach: Reach::Ssh(self.ssh), address: self.address, tiers };
        Remembered { machine, id: self.id, cut_off: self.cut_off }
    }
}

/// Those that are not in the file as its machines now are, each under a name that none of these has.
pub(crate) fn gone(remembered: &[Remembered], present: &[(&Machine, String)]) -> Vec<Remembered> {
    let mut gone: Vec<Remembered> = Vec::new();
    for it in remembered {
        if present.iter().any(|(_, id)| *id == it.id) {
            continue;
        }
        let mut machine = it.machine.clone();
        if present.iter().any(|(other, _)| other.name == machine.name) {
            machine.name = format!("{}@{}", machine.name, machine.address);
        }
        gone.push(Remembered { machine, ..it.clone() });
    }
    gone
}

/// The remembered machines after an apply to the machines of the file: these with their present entries, others unchanged.
pub(crate) fn updated(remembered: &[Remembered], present: &[(&Machine, String)]) -> Vec<Remembered> {
    let now = present.iter().map(|(machine, id)| Remembered {
        machine: (*machine).clone(),
        id: id.clone(),
        cut_off: None,
    });
    let others = remembered.iter().filter(|it| !present.iter().any(|(_, id)| *id == it.id)).cloned();
    now.chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str, last: u8, tier: Tier) -> Machine {
        let address = IpAddr::from([10, 0, 0, last]);
        Machine {
            name: name.to_owned(),
            reach: Reach::Ssh(format!("root@{name}")),
            address,
            tiers: vec![tier],
        }
    }

    fn names(machines: &[Remembered]) -> String {
        machines.iter().map(|it| it.machine.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn a_machine_is_known_by_its_id_not_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(FOLDER)).unwrap();
        assert_eq!(names(&read(folder.path()).unwrap()), "");
        let (lb, app1) = (machine("lb", 10, Tier::Balancer), machine("app1", 11, Tier::Application));
        write(folder.path(), &updated(&[], &[(&lb, "a".to_owned()), (&app1, "b".to_owned())])).unwrap();
        let known = read(folder.path()).unwrap();
        assert_eq!(names(&known), "lb, app1");
        assert_eq!(known[1].machine.reach, app1.reach);
        assert_eq!((known[1].machine.address, &known[1].machine.tiers), (app1.address, &app1.tiers));
        // Renamed and moved: the same machine. Taken out of the file, and replaced under the same name: gone.
        let moved = machine("app9", 19, Tier::Application);
        assert_eq!(names(&gone(&known, &[(&lb, "a".to_owned()), (&moved, "b".to_owned())])), "");
        assert_eq!(names(&gone(&known, &[(&lb, "a".to_owned())])), "app1");
        assert_eq!(names(&gone(&known, &[(&lb, "a".to_owned()), (&app1, "c".to_owned())])), "app1@10.0.0.11");
        assert_eq!(names(&updated(&known, &[(&lb, "a".to_owned()), (&moved, "b".to_owned())])), "lb, app9");
        assert_eq!(
            names(&updated(&known, &[(&lb, "a".to_owned()), (&app1, "c".to_owned())])),
            "lb, app1, app1"
        );
    }
}
