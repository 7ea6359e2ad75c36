//! Planning: what a request means against the schema cache. Names become relations, relationships and
//! typed columns; what can't be done is refused here. It knows no SQL text and touches no connection.

mod call;
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
use crate::request::media_type::MediaType;
use crate::request::preferences::Count;
use crate::request::{Action, ApiRequest, DescriptionFormat, Invocation, Mutation};
use crate::schema::{QualifiedName, Relation, Routine, SchemaCache, Volatility};

pub use call::{Argument, Arguments, CallPlan};
pub use filter::Condition;
pub use handler::Handler;
pub use resolve::{TextSearch, TypedField};
pub use tree::{Embed, OrderKey, ReadNode, SelectedField, Shape, SpreadField};
pub use write::{Conflict, WriteKind, WritePlan};

/// Rows of a schema bigger than this are not searched for a name that looks like a wrong one.
const SUGGESTION_LIMIT: usize = 500;

/// What of the configuration decides how requests are planned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Most rows a read answers with, at the top and in every embedding (`db-max-rows`).
    pub max_rows: Option<i64>,
    /// Whether clients may aggregate (`db-aggregates-enabled`).
    pub aggregates: bool,
    /// Whether clients may ask for execution plans (`db-plan-enabled`).
    pub execution_plans: bool,
    /// Whether a filter may name an embedding by its relation although it has an alias
    /// (`url-use-legacy-target-names`).
    pub legacy_target_names: bool,
}

/// What a request means.
#[derive(Debug)]
pub enum Plan {
    /// A statement to run.
    Statement(Box<StatementPlan>),
    /// A description of the schema, for a client that accepts one.
    Description {
        /// How it is written.
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

/// A statement that reads, writes or calls, and what is read of its result.
#[derive(Debug)]
pub struct StatementPlan {
    /// What is done before the result is read.
    pub command: Command,
    /// What is read of the relation, or of the rows written or returned.
    pub tree: ReadNode,
    /// How the body is made of the rows.
    pub handler: Handler,
    /// What the body is called.
    pub media_type: MediaType,
    /// The relation, or what the routine returns rows of, or the routine.
    pub target: QualifiedName,
    /// How the total number of rows is found.
    pub count: Option<Count>,
    /// The cap on rows, which `count=estimated` counts up to.
    pub max_rows: Option<i64>,
    /// `HEAD`: no body.
    pub head: bool,
    /// Whether the transaction must not write.
    pub read_only: bool,
    /// Whether it is proved that it leaves the session as it was.
    pub side_effect_free: bool,
    /// Embeddings that a filter, order or range named by relation although they have an alias: the
    /// relation's name and the alias.
    pub deprecated_targets: Vec<(String, String)>,
}

/// What a statement does.
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
    /// The routine that is called, if one is.
    pub fn routine(&self) -> Option<&Arc<Routine>> {
        match &self.command {
            Command::Call(call) => Some(&call.routine),
            _ => None,
        }
    }

    /// Whether the body is an execution plan instead of rows.
    pub fn explains(&self) -> bool {
        matches!(self.media_type, MediaType::Plan { .. })
    }
}

/// Finds out what a request means.
///
/// # Errors
///
/// Names that are not in the schema cache (PGRST2xx) and requests that make no sense (PGRST1xx).
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
    // what is wrong with a name is said before what is wrong with a preference
    if matches!(planned, Plan::Statement(_)) {
        request.preferences.check()?;
    }
    Ok(planned)
}

/// A request beside what it is planned against.
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
            side_effect_free: self.is_side_effect_free(&tree, &handler),
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
            side_effect_free: false,
            deprecated_targets,
        })))
    }

    fn call(self, routine: &str, invocation: Invocation) -> Result<Plan, ApiError> {
        let routine = self.routine(routine, invocation)?;
        // A routine that returns rows of a relation can be embedded like that relation.
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
            // Also for HEAD: PostgreSQL runs no function whose result nothing is made of.
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

    /// `/openapi.json` is asked for by its name, whatever is accepted.
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

/// Finds what is wrong with a request whatever its body is: what it writes to is not there, or is not written to in this way.
///
/// # Errors
/// That.
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
    // PostgreSQL would call it an error of the server's.
    if possible { Ok(relation) } else { Err(RequestError::Method(request.method.to_string()).into()) }
}

/// The relation of that name.
///
/// # Errors
/// There is none (PGRST205); the error names the one that was most likely meant.
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
