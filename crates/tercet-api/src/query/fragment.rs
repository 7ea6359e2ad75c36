//! SQL under construction: text with `$1`, `$2`, … and the parameters. The only place where a name becomes text and a
//! value becomes a parameter.

use std::ops::Range;

use bytes::Bytes;
use tercet_postgres::{Statement, quote};

use super::embedded;
use crate::plan::StatementPlan;
use crate::schema::{QualifiedName, Relation};

/// SQL text and its parameters.
#[derive(Debug)]
pub(super) struct Sql {
    text: String,
    parameters: Vec<Option<Bytes>>,
    /// The byte range of the type assertions.
    assertions: Range<usize>,
    /// Whether embedded rows are `json` instead of `jsonb`.
    embeds_json: bool,
}

impl Sql {
    /// Empty, with capacity for most statements.
    pub(super) fn new() -> Self {
        Self {
            text: String::with_capacity(1024),
            parameters: Vec::with_capacity(4),
            assertions: 0..0,
            embeds_json: false,
        }
    }

    /// Empty, for this plan.
    pub(super) fn of(plan: &StatementPlan) -> Self {
        Self { embeds_json: embedded::may_be_json(plan), ..Self::new() }
    }

    /// Ends a `json` expression of embedded rows, and converts it if it has to be `jsonb`.
    pub(super) fn embedded(&mut self) -> &mut Self {
        if self.embeds_json { self } else { self.push("::jsonb") }
    }

    /// Adds a constant of this program.
    pub(super) fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds an expression, type or function name printed by the catalogue, quoted as needed.
    pub(super) fn catalogue(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a number.
    pub(super) fn number(&mut self, number: usize) -> &mut Self {
        self.text.push_str(itoa::Buffer::new().format(number));
        self
    }

    /// Adds a client's type name. Quoting would make `int` differ from `integer`, so only words are allowed: no
    /// bracket can end the cast, and no quote can start.
    pub(super) fn cast_type(&mut self, name: &str) -> &mut Self {
        let word = |c: char| if c.is_alphanumeric() || c == ' ' { c } else { '_' };
        self.text.extend(name.chars().map(word));
        self
    }

    /// Adds a quoted name. PostgreSQL rejects NUL in it, as in a value.
    pub(super) fn name(&mut self, name: &str) -> &mut Self {
        quote::push_identifier(&mut self.text, name);
        self
    }

    /// Adds a quoted name with its schema, if it has one.
    pub(super) fn qualified(&mut self, name: &QualifiedName) -> &mut Self {
        if !name.schema.is_empty() {
            self.name(&name.schema).push(".");
        }
        self.name(&name.name)
    }

    /// Adds a column of a relation; `*` is all of them.
    pub(super) fn column(&mut self, relation: &QualifiedName, column: &str) -> &mut Self {
        self.qualified(relation).push(".");
        if column == "*" { self.push("*") } else { self.name(column) }
    }

    /// Adds a query of all columns, which PostgreSQL rejects when it analyses it if their number differs from the
    /// schema cache.
    pub(super) fn all_columns(&mut self, relation: &Relation) -> &mut Self {
        let name = QualifiedName { schema: relation.schema.clone(), name: relation.name.clone() };
        self.push("SELECT * FROM ").qualified(&name).push(" UNION ALL SELECT ");
        self.list(&relation.columns, ", ", |sql, _| {
            sql.push("NULL");
        })
    }

    /// Adds a string constant that comes from the catalogue, never from a client.
    pub(super) fn constant(&mut self, text: &str) -> &mut Self {
        quote::push_literal(&mut self.text, text);
        self
    }

    /// Adds a parameter.
    pub(super) fn value(&mut self, value: impl Into<Bytes>) -> &mut Self {
        self.parameters.push(Some(value.into()));
        self.text.push('$');
        self.number(self.parameters.len())
    }

    /// Adds items with a separator.
    pub(super) fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        separator: &'static str,
        mut add: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.push(separator);
            }
            add(self, item);
        }
        self
    }

    /// The current text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Adds a type assertion.
    pub(super) fn assert(&mut self, add: impl FnOnce(&mut Self)) {
        let start = self.text.len();
        add(self);
        self.assertions = start..self.text.len();
    }

    /// The byte range of the type assertions.
    pub(super) fn assertions(&self) -> Range<usize> {
        self.assertions.clone()
    }

    pub(super) fn into_statement(self) -> Statement {
        Statement::new(self.text, self.parameters)
    }
}

/// An array literal of texts, for any element type (<https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO>).
pub(super) fn array_literal<T: AsRef<str>>(elements: &[T]) -> String {
    let mut literal = String::from("{");
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            literal.push(',');
        }
        literal.push('"');
        for character in element.as_ref().chars() {
            if matches!(character, '"' | '\\') {
                literal.push('\\');
            }
            literal.push(character);
        }
        literal.push('"');
    }
    literal.push('}');
    literal
}
