//! The daily check of every machine: it warns about certificates that expire soon.

use tercet_machine::Desired;
use tercet_machine::unit::{Goal, Unit};

use super::file::unit_file;
use super::project::Project;

/// The timer's name; the service's is the same.
const TIMER: &str = "tercet-check.timer";

/// Adds the daily check to what the machine should be.
pub(super) fn add(desired: &mut Desired, project: &Project<'_>) {
    let service = unit_file(
        "tercet-check.service",
        format!(
            "[Unit]\nDescription=tercet: warn about certificates whose end is near\n\n\
             [Service]\nType=oneshot\nExecStart={} machine certificates\nProtectSystem=strict\nProtectHome=yes\nPrivateTmp=yes\n\
             PrivateNetwork=yes\nNoNewPrivileges=yes\nCapabilityBoundingSet=CAP_DAC_READ_SEARCH\n",
            project.program
        ),
    );
    let timer = unit_file(
        TIMER,
        "[Unit]\nDescription=tercet: each day\n\n\
         [Timer]\nOnCalendar=daily\nRandomizedDelaySec=1h\nPersistent=yes\n\n[Install]\nWantedBy=timers.target\n"
            .to_owned(),
    );
    desired.units.push(Unit {
        name: TIMER.to_owned(),
        enabled: Some(true),
        goal: Goal::Running,
        restart_when: vec![timer.path.clone()],
        reload_when: vec![],
    });
    desired.files.extend([service, timer]);
}
