//! The access rules of a route: networks of clients, and users (basic authentication, RFC 7617).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::Route;
use crate::users::{Users, UsersError};

/// The access rules of a route.
#[derive(Debug)]
pub(crate) struct Access {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
    pub(crate) login: Option<Login>,
}

/// Basic authentication.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) users: Users,
    /// The challenge in a response with status 401.
    pub(crate) challenge: String,
    /// Whether servers get the credentials.
    pub(crate) forwards: bool,
}

impl Access {
    /// The rules of a route; `None` if every client has access.
    ///
    /// # Errors
    /// The file with the users cannot be used.
    pub(crate) fn load(route: &Route) -> Result<Option<Self>, UsersError> {
        let Route { allow, deny, basic_auth, .. } = route;
        if allow.is_empty() && deny.is_empty() && basic_auth.is_none() {
            return Ok(None);
        }
        let login = |options: &crate::config::BasicAuth| {
            Ok::<_, UsersError>(Login {
                users: Users::load(&options.users)?,
                challenge: format!("Basic realm=\"{}\", charset=\"UTF-8\"", options.realm),
                forwards: options.forward,
            })
        };
        let login = basic_auth.as_ref().map(login).transpose()?;
        Ok(Some(Self { allow: allow.clone(), deny: deny.clone(), login }))
    }

    /// Whether clients at this address have access.
    pub(crate) fn permits(&self, client: IpAddr) -> bool {
        !is_in(&self.deny, client) && (self.allow.is_empty() || is_in(&self.allow, client))
    }

    /// Whether servers do not get the header `authorization`, which is for the balancer.
    pub(crate) fn keeps_credentials(&self) -> bool {
        self.login.as_ref().is_some_and(|login| !login.forwards)
    }
}

/// Whether an address is in one of the networks; an IPv4 address also in its form for IPv6.
pub(crate) fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn deny_precedes_allow_and_with_allow_all_others_are_denied() {
        for (rules, client, permitted) in [
            ("deny = ['192.0.2.0/24']", "192.0.2.7", false),
            ("deny = ['192.0.2.0/24']", "192.0.3.7", true),
            ("deny = ['192.0.2.0/24']", "2001:db8::1", true),
            ("allow = ['10.0.0.0/8', '2001:db8::/32']", "10.1.2.3", true),
            ("allow = ['10.0.0.0/8', '2001:db8::/32']", "2001:db8::1", true),
            ("allow = ['10.0.0.0/8', '2001:db8::/32']", "11.0.0.1", false),
            ("allow = ['10.0.0.0/8']", "2001:db8::1", false),
            // A dual-stack listener sees IPv4 clients like this.
            ("allow = ['10.0.0.0/8']", "::ffff:10.1.2.3", true),
            ("deny = ['10.0.0.0/8']", "::ffff:10.1.2.3", false),
            // So may the operator write them.
            ("deny = ['::ffff:10.0.0.0/104']", "10.1.2.3", false),
            ("deny = ['::ffff:10.0.0.0/104']", "11.1.2.3", true),
            ("deny = ['::ffff:a00:7']", "::ffff:10.0.0.7", false),
            ("allow = ['::ffff:0:0/96']", "10.1.2.3", true),
            ("allow = ['::ffff:0:0/96']", "2001:db8::1", false),
            ("deny = ['::/0']", "10.1.2.3", true),
            ("deny = ['::/0']", "2001:db8::1", false),
            ("allow = ['10.0.0.0/8']\ndeny = ['10.0.0.7']", "10.0.0.7", false),
            ("allow = ['10.0.0.0/8']\ndeny = ['10.0.0.7']", "10.0.0.8", true),
            ("allow = ['0.0.0.0/0']", "2001:db8::1", false),
        ] {
            let text = format!("servers = ['127.0.0.1:1']\n[[route]]\n{rules}");
            let config = Config::parse(&text, "a").unwrap();
            let access = Access::load(&config.route[0]).unwrap().unwrap();
            assert_eq!(access.permits(client.parse().unwrap()), permitted, "{rules} {client}");
        }
    }
}
