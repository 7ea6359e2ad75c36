//! Which port each part gets: the one the file names, or else the next free one.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use anyhow::bail;

/// The ports this `tercet up` has taken, for as long as this lives.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    reserved: Vec<Reservation>,
}

impl Ports {
    /// Exactly this address, for `what`.
    ///
    /// # Errors
    /// Somebody listens there, or this machine or user cannot.
    pub(crate) fn take(&mut self, address: SocketAddr, what: &str) -> anyhow::Result<()> {
        match self.reserve(address) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
                "{what} cannot listen on {address}: the port is taken; \
                 hint: stop who has it (`ss -ltnp 'sport = {}'`), or name another in tercet.toml",
                address.port()
            ),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bail!(
                "{what} cannot listen on {address}: ports below 1024 are for root; hint: name another in tercet.toml"
            ),
            Err(error) => bail!("{what} cannot listen on {address}: {error}"),
        }
    }

    /// The first free port of `address` from this one on.
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

    /// Any free port of `address`.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn any(&mut self, address: IpAddr, what: &str) -> anyhow::Result<u16> {
        loop {
            // The kernel picks one; another `tercet up` may have reserved it without listening yet.
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

    fn reserve(&mut self, address: SocketAddr) -> io::Result<()> {
        let reservation = Reservation::new(address.port())?;
        // Nobody may listen there; the listener is closed again at once.
        drop(TcpListener::bind(address)?);
        self.reserved.push(reservation);
        Ok(())
    }
}

/// Keeps two `tercet up` that start at the same time from choosing the same port, before either listens on it:
/// a name in the abstract namespace, which like the ports belongs to the network namespace, and which the
/// kernel gives up with the process.
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
    fn a_taken_port_is_an_error_where_it_was_named_and_skipped_where_not() {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let taken = listener.local_addr().unwrap();
        let mut ports = Ports::default();
        let error = ports.take(taken, "the balancer").unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("the balancer cannot listen on {taken}: the port is taken")),
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
