//! Both ways to open a file below a folder find the same files.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn a_name_is_opened_at_once_or_step_by_step() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("public");
    std::fs::create_dir_all(folder.join("sub/deep")).unwrap();
    for name in ["../outside", "a", "sub/b", "sub/deep/c"] {
        std::fs::write(folder.join(name), name).unwrap();
    }
    for (target, link) in
        [("a", "link"), ("sub", "folder"), ("../outside", "out"), ("b", "sub/link"), ("loop", "loop")]
    {
        symlink(target, folder.join(link)).unwrap();
    }
    let opened = File::open(&folder).unwrap().into();
    for (name, is_there) in [
        ("a", true),
        ("sub", true),
        ("sub/b", true),
        ("sub/deep", true),
        ("sub/deep/c", true),
        ("none", false),
        ("sub/none", false),
        ("none/b", false),
        ("a/b", false),
        ("link", false),
        ("out", false),
        ("loop", false),
        ("folder/b", false),
        ("sub/link", false),
        ("../outside", false),
        ("/etc/passwd", false),
        ("sub/b\0", false),
        ("", false),
    ] {
        for open in [open_at_once, open_step_by_step] {
            let found = open(&opened, name).map_err(FileError::from);
            match &found {
                Ok(_) => assert!(is_there, "{name:?}"),
                Err(error) => {
                    assert!(!is_there && matches!(error, FileError::NotFound), "{name:?}: {error:?}");
                }
            }
        }
    }
}
