//! Views: the origins of their columns, read from the stored definition. Parses nothing but the target list of the
//! outermost query.

use rustc_hash::FxHashMap;

/// A column of a relation: the relation's oid and the column's number.
pub(super) type ColumnId = (u32, i16);

/// The origins of a view's columns: the view's column number and the origin.
pub(super) type Origins = Vec<(i16, ColumnId)>;

/// Traces each column of a view through nested views: all origins, including columns of the views in between.
pub(super) fn trace(view: u32, definitions: &FxHashMap<u32, Origins>) -> FxHashMap<ColumnId, Vec<i16>> {
    let mut traced: FxHashMap<ColumnId, Vec<i16>> = FxHashMap::default();
    for &(number, origin) in definitions.get(&view).into_iter().flatten() {
        // A view cannot depend on itself, but a manipulated catalogue must not cause a loop: each column once.
        let mut seen = vec![(view, number)];
        let mut next = Some(origin);
        while let Some(column) = next {
            if seen.contains(&column) {
                break;
            }
            seen.push(column);
            traced.entry(column).or_default().push(number);
            next = definitions
                .get(&column.0)
                .and_then(|origins| origins.iter().find(|(number, _)| *number == column.1))
                .map(|(_, origin)| *origin);
        }
    }
    traced
}

/// Parses the origins of a view's columns from `pg_rewrite.ev_action`, a `pg_node_tree`
/// (`src/backend/nodes/outfuncs.c`).
pub(super) fn origins(definition: &str) -> Origins {
    let mut reader = Reader { text: definition.as_bytes(), position: 0 };
    let mut origins = Vec::new();
    // ({QUERY :field value … :targetList ({TARGETENTRY :expr … :resno 1 … :resorigtbl 1 :resorigcol 1 …} …) …})
    let mut depth = 0_u32;
    let mut in_target_list = false;
    let mut entry = Entry::default();
    while let Some(token) = reader.token() {
        match token {
            b"(" | b"{" => {
                depth += 1;
                if in_target_list && depth == TARGET_ENTRY && token == b"{" {
                    entry = Entry::default();
                }
            }
            b")" | b"}" => {
                if in_target_list && depth == TARGET_ENTRY && token == b"}" {
                    origins.extend(entry.origin());
                }
                depth = depth.saturating_sub(1);
            }
            field if field.first() == Some(&b':') => match depth {
                QUERY => in_target_list = field == b":targetList",
                TARGET_ENTRY if in_target_list => match field {
                    b":resname" => drop(reader.token()),
                    b":resno" => entry.number = reader.number(),
                    b":resorigtbl" => entry.relation = reader.number(),
                    b":resorigcol" => entry.column = reader.number(),
                    _ => {}
                },
                _ => {}
            },
            _ => {}
        }
    }
    origins
}

/// Nesting depths: the list of queries is 1, the query 2, its target list 3, an entry 4.
const QUERY: u32 = 2;
const TARGET_ENTRY: u32 = 4;

#[derive(Default)]
struct Entry {
    number: u32,
    relation: u32,
    column: u32,
}

impl Entry {
    fn origin(&self) -> Option<(i16, ColumnId)> {
        if self.relation == 0 || self.column == 0 {
            return None;
        }
        Some((i16::try_from(self.number).ok()?, (self.relation, i16::try_from(self.column).ok()?)))
    }
}

struct Reader<'a> {
    text: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// A bracket, or a run of other characters; a backslash escapes the next one.
    fn token(&mut self) -> Option<&'a [u8]> {
        while self.text.get(self.position).is_some_and(u8::is_ascii_whitespace) {
            self.position += 1;
        }
        let start = self.position;
        match self.text.get(start)? {
            b'(' | b')' | b'{' | b'}' => self.position += 1,
            _ => {
                while let Some(byte) = self.text.get(self.position) {
                    match byte {
                        b'\\' => self.position += 2,
                        b'(' | b')' | b'{' | b'}' => break,
                        _ if byte.is_ascii_whitespace() => break,
                        _ => self.position += 1,
                    }
                }
            }
        }
        self.position = self.position.min(self.text.len());
        self.text.get(start..self.position)
    }

    fn number(&mut self) -> u32 {
        self.token().and_then(|token| std::str::from_utf8(token).ok()?.parse().ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `select t.a as "resorigcol 9", count(*), (select b from u) from t`, abridged.
    const DEFINITION: &str = "({QUERY :commandType 1 :rtable ({RANGETBLENTRY :eref {ALIAS :aliasname t :colnames (\"a\" \"b\\}c\")} \
        :subquery {QUERY :targetList ({TARGETENTRY :expr {VAR :varno 1} :resno 1 :resname x :resorigtbl 7 :resorigcol 7 :resjunk false})}}) \
        :targetList ({TARGETENTRY :expr {VAR :varno 1} :resno 1 :resname resorigcol\\ 9 :ressortgroupref 0 :resorigtbl 16385 :resorigcol 3 \
        :resjunk false} {TARGETENTRY :expr {AGGREF :args <>} :resno 2 :resname :resno :resorigtbl 0 :resorigcol 0 :resjunk false} \
        {TARGETENTRY :expr {SUBLINK :subselect {QUERY :targetList ({TARGETENTRY :expr {VAR} :resno 1 :resname b :resorigtbl 9 \
        :resorigcol 1 :resjunk false})}} :resno 3 :resname b :resorigtbl 16390 :resorigcol 2 :resjunk false}) :override 0 \
        :groupClause ({SORTGROUPCLAUSE :tleSortGroupRef 1})})";

    #[test]
    fn reads_only_the_outermost_target_list() {
        assert_eq!(origins(DEFINITION), [(1, (16385, 3)), (3, (16390, 2))]);
    }

    #[test]
    fn traces_columns_through_views_without_cycles() {
        let definitions = [
            (1, vec![(1, (2, 1)), (2, (2, 1))]),
            (2, vec![(1, (30, 4))]),
            (5, vec![(1, (6, 1))]),
            (6, vec![(1, (5, 1))]),
        ];
        let definitions: FxHashMap<u32, Origins> = definitions.into_iter().collect();
        let traced = trace(1, &definitions);
        assert_eq!(traced[&(30, 4)], [1, 2]);
        assert_eq!(traced[&(2, 1)], [1, 2]);
        assert_eq!(trace(5, &definitions)[&(6, 1)], [1]);
    }

    proptest! {
        #[test]
        fn parses_any_text_without_panic(text in "[(){}: \\\\a-z0-9\"<>]{0,200}", cut in 0..DEFINITION.len()) {
            let _ = origins(&text);
            let _ = origins(&DEFINITION[..cut]);
        }
    }
}
