//! Binds Unix sockets in the file system, whatever protocol is served there.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use tokio::net::UnixListener;

/// Listens on a Unix socket with these permission bits. The path never exists with other bits: the socket is bound in a
/// private folder beside it, then linked into place. A socket without a listener is replaced.
///
/// # Errors
/// Another process listens there, a file that is not a socket is there, the folder cannot be written, or the path is too long for a
/// socket (unix(7): 107 bytes).
pub fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let private = tempfile::Builder::new()
        .prefix(".")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in(beside)?;
    let socket = private.path().join("s");
    let listener = UnixListener::bind(&socket)?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(mode))?;
    // A link, not a rename: it fails if the path exists.
    if let Err(error) = std::fs::hard_link(&socket, path) {
        if error.kind() != io::ErrorKind::AlreadyExists {
            return Err(error);
        }
        if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
            return Err(io::Error::new(error.kind(), "the file exists and is not a socket"));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
        std::fs::hard_link(&socket, path)?;
    }
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_socket_has_its_mode_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        for wanted in [0o600, 0o660, 0o777] {
            let listener = bind(&path, wanted).unwrap();
            assert_eq!(mode(&path), wanted);
            UnixStream::connect(&path).unwrap();
            listener.accept().await.unwrap();
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[tokio::test]
    async fn what_is_in_use_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _listening = bind(&path, 0o600).unwrap();
        assert_eq!(bind(&path, 0o600).unwrap_err().kind(), io::ErrorKind::AddrInUse);

        let file = folder.path().join("file");
        std::fs::write(&file, "kept").unwrap();
        assert_eq!(bind(&file, 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
    }
}
