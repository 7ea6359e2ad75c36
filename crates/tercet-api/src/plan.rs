//! Planning: resolves a request against the schema cache. Names become relations, relationships and typed columns;
//! requests that cannot be executed are rejected. No SQL text, no connection.

mod call;
mod condition;
mod filter;
mod handler;
mod read;
mod relationship;
mod resolve;
mod side_effects;
mod spread;
mod tree;
mod write;

use std::sync::Arc;

use crate::error::{ApiError, RequestError, SchemaError, suggestion};
use crate::media_type::MediaType;
use crate::request::preferences::Count;
use crate::request::{Action, ApiRequest, DescriptionFormat, Invocation, Mutation};
use crate::schema::{QualifiedName, Relation, Routine, SchemaCache, Volatility};

pub use call::{Argument, Arguments, CallPlan};
pub use condition::Condition;
pub use handler::Handler;
pub use resolve::{TextSearch, TypedField};
pub use tree::{Embed, OrderKey, ReadNode, SelectedField, Shape, SpreadField};
pub use write::{Conflict, WriteKind, WritePlan};

/// A schema with more relations than this is not searched for a similar name.
const SUGGESTION_LIMIT: usize = 500;

/// The configuration that affects planning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The maximum number of rows returned, at the top level and in each embedding (`db-max-rows`).
    pub max_rows: Option<i64>,
    /// Whether clients may use aggregates (`db-aggregates-enabled`).
    pub aggregates: bool,
    /// Whether clients may request execution plans (`db-plan-enabled`).
    pub execution_plans: bool,
    /// Whether a filter may refer to an aliased embedding by its relation name (`url-use-legacy-target-names`).
    pub legacy_target_names: bool,
    /// Whether each transaction calls a function first (`db-pre-request`), which may have any side effects.
    pub pre_request: bool,
}

/// A planned request.
#[derive(Debug)]
pub enum Plan {
    /// A statement to run.
    Statement(Box<StatementPlan>),
    /// A description of the schema, for a client that accepts one.
    Description {
        /// The format.
        format: DescriptionFormat,
        /// `HEAD`: no body.
        head: bool,
    },
    /// `OPTIONS /relation`
    RelationInfo(Arc<Relation>),
    /// `OPTIONS /rpc/routine`
    RoutineInfo(Arc<Routine>),
    /// `OPTIONS /`
    SchemaInfo,
}

/// A statement that reads, writes or calls, and the form of its result.
#[derive(Debug)]
pub struct StatementPlan {
    /// The command.
    pub command: Command,
    /// The read tree over the relation, or over the rows written or returned.
    pub tree: ReadNode,
    /// The handler that builds the body from the rows.
    pub handler: Handler,
    /// The media type of the body.
    pub media_type: MediaType,
    /// The relation; for a call, the relation whose rows the routine returns, or the routine.
    pub target: QualifiedName,
    /// How the total number of rows is determined.
    pub count: Option<Count>,
    /// The limit on rows, up to which `count=estimated` counts.
    pub max_rows: Option<i64>,
    /// `HEAD`: no body.
    pub head: bool,
    /// Whether the transaction is read-only.
    pub read_only: bool,
    /// Whether the transaction provably executes no user-defined code, and leaves the session unchanged.
    pub side_effect_free: bool,
    /// Embeddings that a filter, order or range refers to by relation name although they have an alias: relation name
    /// and alias.
    pub deprecated_targets: Vec<(String, String)>,
}

/// The command of a statement.
#[derive(Debug)]
pub enum Command {
    /// Reads a relation.
    Read,
    /// Writes to a relation.
    Write(WritePlan),
    /// Calls a routine.
    Call(CallPlan),
}

impl StatementPlan {
    /// The called routine, if any.
    pub fn routine(&self) -> Option<&Arc<Routine>> {
        match &self.command {
            Command::Call(call) => Some(&call.routine),
            _ => None,
        }
    }

    /// Whether the response is an execution plan.
    pub fn explains(&self) -> bool {
        matches!(self.media_type, MediaType::Plan { .. })
    }
}

/// Plans a request.
///
/// # Errors
///
/// A name is not in the schema cache (PGRST2xx), or the request is invalid (PGRST1xx).
pub fn plan(request: &ApiRequest, cache: &SchemaCache, policy: &Policy) -> Result<Plan, ApiError> {
    let planner = Planner { request, cache, policy };
    let planned = match &request.action {
        Action::Read { relation, head } => planner.read(relation, *head),
        Action::Mutate { relation, mutation } => planner.write(relation, *mutation),
        Action::Call { routine, invocation } => planner.call(routine, *invocation),
        Action::Describe { format, head } => planner.describe(*format, *head),
        Action::RelationInfo { relation } => planner.relation(relation).cloned().map(Plan::RelationInfo),
        Action::RoutineInfo { routine } => {
            planner.routine(routine, Invocation::Read { head: true }).cloned().map(Plan::RoutineInfo)
        }
        Action::SchemaInfo => Ok(Plan::SchemaInfo),
    }?;
    // errors in names take precedence over errors in preferences
    if matches!(planned, Plan::Statement(_)) {
        request.preferences.check()?;
    }
    Ok(planned)
}

/// A request and its planning context.
#[derive(Clone, Copy)]
struct Planner<'a> {
    request: &'a ApiRequest,
    cache: &'a SchemaCache,
    policy: &'a Policy,
}

impl<'a> Planner<'a> {
    fn read(self, relation: &str, head: bool) -> Result<Plan, ApiError> {
        let relation = self.relation(relation)?;
        let name = name_of(relation);
        let root = read::root(name.clone(), Some(relation.clone()), false);
        let (tree, deprecated_targets) = self.tree(root)?;
        let (handler, media_type) = self.negotiate(&name, &tree)?;
        Ok(Plan::Statement(Box::new(StatementPlan {
            command: Command::Read,
            side_effect_free: self.is_read_free(&tree, &handler),
            tree,
            handler: if head { Handler::None } else { handler },
            media_type,
            target: name,
            count: self.request.preferences.count,
            max_rows: self.policy.max_rows,
            head,
            read_only: true,
            deprecated_targets,
        })))
    }

    fn write(self, relation: &str, mutation: Mutation) -> Result<Plan, ApiError> {
        let relation = writable(self.cache, self.request, relation, mutation)?;
        let name = name_of(relation);
        let root = read::root(name.clone(), Some(relation.clone()), true);
        let (tree, deprecated_targets) = self.tree(root)?;
        let write = self.write_plan(relation, mutation, &tree)?;
        let (handler, media_type) = self.negotiate(&name, &tree)?;
        let side_effect_free = self.is_write_free(relation, &write, &tree, &handler);
        Ok(Plan::Statement(Box::new(StatementPlan {
            handler: if write.returns_rows { handler } else { Handler::None },
            command: Command::Write(write),
            tree,
            media_type,
            target: name,
            count: self.request.preferences.count,
            max_rows: self.policy.max_rows,
            head: false,
            read_only: false,
            side_effect_free,
            deprecated_targets,
        })))
    }

    fn call(self, routine: &str, invocation: Invocation) -> Result<Plan, ApiError> {
        let routine = self.routine(routine, invocation)?;
        // A routine that returns rows of a relation supports the relation's embeddings.
        let returned = routine.returned_relation().and_then(|of| {
            self.cache
                .relation(&of.schema, &of.name)
                .or_else(|| self.cache.relation(&routine.schema, &of.name))
        });
        let name = match (returned, routine.returned_relation()) {
            (Some(relation), _) => name_of(relation),
            (None, Some(of)) => QualifiedName { schema: routine.schema.clone(), name: of.name.clone() },
            (None, None) => QualifiedName { schema: routine.schema.clone(), name: routine.name.clone() },
        };
        let root = read::root(name.clone(), returned.cloned(), true);
        let (tree, deprecated_targets) = self.tree(root)?;
        let head = invocation == Invocation::Read { head: true };
        let read_only = invocation != Invocation::Post || routine.volatility != Volatility::Volatile;
        let call = self.call_plan(routine, invocation, &tree)?;
        let (handler, media_type) = self.negotiate(&name, &tree)?;
        if self.request.preferences.enforced_max_affected().is_some() && !routine.returns_set {
            return Err(RequestError::MaxAffectedRoutine.into());
        }
        Ok(Plan::Statement(Box::new(StatementPlan {
            command: Command::Call(call),
            tree,
            // Also for HEAD: PostgreSQL does not execute a function whose result is unused.
            handler,
            media_type,
            target: name,
            count: self.request.preferences.count,
            max_rows: self.policy.max_rows,
            head,
            read_only,
            side_effect_free: false,
            deprecated_targets,
        })))
    }

    /// `/openapi.json` is requested by path, regardless of `Accept`.
    fn describe(self, format: DescriptionFormat, head: bool) -> Result<Plan, ApiError> {
        let described =
            |accepted: &MediaType| matches!(accepted, MediaType::OpenApi | MediaType::Json | MediaType::Any);
        if format == DescriptionFormat::OpenApi || self.request.accept.iter().any(described) {
            Ok(Plan::Description { format, head })
        } else {
            Err(self.not_acceptable())
        }
    }

    fn relation(self, name: &str) -> Result<&'a Arc<Relation>, ApiError> {
        relation(self.cache, &self.request.schema, name)
    }
}

/// Checks before the body is received: the target exists and supports the method.
///
/// # Errors
/// It does not.
pub fn check(request: &ApiRequest, cache: &SchemaCache) -> Result<(), ApiError> {
    match &request.action {
        Action::Mutate { relation, mutation } => writable(cache, request, relation, *mutation).map(|_| ()),
        _ => Ok(()),
    }
}

fn writable<'a>(
    cache: &'a SchemaCache,
    request: &ApiRequest,
    name: &str,
    mutation: Mutation,
) -> Result<&'a Arc<Relation>, ApiError> {
    let relation = relation(cache, &request.schema, name)?;
    let possible = match mutation {
        Mutation::Create => relation.insertable,
        Mutation::SingleUpsert => relation.insertable && relation.updatable,
        Mutation::Update => relation.updatable,
        Mutation::Delete => relation.deletable,
    };
    // PostgreSQL would report it as a server error.
    if possible { Ok(relation) } else { Err(RequestError::Method(request.method.to_string()).into()) }
}

/// The relation with this name.
///
/// # Errors
/// It does not exist (PGRST205); the error suggests a similar name.
fn relation<'a>(cache: &'a SchemaCache, schema: &str, name: &str) -> Result<&'a Arc<Relation>, ApiError> {
    cache.relation(schema, name).ok_or_else(|| {
        let names: Vec<&str> = cache.relations(schema).map(|relation| &*relation.name).collect();
        let searched = if names.len() > SUGGESTION_LIMIT { &[] } else { names.as_slice() };
        let suggestion = suggestion::closest(name, &searched.iter().copied(), suggestion::SIMILAR)
            .map(|(_, name)| name.to_owned());
        let (schema, relation) = (schema.to_owned(), name.to_owned());
        SchemaError::NoRelation { schema, relation, suggestion }.into()
    })
}

fn name_of(relation: &Relation) -> QualifiedName {
    QualifiedName { schema: relation.schema.clone(), name: relation.name.clone() }
}
