//! Loads the schema cache: one catalogue query per kind of object, all in one snapshot.

use std::sync::Arc;

use bytes::Bytes;
use rustc_hash::FxHashMap;
use tercet_postgres::{Connection, Statement};

use super::load_error::LoadError;
use super::record::{Names, Record};
use super::reference::{CatalogueReference, Reference};
use super::relationship::{self, Link, Relationship};
use super::view::{self, Origins};
use super::view_key::{PrimaryKey, add_view_primary_keys, view_keys};
use super::{
    ByName, Column, MediaHandler, MediaTarget, Parameter, QualifiedName, Relation, RelationKind, Routine,
    RoutineResult, SchemaCache, SideEffectFree, Volatility,
};

/// How often the load is repeated if the schema changes meanwhile: frequent schema changes must not prevent a load.
const ATTEMPTS: u32 = 8;

impl SchemaCache {
    /// Reads the catalogue with the privileges of the connection's role. `schemas` are the exposed ones.
    ///
    /// # Errors
    /// PostgreSQL reported an error, or returned a value of an unexpected form.
    pub async fn load(connection: &Connection, schemas: &[String]) -> Result<Self, LoadError> {
        let mut attempt = 1;
        loop {
            // One snapshot for all queries; an empty search path, so that types and functions are printed qualified.
            connection.query(&statement("begin isolation level repeatable read read only", None)).await?;
            let before = version(connection).await;
            let loaded = Self::load_snapshot(connection, schemas).await;
            connection.query(&statement("rollback", None)).await?;
            // `format_type` and similar functions see the current catalogue instead of the snapshot: an inconsistent
            // schema could result, with `???` for a dropped type.
            let has_changed = before? != version(connection).await?;
            if !has_changed || attempt == ATTEMPTS {
                return loaded;
            }
            attempt += 1;
        }
    }

    async fn load_snapshot(connection: &Connection, schemas: &[String]) -> Result<Self, LoadError> {
        // JIT compilation takes longer than these queries; and the timeout of requests does not apply to them.
        let settings = "select set_config('search_path', '', true), set_config('jit', 'off', true), \
                        set_config('statement_timeout', '0', true)";
        connection.query(&statement(settings, None)).await?;
        let exposed = Bytes::from(array_literal(schemas));
        let read = async |what: &'static str, sql: &'static str, by_schema: bool| {
            let parameter = by_schema.then(|| exposed.clone());
            let rows = connection.query(&statement(sql, parameter)).await?;
            Ok::<_, LoadError>(rows.into_iter().map(|row| Record { what, row }).collect::<Vec<_>>())
        };

        let mut names = Names::default();
        let version = read("version", "select current_setting('server_version_num')", false).await?;
        let version = version.first().map_or(Ok(0), |row| row.number(0))?;
        let keys = read("primary keys", include_str!("primary_keys.sql"), false).await?;
        let keys = primary_keys(&keys, &mut names)?;
        let columns = read("columns", include_str!("columns.sql"), true).await?;
        let columns = self::columns(&columns, &mut names)?;
        let harmless = read("side effects", include_str!("side_effects.sql"), true).await?;
        let harmless = side_effect_free(&harmless)?;
        let relations = read("relations", include_str!("relations.sql"), true).await?;
        let mut relations = self::relations(&relations, columns, &keys, &harmless, &mut names)?;
        let references = read("foreign keys", include_str!("foreign_keys.sql"), false).await?;
        let references = foreign_keys(&references, &mut names)?;
        let views = read("views", include_str!("views.sql"), false).await?;
        let views = definitions(&views)?;
        let view_keys = view_keys(&relations, &keys, &references, &views);
        add_view_primary_keys(&mut relations, &view_keys);
        let generated = read("generated columns", include_str!("generated_columns.sql"), false).await?;
        let generated = generated
            .iter()
            .map(|row| Ok((row.number(0)?, row.number(1)?)))
            .collect::<Result<Vec<_>, LoadError>>()?;
        view_columns_follow(&mut relations, &views, &generated);
        let computed = read("relationships", include_str!("computed_relationships.sql"), true).await?;
        let computed = computed_relationships(&computed, &mut names)?;
        let routines = read("functions", include_str!("routines.sql"), true).await?;
        let routines = self::routines(&routines, &mut names)?;
        let procedures = read("procedures", include_str!("procedures.sql"), true).await?;
        let procedures =
            procedures.iter().map(|row| row.name(0, &mut names)).collect::<Result<_, LoadError>>()?;
        let mut representations = FxHashMap::<_, FxHashMap<_, _>>::default();
        for row in read("casts", include_str!("representations.sql"), false).await? {
            let (source, target) = (names.get(row.text(0)?), names.get(row.text(1)?));
            representations.entry(source).or_default().insert(target, names.get(row.text(2)?));
        }
        let handlers = read("media type handlers", include_str!("media_handlers.sql"), true).await?;
        let media_handlers = media_handlers(&handlers, &mut names)?;
        let comments = read("schemas", include_str!("schema_comments.sql"), true).await?;
        let schema_comments = comments
            .iter()
            .map(|row| Ok((names.get(row.text(0)?), row.text(1)?.into())))
            .collect::<Result<_, LoadError>>()?;

        let mut by_name = ByName::default();
        for (_, relation) in relations {
            let name = QualifiedName { schema: relation.schema.clone(), name: relation.name.clone() };
            by_name.insert(&name, Arc::new(relation));
        }
        let references = references.into_iter().map(|reference| reference.reference).collect();
        Ok(Self {
            relationships: relationship::infer(references, &view_keys, computed, &by_name),
            relations: by_name,
            routines,
            procedures,
            representations,
            media_handlers,
            schema_comments,
            server_version: version,
        })
    }
}

/// A fingerprint of the schema: the number of objects, and the sum of their transaction ids.
async fn version(connection: &Connection) -> Result<(u64, String), LoadError> {
    let rows = connection.query(&statement(include_str!("version.sql"), None)).await?;
    let row = rows.into_iter().next().map(|row| Record { what: "version", row });
    let row = row.ok_or(LoadError::Form { what: "version", column: 0 })?;
    Ok((row.number(0)?, row.text(1)?.to_owned()))
}

fn statement(sql: &'static str, parameter: Option<Bytes>) -> Statement {
    Statement::new(sql, parameter.into_iter().map(Some).collect())
}

/// An array literal of texts ([Array input](https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO)).
fn array_literal(elements: &[String]) -> String {
    let quoted: Vec<_> = elements
        .iter()
        .map(|element| format!("\"{}\"", element.replace('\\', "\\\\").replace('"', "\\\"")))
        .collect();
    format!("{{{}}}", quoted.join(","))
}

fn primary_keys(rows: &[Record], names: &mut Names) -> Result<FxHashMap<u32, PrimaryKey>, LoadError> {
    rows.iter()
        .map(|row| {
            let columns: Vec<String> = row.json(2)?;
            let columns = columns.iter().map(|name| names.get(name)).collect();
            Ok((row.number(0)?, PrimaryKey { numbers: row.json(1)?, columns }))
        })
        .collect()
}

fn columns(rows: &[Record], names: &mut Names) -> Result<FxHashMap<u32, Vec<Column>>, LoadError> {
    let mut columns: FxHashMap<u32, Vec<Column>> = FxHashMap::default();
    for row in rows {
        let enum_labels = if row.optional(9)?.is_some() { row.json(9)? } else { Vec::new() };
        columns.entry(row.number(0)?).or_default().push(Column {
            number: row.number(1)?,
            name: names.get(row.text(2)?),
            comment: row.boxed(3)?,
            nullable: row.flag(4)?,
            data_type: names.get(row.text(5)?),
            nominal_type: names.get(row.text(6)?),
            max_length: row.optional(7)?.map(str::parse).transpose().map_err(|_| row.form(7))?,
            default: row.boxed(8)?,
            enum_labels,
            writable: row.flag(10)?,
            by_trigger: row.flag(11)?,
            argument_type: names.get(row.text(12)?),
        });
    }
    Ok(columns)
}

/// A view's column over a generated column is not writable either.
fn view_columns_follow(
    relations: &mut [(u32, Relation)],
    views: &FxHashMap<u32, Origins>,
    generated: &[view::ColumnId],
) {
    for (oid, relation) in relations.iter_mut().filter(|(_, relation)| relation.kind.is_view()) {
        let traced = view::trace(*oid, views);
        for number in generated.iter().filter_map(|column| traced.get(column)).flatten() {
            for column in &mut relation.columns {
                column.writable &= column.number != *number || column.by_trigger;
            }
        }
    }
}

fn side_effect_free(rows: &[Record]) -> Result<FxHashMap<u32, SideEffectFree>, LoadError> {
    rows.iter()
        .map(|row| {
            let proved = SideEffectFree { reads: true, inserts: row.flag(1)?, changes: row.flag(2)? };
            Ok((row.number(0)?, proved))
        })
        .collect()
}

fn relations(
    rows: &[Record],
    mut columns: FxHashMap<u32, Vec<Column>>,
    keys: &FxHashMap<u32, PrimaryKey>,
    harmless: &FxHashMap<u32, SideEffectFree>,
    names: &mut Names,
) -> Result<Vec<(u32, Relation)>, LoadError> {
    // The bits of pg_relation_is_updatable: 1 << CMD_UPDATE, CMD_INSERT, CMD_DELETE.
    const UPDATE: i32 = 4;
    const INSERT: i32 = 8;
    const DELETE: i32 = 16;
    rows.iter()
        .map(|row| {
            let oid = row.number(0)?;
            let commands: i32 = row.number(5)?;
            let mut columns = columns.remove(&oid).unwrap_or_default();
            columns.shrink_to_fit();
            Ok((
                oid,
                Relation {
                    schema: names.get(row.text(1)?),
                    name: names.get(row.text(2)?),
                    kind: RelationKind::from_catalogue(row.text(3)?),
                    comment: row.boxed(4)?,
                    insertable: commands & INSERT != 0,
                    updatable: commands & UPDATE != 0,
                    deletable: commands & DELETE != 0,
                    primary_key: keys.get(&oid).map(|key| key.columns.clone()).unwrap_or_default(),
                    columns,
                    side_effect_free: harmless.get(&oid).copied().unwrap_or_default(),
                },
            ))
        })
        .collect()
}

fn foreign_keys(rows: &[Record], names: &mut Names) -> Result<Vec<CatalogueReference>, LoadError> {
    rows.iter()
        .map(|row| {
            let columns: Vec<(String, String)> = row.json(9)?;
            Ok(CatalogueReference {
                source: row.number(1)?,
                target: row.number(4)?,
                source_numbers: row.json(7)?,
                target_numbers: row.json(8)?,
                reference: Reference {
                    constraint: names.get(row.text(0)?),
                    source: row.name(2, names)?,
                    target: row.name(5, names)?,
                    columns: columns.iter().map(|(a, b)| (names.get(a), names.get(b))).collect(),
                    one_to_one: row.flag(10)?,
                    source_is_view: false,
                    target_is_view: false,
                },
            })
        })
        .collect()
}

fn definitions(rows: &[Record]) -> Result<FxHashMap<u32, Origins>, LoadError> {
    rows.iter().map(|row| Ok((row.number(0)?, view::origins(row.text(1)?)))).collect()
}

fn computed_relationships(rows: &[Record], names: &mut Names) -> Result<Vec<Relationship>, LoadError> {
    rows.iter()
        .map(|row| {
            let function = row.name(0, names)?;
            let source = row.name(2, names)?;
            let target = row.name(4, names)?;
            let is_self = source == target;
            let link = Link::Computed { function, to_one: row.flag(6)? };
            Ok(Relationship { source, target, is_self, link })
        })
        .collect()
}

fn routines(rows: &[Record], names: &mut Names) -> Result<ByName<Vec<Arc<Routine>>>, LoadError> {
    let mut routines: ByName<Vec<Arc<Routine>>> = ByName::default();
    for row in rows {
        let name = row.name(0, names)?;
        let parameters: Vec<(String, String, String, bool, bool)> = row.json(3)?;
        let parameters = parameters
            .iter()
            .map(|(name, data_type, argument_type, required, variadic)| Parameter {
                name: names.get(name),
                data_type: names.get(data_type),
                argument_type: names.get(argument_type),
                required: *required,
                variadic: *variadic,
            })
            .collect();
        let of = row.name(4, names)?;
        let result = if row.flag(7)? {
            RoutineResult::Composite { of, domain: row.flag(8)? }
        } else {
            RoutineResult::Scalar(of)
        };
        routines.entry(&name).push(Arc::new(Routine {
            schema: name.schema.clone(),
            name: name.name.clone(),
            comment: row.boxed(2)?,
            parameters,
            result,
            returns_set: row.flag(6)?,
            volatility: match row.text(9)? {
                "i" => Volatility::Immutable,
                "s" => Volatility::Stable,
                _ => Volatility::Volatile,
            },
            variadic: row.flag(10)?,
            settings: row.json(11)?,
            oid: row.number(12)?,
        }));
    }
    for overloads in routines.values_mut() {
        overloads.sort_by(|a, b| a.overload_order(b));
    }
    Ok(routines)
}

fn media_handlers(
    rows: &[Record],
    names: &mut Names,
) -> Result<FxHashMap<(MediaTarget, Arc<str>), MediaHandler>, LoadError> {
    rows.iter()
        .map(|row| {
            let target = row.name(2, names)?;
            let target = if &*target.schema == "pg_catalog" && &*target.name == "anyelement" {
                MediaTarget::Any
            } else {
                MediaTarget::Named(target)
            };
            let handler = MediaHandler {
                function: row.name(0, names)?,
                target: target.clone(),
                answered: names.get(row.text(5)?),
                binary: row.flag(6)?,
            };
            Ok(((target, names.get(row.text(4)?)), handler))
        })
        .collect()
}
