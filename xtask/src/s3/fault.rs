//! Faults on demand, by the text of a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::request::{Request, Response};

/// The file that orders a fault; without it there is none.
pub(super) struct Fault {
    file: PathBuf,
    /// One request at a time counts down.
    counting: Mutex<()>,
}

impl Fault {
    pub(super) fn of(folder: &Path) -> Self {
        Self { file: folder.join("fault"), counting: Mutex::new(()) }
    }

    /// The response that takes the place of a request's answer.
    pub(super) fn instead_of(&self, request: &Request) -> Option<Response> {
        let _one = self.counting.lock();
        let text = fs::read_to_string(&self.file).ok()?;
        let uploads = matches!(request.method.as_str(), "PUT") || request.parameter("uploads").is_some();
        match text.trim().split_once(' ') {
            Some(("slow-down", count)) => {
                let left = count.parse::<u32>().ok()?.checked_sub(1)?;
                fs::write(&self.file, format!("slow-down {left}")).ok()?;
                Some(Response::error(503, "SlowDown", "reduce your request rate"))
            }
            None if text.trim() == "full" && uploads => {
                Some(Response::error(507, "InsufficientStorage", "no space left on the object store"))
            }
            _ => None,
        }
    }
}
