//! Names of columns and paths into their values: `name`, `"odd name"`, `data->a->>0`.

/// A column, or a place inside its value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// Name of the column; `*` where a selection means all of them.
    pub name: String,
    /// Steps into a json, composite or array value, none for the column itself.
    pub json_path: Vec<JsonStep>,
}

/// One step of a JSON path ([JSON functions](https://www.postgresql.org/docs/current/functions-json.html)).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JsonStep {
    /// Which operator.
    pub arrow: Arrow,
    /// Where it goes.
    pub operand: JsonOperand,
}

/// The two ways of stepping into a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arrow {
    /// `->`: the result is JSON.
    Json,
    /// `->>`: the result is text.
    Text,
}

/// Where a step goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum JsonOperand {
    /// Member of an object.
    Key(String),
    /// Element of an array, negative ones count from its end. Signed decimal digits of any length: PostgreSQL says whether they fit.
    Index(String),
}

/// The embedded relation something is about, from the target inwards; empty for the target itself.
pub type EmbedPath = Vec<String>;
