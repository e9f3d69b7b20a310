//! Filters of lists and dictionaries, and `default`.

use super::*;

pub(super) fn add_of_lists(environment: &mut Environment) {
    for name in ["default", "d"] {
        environment.add_filter(name, |value: &Value, positional: Rest<Value>, named: Kwargs| {
            let given = Given(&positional, &named);
            let missing = given.value(0, "default_value")?.unwrap_or_else(|| Value::from(""));
            let falsy = given.truth(1, "boolean")?;
            given.done(2)?;
            let absent = value.is_undefined() || (falsy && !value.is_true());
            Ok::<_, Error>(if absent { missing } else { value.clone() })
        });
    }
    for name in ["length", "count"] {
        environment.add_filter(name, |value: &Value| match value.kind() {
            ValueKind::Undefined => Ok(0),
            ValueKind::Map if !is_dict(value) => Err(no_length(value)),
            _ => value.len().ok_or_else(|| no_length(value)),
        });
    }
    environment.add_filter("list", |value: &Value| items(value).map(Value::from));
    environment.add_filter("first", |value: &Value| {
        if is_iterable(value) {
            Ok(value.try_iter()?.next().unwrap_or_default())
        } else {
            Err(refused(format!("{} has no first item", type_name(value))))
        }
    });
    environment.add_filter("last", |value: &Value| {
        if value.downcast_object_ref::<Generator>().is_some() || !is_iterable(value) {
            return Err(refused(format!("{} has no last item", type_name(value))));
        }
        Ok(value.try_iter()?.last().unwrap_or_default())
    });
    environment.add_filter("items", |value: &Value| match value.kind() {
        ValueKind::Undefined => Ok(Generator::value(Vec::new())),
        ValueKind::Map if is_dict(value) => {
            let view = View::of(value, "items").unwrap_or_default();
            Ok(Generator::value(items(&view)?))
        }
        _ => Err(refused(format!("`items` takes a dictionary, not {}", type_name(value)))),
    });
    environment.add_filter("join", join);
    environment.add_filter("dictsort", dictsort);
    environment.add_filter("sort", sort);
    environment.add_filter("reverse", |value: &Value| {
        if let Some(text) = value.as_str() {
            return Ok(Value::from(text.chars().rev().collect::<String>()));
        }
        let mut all = items(value)?;
        all.reverse();
        Ok::<_, Error>(Generator::value(all))
    });
    add_lazy(environment);
}

fn no_length(value: &Value) -> Error {
    refused(format!("{} has no length", type_name(value)))
}

/// Filters of which many give a generator.
fn add_lazy(environment: &mut Environment) {
    environment.add_filter("map", map);
    environment.add_filter("select", select);
    environment.add_filter("reject", reject);
    environment.add_filter("selectattr", selectattr);
    environment.add_filter("rejectattr", rejectattr);
    environment.add_filter("unique", unique);
    environment.add_filter("min", least);
    environment.add_filter("max", greatest);
    environment.add_filter("attr", attr);
    environment.add_filter("sum", sum);
    environment.add_filter("batch", batch);
    environment.add_filter("slice", slice);
}

/// What such a filter goes through: nothing where there is nothing, whatever its type.
fn given_or_none(value: Value) -> Value {
    if value.is_true() { value } else { Value::from(Vec::<Value>::new()) }
}

fn map(state: &mut State, value: Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    engine::map(state, given_or_none(value), args).map(Generator::value)
}

fn select(
    state: &mut State,
    value: Value,
    test: Option<String>,
    args: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    engine::select(state, given_or_none(value), test.map(Into::into), args).map(Generator::value)
}

fn reject(
    state: &mut State,
    value: Value,
    test: Option<String>,
    args: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    engine::reject(state, given_or_none(value), test.map(Into::into), args).map(Generator::value)
}

fn selectattr(state: &mut State, value: Value, by: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    by_attribute(state, given_or_none(value), by, engine::selectattr)
}

fn rejectattr(state: &mut State, value: Value, by: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    by_attribute(state, given_or_none(value), by, engine::rejectattr)
}

fn unique(state: &State, value: Value, named: Kwargs) -> Result<Value, Error> {
    let all = items(&value)?;
    if !named.has("attribute") && all.iter().any(|item| is_dict(item) || is_list(item)) {
        return Err(refused("`unique` takes values that can be keys"));
    }
    Ok(Generator::value(items(&engine::unique(state, Value::from(all), named)?)?))
}

fn batch(state: &State, value: Value, count: usize, fill: Option<Value>) -> Result<Value, Error> {
    let fill = fill.filter(|fill| !fill.is_none());
    let all = Value::from(items(&value)?);
    Ok(Generator::value(items(&engine::batch(state, all, count, fill)?)?))
}

fn slice(state: &State, value: Value, count: usize, fill: Option<Value>) -> Result<Value, Error> {
    let fill = fill.filter(|fill| !fill.is_none());
    let all = Value::from(items(&value)?);
    Ok(Generator::value(items(&engine::slice(state, all, count, fill)?)?))
}

fn least(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    extreme(value, &Given(&positional, &named), false)
}

fn greatest(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    extreme(value, &Given(&positional, &named), true)
}

/// The first of the least or the greatest items.
fn extreme(value: &Value, given: &Given, greatest: bool) -> Result<Value, Error> {
    let case_sensitive = given.truth(0, "case_sensitive")?;
    let attribute = given.text(1, "attribute")?;
    given.done(2)?;
    let mut keyed = Vec::new();
    for item in items(value)? {
        let by =
            attribute.as_ref().map_or_else(|| Ok(item.clone()), |path| at_path(&item, path))?;
        keyed.push((vec![folded(&by, case_sensitive)], item));
    }
    Ok(sorted(keyed, greatest)?.next().unwrap_or_default())
}

fn sum(
    state: &State,
    value: Value,
    attribute: Option<&str>,
    start: Option<Value>,
    named: Kwargs,
) -> Result<Value, Error> {
    engine::sum(state, Value::from(items(&value)?), attribute, start, named)
}

/// An attribute, and never an entry of a dictionary.
fn attr(value: &Value, name: &str) -> Result<Value, Error> {
    match is_dict(value) {
        true if View::of(value, name).is_some() && ["keys", "values", "items"].contains(&name) => {
            Ok(Value::from_object(super::super::objects::Method {
                of: value.clone(),
                name: name.to_owned(),
            }))
        }
        true => Ok(Value::UNDEFINED),
        false => value.get_attr(name),
    }
}

/// A filter of the engine that looks at an attribute.
type ByAttribute = fn(
    &mut State,
    Value,
    std::borrow::Cow<'_, str>,
    Option<std::borrow::Cow<'_, str>>,
    Rest<ValueOrKwargs>,
) -> Result<Vec<Value>, Error>;

fn by_attribute(
    state: &mut State,
    value: Value,
    arguments: Rest<ValueOrKwargs>,
    filter: ByAttribute,
) -> Result<Value, Error> {
    let mut arguments = arguments.0.into_iter().map(ValueOrKwargs::into_value);
    let attribute = arguments.next().ok_or_else(|| refused("an attribute is missing"))?;
    let test = arguments.next().map(|test| text(&test)).transpose()?;
    let rest = Rest(arguments.map(ValueOrKwargs::from).collect());
    filter(state, value, text(&attribute)?.into(), test.map(Into::into), rest).map(Generator::value)
}

fn join(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let given = Given(&positional, &named);
    let separator = given.text(0, "d")?.unwrap_or_default();
    let attribute = given.text(1, "attribute")?;
    given.done(2)?;
    let mut out = String::new();
    for (index, item) in items(value)?.into_iter().enumerate() {
        out.push_str(if index > 0 { &separator } else { "" });
        let item = match &attribute {
            Some(path) => at_path(&item, path)?,
            None => item,
        };
        match item.as_str() {
            Some(text) => out.push_str(text),
            None => out.push_str(&text(&item)?),
        }
    }
    Ok(out)
}

/// `a.b.0` of a value.
fn at_path(value: &Value, path: &str) -> Result<Value, Error> {
    let mut found = value.clone();
    for part in path.split('.') {
        found = match part.parse::<i64>() {
            Ok(index) => found.get_item(&Value::from(index))?,
            Err(_) => found.get_item(&Value::from(part))?,
        };
    }
    Ok(found)
}

/// What is compared where case does not count.
fn folded(value: &Value, case_sensitive: bool) -> Value {
    match value.as_str() {
        Some(text) if !case_sensitive => Value::from(text.to_lowercase()),
        _ => value.clone(),
    }
}

/// Sorts by keys that Python can compare.
fn sorted(
    mut keyed: Vec<(Vec<Value>, Value)>,
    reverse: bool,
) -> Result<impl Iterator<Item = Value>, Error> {
    let mut failed = None;
    keyed.sort_by(|(a, _), (b, _)| {
        for (a, b) in a.iter().zip(b) {
            match compare(a, b) {
                Some(order) if order != Some(Ordering::Equal) => {
                    let order = order.unwrap_or(Ordering::Equal);
                    return if reverse { order.reverse() } else { order };
                }
                Some(_) => {}
                None => {
                    let types = (type_name(a), type_name(b));
                    failed.get_or_insert(types);
                    return Ordering::Equal;
                }
            }
        }
        Ordering::Equal
    });
    match failed {
        Some((a, b)) => Err(refused(format!("{a} and {b} cannot be sorted"))),
        None => Ok(keyed.into_iter().map(|(_, item)| item)),
    }
}

fn dictsort(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let given = Given(&positional, &named);
    let case_sensitive = given.truth(0, "case_sensitive")?;
    let by = given.text(1, "by")?.unwrap_or_else(|| "key".to_owned());
    let reverse = given.truth(2, "reverse")?;
    given.done(3)?;
    let place = match by.as_str() {
        "key" => 0,
        "value" => 1,
        _ => return Err(refused("`dictsort` sorts by \"key\" or \"value\"")),
    };
    let pairs = value.as_object().filter(|_| is_dict(value)).and_then(|map| map.try_iter_pairs());
    let Some(pairs) = pairs else {
        return Err(refused(format!("`dictsort` takes a dictionary, not {}", type_name(value))));
    };
    let keyed = pairs.map(|(key, item)| {
        let by = folded(if place == 0 { &key } else { &item }, case_sensitive);
        (vec![by], Value::from(Tuple::from([key, item])))
    });
    Ok(Value::from(sorted(keyed.collect(), reverse)?.collect::<Vec<Value>>()))
}

fn sort(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let given = Given(&positional, &named);
    let reverse = given.truth(0, "reverse")?;
    let case_sensitive = given.truth(1, "case_sensitive")?;
    let attribute = given.value(2, "attribute")?.filter(|attribute| !attribute.is_none());
    let paths = attribute.map(|attribute| text(&attribute)).transpose()?;
    given.done(3)?;
    let mut keyed = Vec::new();
    for item in items(value)? {
        let keys = match &paths {
            None => vec![folded(&item, case_sensitive)],
            Some(paths) => paths
                .split(',')
                .map(|path| Ok(folded(&at_path(&item, path)?, case_sensitive)))
                .collect::<Result<_, Error>>()?,
        };
        keyed.push((keys, item));
    }
    Ok(Value::from(sorted(keyed, reverse)?.collect::<Vec<Value>>()))
}
