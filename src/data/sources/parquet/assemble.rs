//! Columns become records: the schema as a tree, and a row's values put together along it.
//!
//! The library's own rows are not used: they copy a column's name for every value, end the file
//! at a text that is not UTF-8, know no bound on a row, and put a value of a repeated field into
//! the wrong list (<https://github.com/apache/arrow-rs/issues/2394>).

use std::collections::BTreeSet;
use std::ops::Range;

use parquet::basic::{ConvertedType, LogicalType, Repetition};
use parquet::schema::types::Type;
use serde_json::{Map, Value};

use super::leaf::Leaf;

/// A field of the schema, with the columns below it.
pub struct Node {
    shape: Shape,
    leaves: Range<usize>,
    /// The definition level from which on it is not null.
    def: i16,
}

enum Shape {
    Leaf,
    Group(Vec<(String, Node)>),
    List(Repeated, Box<Node>),
    Map(Repeated, Box<(Node, Node)>),
}

/// What repeats inside a list.
#[derive(Clone, Copy)]
struct Repeated {
    /// The definition level from which on there is an element.
    def: i16,
    /// The repetition level that goes on with this list.
    rep: i16,
}

impl Node {
    /// The tree of a schema.
    pub fn new(schema: &Type) -> Result<Self, String> {
        let mut leaves = 0;
        group(schema, 0, 0, &mut leaves)
    }
}

/// A field as its parent sees it: it may be missing or repeated.
fn field(field: &Type, def: i16, rep: i16, leaves: &mut usize) -> Result<Node, String> {
    match field.get_basic_info().repetition() {
        Repetition::REQUIRED => content(field, def, rep, leaves),
        Repetition::OPTIONAL => content(field, def + 1, rep, leaves),
        Repetition::REPEATED => {
            let element = content(field, def + 1, rep + 1, leaves)?;
            Ok(list(element, def, rep))
        }
    }
}

/// What a field holds where it is there.
fn content(field: &Type, def: i16, rep: i16, leaves: &mut usize) -> Result<Node, String> {
    if field.is_primitive() {
        *leaves += 1;
        return Ok(Node { shape: Shape::Leaf, leaves: *leaves - 1..*leaves, def });
    }
    let info = field.get_basic_info();
    let (logical, converted) = (info.logical_type_ref(), info.converted_type());
    let inner = match field.get_fields() {
        [inner] if inner.get_basic_info().repetition() == Repetition::REPEATED => inner,
        _ => return group(field, def, rep, leaves),
    };
    let pair = if inner.is_group() { inner.get_fields() } else { &[] };
    if matches!(logical, Some(LogicalType::Map))
        || [ConvertedType::MAP, ConvertedType::MAP_KEY_VALUE].contains(&converted)
    {
        let [key, value] = pair else {
            return Err(format!("the map `{}` has no keys and values", field.name()));
        };
        let start = *leaves;
        let key = self::field(key, def + 1, rep + 1, leaves)?;
        let value = self::field(value, def + 1, rep + 1, leaves)?;
        let repeated = Repeated { def: def + 1, rep: rep + 1 };
        let shape = Shape::Map(repeated, Box::new((key, value)));
        return Ok(Node { shape, leaves: start..*leaves, def });
    }
    if !matches!(logical, Some(LogicalType::List)) && converted != ConvertedType::LIST {
        return group(field, def, rep, leaves);
    }
    // Old writers leave out the level between a list and its elements:
    // https://github.com/apache/parquet-format/blob/master/LogicalTypes.md#lists
    let element = match pair {
        [element]
            if inner.name() != "array" && inner.name() != format!("{}_tuple", field.name()) =>
        {
            self::field(element, def + 1, rep + 1, leaves)?
        }
        _ => content(inner, def + 1, rep + 1, leaves)?,
    };
    Ok(list(element, def, rep))
}

fn list(element: Node, def: i16, rep: i16) -> Node {
    let leaves = element.leaves.clone();
    let repeated = Repeated { def: def + 1, rep: rep + 1 };
    Node { shape: Shape::List(repeated, Box::new(element)), leaves, def }
}

fn group(group: &Type, def: i16, rep: i16, leaves: &mut usize) -> Result<Node, String> {
    let start = *leaves;
    let mut fields: Vec<(String, Node)> = Vec::new();
    let mut names = BTreeSet::new();
    for child in group.get_fields() {
        let name = child.name().to_owned();
        if !names.insert(child.name()) {
            return Err(format!("two columns are named `{name}`"));
        }
        fields.push((name, field(child, def, rep, leaves)?));
    }
    if fields.is_empty() {
        return Err(format!("the group `{}` has no columns", group.name()));
    }
    Ok(Node { shape: Shape::Group(fields), leaves: start..*leaves, def })
}

/// The places in the columns up to which a row was read.
struct Row<'a> {
    leaves: &'a [Leaf],
    /// For each column: the next level, the next value, and the end of the row's levels.
    at: Vec<(usize, usize, usize)>,
}

/// The fields of a row.
pub fn record(root: &Node, leaves: &[Leaf], row: usize) -> Result<Map<String, Value>, String> {
    let at = leaves.iter().map(|leaf| leaf.row(row)).collect();
    let mut row = Row { leaves, at };
    let fields = match row.read(root)? {
        Some(Value::Object(fields)) => fields,
        _ => return Err(out_of_step()),
    };
    match row.at.iter().all(|&(level, _, end)| level == end) {
        true => Ok(fields),
        false => Err(out_of_step()),
    }
}

fn out_of_step() -> String {
    "the columns of the row do not fit together".to_owned()
}

impl Row<'_> {
    fn read(&mut self, node: &Node) -> Result<Option<Value>, String> {
        let first = node.leaves.start;
        if !self.is_there(node, node.def)? {
            self.skip(node)?;
            return Ok(None);
        }
        match &node.shape {
            Shape::Leaf => {
                let value = self.at[first].1;
                self.skip(node)?;
                self.leaves[first].json(value)
            }
            Shape::Group(fields) => {
                let mut object = Map::with_capacity(fields.len());
                for (name, node) in fields {
                    // A null is said: what it means is for those to say who read JSON lines, too.
                    object.insert(name.clone(), self.read(node)?.unwrap_or(Value::Null));
                }
                Ok(Some(Value::Object(object)))
            }
            Shape::List(repeated, element) => {
                let mut items = Vec::new();
                if self.begins(node, *repeated)? {
                    loop {
                        items.push(self.read(element)?.unwrap_or(Value::Null));
                        if !self.goes_on(first, *repeated) {
                            break;
                        }
                    }
                }
                Ok(Some(Value::Array(items)))
            }
            Shape::Map(repeated, pair) => {
                let mut object = Map::new();
                if self.begins(node, *repeated)? {
                    loop {
                        let (key, value) = (self.read(&pair.0)?, self.read(&pair.1)?);
                        let key = match key {
                            Some(Value::String(key)) => key,
                            key => key.unwrap_or(Value::Null).to_string(),
                        };
                        if object.contains_key(&key) {
                            return Err(format!("the key `{key}` appears twice in a map"));
                        }
                        object.insert(key, value.unwrap_or(Value::Null));
                        if !self.goes_on(first, *repeated) {
                            break;
                        }
                    }
                }
                Ok(Some(Value::Object(object)))
            }
        }
    }

    /// Whether a list has elements; one that has none is stepped over.
    fn begins(&mut self, node: &Node, repeated: Repeated) -> Result<bool, String> {
        let any = self.is_there(node, repeated.def)?;
        if !any {
            self.skip(node)?;
        }
        Ok(any)
    }

    /// Whether another element of the list follows in the row.
    fn goes_on(&self, leaf: usize, repeated: Repeated) -> bool {
        let (level, _, end) = self.at[leaf];
        level < end && self.leaves[leaf].rep(level) >= repeated.rep
    }

    /// Whether the path is there up to a level. All columns below a field must say the same.
    fn is_there(&self, node: &Node, level: i16) -> Result<bool, String> {
        let there = self.def(node.leaves.start)? >= level;
        for leaf in node.leaves.clone().skip(1) {
            if (self.def(leaf)? >= level) != there {
                return Err(out_of_step());
            }
        }
        Ok(there)
    }

    fn def(&self, leaf: usize) -> Result<i16, String> {
        let (level, _, end) = self.at[leaf];
        if level < end { Ok(self.leaves[leaf].def(level)) } else { Err(out_of_step()) }
    }

    /// Steps over one level in each column below a field.
    fn skip(&mut self, node: &Node) -> Result<(), String> {
        for leaf in node.leaves.clone() {
            let there = self.def(leaf)? == self.leaves[leaf].max_def();
            let (level, value, _) = &mut self.at[leaf];
            *level += 1;
            *value += usize::from(there);
        }
        Ok(())
    }
}
