//! A second database of a project in its cluster, to which the migrations are applied from the beginning: to check them,
//! or to replace the project's database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tercet_postgres::quote::identifier;
use tercet_postgres::{Connection, Database, DatabaseError, Statement, Target};
use tokio::time::sleep;

use crate::roles;

/// The name of the second database of the project `name`.
fn database(name: &str) -> String {
    format!("{name}__scratch")
}

/// The name of a replaced database until it is dropped.
fn replaced(name: &str) -> String {
    format!("{name}__replaced")
}

/// Whether a database cannot be renamed because of its sessions: object_in_use (PostgreSQL manual, appendix A).
fn is_in_use(error: &DatabaseError) -> bool {
    error.server().is_some_and(|error| error.code == "55006")
}

/// The time that terminated sessions have to end, and the interval of attempts.
const PATIENCE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(10);

/// A scratch database. `connect` returns the parameters of a superuser's connection to the database of a name. Each
/// function must be called on a `LocalSet`.
pub struct ScratchDatabase<C> {
    connect: C,
    name: String,
}

impl<C: Fn(&str) -> Target> ScratchDatabase<C> {
    /// Creates the scratch database of the project `name`, empty and with the privileges of a new one, also with what Supabase's
    /// schemas expect. That of an
    /// interrupted command is dropped.
    ///
    /// # Errors
    /// A statement fails.
    pub async fn create(connect: C, name: &str, supabase: bool) -> Result<Self, DatabaseError> {
        let scratch = Self { connect, name: name.to_owned() };
        scratch.remove().await?;
        let database = Database { name: database(name), ..roles::database(name) };
        scratch.server().await?.simple_query(&database.create()).await?;
        let target = Arc::new((scratch.connect)(&database.name));
        roles::grant_in(&target, &database, name).await?;
        if supabase {
            roles::prepare_for_supabase(&target, name).await?;
        }
        Ok(scratch)
    }

    /// How the owner of the project connects to it.
    pub fn owner(&self) -> Target {
        let target = (self.connect)(&database(&self.name));
        let role = format!("-c role={}", roles::owner(&self.name));
        let options = target.options.map_or_else(|| role.clone(), |options| format!("{options} {role}"));
        Target { options: Some(options), ..target }
    }

    /// Drops it.
    ///
    /// # Errors
    /// A statement fails.
    pub async fn remove(&self) -> Result<(), DatabaseError> {
        let server = self.server().await?;
        for name in [database(&self.name), replaced(&self.name)] {
            server
                .simple_query(&format!("drop database if exists {} with (force)", identifier(&name)))
                .await?;
        }
        Ok(())
    }

    /// Gives the name of the project's database to this one, and drops the old one. Sessions in the old database are
    /// terminated.
    ///
    /// # Errors
    /// A statement fails.
    pub async fn replace(self) -> Result<(), DatabaseError> {
        let (name, scratch, old) =
            (identifier(&self.name), identifier(&database(&self.name)), identifier(&replaced(&self.name)));
        let server = self.server().await?;
        let run = async |sql: String| server.simple_query(&sql).await.map(drop);
        if roles::has_database(&server, &self.name).await? {
            // Clients that reconnect must not prevent the change of the name, which takes no time.
            run(format!("alter database {name} with allow_connections false")).await?;
            let began = Instant::now();
            loop {
                let end = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
                server.query(&Statement::new(end, vec![Some(self.name.clone().into())])).await?;
                match run(format!("alter database {name} rename to {old}")).await {
                    Err(error) if is_in_use(&error) && began.elapsed() < PATIENCE => sleep(TICK).await,
                    Ok(()) => break,
                    Err(error) => {
                        // Otherwise no client could connect to it, not even a superuser.
                        let _ = run(format!("alter database {name} with allow_connections true")).await;
                        return Err(error);
                    }
                }
            }
        }
        run(format!("alter database {scratch} rename to {name}")).await?;
        run(format!("drop database if exists {old} with (force)")).await
    }

    async fn server(&self) -> Result<Connection, DatabaseError> {
        Ok(Connection::connect(&Arc::new((self.connect)("postgres")), false).await?)
    }
}
