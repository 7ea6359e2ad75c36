//! Reserves a port for each part: the one that the file names, or else the next free one.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use anyhow::bail;

/// The ports that this `tercet up` has reserved, until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    reserved: Vec<Reservation>,
}

impl Ports {
    /// Reserves this address for the part `what`.
    ///
    /// # Errors
    /// It is in use or reserved, or cannot be bound.
    pub(crate) fn take(&mut self, address: SocketAddr, what: &str) -> anyhow::Result<()> {
        match self.reserve(address) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
                "{what} cannot listen on {address}: the port is in use; \
                 hint: stop the process that uses it (`ss -ltnp 'sport = {}'`), or name another port in tercet.toml",
                address.port()
            ),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bail!(
                "{what} cannot listen on {address}: permission denied, ports below 1024 are for root; hint: name another port in tercet.toml"
            ),
            Err(error) => bail!("{what} cannot listen on {address}: {error}"),
        }
    }

    /// Reserves the first free port of `address`, starting at `from`.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn next_free(&mut self, address: IpAddr, from: u16, what: &str) -> anyhow::Result<u16> {
        let mut last = None;
        for port in from..=u16::MAX {
            match self.reserve(SocketAddr::new(address, port)) {
                Ok(()) => return Ok(port),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = Some(error),
                Err(error) => bail!("{what} cannot listen on {address}:{port}: {error}"),
            }
        }
        bail!("{what} finds no free port from {from} on: {}", last.unwrap_or(io::ErrorKind::AddrInUse.into()))
    }

    /// Reserves any free port of `address`.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn any(&mut self, address: IpAddr, what: &str) -> anyhow::Result<u16> {
        loop {
            // The kernel selects one; another `tercet up` may have reserved it without listening yet.
            let picked = TcpListener::bind((address, 0)).and_then(|listener| listener.local_addr());
            let port = match picked {
                Ok(picked) => picked.port(),
                Err(error) => bail!("{what} finds no free port: {error}"),
            };
            match self.reserve(SocketAddr::new(address, port)) {
                Ok(()) => return Ok(port),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => bail!("{what} cannot listen on {address}:{port}: {error}"),
            }
        }
    }

    /// Whether a process has taken this address since it was reserved here.
    pub(crate) fn is_taken(address: SocketAddr) -> bool {
        matches!(TcpListener::bind(address), Err(error) if error.kind() == io::ErrorKind::AddrInUse)
    }

    fn reserve(&mut self, address: SocketAddr) -> io::Result<()> {
        let reservation = Reservation::new(address.port())?;
        // Fails if a process listens there; this listener is closed at once.
        drop(TcpListener::bind(address)?);
        self.reserved.push(reservation);
        Ok(())
    }
}

/// Prevents two `tercet up` that start at the same time from selecting the same port before either listens on it: an
/// abstract Unix socket name, which belongs to the network namespace, as ports do, and is released with the process.
#[derive(Debug)]
struct Reservation {
    #[cfg(target_os = "linux")]
    _name: std::os::unix::net::UnixDatagram,
}

impl Reservation {
    #[cfg(target_os = "linux")]
    fn new(port: u16) -> io::Result<Self> {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::net::{SocketAddr, UnixDatagram};

        let name = SocketAddr::from_abstract_name(format!("tercet-port-{port}"))?;
        Ok(Self { _name: UnixDatagram::bind_addr(&name)? })
    }

    #[cfg(not(target_os = "linux"))]
    fn new(_: u16) -> io::Result<Self> {
        Ok(Self {})
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_port_in_use_is_an_error_if_it_is_named_and_skipped_otherwise() {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let taken = listener.local_addr().unwrap();
        let mut ports = Ports::default();
        let error = ports.take(taken, "the balancer").unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("the balancer cannot listen on {taken}: the port is in use")),
            "{error}"
        );
        let next = ports.next_free(LOOPBACK, taken.port(), "app-1").unwrap();
        assert!(next > taken.port());

        // Reserved, though no process listens.
        let mut others = Ports::default();
        assert!(others.take(SocketAddr::new(LOOPBACK, next), "app-1").is_err());
        assert_ne!(others.any(LOOPBACK, "app-2").unwrap(), next);
        drop(ports);
        others.take(SocketAddr::new(LOOPBACK, next), "app-1").unwrap();
    }
}
